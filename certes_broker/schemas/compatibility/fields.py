"""A field with all that bears on its bytes and its JSON, some of which stands elsewhere in its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FeatureSet, FieldDescriptorProto

from certes_broker.schemas.compatibility.elements import Element
from certes_broker.schemas.compatibility.features import Features
from certes_broker.schemas.field_types import SCALAR_NAMES

_MESSAGE: Final = FieldDescriptorProto.TYPE_MESSAGE
_GROUP: Final = FieldDescriptorProto.TYPE_GROUP
_STRING: Final = FieldDescriptorProto.TYPE_STRING
_REPEATED: Final = FieldDescriptorProto.LABEL_REPEATED
_REQUIRED: Final = FieldDescriptorProto.LABEL_REQUIRED
_QUOTED: Final = frozenset((_STRING, FieldDescriptorProto.TYPE_BYTES))
_UNPACKABLE: Final = _QUOTED | {_MESSAGE, _GROUP}


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `entry` is the generated entry type of a map, `oneof` the name of the oneof it is in, empty if none.

    A oneof that the compiler made for `optional` is none.
    """

    name: str
    proto: FieldDescriptorProto
    features: Features
    entry: DescriptorProto | None
    oneof: str

    @property
    def type(self) -> tuple[str, bool]:
        """What decides whether two fields have the same type: its name, and whether it is an enum's."""
        value = self.proto if self.entry is None else self.entry.field[1]
        return self.type_name, value.type == FieldDescriptorProto.TYPE_ENUM

    @property
    def type_name(self) -> str:
        """The type of one value, as `schemas.field_types.describe_type` has it."""
        if self.entry is not None:
            key, value = self.entry.field
            return f"map<{_type(key)}, {_type(value)}>"
        return _type(self.proto)

    @property
    def cardinality(self) -> str:
        """One of `map`, `repeated`, `required`, `legacy required` and `singular`.

        The last but one is what editions call `required`. It means the same, but `buf` counts a field that goes from one
        to the other as changed, and who runs it must not be told otherwise here.
        """
        if self.entry is not None:
            return "map"
        if self.proto.label == _REPEATED:
            return "repeated"
        if self.proto.label == _REQUIRED:
            return "required"
        return "legacy required" if self.features.field_presence == FeatureSet.LEGACY_REQUIRED else "singular"

    @property
    def has_presence(self) -> bool:
        """Whether absence can be told from an empty value; of a list or a map it never can."""
        proto = self.proto
        if self.entry is not None or proto.label == _REPEATED:
            return False
        if proto.type in {_MESSAGE, _GROUP} or proto.extendee or proto.HasField("oneof_index"):
            return True
        return self.features.field_presence != FeatureSet.IMPLICIT

    @property
    def is_packed(self) -> bool | None:
        """Whether a list is written as one record; None where that is no question."""
        if self.proto.label != _REPEATED or self.proto.type in _UNPACKABLE:
            return None
        if self.proto.options.HasField("packed"):
            return self.proto.options.packed
        return self.features.repeated_field_encoding == FeatureSet.PACKED

    @property
    def is_delimited(self) -> bool | None:
        """Whether a message is enclosed in a pair of tags rather than preceded by its length; None if it is no message."""
        if self.entry is not None or self.proto.type not in {_MESSAGE, _GROUP}:
            return None
        return self.proto.type == _GROUP or self.features.message_encoding == FeatureSet.DELIMITED

    @property
    def checks_utf8(self) -> bool | None:
        """Whether a parser refuses text that is no UTF-8; None if there is no text."""
        parts = [self.proto] if self.entry is None else self.entry.field
        if all(part.type != _STRING for part in parts):
            return None
        return self.features.utf8_validation == FeatureSet.VERIFY

    @property
    def json_name(self) -> str:
        """The name in proto3 JSON; empty for an extension, which has none. Not every compiler writes down the usual one."""
        return "" if self.proto.extendee else self.proto.json_name or usual_json_name(self.proto.name)

    def default(self, enums: Mapping[str, Element[EnumDescriptorProto]]) -> str:
        """Returns what a reader takes an absent field for, as its declaration would say it; empty for the type's own."""
        said = self.proto.default_value
        if self.proto.type == FieldDescriptorProto.TYPE_ENUM and said:
            enum = enums.get(self.proto.type_name.removeprefix("."))
            return "" if enum is not None and enum.proto.value[0].name == said else said
        return said if self.proto.type in _QUOTED or said not in _OWN_DEFAULTS else ""

    @property
    def declaration(self) -> str:
        """The field as a `.proto` file declares it, with what it says about JSON and the default."""
        proto = self.proto
        said = []
        if self.json_name and self.json_name != usual_json_name(proto.name):
            said.append(f'json_name = "{self.json_name}"')
        if proto.default_value:
            quote = '"' if proto.type in _QUOTED else ""
            said.append(f"default = {quote}{proto.default_value}{quote}")
        options = f" [{', '.join(said)}]" if said else ""
        text = f"{self._label()}{self.type_name} {proto.name} = {proto.number}{options};"
        return f"oneof {self.oneof} {{ {text} }}" if self.oneof else text

    def _label(self) -> str:
        if self.cardinality in {"repeated", "required", "legacy required"}:
            return f"{self.cardinality.removeprefix('legacy ')} "
        optional = self.has_presence and not self.oneof and self.proto.type not in {_MESSAGE, _GROUP}
        return "optional " if optional else ""


# What numbers and bools are without a default.
_OWN_DEFAULTS: Final = frozenset(("0", "false"))


def usual_json_name(name: str) -> str:
    """Returns the JSON name of a field that says none: letters after `_` are upper-case, and `_` is left out."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def _type(proto: FieldDescriptorProto) -> str:
    return SCALAR_NAMES.get(proto.type) or proto.type_name.removeprefix(".")
