"""The careful reading of a JSON document: value by value, for what is rare and for what is wrong.

Theory of operation
-------------------
The tables read a whole document at once and do not know where they failed. Here the same rules are applied to one value
after the other, each is set in the message as soon as it is clean, and the path to it is known all the time. The forms that
the plans of the tables leave out are taken in the order in which the document has them, as `json_format` does it: a field
under both its names, a name that is also that of a oneof, extensions. A value that no rule takes is shown to `json_format`
alone, in an object of its own: it knows the forms that are missing here, and what it refuses is refused.

It costs some three times as much as the tables do, whatever the document has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message

from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.schemas.json_expected import describe, expected_of, kind_of
from certes_broker.schemas.json_paths import JsonPath
from certes_broker.schemas.json_values import FAULTS, MAXIMUM_DEPTH, clean_map_key, entry_fields, is_map
from certes_broker.schemas.unknown_keys import Strangers

if TYPE_CHECKING:  # the tables call for a careful reading, and it reads by them
    from certes_broker.schemas.json_table import JsonTable


class CarefulReading:
    """One careful reading of one document. Notes in `met` what is unknown."""

    def __init__(self, table: JsonTable, met: list[Strangers]) -> None:
        self._table = table
        self._met = met
        self._steps: list[_Step] = []
        """The way to where it is reading."""

    def message(self, document: object) -> Message:
        """Builds the message that a document says. Raises `Invalid` / `DATA_MALFORMED`, with the path of what is wrong."""
        message = self._table.message_class()
        try:
            self._fill(self._table, message, document, 0)
            # Before protobuf 7 json_format does not count the depth of free-form values; no parser would read them.
            self._table.message_class().MergeFromString(message.SerializePartialToString())
        except _Misfit as misfit:
            raise self._malformed(_path_of(self._steps), misfit.problem) from misfit
        except (DecodeError, EncodeError) as error:
            raise self._malformed("", f"is nested more than {MAXIMUM_DEPTH} messages deep") from error
        return message

    def _fill(self, table: JsonTable, message: Message, document: object, depth: int) -> None:
        """Sets in a message what an object says; `depth` counts the messages around it."""
        if not isinstance(document, dict):
            raise _Misfit(f"must be an object, not {kind_of(document)}")
        if depth >= MAXIMUM_DEPTH:
            raise _Misfit(f"is nested too deeply: there are {MAXIMUM_DEPTH} messages around it")
        said: set[str] = set()
        unknown: list[str] = []
        steps = self._steps
        for key, value in document.items():
            field = table.fields.get(key)
            steps.append(key)
            if field is None:
                if not _EXTENSION.fullmatch(key):
                    unknown.append(key)
                else:
                    self._extension(table, message, {key: value}, depth)
            else:
                _check_said(said, key, field, value)
                if value is None:
                    _set_null(message, field)
                else:
                    self._set(table, message, key, value, depth + 1)
            steps.pop()
        if unknown:
            self._met.append(Strangers.of(table.descriptor.full_name, unknown))

    def _set(self, table: JsonTable, message: Message, key: str, value: object, depth: int) -> None:
        """Sets the field that a key says to a value that is not null; `depth` counts the messages around the value."""
        field, child = table.fields[key], table.child(key)
        if is_map(field):
            if not isinstance(value, dict):
                raise _Misfit(f"must be an object, not {kind_of(value)}")
            message.ClearField(field.name)
            self._set_map(table, message, key, value, depth)
        elif field.is_repeated:
            if not isinstance(value, list):
                raise _Misfit(f"must be an array, not {kind_of(value)}")
            message.ClearField(field.name)
            if child is None:
                self._set_leaves(table, message, key, _Elements(value), depth)
                return
            for index, item in enumerate(value):
                self._steps.append(index)
                self._fill(child, getattr(message, field.name).add(), item, depth)
                self._steps.pop()
        elif child is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self._fill(child, inner, value, depth)
        else:
            found = self._leaf(table, key, value, field, depth)
            if not _is_left_out(table, key, value):
                _replace(message, field, found)

    def _set_map(self, table: JsonTable, message: Message, key: str, value: dict[str, object], depth: int) -> None:
        field, child = table.fields[key], table.child(key)
        if child is None:
            self._set_leaves(table, message, key, _Entries(value), depth)
            return
        key_field, _ = entry_fields(field)
        clean_key = clean_map_key(key_field)
        entries = cast("Any", getattr(message, field.name))
        for name, item in value.items():
            self._steps.append((name,))
            try:
                inner = entries[clean_key(name)]
            except FAULTS as error:
                raise _Misfit(f"must have a key that is {expected_of(key_field)}") from error
            self._fill(child, inner, item, depth)
            self._steps.pop()

    def _set_leaves(self, table: JsonTable, message: Message, key: str, items: _Items, depth: int) -> None:
        """Adds the items of a repeated field or a map, none of which is an object of its own fields."""
        unfit = _first_unfit(table, key, items, depth)
        message.MergeFrom(_read(table, key, items.part(0, unfit), depth))
        for index in range(unfit, len(items)):
            self._steps.append(items.step(index))
            found = self._leaf(table, key, items.part(index, index + 1), items.field(table.fields[key]), depth)
            message.MergeFrom(found)
            self._steps.pop()

    def _leaf(self, table: JsonTable, key: str, value: object, field: FieldDescriptor, depth: int) -> Message:
        """Returns a message with one field alone, of one value, which is no object of its own fields."""
        try:
            return _read(table, key, value, depth)
        except FAULTS:
            pass
        try:
            return _by_json_format(table, {key: value}, depth)
        except _FAULTS as error:
            raise _misfit(table.fields[key], value, field) from error

    def _extension(self, table: JsonTable, message: Message, document: dict[str, object], depth: int) -> None:
        try:
            found = _by_json_format(table, document, depth + 1)
        except _FAULTS as error:
            raise _Misfit(f"is no extension that the message takes: {error}") from error
        for field, _ in found.ListFields():
            message.ClearExtension(cast("Any", field))
        message.MergeFrom(found)

    def _malformed(self, path: str, problem: str) -> Invalid:
        name = self._table.descriptor.full_name
        return Invalid(
            Reason.DATA_MALFORMED,
            f"reading JSON as {name}: {path or 'the document'} {problem}",
            violations=[FieldViolation(path, problem)] if path else [],
            metadata={"message": name, **({"field": path} if path else {})},
        )


_Step: TypeAlias = str | int | tuple[str]
"""A key of an object, an index, or the key of a map."""


class _Elements:
    """The elements of an array, as the items of a repeated field."""

    def __init__(self, value: list[object]) -> None:
        self._value = value

    def __len__(self) -> int:
        return len(self._value)

    def part(self, start: int, end: int) -> object:
        return self._value[start:end]

    def step(self, index: int) -> _Step:
        return index

    def field(self, field: FieldDescriptor) -> FieldDescriptor:
        return field


class _Entries:
    """The members of an object, as the items of a map."""

    def __init__(self, value: dict[str, object]) -> None:
        self._value = list(value.items())

    def __len__(self) -> int:
        return len(self._value)

    def part(self, start: int, end: int) -> object:
        return dict(self._value[start:end])

    def step(self, index: int) -> _Step:
        return (self._value[index][0],)

    def field(self, field: FieldDescriptor) -> FieldDescriptor:
        return entry_fields(field)[1]


_Items: TypeAlias = _Elements | _Entries


class _Misfit(Exception):
    """A value that does not fit its field."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def _path_of(steps: Iterable[_Step]) -> str:
    path = JsonPath()
    for step in steps:
        match step:
            case str():
                path = path.key(step)
            case int():
                path = path.index(step)
            case (name,):
                path = path.entry(name)
    return path.text


def _read(table: JsonTable, key: str, value: object, depth: int) -> Message:
    """Reads one value by the table's rule. Raises one of `FAULTS` if it does not take it."""
    name, kind, clean, _ = table.rules[key]
    return table.message_class(**{name: value if value.__class__ is kind else clean(value, depth)})


def _first_unfit(table: JsonTable, key: str, items: _Items, depth: int) -> int:
    """Returns the index of the first item that does not fit, or their number. Each is read twice at most."""
    start, end = 0, len(items)
    if _fit(table, key, items.part(start, end), depth):
        return end
    while end - start > 1:
        middle = (start + end) // 2
        if _fit(table, key, items.part(start, middle), depth):
            start = middle
        else:
            end = middle
    return start


def _fit(table: JsonTable, key: str, items: object, depth: int) -> bool:
    try:
        _read(table, key, items, depth)
    except FAULTS:
        return False
    return True


def _misfit(field: FieldDescriptor, value: object, item_field: FieldDescriptor) -> _Misfit:
    """Says what is wrong with the value of a field; of a repeated one or a map it is a single item."""
    item = value
    if field.is_repeated and isinstance(value, list):
        (item,) = value
    elif field.is_repeated and isinstance(value, dict):
        ((name, item),) = value.items()
        key_field, _ = entry_fields(field)
        try:
            clean_map_key(key_field)(name)
        except FAULTS:
            return _Misfit(f"must have a key that is {expected_of(key_field)}")
    return _Misfit(f"must be {expected_of(item_field)}, not {describe(item)}")


# json_format lets some of Python's own through: KeyError for an `Any`, and SystemError for a lone surrogate as an enum.
_FAULTS: Final = (*FAULTS, DecodeError, RecursionError, SystemError)
_ANY: Final = "google.protobuf.Any"
_EXTENSION: Final = re.compile(r"\[[a-zA-Z0-9._]*\]")


def _by_json_format(table: JsonTable, document: dict[str, object], depth: int) -> Message:
    message = table.message_class()
    json_format.ParseDict(
        document,
        message,
        ignore_unknown_fields=True,
        descriptor_pool=table.descriptor.file.pool,
        max_recursion_depth=MAXIMUM_DEPTH + 1 - depth,
    )
    return message


def _check_said(said: set[str], key: str, field: FieldDescriptor, value: object) -> None:
    """Refuses what is said twice, as json_format does: of a oneof, each `optional` being one, only one may have a value.

    Keys and oneofs are told apart by nothing but their names there, so a key that is the name of its oneof is refused too.
    """
    twice = key in said
    said.add(key)
    oneof = field.containing_oneof
    if oneof is not None and value is not None:
        twice = twice or oneof.name in said
        said.add(oneof.name)
    if twice:
        raise _Misfit("must not be there beside another field of the same oneof")


def _set_null(message: Message, field: FieldDescriptor) -> None:
    null = _nulls(field)
    if null is None:
        message.ClearField(field.name)
    else:
        null(message, field.name)


def _nulls(field: FieldDescriptor) -> Callable[[Message, str], None] | None:
    """Returns what sets a field to null, where null is a value of it."""
    if field.is_repeated:
        return None
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.Value":
        return lambda message, name: setattr(getattr(message, name), "null_value", 0)
    if field.enum_type is not None and field.enum_type.full_name == "google.protobuf.NullValue":
        return lambda message, name: setattr(message, name, 0)
    return None


def _is_left_out(table: JsonTable, key: str, value: object) -> bool:
    """Says whether a value is a string that an enum does not know. The table took it."""
    _, _, clean, _ = table.rules[key]
    return table.fields[key].enum_type is not None and isinstance(value, str) and clean(value, 0) is None


def _replace(message: Message, field: FieldDescriptor, found: Message) -> None:
    """Sets a field to what it is in another message."""
    if field.message_type is None and not field.has_presence:
        setattr(message, field.name, getattr(found, field.name))
    elif found.HasField(field.name):
        # An empty `Any` leaves what was said of it before, under the field's other name.
        if field.message_type is None or field.message_type.full_name != _ANY or getattr(found, field.name).ByteSize():
            message.ClearField(field.name)
        message.MergeFrom(found)
