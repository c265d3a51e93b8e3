"""Names that an enum does not have, in JSON documents.

Where a document may be newer than its schema, such a name is left out, as `json_format` does where it ignores what it does not
know. Where a document must be meant as it stands, a request of the contract above all, it is a mistake: left out, a misspelt
choice would silently be the default one. This finds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from certes_broker.schemas.json_expected import describe, expected_of
from certes_broker.schemas.json_paths import JsonPath
from certes_broker.schemas.json_values import entry_fields, has_own_form, is_map

if TYPE_CHECKING:
    from certes_broker.schemas.json_table import JsonTable


class EnumNames:
    """Looks for names that enums do not have. Remembers which message types have enums: there is little to look at."""

    def __init__(self) -> None:
        self._have: dict[Descriptor, bool] = {}

    def misfit(self, table: JsonTable, document: object) -> tuple[str, str] | None:
        """Returns the path of the first name that its enum does not have, and what is wrong with it; None if there is none.

        The document must be one that the table has read.
        """
        if not self._has_enums(table.descriptor):
            return None
        return next(self._misfits(table, document, JsonPath()), None)

    def _has_enums(self, descriptor: Descriptor) -> bool:
        have = self._have.get(descriptor)
        if have is None:
            have = self._have[descriptor] = any(
                field.enum_type is not None for one in _within(descriptor) for field in one.fields
            )
        return have

    def _misfits(self, table: JsonTable, document: object, path: JsonPath) -> Iterator[tuple[str, str]]:
        if not isinstance(document, dict):
            return
        for key, value in document.items():
            field = table.fields.get(key)
            if field is None or value is None:
                continue
            child, leaf = table.child(key), entry_fields(field)[1] if is_map(field) else field
            if child is None and leaf.enum_type is None:
                continue
            for place, item in _items(field, value, path.key(key)):
                if child is not None:
                    yield from self._misfits(child, item, place)
                elif leaf.enum_type is not None and _is_unknown(leaf.enum_type, item):
                    yield place.text, f"must be {expected_of(leaf)}, not {describe(item)}{_known(leaf.enum_type)}"


def _within(descriptor: Descriptor) -> Iterator[Descriptor]:
    """Yields a message type and those that its messages hold."""
    seen, left = {descriptor}, [descriptor]
    while left:
        one = left.pop()
        yield one
        for field in one.fields:
            inner = field.message_type
            if inner is not None and inner not in seen and not has_own_form(inner):
                seen.add(inner)
                left.append(inner)


def _items(field: FieldDescriptor, value: object, path: JsonPath) -> Iterator[tuple[JsonPath, object]]:
    if isinstance(value, dict) and is_map(field):
        for name, item in value.items():
            yield path.entry(name), item
    elif isinstance(value, list) and field.is_repeated:
        for index, item in enumerate(value):
            yield path.index(index), item
    else:
        yield path, value


def _is_unknown(enum: EnumDescriptor, value: object) -> bool:
    if not isinstance(value, str) or value in enum.values_by_name:
        return False
    try:
        int(value)
    except ValueError:
        return True
    return False  # a number as a string, which is read as one


def _known(enum: EnumDescriptor) -> str:
    names = [value.name for value in enum.values if value.number or len(enum.values) == 1]
    return f"; it has {', '.join(names)}" if len(names) <= _SHOWN else ""


_SHOWN: Final = 12
