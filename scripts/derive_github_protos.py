"""The protos of the GitHub catalogue as text, and the lock of their field numbers.

Rules
-----
* What stands in a proto is never changed or removed here: it was finished by hand. Fields and messages are only added, at
  the end of the message or the file, and a file's imports follow from what it uses.
* A number, once given to a name, is in the lock for ever. So a field that was taken away comes back with its number, and
  no other field ever has it.
* The protos are as `buf format` leaves them, so their lines can be read without a parser: one field a line, but for
  options.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PACKAGE: Final = "certes/community/github/v1"
_RESERVED: Final = range(19000, 20000)
"""The numbers that protobuf keeps for itself."""


@dataclass(frozen=True, slots=True)
class ProtoField:
    """A field as it stands in a proto. `type` has `repeated`, but not `optional`."""

    name: str
    type: str
    number: int
    has_presence: bool
    json_name: str = ""

    @property
    def is_scalar(self) -> bool:
        """Whether it can be `optional`: whether it is neither a message, a list nor a map."""
        return self.type in _SCALARS

    def declaration(self) -> str:
        """Returns its line in a proto, without indentation."""
        label = "optional " if self.has_presence and self.is_scalar else ""
        name = f' [json_name = "{self.json_name}"]' if self.json_name else ""
        return f"{label}{self.type} {self.name} = {self.number}{name};"


@dataclass(slots=True)
class ProtoMessage:
    """A message as it stands in a proto, and what is to be added to it."""

    name: str
    file: str
    """The proto's name without `.proto`."""

    fields: dict[str, ProtoField] = field(default_factory=dict)
    added: list[tuple[str, ProtoField]] = field(default_factory=list)
    """Each new field with its comment."""


def read_messages(folder: Path) -> dict[str, ProtoMessage]:
    """Returns the messages of all protos of a folder, by name."""
    messages: dict[str, ProtoMessage] = {}
    for path in sorted(folder.glob("*.proto")):
        for name, body in _MESSAGE.findall(path.read_text(encoding="utf-8")):
            message = messages[name] = ProtoMessage(name, path.stem)
            for label, type_name, field_name, number, json_name in _FIELD.findall(body):
                full_type = f"repeated {type_name}" if label == "repeated" else type_name
                has_presence = label == "optional" or full_type not in _SCALARS
                message.fields[field_name] = ProtoField(field_name, full_type, int(number), has_presence, json_name)
    return messages


class NumberLock:
    """The numbers that fields have, by message and name; they are only ever added to."""

    def __init__(self, numbers: Mapping[str, Mapping[str, int]]) -> None:
        self._numbers: dict[str, dict[str, int]] = {message: dict(fields) for message, fields in numbers.items()}

    @classmethod
    def read(cls, text: str) -> NumberLock:
        """Reads what `text` wrote."""
        numbers: dict[str, dict[str, int]] = {}
        message = ""
        for line in text.splitlines():
            match line.split():
                case [heading] if heading.startswith("["):
                    message = heading.strip("[]")
                    numbers[message] = {}
                case [number, name] if number != "#":
                    numbers[message][name] = int(number)
        return cls(numbers)

    def text(self) -> str:
        """Returns the lock as a file: a heading for each message, and beneath it a line `number name` for each field."""
        sections = []
        for message, fields in sorted(self._numbers.items()):
            lines = [f"{number} {name}" for name, number in sorted(fields.items(), key=lambda item: item[1])]
            sections.append("\n".join([f"[{message}]", *lines]))
        return "\n\n".join([_HEAD, *sections]) + "\n"

    def number(self, message: str, name: str) -> int:
        """Returns the number of a field; gives it the next one that its message never had, where it has none."""
        fields = self._numbers.setdefault(message, {})
        if name not in fields:
            number = max(fields.values(), default=0) + 1
            fields[name] = _RESERVED.stop if number in _RESERVED else number
        return fields[name]

    def learn(self, message: ProtoMessage) -> list[str]:
        """Takes over the numbers of a message's fields, and returns what contradicts those it has."""
        fields = self._numbers.setdefault(message.name, {})
        taken = {number: name for name, number in fields.items()}
        problems = []
        for one in message.fields.values():
            locked = fields.setdefault(one.name, one.number)
            holder = taken.setdefault(one.number, one.name)
            if locked != one.number or holder != one.name:
                problems.append(f"{message.name}.{one.name} = {one.number}, which is locked: {holder} = {locked}")
        return problems


def with_additions(text: str, messages: Iterable[ProtoMessage]) -> str:
    """Returns a proto with the new fields of its messages at their ends, and with the imports they need."""
    for message in messages:
        lines = "".join(f"\n{comment_lines(comment, 2)}  {one.declaration()}\n" for comment, one in message.added)
        start = text.index(f"message {message.name} {{\n")
        end = text.index("\n}\n", start) + 1
        head = text[start:end]
        text = text[:start] + head + (lines if head.rstrip().endswith((";", "}")) else lines[1:]) + text[end:]
    return text


def with_imports(text: str, files: Mapping[str, str]) -> str:
    """Returns a proto whose imports are those of what it uses. `files` says in which file each message is."""
    used = {
        files[name] for _, type_name, *_ in _FIELD.findall(text) for name in _WORD.findall(type_name) if name in files
    }
    own = set(_DEFINED.findall(text))
    imports = {f"{PACKAGE}/{file}.proto" for file in used - {files[name] for name in own if name in files}}
    if "google.protobuf." in _FIELDS_ONLY.sub("", text):
        imports.add("google/protobuf/struct.proto")
    if "(certes.v1.event)" in text:
        imports.add("certes/v1/options.proto")
    block = "".join(f'import "{name}";\n' for name in sorted(imports))
    without = _IMPORT.sub("", text)
    package = re.search(r"^package .*;\n\n?", without, re.MULTILINE)
    assert package is not None
    rest = without[package.end() :].lstrip("\n")
    return without[: package.end()].rstrip("\n") + "\n\n" + (block + "\n" if block else "") + rest


def comment_lines(comment: str, indent: int) -> str:
    """Returns a comment as lines of a proto, at most 120 characters each."""
    width = 120 - indent - 3
    lines, line = [], ""
    for word in comment.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "".join(f"{' ' * indent}// {text}\n" for text in (*lines, line))


_SCALARS: Final = frozenset(("string", "bool", "int32", "int64", "double"))
_MESSAGE: Final = re.compile(r"^message (\w+) \{\n(.*?)^\}\n", re.MULTILINE | re.DOTALL)
_FIELD: Final = re.compile(
    r'^  (?:(optional|repeated) )?(map<string, string>|[\w.]+) (\w+) = (\d+)(?: \[json_name = "([^"]+)"\])?;$',
    re.MULTILINE,
)
_FIELDS_ONLY: Final = re.compile(r"^ *//.*\n", re.MULTILINE)
_IMPORT: Final = re.compile(r'^import ".*";\n', re.MULTILINE)
_DEFINED: Final = re.compile(r"^message (\w+) \{$", re.MULTILINE)
_WORD: Final = re.compile(r"[A-Z]\w+")
_HEAD: Final = """\
# The field numbers of the GitHub catalogue, by message. Written by scripts/derive_github.py, never by hand: a number that
# was given once is never given to another name, also when its field is gone."""
