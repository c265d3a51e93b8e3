"""Puts what is new of a version together with what is registered of it.

Rules
-----
* A new file takes the place of the registered one with the same path; the others stay, as far as an event type of the
  version needs them.
* What every broker has is taken as it is now.
* An event type is a message's, so no two files may bring the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from certes.v1 import options_pb2
from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.domain.schemas import VersionName
from certes_broker.schemas.compiling import limits
from certes_broker.schemas.compiling.closures import ordered
from certes_broker.schemas.compiling.paths import is_shared
from certes_broker.schemas.compiling.shared_files import shared_files
from certes_broker.schemas.version_files import VersionFiles


def merged_files(registered: VersionFiles, new: VersionFiles) -> list[FileDescriptorProto]:
    """Returns the files of both, each after those it imports. They may not link.

    Raises `Invalid`: SCHEMA_MALFORMED if an import is missing or in a circle, or an event type is in two files;
    SCHEMA_TOO_LARGE beyond a limit.
    """
    files = {file.name: file for file in _parsed([*registered.files, *new.files])}
    files.update({file.name: file for file in _parsed(shared_files().values()) if file.name in files})
    events = list(_events(files.values(), new.name))
    _refuse_twice(events)
    kept = ordered(files, {path for _, _, path in events})
    size = sum(file.ByteSize() for file in kept if not is_shared(file.name))
    if size > limits.MAXIMUM_DESCRIPTOR_BYTES:
        raise limits.too_large(f"the bytes of the descriptors of {new.name}", size, limits.MAXIMUM_DESCRIPTOR_BYTES)
    if len(kept) > limits.MAXIMUM_FILES:
        raise limits.too_large(f"the files of {new.name}", len(kept), limits.MAXIMUM_FILES)
    return kept


def merged_version(registered: VersionFiles, new: VersionFiles, files: Iterable[FileDescriptorProto]) -> VersionFiles:
    """Returns the version that `merged_files` make, with what is known of its sources."""
    listed = list(files)
    replaced = {file.name for file in _parsed(new.files)}
    sources = {path: text for path, text in registered.sources if path not in replaced} | dict(new.sources)
    return VersionFiles(
        new.name,
        tuple(file.SerializeToString(deterministic=True) for file in listed),
        tuple(sorted((event, message) for event, message, _ in _events(listed, new.name))),
        tuple(sorted((file.name, sources[file.name]) for file in listed if file.name in sources)),
    )


def _parsed(files: Iterable[bytes]) -> Iterator[FileDescriptorProto]:
    for wire in files:
        yield FileDescriptorProto.FromString(wire)


def _events(files: Iterable[FileDescriptorProto], name: VersionName) -> Iterator[tuple[str, str, str]]:
    """Yields the event types that files bind to a version, as (event name, message, path)."""
    for file in files:
        schema = file.options.Extensions[options_pb2.schema]
        if is_shared(file.name) or VersionName(schema.domain, schema.namespace, schema.version) != name:
            continue
        for message in file.message_type:
            if message.options.HasExtension(options_pb2.event):
                event = message.options.Extensions[options_pb2.event].name
                yield event, f"{file.package}.{message.name}".lstrip("."), file.name


def _refuse_twice(events: list[tuple[str, str, str]]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for event, message, path in events:
        other, other_path = seen.setdefault(event, (message, path))
        if other_path != path or other != message:
            raise Invalid(
                Reason.SCHEMA_MALFORMED,
                f"the event type {event} is {other} in {other_path} and {message} in {path}.",
                violations=[FieldViolation(path, f"{event} is bound in {other_path} already")],
                hint="Register the file under its old path, or give the event another name.",
            )
