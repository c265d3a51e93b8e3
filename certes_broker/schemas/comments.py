"""The comments of schemas, by the full names of what they stand before.

They come from where a file still has them. Descriptors that were made by a compiler carry their comments as *source info*,
which lists the place of each element in its file. Descriptors in generated code carry none; what is shipped with the broker
is therefore read from its sources. These are always in the one format that `make proto` writes, with every element at the
beginning of a line of its own and its comment right above it, so looking at lines is enough; a test holds this against the
compiler.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from certes_broker.schemas.version_files import VersionFiles

Comments = Mapping[str, str]
"""Comments of messages, fields and enums by full name."""


def comments_of(files: VersionFiles) -> Comments:
    """Returns what is known of the comments in a version's files."""
    sources = dict(files.sources)
    found: dict[str, str] = {}
    for wire in files.files:
        file = FileDescriptorProto.FromString(wire)
        if file.source_code_info.location:
            found.update(compiled_comments(file))
        elif file.name in sources:
            found.update(source_comments(file.package, sources[file.name]))
    return found


def compiled_comments(file: FileDescriptorProto) -> Comments:
    """Returns the comments that a file's source info has."""
    by_place = {
        tuple(location.path): _text(location.leading_comments)
        for location in file.source_code_info.location
        if location.leading_comments
    }
    return {name: by_place[place] for name, place in _places(file) if place in by_place}


def source_comments(package: str, source: str) -> Comments:
    """Returns the comments in a source that is in the format of `make proto`."""
    found: dict[str, str] = {}
    scopes = [package]
    lines: list[str] = []
    for line in map(str.strip, source.splitlines()):
        if line.startswith("//"):
            lines.append(line.removeprefix("//").removeprefix(" "))
            continue
        element = _BLOCK.match(line) or _FIELD.match(line)
        if element and lines:
            found[f"{scopes[-1]}.{element['name']}"] = "\n".join(lines)
        lines.clear()
        if line.startswith("}"):
            scopes.pop()
        elif line.endswith(("{", "[")):
            block = _BLOCK.match(line)
            # A oneof and an option open a scope too, but names in it are those around it.
            scopes.append(f"{scopes[-1]}.{block['name']}" if block else scopes[-1])
        elif line.startswith("]"):
            scopes.pop()
    return found


_BLOCK: Final = re.compile(r"(?:message|enum) (?P<name>\w+) \{")
_FIELD: Final = re.compile(r"(?:optional |repeated )?(?:map<\w+, [\w.]+>|[\w.]+) (?P<name>\w+) = [0-9]+(?: \[.*)?")

_Places = Iterator[tuple[str, tuple[int, ...]]]
"""Full names, and the places that source info has them under: numbers of fields in descriptor.proto, and indices."""

_MESSAGES: Final = FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER
_ENUMS: Final = FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER


def _places(file: FileDescriptorProto) -> _Places:
    scope = f"{file.package}." if file.package else ""
    for index, message in enumerate(file.message_type):
        yield from _message_places(message, scope, (_MESSAGES, index))
    for index, enum in enumerate(file.enum_type):
        yield f"{scope}{enum.name}", (_ENUMS, index)


def _message_places(message: DescriptorProto, scope: str, place: tuple[int, ...]) -> _Places:
    name = f"{scope}{message.name}"
    yield name, place
    for index, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*place, DescriptorProto.FIELD_FIELD_NUMBER, index)
    for index, inner in enumerate(message.nested_type):
        yield from _message_places(inner, f"{name}.", (*place, DescriptorProto.NESTED_TYPE_FIELD_NUMBER, index))
    for index, enum in enumerate(message.enum_type):
        yield f"{name}.{enum.name}", (*place, DescriptorProto.ENUM_TYPE_FIELD_NUMBER, index)


def _text(comment: str) -> str:
    """Returns a comment as the compiler has it, without the space after each `//` and the last line's end."""
    return "\n".join(line.removeprefix(" ") for line in comment.rstrip("\n").split("\n"))
