"""The elements of a version, found by their full names.

Rules
-----
* All files of a version count, whether an event reaches them or not, because code is generated from all of them. The files of
  protobuf itself and of Certes do not, nor do those that only define validation options: they are not the version's to change.
* An element is found by its full name, in whatever file it stands. Moving it changes nothing of what is on the wire.
* The entry type of a map is no element: the field that it was generated for has its type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)

from certes_broker.schemas.compatibility.features import Features, features_of
from certes_broker.schemas.version_files import VersionFiles

FOREIGN_FOLDERS: Final = ("google/protobuf/", "certes/v1/")
FOREIGN_FILES: Final = frozenset(
    (
        "buf/validate/expression.proto",
        "buf/validate/priv/private.proto",
        "buf/validate/validate.proto",
        "validate/validate.proto",
    )
)

Location: TypeAlias = tuple[int, ...]
"""Where an element stands in its file, as `SourceCodeInfo.Location.path` has it."""

# The numbers of fields in `descriptor.proto`, of which locations are made.
FIELD_IN_MESSAGE: Final = 2
ONEOF_IN_MESSAGE: Final = 8
VALUE_IN_ENUM: Final = 2
METHOD_IN_SERVICE: Final = 2

Proto = TypeVar("Proto", DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, ServiceDescriptorProto)


@dataclass(frozen=True, slots=True)
class Element(Generic[Proto]):
    """One message, enum, extension or service. `features` are those in force within it; `parent` encloses it, if not empty."""

    name: str
    proto: Proto
    features: Features
    file: str
    location: Location
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Elements:
    """All elements of a version. Extensions are found by what they extend and their number."""

    files: dict[str, FileDescriptorProto] = field(default_factory=dict)
    messages: dict[str, Element[DescriptorProto]] = field(default_factory=dict)
    enums: dict[str, Element[EnumDescriptorProto]] = field(default_factory=dict)
    extensions: dict[tuple[str, int], Element[FieldDescriptorProto]] = field(default_factory=dict)
    services: dict[str, Element[ServiceDescriptorProto]] = field(default_factory=dict)
    comments: dict[str, Mapping[Location, str]] = field(default_factory=dict)
    """By file. A file that came without its source has none, which is not the same as no comments."""

    def comment(self, file: str, location: Location) -> str | None:
        """Returns the comment at an element; None where comments are not known."""
        known = self.comments.get(file)
        return None if known is None else known.get(location, "")


def elements_of(version: VersionFiles) -> Elements:
    """Reads the files of a version."""
    elements = Elements()
    sources = {path for path, _ in version.sources}
    for serialized in version.files:
        file = FileDescriptorProto.FromString(serialized)
        if not (file.name.startswith(FOREIGN_FOLDERS) or file.name in FOREIGN_FILES):
            _add_file(elements, file)
            if file.HasField("source_code_info") or file.name in sources:
                elements.comments[file.name] = dict(_comments(file))
    return elements


class _Scope(NamedTuple):
    """What encloses the elements that are being read: a file, or a message in it."""

    file: str
    name: str
    features: Features
    location: Location
    is_message: bool

    def element(self, name: str, proto: Proto, features: Features, location: Location) -> Element[Proto]:
        full_name = f"{self.name}.{name}" if self.name else name
        return Element(full_name, proto, features, self.file, location, self.name if self.is_message else "")


def _add_file(elements: Elements, file: FileDescriptorProto) -> None:
    elements.files[file.name] = file
    top = _Scope(file.name, file.package, features_of(file), (), is_message=False)
    _add_enums(elements, top, file.enum_type, 5)
    _add_extensions(elements, top, file.extension, 7)
    for index, service in enumerate(file.service):
        found = top.element(service.name, service, top.features, (6, index))
        elements.services[found.name] = found
    # Not recursive: how deep the messages of a descriptor set nest was said by whoever sent it.
    waiting: list[tuple[_Scope, DescriptorProto, Location]] = [
        (top, message, (4, index)) for index, message in enumerate(file.message_type)
    ]
    while waiting:
        scope, message, location = waiting.pop()
        if not message.options.map_entry:
            inner = _add_message(elements, scope, message, location)
            waiting += [(inner, nested, (*location, 3, index)) for index, nested in enumerate(message.nested_type)]


def _add_message(elements: Elements, scope: _Scope, message: DescriptorProto, location: Location) -> _Scope:
    features = scope.features.within(message.options.features) if message.HasField("options") else scope.features
    found = scope.element(message.name, message, features, location)
    elements.messages[found.name] = found
    inner = _Scope(scope.file, found.name, features, location, is_message=True)
    _add_enums(elements, inner, message.enum_type, 4)
    _add_extensions(elements, inner, message.extension, 6)
    return inner


def _add_enums(elements: Elements, scope: _Scope, enums: Sequence[EnumDescriptorProto], number: int) -> None:
    for index, enum in enumerate(enums):
        features = scope.features.within(enum.options.features) if enum.HasField("options") else scope.features
        found = scope.element(enum.name, enum, features, (*scope.location, number, index))
        elements.enums[found.name] = found


def _add_extensions(elements: Elements, scope: _Scope, extensions: Sequence[FieldDescriptorProto], number: int) -> None:
    for index, extension in enumerate(extensions):
        found = scope.element(extension.name, extension, scope.features, (*scope.location, number, index))
        elements.extensions[extension.extendee.removeprefix("."), extension.number] = found


def _comments(file: FileDescriptorProto) -> Iterator[tuple[Location, str]]:
    for location in file.source_code_info.location:
        text = location.leading_comments + location.trailing_comments
        if text:
            yield tuple(location.path), text
