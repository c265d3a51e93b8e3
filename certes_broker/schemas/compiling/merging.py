"""Puts what is new of a version together with what is registered of it.

Rules
-----
* A new file takes the place of the registered one with the same path.
* A registered file all of whose definitions are in new files of other paths was moved: it goes.
* Every other registered file stays, as far as an event type of the version needs it.
* What every broker has is taken as it is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from certes.v1 import options_pb2
from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.domain.schemas import VersionName
from certes_broker.schemas.compiling import limits
from certes_broker.schemas.compiling.closures import ordered
from certes_broker.schemas.compiling.measures import check_measures, check_size
from certes_broker.schemas.compiling.paths import is_shared, shown
from certes_broker.schemas.compiling.shared_files import shared_descriptors, shared_files
from certes_broker.schemas.version_files import VersionFiles


def merged_files(registered: VersionFiles, new: VersionFiles) -> list[FileDescriptorProto]:
    """Returns the files of both that the version needs, each after those it imports. They may not link.

    Raises `Invalid`: SCHEMA_MALFORMED if an import is gone or in a circle, or something is defined in two files;
    SCHEMA_TOO_LARGE beyond a limit.
    """
    brought = {file.name: file for file in _parsed(new.files)}
    old = {file.name: file for file in _parsed(registered.files) if file.name not in brought}
    files = {**_unmoved(old, brought), **brought}
    files.update({path: shared_descriptors()[path] for path in files.keys() & shared_descriptors().keys()})
    events = list(_events(files.values(), new.name))
    _refuse_twice(events)
    kept = ordered(files, {path for _, _, path in events}, hint=_HINT)
    own = [file for file in kept if file.name not in shared_files()]
    check_measures(own)
    check_size(new.name, own)
    if len(events) > limits.MAXIMUM_EVENT_TYPES:
        raise limits.too_large(f"the event types of {new.name}", len(events), limits.MAXIMUM_EVENT_TYPES)
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


_HINT: Final = "Register the file that imports it again, too."


def _parsed(files: Iterable[bytes]) -> Iterator[FileDescriptorProto]:
    return map(FileDescriptorProto.FromString, files)


def _unmoved(
    old: Mapping[str, FileDescriptorProto], brought: Mapping[str, FileDescriptorProto]
) -> dict[str, FileDescriptorProto]:
    """Returns the old files that were not moved. Refuses to take a part of a file elsewhere and leave the rest behind."""
    moved_to = {name: path for path, file in brought.items() for name in _definitions(file)}
    kept: dict[str, FileDescriptorProto] = {}
    for path, file in old.items():
        moved = [name for name in _definitions(file) if name in moved_to]
        left = [name for name in _definitions(file) if name not in moved_to]
        if moved and left:
            new_path = moved_to[moved[0]]
            problem = f"{moved[0]} is in {shown(path)} already, which also has {left[0]}"
            raise Invalid(
                Reason.SCHEMA_MALFORMED,
                f"what {shown(new_path)} defines cannot be taken: {problem}.",
                violations=[FieldViolation(new_path, problem)],
                hint=f"Register {shown(path)} again too, without what has moved.",
            )
        if not moved:
            kept[path] = file
    return kept


def _definitions(file: FileDescriptorProto) -> list[str]:
    """Returns the full names of what a file defines, but for what is within messages."""
    names = [message.name for message in file.message_type] + [enum.name for enum in file.enum_type]
    names += [service.name for service in file.service] + [extension.name for extension in file.extension]
    return [f"{file.package}.{name}".lstrip(".") for name in names]


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


def _refuse_twice(events: Iterable[tuple[str, str, str]]) -> None:
    first: dict[str, tuple[str, str]] = {}
    for event, message, path in events:
        other, other_path = first.setdefault(event, (message, path))
        if (other, other_path) != (message, path):
            problem = f"the event type {event} is {message}, but in {shown(other_path)} it is {other}"
            raise Invalid(
                Reason.SCHEMA_MALFORMED,
                f"{shown(path)}: {problem}.",
                violations=[FieldViolation(path, problem)],
                hint="Give one of them another name, or register the other file again without it.",
            )
