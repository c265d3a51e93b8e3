"""Descriptor sets, checked: complete, in order, within the limits, and every text in them fit to be shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.schemas.compiling import limits
from certes_broker.schemas.compiling.closures import imports_of, ordered
from certes_broker.schemas.compiling.limits import too_large
from certes_broker.schemas.compiling.paths import path_problem, shown
from certes_broker.schemas.compiling.shared_files import shared_files


def checked_set(files: FileDescriptorSet) -> FileDescriptorSet:
    """Returns a set with all it imports, each file after what it imports, and our own copies of what every broker has.

    It may still not link. Raises `Invalid`: SCHEMA_MALFORMED where a path cannot stand or an import is missing or in a
    circle, SCHEMA_TOO_LARGE beyond a limit.
    """
    try:
        return _checked(files)
    except UnicodeDecodeError as error:
        raise Invalid(
            Reason.SCHEMA_MALFORMED,
            "a name or another text in the descriptors is no UTF-8.",
            violations=[FieldViolation("files", f"bytes that are no UTF-8: {error.object[:40]!r}")],
        ) from error


def _checked(files: FileDescriptorSet) -> FileDescriptorSet:
    by_path = _by_path(files)
    if not by_path:
        raise Invalid.field(Reason.SCHEMA_MALFORMED, "files", "no file is given")
    own = list(by_path.values())
    imports = sum(len(imports_of(file)) for file in own)
    if imports > limits.MAXIMUM_IMPORTS:
        raise too_large("the imports of all files", imports, limits.MAXIMUM_IMPORTS)
    counts = _Counts()
    for file in own:
        counts.add(file)
    known = {path: FileDescriptorProto.FromString(wire) for path, wire in shared_files().items()}
    return FileDescriptorSet(file=ordered({**by_path, **known}, by_path))


def _by_path(files: FileDescriptorSet) -> dict[str, FileDescriptorProto]:
    """Returns the files that are not among those every broker has."""
    violations: list[FieldViolation] = []
    found: dict[str, FileDescriptorProto] = {}
    for index, file in enumerate(files.file):
        if file.name in shared_files():
            continue
        problem = path_problem(file.name)
        if problem is None and file.name in found:
            problem = "the file is given twice"
        if problem is not None:
            violations.append(FieldViolation(f"files[{index}].name", f"{shown(file.name)}: {problem}"))
        found[file.name] = file
    if violations:
        raise Invalid(
            Reason.SCHEMA_MALFORMED,
            f"{len(violations)} of the files' paths cannot stand. The first: {violations[0].description}",
            violations=violations[:20],
        )
    return found


@dataclass(slots=True)
class _Counts:
    """Counts what the files of a set hold, and refuses what is beyond a limit as soon as it is."""

    messages: int = field(default=0)
    fields: int = field(default=0)

    def add(self, file: FileDescriptorProto) -> None:
        self._add_fields(f"the extensions of file {file.name}", len(file.extension))
        for enum in file.enum_type:
            self._add_enum(file.package, enum)
        for name, depth, message in _messages(file):
            if depth > limits.MAXIMUM_NESTING:
                raise too_large(f"the levels of messages in {_short(name)}", depth, limits.MAXIMUM_NESTING)
            self._add_message(name, message)

    def _add_message(self, name: str, message: DescriptorProto) -> None:
        self.messages += 1
        if self.messages > limits.MAXIMUM_MESSAGES:
            raise too_large("the messages of a registration", self.messages, limits.MAXIMUM_MESSAGES)
        if len(name) > limits.MAXIMUM_NAME:
            raise too_large(f"the characters of the name {_short(name)}", len(name), limits.MAXIMUM_NAME)
        self._add_fields(f"the fields of message {name}", len(message.field) + len(message.extension))
        ranges = len(message.reserved_range) + len(message.reserved_name) + len(message.extension_range)
        if ranges > limits.MAXIMUM_RANGES:
            raise too_large(f"the reserved ranges and names of message {name}", ranges, limits.MAXIMUM_RANGES)
        for enum in message.enum_type:
            self._add_enum(name, enum)

    def _add_fields(self, what: str, count: int) -> None:
        if count > limits.MAXIMUM_FIELDS:
            raise too_large(what, count, limits.MAXIMUM_FIELDS)
        self.fields += count
        if self.fields > limits.MAXIMUM_ALL_FIELDS:
            raise too_large("the fields of a registration", self.fields, limits.MAXIMUM_ALL_FIELDS)

    def _add_enum(self, scope: str, enum: EnumDescriptorProto) -> None:
        name = _short(f"{scope}.{enum.name}".lstrip("."))
        if len(enum.value) > limits.MAXIMUM_ENUM_VALUES:
            raise too_large(f"the values of enum {name}", len(enum.value), limits.MAXIMUM_ENUM_VALUES)
        ranges = len(enum.reserved_range) + len(enum.reserved_name)
        if ranges > limits.MAXIMUM_RANGES:
            raise too_large(f"the reserved ranges and names of enum {name}", ranges, limits.MAXIMUM_RANGES)


def _messages(file: FileDescriptorProto) -> Iterator[tuple[str, int, DescriptorProto]]:
    """Yields each message of a file with its full name and its level, from 1."""
    waiting = [(f"{file.package}.{message.name}".lstrip("."), 1, message) for message in file.message_type]
    while waiting:
        name, depth, message = waiting.pop()
        yield name, depth, message
        waiting.extend((f"{name}.{nested.name}", depth + 1, nested) for nested in message.nested_type)


def _short(name: str) -> str:
    return name if len(name) <= 120 else f"{name[:120]}…"
