"""Binds messages to event types, as `(certes.v1.schema)` and `(certes.v1.event)` say.

Rules
-----
* A file's event types share domain, namespace and version; each is a message with `(certes.v1.event)`, not one within
  another.
* What is not said has a default: the broker's own domain, the namespace `_`, the number in the last part of the package
  (2 in `my.events.v2`; 1 where that part is not `v` and a number), the message's name in snake_case. What is said is never
  corrected, but for the case of a domain.
* Both options are written back complete, so that code generated from the descriptors knows its event URIs.
* Every version gets the files that bind event types to it and all that they import. A file of another version may be
  among those: it is a part of both, and its event types belong to its own version alone. A file that no event type needs
  belongs to no version.
* What lies in the folders that are everybody's is never bound: the community catalogue belongs to the release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from certes.v1 import options_pb2
from certes_broker.domain.errors import CertesError, FieldViolation, Invalid, Reason
from certes_broker.domain.schemas import VersionName
from certes_broker.schemas.compiling import limits
from certes_broker.schemas.compiling.closures import ordered
from certes_broker.schemas.compiling.comments import only_comments
from certes_broker.schemas.compiling.diagnostics import malformed
from certes_broker.schemas.compiling.event_bindings import WORD, EventBinding, FileReader
from certes_broker.schemas.compiling.measures import check_size
from certes_broker.schemas.compiling.paths import is_shared
from certes_broker.schemas.compiling.request_places import RequestPlaces
from certes_broker.schemas.options import compile_option
from certes_broker.schemas.schema_version import link
from certes_broker.schemas.version_files import VersionFiles


def bind(
    files: FileDescriptorSet, own_domain: str, sources: Mapping[str, str] | None = None
) -> tuple[VersionFiles, ...]:
    """Groups a checked set by versions, with the options complete and of the source information the comments.

    `own_domain` is the broker's. `sources` are the texts that were compiled, by path, if any. Returns the versions by name.
    Raises `Invalid`: SCHEMA_MALFORMED where an option cannot stand, an event type is bound twice, or none is bound;
    SCHEMA_TOO_LARGE beyond a limit.
    """
    texts = sources or {}
    places = RequestPlaces(list(texts))
    reader = FileReader(own_domain, places)
    bindings = [binding for file in files.file if not is_shared(file.name) for binding in reader.read(file)]
    faults = [*reader.faults, *_bound_twice(bindings, places), *_option_faults(files, bindings, places)]
    if faults:
        raise malformed("the options of the schemas cannot stand", faults)
    if not bindings:
        raise _nothing_bound()
    if len(bindings) > limits.MAXIMUM_EVENT_TYPES:
        raise limits.too_large("the event types of a registration", len(bindings), limits.MAXIMUM_EVENT_TYPES)
    complete = {file.name: _complete(file, bindings) for file in files.file}
    # Once, though a file may be a part of several hundred versions.
    written = {path: file.SerializeToString(deterministic=True) for path, file in complete.items()}
    by_version = groupby(sorted(bindings, key=attrgetter("version")), key=attrgetter("version"))
    versions: list[VersionFiles] = []
    size = 0
    for name, events in by_version:
        version = _version(name, list(events), complete, written, texts)
        size += sum(map(len, version.files))
        if size > limits.MAXIMUM_ANSWER_BYTES:
            hint = "Register fewer versions at once."
            raise limits.too_large(_ALL_DESCRIPTORS, size, limits.MAXIMUM_ANSWER_BYTES, hint=hint)
        versions.append(version)
    return tuple(versions)


def _bound_twice(bindings: Sequence[EventBinding], places: RequestPlaces) -> Iterator[FieldViolation]:
    first: dict[str, EventBinding] = {}
    for binding in bindings:
        other = first.setdefault(binding.type.text, binding)
        if other is not binding:
            problem = f"{binding.message} and {other.message} are both the schema of {binding.type}"
            yield places.violation(binding.file, binding.element, problem)


def _option_faults(
    files: FileDescriptorSet, bindings: Sequence[EventBinding], places: RequestPlaces
) -> Iterator[FieldViolation]:
    """Yields what is wrong with the subscription options. Raises `Invalid` (SCHEMA_TOO_LARGE) where there are too many."""
    declared = [(binding, _declared(binding)) for binding in bindings]
    if not any(options for _, options in declared):
        return
    pool = link([file.SerializeToString() for file in files.file])
    for binding, options in declared:
        if len(options) > limits.MAXIMUM_OPTIONS:
            what = f"the subscription options of {binding.message}"
            raise limits.too_large(what, len(options), limits.MAXIMUM_OPTIONS)
        descriptor = pool.FindMessageTypeByName(binding.message)
        seen: set[str] = set()
        for name, field in options:
            problem = None
            if not WORD.fullmatch(name):
                problem = f"subscription option {name[:_SHOWN]!r}: a name is a word of a-z, 0-9 and '_'"
            elif name in seen:
                problem = f"subscription option {name!r} is declared twice"
            else:
                seen.add(name)
                try:
                    compile_option(descriptor, name, field)
                except CertesError as error:
                    problem = error.message
            if problem is not None:
                yield places.violation(binding.file, binding.element, f"{binding.message}: {problem}")


def _declared(binding: EventBinding) -> list[tuple[str, str]]:
    event = binding.file.message_type[binding.index].options.Extensions[options_pb2.event]
    return [(option.name, option.field) for option in event.options]


def _complete(file: FileDescriptorProto, bindings: Sequence[EventBinding]) -> FileDescriptorProto:
    """Returns a copy of a file with complete options, and with what is kept of its source."""
    copy = FileDescriptorProto()
    copy.CopyFrom(file)
    only_comments(copy)
    for binding in bindings:
        if binding.file.name == file.name:
            domain, namespace, version = binding.version
            schema = options_pb2.SchemaBinding(domain=domain, namespace=namespace, version=version)
            copy.options.Extensions[options_pb2.schema].MergeFrom(schema)
            copy.message_type[binding.index].options.Extensions[options_pb2.event].name = binding.type.name
    return copy


def _version(
    name: VersionName,
    bindings: Sequence[EventBinding],
    files: Mapping[str, FileDescriptorProto],
    written: Mapping[str, bytes],
    sources: Mapping[str, str],
) -> VersionFiles:
    closure = ordered(files, {binding.file.name for binding in bindings})
    check_size(name, closure)
    return VersionFiles(
        name,
        tuple(written[file.name] for file in closure),
        tuple(sorted((binding.type.name, binding.message) for binding in bindings)),
        tuple(sorted((file.name, sources[file.name]) for file in closure if file.name in sources)),
    )


def _nothing_bound() -> Invalid:
    return Invalid(
        Reason.SCHEMA_MALFORMED,
        "the files bind no event type: no message of theirs has the option (certes.v1.event).",
        violations=[FieldViolation("files", "no message has the option (certes.v1.event)")],
        hint=_HINT,
    )


_SHOWN: Final = 120
_ALL_DESCRIPTORS: Final = "the bytes of the descriptors of all versions, each with its imports,"
_HINT: Final = (
    'Import "certes/v1/options.proto", say `option (certes.v1.schema) = {namespace: "orders" version: 1};` in the file '
    "and `option (certes.v1.event) = {};` in each message that is an event."
)
