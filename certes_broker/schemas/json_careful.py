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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message

from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.schemas.json_expected import describe, expected_of
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

    def message(self, document: object) -> Message:
        """Builds the message that a document says. Raises `Invalid` / `DATA_MALFORMED`, with the path of what is wrong."""
        message = self._table.message_class()
        try:
            self._fill(self._table, message, document, _Place(JsonPath(), 0))
            # Before protobuf 7 json_format does not count the depth of free-form values; no parser would read them.
            self._table.message_class().MergeFromString(message.SerializePartialToString())
        except _Misfit as misfit:
            raise self._malformed(misfit.path.text, misfit.problem) from misfit
        except (DecodeError, EncodeError) as error:
            raise self._malformed("", f"is nested more than {MAXIMUM_DEPTH} messages deep") from error
        return message

    def _fill(self, table: JsonTable, message: Message, document: object, place: _Place) -> None:
        """Sets in a message what an object says. `place` is that of the object."""
        if not isinstance(document, dict):
            raise _Misfit(place.path, f"must be an object, not {describe(document)}")
        if place.depth >= MAXIMUM_DEPTH:
            raise _Misfit(place.path, f"is nested too deeply: there are {MAXIMUM_DEPTH} messages around it")
        said: set[str] = set()
        unknown: list[str] = []
        for key, value in document.items():
            field = table.fields.get(key)
            here = place.within(place.path.key(key))
            if field is None:
                if not _EXTENSION.fullmatch(key):
                    unknown.append(key)
                else:
                    self._extension(table, message, {key: value}, here)
                continue
            _check_said(said, key, field, value, here)
            if value is None:
                _set_null(message, field)
            else:
                self._set(table, message, key, value, here)
        if unknown:
            self._met.append(Strangers.of(table.descriptor.full_name, unknown))

    def _set(self, table: JsonTable, message: Message, key: str, value: object, here: _Place) -> None:
        """Sets the field that a key says to a value that is not null."""
        field, child = table.fields[key], table.child(key)
        if is_map(field):
            self._set_map(table, message, key, value, here)
        elif field.is_repeated:
            message.ClearField(field.name)
            if not isinstance(value, list):
                raise _Misfit(here.path, f"must be an array, not {describe(value)}")
            for index, item in enumerate(value):
                there = here.at(here.path.index(index))
                if item is None and not _takes_null(field):
                    raise _Misfit(there.path, "must not be null: an array has no gaps")
                if child is None:
                    message.MergeFrom(self._leaf(table, key, [item], field, there))
                else:
                    self._fill(child, getattr(message, field.name).add(), item, there)
        elif child is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self._fill(child, inner, value, here)
        elif not _is_left_out(table, key, value):
            _replace(message, field, self._leaf(table, key, value, field, here))

    def _set_map(self, table: JsonTable, message: Message, key: str, value: object, here: _Place) -> None:
        field, child = table.fields[key], table.child(key)
        key_field, value_field = entry_fields(field)
        clean_key = clean_map_key(key_field)
        message.ClearField(field.name)
        if not isinstance(value, dict):
            raise _Misfit(here.path, f"must be an object, not {describe(value)}")
        entries = cast("Any", getattr(message, field.name))
        for name, item in value.items():
            there = here.at(here.path.entry(name))
            if child is None:
                found = getattr(self._leaf(table, key, {name: item}, value_field, there), field.name)
                for entry in found:
                    if value_field.message_type is None:
                        entries[entry] = found[entry]
                    else:
                        entries[entry].CopyFrom(found[entry])
                continue
            try:
                entry = clean_key(name)
                inner = entries[entry]
            except FAULTS as error:
                raise _Misfit(there.path, f"must have a key that is {expected_of(key_field)}") from error
            self._fill(child, inner, item, there)

    def _leaf(self, table: JsonTable, key: str, value: object, field: FieldDescriptor, here: _Place) -> Message:
        """Returns a message with one field alone, which holds no messages that are objects of their own fields."""
        name, kind, clean, _ = table.rules[key]
        try:
            return table.message_class(**{name: value if value.__class__ is kind else clean(value, here.depth)})
        except FAULTS:
            pass
        try:
            return _by_json_format(table, {key: value}, here)
        except _FAULTS as error:
            item = value
            if table.fields[key].is_repeated:
                item = next(iter(value.values() if isinstance(value, dict) else cast("list[object]", value)))
            raise _Misfit(here.path, f"must be {expected_of(field)}, not {describe(item)}") from error

    def _extension(self, table: JsonTable, message: Message, document: dict[str, object], here: _Place) -> None:
        try:
            found = _by_json_format(table, document, here)
        except _FAULTS as error:
            raise _Misfit(here.path, f"is no extension that the message takes: {error}") from error
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


class _Place:
    """A place in the document, and how many messages are around it."""

    __slots__ = ("depth", "path")

    def __init__(self, path: JsonPath, depth: int) -> None:
        self.path = path
        self.depth = depth

    def at(self, path: JsonPath) -> _Place:
        return _Place(path, self.depth)

    def within(self, path: JsonPath) -> _Place:
        return _Place(path, self.depth + 1)


class _Misfit(Exception):
    """A value that does not fit its field, and where it is."""

    def __init__(self, path: JsonPath, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


# json_format lets some of Python's own through: KeyError for an `Any`, and SystemError for a lone surrogate as an enum.
_FAULTS: Final = (*FAULTS, json_format.Error, DecodeError, RecursionError, SystemError)
_EXTENSION: Final = re.compile(r"\[[a-zA-Z0-9._]*\]")


def _by_json_format(table: JsonTable, document: dict[str, object], here: _Place) -> Message:
    message = table.message_class()
    json_format.ParseDict(
        document,
        message,
        ignore_unknown_fields=True,
        descriptor_pool=table.descriptor.file.pool,
        max_recursion_depth=MAXIMUM_DEPTH + 1 - here.depth,
    )
    return message


def _check_said(said: set[str], key: str, field: FieldDescriptor, value: object, here: _Place) -> None:
    """Refuses what is said twice, as json_format does: of a oneof, each `optional` being one, only one may have a value."""
    if key in said:
        raise _Misfit(here.path, "must not be there beside another field of the same oneof")
    said.add(key)
    oneof = field.containing_oneof
    if oneof is not None and value is not None:
        if oneof.name in said:
            raise _Misfit(here.path, "must not be there beside another field of the same oneof")
        said.add(oneof.name)


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


def _takes_null(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Value"


def _is_left_out(table: JsonTable, key: str, value: object) -> bool:
    """Says whether a value is a string that an enum does not know."""
    _, _, clean, _ = table.rules[key]
    try:
        return table.fields[key].enum_type is not None and isinstance(value, str) and clean(value, 0) is None
    except FAULTS:
        return False


def _replace(message: Message, field: FieldDescriptor, found: Message) -> None:
    """Sets a field to what it is in another message."""
    if field.message_type is None and not field.has_presence:
        setattr(message, field.name, getattr(found, field.name))
    elif found.HasField(field.name):
        message.ClearField(field.name)
        message.MergeFrom(found)
