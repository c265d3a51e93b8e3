"""The community catalogue as its protos tell it: what the contrib packages of all languages are made of.

Rules
-----
* It is read from descriptors alone, which protoc makes of the protos. So it is the same whatever stubs lie about, and needs no
  toolchain but Python's.
* An option of a provider is all options of that name that its event types declare. Where they are fields of different kinds, the
  option is a text, which is how the broker compares it anyhow.
* What no package could say is refused here (`NotGenerated`): a major version other than 1, an event type that does not say its whole
  URI, a message that is named as the options are.
"""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from scripts.stub_trees import ROOT, NotGenerated

PROTOS: Final = ROOT / "proto"
OPTIONS: Final = "Opts"
"""What the type of a provider's options is called in each language."""


class Kind(Enum):
    """What the value of an option is, for whoever writes it."""

    TEXT = "text"
    BOOL = "bool"
    INTEGER = "integer"
    UNSIGNED = "unsigned integer"


@dataclass(frozen=True, slots=True)
class Option:
    """An option by which subscriptions to a provider's events can be narrowed.

    `fields` says for each field that it selects by which event types have it. `meaning` is what the protos say of these fields;
    empty where they say different things.
    """

    name: str
    kind: Kind
    fields: Mapping[str, Sequence[str]]
    meaning: str


@dataclass(frozen=True, slots=True)
class Definition:
    """A message or enum. `path` names it from its file on, the messages around it first; `file` is its proto without the ending."""

    path: tuple[str, ...]
    file: str
    is_enum: bool


@dataclass(frozen=True, slots=True)
class Provider:
    """What a contrib package has of one provider. `events` are the messages by event URI; all are sorted."""

    name: str
    title: str
    package: str
    definitions: Sequence[Definition]
    events: Mapping[str, str]
    options: Sequence[Option]

    def reach(self, option: Option) -> str:
        """Says what an option selects by, and in which event types: half a sentence, to follow "selects"."""
        return "; ".join(f"by `{field}` in {self._which(events)}" for field, events in option.fields.items())

    def _which(self, events: Sequence[str]) -> str:
        names = [uri.rpartition("/")[2] for uri in self.events]
        without = [name for name in names if name not in events]
        if not without:
            return "every event type"
        if len(without) < len(events):
            return f"every event type but {_listed(without)}"
        return _listed(events)


def read_catalogue(protos: Path = PROTOS) -> list[Provider]:
    """Returns the providers whose protos are below `protos`, sorted by name. Raises `NotGenerated` where that cannot be."""
    compiled = _compile(protos)
    pool = DescriptorPool()
    by_provider: dict[str, list[FileDescriptorProto]] = defaultdict(list)
    for file in compiled.file:
        pool.Add(file)
        if file.name.startswith(_CATALOGUE):
            by_provider[_provider(file.name)].append(file)
    return [_read(name, each, pool, protos) for name, each in sorted(by_provider.items())]


_CATALOGUE: Final = "certes/community/"
_PLACE: Final = re.compile(rf"{_CATALOGUE}([a-z][a-z0-9_]*)/v1/([a-z0-9_]+)\.proto")
_KINDS: Final[Mapping[int, Kind]] = {
    FieldDescriptor.CPPTYPE_BOOL: Kind.BOOL,
    FieldDescriptor.CPPTYPE_INT32: Kind.INTEGER,
    FieldDescriptor.CPPTYPE_INT64: Kind.INTEGER,
    FieldDescriptor.CPPTYPE_UINT32: Kind.UNSIGNED,
    FieldDescriptor.CPPTYPE_UINT64: Kind.UNSIGNED,
}
"""All else is a text; enums too, whose values go by their names."""


def _compile(protos: Path) -> FileDescriptorSet:
    sources = sorted(path.relative_to(protos).as_posix() for path in (protos / _CATALOGUE).rglob("*.proto"))
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "catalogue.binpb")
        arguments = [
            "protoc",
            f"--proto_path={protos}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--descriptor_set_out={out}",
            "--include_imports",
            "--include_source_info",
            *sources,
        ]
        # Imported by name, as in python_stubs.
        if import_module("grpc_tools.protoc").main(arguments) != 0:
            raise NotGenerated("The protos of the catalogue do not compile; nothing was written.")
        return FileDescriptorSet.FromString(out.read_bytes())


def _provider(file: str) -> str:
    match = _PLACE.fullmatch(file)
    if match is None:
        raise NotGenerated(
            f"{file} is not {_CATALOGUE}<provider>/v1/<noun>.proto, which is all that contrib packages know"
        )
    return match[1]


def _read(name: str, protos: Sequence[FileDescriptorProto], pool: DescriptorPool, folder: Path) -> Provider:
    about = tomllib.loads((folder / _CATALOGUE / name / "provider.toml").read_text(encoding="utf-8"))
    definitions = [definition for file in protos for definition in _definitions(file)]
    if any(definition.path == (OPTIONS,) for definition in definitions):
        raise NotGenerated(
            f"{protos[0].package}: {OPTIONS} is the name of the options in contrib packages; name it otherwise"
        )
    events: dict[str, Descriptor] = {}
    for file in protos:
        for message in file.message_type:
            uri = _event_uri(pool, file, message)
            if uri is not None:
                events[uri] = pool.FindMessageTypeByName(f"{file.package}.{message.name}")
    return Provider(
        name,
        about["title"],
        protos[0].package,
        sorted(definitions, key=lambda definition: definition.path),
        {uri: events[uri].name for uri in sorted(events)},
        _options(pool, dict(sorted(events.items())), {key: text for file in protos for key, text in _comments(file)}),
    )


def _definitions(file: FileDescriptorProto) -> Iterator[Definition]:
    match = _PLACE.fullmatch(file.name)
    assert match is not None  # or it would be no provider's

    def within(message: DescriptorProto, path: tuple[str, ...]) -> Iterator[Definition]:
        path = (*path, message.name)
        yield Definition(path, match[2], is_enum=False)
        for enum in message.enum_type:
            yield Definition((*path, enum.name), match[2], is_enum=True)
        for inner in message.nested_type:
            if not inner.options.map_entry:
                yield from within(inner, path)

    for enum in file.enum_type:
        yield Definition((enum.name,), match[2], is_enum=True)
    for message in file.message_type:
        yield from within(message, ())


def _event_uri(pool: DescriptorPool, file: FileDescriptorProto, message: DescriptorProto) -> str | None:
    """Returns the event URI of a message, None if it is only a part of others."""
    event = _extension(pool, message.options, "google.protobuf.MessageOptions", "certes.v1.event")
    if event is None:
        return None
    schema = _extension(pool, file.options, "google.protobuf.FileOptions", "certes.v1.schema")
    if schema is None or not event.name:
        raise NotGenerated(
            f"{file.name}: {message.name} does not say its whole event URI, as what is in the catalogue must"
        )
    return f"{schema.domain}/{schema.namespace}/{schema.version}/{event.name}"


def _extension(pool: DescriptorPool, options: Any, kind: str, name: str) -> Any:
    """Returns an option that the protos themselves define, which no stub here may know; None if it is not given."""
    known: Any = GetMessageClass(pool.FindMessageTypeByName(kind)).FromString(options.SerializeToString())
    extension = pool.FindExtensionByName(name)
    return known.Extensions[extension] if known.HasExtension(extension) else None


def _options(pool: DescriptorPool, events: Mapping[str, Descriptor], comments: Mapping[str, str]) -> list[Option]:
    declared: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    fields: dict[str, list[FieldDescriptor]] = defaultdict(list)
    for uri, message in events.items():
        event = _extension(pool, message.GetOptions(), "google.protobuf.MessageOptions", "certes.v1.event")
        for option in event.options:
            declared[option.name][option.field].append(uri.rpartition("/")[2])
            fields[option.name].append(_field(message, option.field))
    return [
        Option(name, _kind(fields[name]), declared[name], _meaning(fields[name], comments)) for name in sorted(declared)
    ]


def _field(message: Descriptor, path: str) -> FieldDescriptor:
    *parents, last = path.split(".")
    inner: Descriptor | None = message
    for parent in parents:
        found = inner.fields_by_name.get(parent) if inner is not None else None
        inner = found.message_type if found is not None else None
    field = inner.fields_by_name.get(last) if inner is not None else None
    if field is None:
        raise NotGenerated(f"{message.full_name} has no field {path}, which one of its options names")
    return field


def _kind(fields: Sequence[FieldDescriptor]) -> Kind:
    kinds = {_KINDS.get(field.cpp_type, Kind.TEXT) for field in fields}
    return kinds.pop() if len(kinds) == 1 else Kind.TEXT


def _meaning(fields: Sequence[FieldDescriptor], comments: Mapping[str, str]) -> str:
    said = {comments.get(field.full_name, "") for field in fields}
    return said.pop() if len(said) == 1 else ""


def _comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Yields the comment of each field of the messages of a file, by the field's full name."""
    texts = {tuple(place.path): " ".join(place.leading_comments.split()) for place in file.source_code_info.location}

    def within(message: DescriptorProto, scope: str, path: tuple[int, ...]) -> Iterator[tuple[str, str]]:
        name = f"{scope}.{message.name}"
        for number, field in enumerate(message.field):
            yield f"{name}.{field.name}", texts.get((*path, _FIELD, number), "")
        for number, inner in enumerate(message.nested_type):
            yield from within(inner, name, (*path, _NESTED, number))

    for number, message in enumerate(file.message_type):
        yield from within(message, file.package, (_MESSAGE, number))


# The numbers of fields in descriptor.proto, by which source information names places.
_MESSAGE: Final = FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER
_FIELD: Final = DescriptorProto.FIELD_FIELD_NUMBER
_NESTED: Final = DescriptorProto.NESTED_TYPE_FIELD_NUMBER


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
