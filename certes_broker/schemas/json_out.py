"""Messages into JSON documents, by a table built once per message type.

Theory of operation
-------------------
`json_format` asks every field of every message for its kind, in Python, each time. Here that is asked once per message
type: a table says for every field under which name it appears and how its value becomes JSON, where it is not JSON
already. The outcome equals `json_format.MessageToDict`, which goes on speaking for the rare well-known types.

Two of its settings are wanted differently by two callers, `PAYLOAD` and `CONTRACT`: a payload keeps its own field names
(GitHub's are snake_case in its JSON too) and says what is false, zero and empty, as the payload it came from did; the
contract's messages have lowerCamelCase names and leave out what is not set.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, NamedTuple, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from certes_broker.schemas.json_effort import Effort, TooMuchAtOnce

Document = dict[str, Any]
"""A JSON object, as `json.dumps` takes it."""

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Style:
    """How documents look: whose field names they have, and whether fields without presence are written when unset.

    With `chosen_json_names`, which `json_format` does not have, a JSON name that a schema chose comes before a field's own
    name: `+1` is no name for a field, so GitHub's is `plus_one [json_name = "+1"]`.
    """

    proto_field_names: bool
    with_defaults: bool
    chosen_json_names: bool = False


PAYLOAD: Final = Style(proto_field_names=True, with_defaults=True, chosen_json_names=True)
CONTRACT: Final = Style(proto_field_names=False, with_defaults=False)


class DocumentTables:
    """Keeps one table for each message type, so that types which share messages share tables.

    Types are told apart by their descriptors, so those of several pools may have one name. `special` maps full names of
    messages to what writes them in place of a table.
    """

    def __init__(self, style: Style, special: Mapping[str, Convert] | None = None) -> None:
        self.style: Final = style
        self._special = dict(special or {})
        self._tables: dict[Descriptor, DocumentTable] = {}
        self._unfilled: list[tuple[DocumentTable, Descriptor]] = []
        self.effort = Effort()
        """What writing a document may take now."""

    def document(self, message: Message, effort: Effort | None = None) -> Document:
        """Returns the document of a message; see `DocumentTable.document`. Raises `TooMuchAtOnce` where an effort is given."""
        self.effort = Effort() if effort is None else effort
        return self.table(cast("Descriptor", message.DESCRIPTOR)).document(message)

    def table(self, descriptor: Descriptor) -> DocumentTable:
        """Returns the table of a message type; the first call builds it, and those of the messages within it."""
        table = self._tables.get(descriptor)
        if table is None:
            table = self._tables[descriptor] = DocumentTable(self)
            self._unfilled.append((table, descriptor))
            if len(self._unfilled) == 1:
                # Filling one asks for those of the messages within it, which join the list: thousands may lead to one another.
                try:
                    for unfilled, kind in self._unfilled:
                        self.effort.spend(_FIELD * len(kind.fields))
                        unfilled._fill(kind)
                except TooMuchAtOnce:
                    # They lead to one another, so all of them go.
                    for _, kind in self._unfilled:
                        del self._tables[kind]
                    raise
                finally:
                    self._unfilled.clear()
        return table

    def _rule(self, field: FieldDescriptor) -> _Rule:
        own_name = self.style.proto_field_names and not (self.style.chosen_json_names and _has_chosen_json_name(field))
        name = field.name if own_name else field.json_name
        if field.is_extension:
            name = f"[{field.full_name}]"
        if _is_map(field):
            return _Rule(name, self._map(field))
        convert = self._value(field)
        if field.is_repeated:
            return _Rule(name, list if convert is None else self._each(convert))
        return _Rule(name, convert)

    def _map(self, field: FieldDescriptor) -> Convert:
        entry = cast("Descriptor", field.message_type).fields_by_name
        is_bool = entry["key"].cpp_type == FieldDescriptor.CPPTYPE_BOOL
        key: Callable[[object], str] = _bool_key if is_bool else str
        convert = self._value(entry["value"])
        weight = 2 + _WEIGHTS.get(convert, 1)

        def entered(entries: Any) -> Any:
            self.effort.spend(weight * len(entries))
            return entries.items()

        # A message map makes a missing key when asked for one; `items` only shows those that are there.
        if convert is None:
            return lambda entries: {key(name): value for name, value in entered(entries)}
        return lambda entries: {key(name): convert(value) for name, value in entered(entries)}

    def _value(self, field: FieldDescriptor) -> Convert | None:
        """Returns how one value of a field becomes JSON; None where it is JSON as it is."""
        if field.message_type is not None:
            return self._message(field.message_type)
        if field.enum_type is not None:
            return _enum(field.enum_type)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return _base64
        return _SCALARS.get(field.cpp_type)

    def _message(self, descriptor: Descriptor) -> Convert:
        special = self._special.get(descriptor.full_name)
        if special is not None:
            return special
        if not descriptor.full_name.startswith(_WELL_KNOWN):
            return self.table(descriptor).document
        if descriptor.name in _TOLD_BY_ITSELF:
            return _json_string

        def told(message: Message) -> Any:
            self.effort.spend(_MESSAGE + message.ByteSize())
            return json_format.MessageToDict(
                message,
                preserving_proto_field_name=self.style.proto_field_names,
                always_print_fields_with_no_presence=self.style.with_defaults,
                descriptor_pool=descriptor.file.pool,
            )

        return told

    def _each(self, convert: Convert) -> Convert:
        weight = _WEIGHTS.get(convert, 1)

        def each(values: Any) -> list[Any]:
            self.effort.spend(weight * len(values))
            return [convert(value) for value in values]

        return each


class DocumentTable:
    """Writes messages of one type as JSON documents."""

    __slots__ = ("_converts", "_cost", "_defaults", "_empty", "_names", "_tables", "_weight")

    def __init__(self, tables: DocumentTables) -> None:
        self._tables = tables
        self._names: dict[FieldDescriptor, str] = {}
        self._converts: list[tuple[str, Convert]] = []
        self._defaults: Document = {}
        self._empty: list[tuple[str, type]] = []
        self._cost = _MESSAGE
        """What a message takes whatever is in it."""
        self._weight = 1
        """What each of its fields takes at most."""

    def document(self, message: Message) -> Document:
        """Returns the document of a message. Unknown fields are left out.

        Raises what `json_format` raises for a value that JSON cannot hold, such as a `google.protobuf.Value` of NaN.
        """
        names = self._names
        fields = message.ListFields()
        self._tables.effort.spend(self._cost + self._weight * len(fields))
        # Most values are JSON as they are, so all are taken in one go and the others are gone over again.
        try:
            document: Document = {names[field]: value for field, value in fields}
        except KeyError:
            self._add_extensions(fields)
            document = {names[field]: value for field, value in fields}
        for name, convert in self._converts:
            if name in document:
                document[name] = convert(document[name])
        if not self._tables.style.with_defaults:
            return document
        for name, empty in self._empty:
            if name not in document:
                document[name] = empty()
        return self._defaults | document

    def _add(self, field: FieldDescriptor) -> None:
        name, convert = self._tables._rule(field)
        self._names[field] = name
        if convert is not None:
            self._converts.append((name, convert))
            self._weight = max(self._weight, _WEIGHTS.get(convert, 1))

    def _add_extensions(self, fields: Iterable[tuple[FieldDescriptor, object]]) -> None:
        # Any file can extend a proto2 message, so its extensions are known when they are met.
        for field, _ in fields:
            if field not in self._names:
                self._add(field)

    def _fill(self, descriptor: Descriptor) -> None:
        if self._tables.style.with_defaults:
            self._cost += sum(not field.has_presence for field in descriptor.fields)
        for field in descriptor.fields:
            self._add(field)
            if not self._tables.style.with_defaults or field.has_presence:
                continue
            name, convert = self._tables._rule(field)
            if field.is_repeated:
                self._empty.append((name, dict if _is_map(field) else list))
            else:
                self._defaults[name] = field.default_value if convert is None else convert(field.default_value)


class _Rule(NamedTuple):
    """Under which name a field appears, and how its value becomes JSON (None: it is)."""

    name: str
    convert: Convert | None


_WELL_KNOWN: Final = "google.protobuf."
_SINGLE: Final = Struct("<f")
_TOLD_BY_ITSELF: Final = frozenset(("Timestamp", "Duration", "FieldMask"))


def _has_chosen_json_name(field: FieldDescriptor) -> bool:
    """Whether the schema says a JSON name that is not the one protoc makes: in camelCase, without underscores."""
    first, *rest = field.name.split("_")
    return bool(field.json_name != first + "".join(part[:1].upper() + part[1:] for part in rest))


def _is_map(field: FieldDescriptor) -> bool:
    message = field.message_type
    return message is not None and bool(message.GetOptions().map_entry)


def _bool_key(key: object) -> str:
    return "true" if key else "false"


def _json_string(message: Any) -> str:
    return cast("str", message.ToJsonString())


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _enum(descriptor: EnumDescriptor) -> Convert:
    if descriptor.full_name == "google.protobuf.NullValue":
        return lambda _: None
    names: dict[int, str] = {}
    for value in descriptor.values:
        names.setdefault(value.number, value.name)  # of aliases the first
    return lambda number: names.get(number, number)


def _double(value: float) -> float | str:
    # "JSON value will be a number or one of the special string values "NaN", "Infinity", and "-Infinity"."
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _float(value: float) -> float | str:
    """The shortest decimal that is this single-precision number, as `json_format` writes it."""
    if not math.isfinite(value):
        return _double(value)
    # Nine digits tell any two single-precision numbers apart; six are the fewest that are always kept.
    for precision in range(6, 9):
        short = float(f"{value:.{precision}g}")
        if _single(short) == value:
            return short
    return float(f"{value:.9g}")


def _single(value: float) -> float:
    try:
        return cast("float", _SINGLE.unpack(_SINGLE.pack(value))[0])
    except OverflowError:  # rounding went beyond the largest one
        return math.inf


_SCALARS: Final[Mapping[int, Convert]] = {
    # "JSON value will be a decimal string": numbers above 2^53 do not survive JavaScript.
    FieldDescriptor.CPPTYPE_INT64: str,
    FieldDescriptor.CPPTYPE_UINT64: str,
    FieldDescriptor.CPPTYPE_DOUBLE: _double,
    FieldDescriptor.CPPTYPE_FLOAT: _float,
}

_MESSAGE: Final = 20
"""What a message takes, in values."""
_FIELD: Final = 5
"""What a field takes of which the first message is written. More, for once."""
_WEIGHTS: Final[Mapping[Convert | None, int]] = {_float: 25, _json_string: 12, _base64: 2}
"""What takes longer than a value does as it is."""
