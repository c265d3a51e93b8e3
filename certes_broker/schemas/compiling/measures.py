"""Measures descriptors, and refuses what is beyond a limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.schemas import VersionName
from certes_broker.schemas.compiling import limits
from certes_broker.schemas.compiling.closures import imports_of
from certes_broker.schemas.compiling.limits import too_large
from certes_broker.schemas.compiling.shared_files import shared_files


def check_measures(files: Iterable[FileDescriptorProto]) -> None:
    """Refuses files that hold too much; they may not link.

    Raises `Invalid`: SCHEMA_TOO_LARGE beyond a limit, SCHEMA_MALFORMED where a name that is shown cannot be.
    """
    counts = _Counts()
    for file in files:
        counts.add(file)


def check_size(version: VersionName, files: Iterable[FileDescriptorProto]) -> None:
    """Refuses a version whose own files are too large to be kept and shown. Raises `Invalid` (SCHEMA_TOO_LARGE)."""
    size = sum(file.ByteSize() for file in files if file.name not in shared_files())
    if size > limits.MAXIMUM_VERSION_BYTES:
        raise too_large(f"the bytes of the descriptors of {version}", size, limits.MAXIMUM_VERSION_BYTES)


@dataclass(slots=True)
class _Counts:
    """What the files of a set hold together, so far."""

    files: int = 0
    imports: int = 0
    messages: int = 0
    fields: int = 0
    enum_values: int = 0

    def add(self, file: FileDescriptorProto) -> None:
        self.files += 1
        if self.files > limits.MAXIMUM_FILES:
            raise too_large("the files of a registration", self.files, limits.MAXIMUM_FILES)
        self.imports += len(imports_of(file))
        if self.imports > limits.MAXIMUM_IMPORTS:
            raise too_large("the imports of all files", self.imports, limits.MAXIMUM_IMPORTS)
        self._add_fields(f"the extensions of file {_short(file.name)}", file.extension)
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
        _check_name(name)
        self._add_fields(f"the fields of message {_short(name)}", message.field)
        self._add_fields(f"the extensions in message {_short(name)}", message.extension)
        ranges = len(message.reserved_range) + len(message.reserved_name) + len(message.extension_range)
        if ranges > limits.MAXIMUM_RANGES:
            raise too_large(f"the reserved ranges and names of message {_short(name)}", ranges, limits.MAXIMUM_RANGES)
        _check_shown(_short(name), message.reserved_name)
        for enum in message.enum_type:
            self._add_enum(name, enum)

    def _add_fields(self, what: str, fields: Iterable[FieldDescriptorProto]) -> None:
        listed = list(fields)
        if len(listed) > limits.MAXIMUM_FIELDS:
            raise too_large(what, len(listed), limits.MAXIMUM_FIELDS)
        self.fields += len(listed)
        if self.fields > limits.MAXIMUM_ALL_FIELDS:
            raise too_large("the fields of a registration", self.fields, limits.MAXIMUM_ALL_FIELDS)
        _check_shown(what, (field.json_name for field in listed))

    def _add_enum(self, scope: str, enum: EnumDescriptorProto) -> None:
        name = f"{scope}.{enum.name}".lstrip(".")
        _check_name(name)
        if len(enum.value) > limits.MAXIMUM_ENUM_VALUES:
            raise too_large(f"the values of enum {_short(name)}", len(enum.value), limits.MAXIMUM_ENUM_VALUES)
        self.enum_values += len(enum.value)
        if self.enum_values > limits.MAXIMUM_ALL_ENUM_VALUES:
            raise too_large("the enum values of a registration", self.enum_values, limits.MAXIMUM_ALL_ENUM_VALUES)
        ranges = len(enum.reserved_range) + len(enum.reserved_name)
        if ranges > limits.MAXIMUM_RANGES:
            raise too_large(f"the reserved ranges and names of enum {_short(name)}", ranges, limits.MAXIMUM_RANGES)
        _check_shown(_short(name), enum.reserved_name)


_SHOWN: Final = 120


def _messages(file: FileDescriptorProto) -> Iterator[tuple[str, int, DescriptorProto]]:
    """Yields each message of a file with its full name and its level, from 1."""
    waiting = [(f"{file.package}.{message.name}".lstrip("."), 1, message) for message in file.message_type]
    while waiting:
        name, depth, message = waiting.pop()
        yield name, depth, message
        waiting.extend((f"{name}.{nested.name}", depth + 1, nested) for nested in message.nested_type)


def _check_name(name: str) -> None:
    if len(name) > limits.MAXIMUM_NAME:
        raise too_large(f"the characters of the name {_short(name)}", len(name), limits.MAXIMUM_NAME)


def _check_shown(where: str, texts: Iterable[str]) -> None:
    """Refuses names that need be no identifiers, and that a terminal or a page would take for something else."""
    for text in texts:
        if not text.isprintable():
            raise Invalid.field(
                Reason.SCHEMA_MALFORMED,
                "files",
                f"in {where}, the JSON name or reserved name {text[:_SHOWN]!a} has characters that cannot be shown",
            )


def _short(name: str) -> str:
    """Returns a name as a message may show it: these have not been looked at by a compiler yet."""
    cut = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
    return cut if cut.isprintable() else ascii(cut)
