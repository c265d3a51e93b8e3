"""Binds messages to event types, as `(certes.v1.schema)` and `(certes.v1.event)` say.

Rules
-----
* A file's event types share domain, namespace and version; each is a message with `(certes.v1.event)`, not one within
  another: a message that is an event by itself is no part.
* What is not said has a default: the broker's own domain, the namespace `_`, the number in the last part of the package
  (`my.events.v2`; 1 where that is not `v` and a number), the message's name in snake_case. What is said is never
  corrected, but for the case of a domain.
* Both options are written back complete, so that code generated from the descriptors knows its event URIs.
* Every version gets the files that bind event types to it and all that they import. A file of another version may be
  among those; it is a part of both, and its event types belong to its own version alone.
* What every broker has is never bound: the community catalogue belongs to the release.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from certes.v1 import options_pb2
from certes_broker.domain.errors import CertesError, FieldViolation, Invalid, Reason
from certes_broker.domain.schemas import VersionName
from certes_broker.domain.uris import EventType, parse_event_type
from certes_broker.schemas.compiling import limits
from certes_broker.schemas.compiling.closures import ordered
from certes_broker.schemas.compiling.comments import only_comments
from certes_broker.schemas.compiling.event_names import snake_case
from certes_broker.schemas.compiling.paths import is_shared
from certes_broker.schemas.options import compile_option
from certes_broker.schemas.schema_version import link
from certes_broker.schemas.version_files import VersionFiles


def bind(
    files: FileDescriptorSet, own_domain: str, sources: Mapping[str, str] | None = None
) -> tuple[VersionFiles, ...]:
    """Groups a checked set by versions, with the options complete.

    `own_domain` is the broker's. `sources` are the texts that were compiled, by path, if any. Returns the versions by name.
    Raises `Invalid`: SCHEMA_MALFORMED where an option cannot stand, an event type is bound twice, or none is bound;
    SCHEMA_TOO_LARGE beyond a limit.
    """
    faults: list[FieldViolation] = []
    bound = [event for file in files.file if not is_shared(file.name) for event in _bound(file, own_domain, faults)]
    faults.extend(_twice(bound))
    if faults:
        raise _malformed(faults)
    if not bound:
        raise _nothing_bound()
    if len(bound) > limits.MAXIMUM_EVENT_TYPES:
        raise limits.too_large("the event types of a registration", len(bound), limits.MAXIMUM_EVENT_TYPES)
    _check_options(files, bound)
    stamped = {file.name: _stamped(file, [event for event in bound if event.path == file.name]) for file in files.file}
    names = sorted({event.version for event in bound})
    return tuple(
        _version(name, [event for event in bound if event.version == name], stamped, sources or {}) for name in names
    )


@dataclass(frozen=True, slots=True)
class _Bound:
    """A message that is bound to an event type: the path of its file, its name in it, and its full name."""

    type: EventType
    path: str
    message: str
    full_name: str
    options: tuple[tuple[str, str], ...]

    @property
    def version(self) -> VersionName:
        return VersionName(self.type.domain, self.type.namespace, self.type.version)


_WORD: Final = re.compile(r"[a-z0-9_]+")
_VERSION_PART: Final = re.compile(r"v(0|[1-9][0-9]*)")


def _bound(file: FileDescriptorProto, own_domain: str, faults: list[FieldViolation]) -> Iterator[_Bound]:
    events = [message for message in file.message_type if message.options.HasExtension(options_pb2.event)]
    nested = [name for outer in file.message_type for name in _nested_events(outer, outer.name)]
    faults.extend(
        _fault(file, name, "a message within another cannot be an event type; take it out") for name in nested
    )
    if not events:
        return
    place = _place(file, own_domain, faults)
    for message in events:
        binding = message.options.Extensions[options_pb2.event]
        name = binding.name if binding.HasField("name") else snake_case(message.name)
        problem = _name_problem(name, binding.HasField("name"))
        if problem is not None:
            faults.append(_fault(file, message.name, problem))
        elif place is not None:
            options = tuple((option.name, option.field) for option in binding.options)
            full_name = f"{file.package}.{message.name}".lstrip(".")
            try:
                event_type = parse_event_type(f"{place.text}/{name}")
            except CertesError as error:
                faults.append(_fault(file, message.name, error.metadata.get("problem", error.message)))
            else:
                yield _Bound(event_type, file.name, message.name, full_name, options)


def _nested_events(message: DescriptorProto, name: str) -> Iterator[str]:
    for nested in message.nested_type:
        inner = f"{name}.{nested.name}"
        if nested.options.HasExtension(options_pb2.event):
            yield inner
        yield from _nested_events(nested, inner)


def _place(file: FileDescriptorProto, own_domain: str, faults: list[FieldViolation]) -> VersionName | None:
    """Returns the version of a file's event types, or None where its options cannot stand."""
    binding = file.options.Extensions[options_pb2.schema]
    domain = binding.domain if binding.HasField("domain") else own_domain
    namespace = binding.namespace if binding.HasField("namespace") else "_"
    version, whence = binding.version, "version"
    if not binding.HasField("version"):
        part = _VERSION_PART.fullmatch(file.package.rpartition(".")[2])
        version, whence = (int(part[1]), f"the version in package {file.package}") if part else (1, "")
    before = len(faults)
    if "/" in domain or "*" in domain:
        faults.append(_fault(file, "", f"domain {domain!r}: a domain is a DNS name, without '/' and wildcards"))
    else:
        _judge(file, f"domain {domain!r}", f"{domain}/_/1/x", faults)
    _judge(file, f"namespace {namespace!r}", f"x.y/{namespace}/1/x", faults)
    _judge(file, whence, f"x.y/_/{version}/x", faults)
    return VersionName(domain.lower(), namespace, version) if len(faults) == before else None


def _judge(file: FileDescriptorProto, what: str, uri: str, faults: list[FieldViolation]) -> None:
    try:
        parse_event_type(uri)
    except CertesError as error:
        faults.append(_fault(file, "", f"{what}: {error.metadata.get('problem', error.message)}"))


def _name_problem(name: str, said: bool) -> str | None:  # noqa: FBT001 (whether the schema says it, or its message's name)
    whence = "" if said else " (made of the message's name; say another in the option)"
    if not _WORD.fullmatch(name):
        return f"the event name {name[:120]!r}{whence} is no word of a-z, 0-9 and '_'"
    if name.startswith("_"):
        return f"the event name {name[:120]!r}{whence} begins with '_', which marks the events of the broker itself"
    return None


def _twice(bound: list[_Bound]) -> Iterator[FieldViolation]:
    seen: dict[str, _Bound] = {}
    for event in bound:
        other = seen.setdefault(event.type.text, event)
        if other is not event:
            yield FieldViolation(event.path, f"{event.full_name} and {other.full_name} are both {event.type}")


def _check_options(files: FileDescriptorSet, bound: list[_Bound]) -> None:
    """Refuses subscription options that cannot be."""
    with_options = [event for event in bound if event.options]
    if not with_options:
        return
    faults: list[FieldViolation] = []
    pool = link([file.SerializeToString() for file in files.file])
    for event in with_options:
        if len(event.options) > limits.MAXIMUM_OPTIONS:
            what = f"the subscription options of {event.full_name}"
            raise limits.too_large(what, len(event.options), limits.MAXIMUM_OPTIONS)
        descriptor = pool.FindMessageTypeByName(event.full_name)
        seen: set[str] = set()
        for name, path in event.options:
            what = f"{event.full_name}: subscription option {name[:120]!r}"
            if not _WORD.fullmatch(name):
                faults.append(FieldViolation(event.path, f"{what} is no word of a-z, 0-9 and '_'"))
            elif name in seen:
                faults.append(FieldViolation(event.path, f"{what} is declared twice"))
            seen.add(name)
            try:
                compile_option(descriptor, name, path)
            except CertesError as error:
                faults.append(FieldViolation(event.path, f"{event.full_name}: {error.message}"))
    if faults:
        raise _malformed(faults)


def _stamped(file: FileDescriptorProto, events: list[_Bound]) -> FileDescriptorProto:
    """Returns a copy of a file with complete options, and of what is known of its source the comments."""
    copy = FileDescriptorProto()
    copy.CopyFrom(file)
    only_comments(copy)
    if events:
        domain, namespace, version = events[0].version
        schema = options_pb2.SchemaBinding(domain=domain, namespace=namespace, version=version)
        copy.options.Extensions[options_pb2.schema].MergeFrom(schema)
        names = {event.message: event.type.name for event in events}
        for message in copy.message_type:
            if message.name in names:
                message.options.Extensions[options_pb2.event].name = names[message.name]
    return copy


def _version(
    name: VersionName, events: list[_Bound], files: Mapping[str, FileDescriptorProto], sources: Mapping[str, str]
) -> VersionFiles:
    closure = ordered(files, {event.path for event in events})
    size = sum(file.ByteSize() for file in closure if not is_shared(file.name))
    if size > limits.MAXIMUM_DESCRIPTOR_BYTES:
        raise limits.too_large(f"the bytes of the descriptors of {name}", size, limits.MAXIMUM_DESCRIPTOR_BYTES)
    return VersionFiles(
        name,
        tuple(file.SerializeToString(deterministic=True) for file in closure),
        tuple(sorted((event.type.name, event.full_name) for event in events)),
        tuple(sorted((file.name, sources[file.name]) for file in closure if file.name in sources)),
    )


def _fault(file: FileDescriptorProto, element: str, problem: str) -> FieldViolation:
    return FieldViolation(file.name, f"{file.name}: {element}: {problem}" if element else f"{file.name}: {problem}")


def _malformed(faults: list[FieldViolation]) -> Invalid:
    return Invalid(
        Reason.SCHEMA_MALFORMED,
        f"{len(faults)} of the schemas' options cannot stand. The first: {faults[0].description}",
        violations=faults[:20],
    )


def _nothing_bound() -> Invalid:
    return Invalid(
        Reason.SCHEMA_MALFORMED,
        "the files bind no event type: no message of theirs has the option (certes.v1.event).",
        violations=[FieldViolation("files", "no message has the option (certes.v1.event)")],
        hint=_HINT,
    )


_HINT: Final = (
    'Import "certes/v1/options.proto", say `option (certes.v1.schema) = {namespace: "orders" version: 1};` in the file '
    "and `option (certes.v1.event) = {};` in each message that is an event."
)
