"""The subscription options of an event type, read from its messages.

`(certes.v1.event)` declares each option as a name and the path of a field. Routing asks for their values once per event,
so each path is compiled once, into something that needs no look-up by name afterwards. Selectors compare texts; which texts
an event can have is said by the field's type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from operator import attrgetter
from typing import Final, TypeAlias

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from certes_broker.domain.errors import Invalid, Reason

ReadOption: TypeAlias = Callable[[Message], str]
"""Reads the value of an option from a message, as text; empty where the field is absent or empty."""


@dataclass(frozen=True, slots=True)
class OptionValues:
    """The texts that an option can have as its value."""

    is_text: bool = False
    """Whether it can be any text."""
    words: tuple[str, ...] = ()
    numbers: tuple[int, int] | None = None
    """The lowest and the highest of the numbers that it can be besides, in decimal."""
    spelled: Mapping[str, str] = field(default_factory=dict)
    """What is another way to spell a word: the names and numbers of enum values that have a name by which they go."""

    def problem(self, value: str) -> str:
        """Says why no event has a value, and what one would have; empty if one can."""
        if self.is_text or value in self.words:
            return ""
        if value in self.spelled:
            return f"{value!r} is written {self.spelled[value]}"
        if self.numbers is not None and _DECIMAL.fullmatch(value) and self.numbers[0] <= int(value) <= self.numbers[1]:
            return ""
        shown = value[:_LONGEST_COMPARED]
        near = get_close_matches(shown, self.words, n=1)
        return f"{shown!r} is none of its values ({self})" + (f"; did you mean {near[0]}?" if near else "")

    def __str__(self) -> str:
        """Describes the values in a few words."""
        if self.is_text:
            return "texts"
        if self.words:
            more = len(self.words) - _MOST_LISTED
            return ", ".join(self.words[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
        assert self.numbers is not None  # It is a number if it is neither text nor a word.
        return f"the integers from {self.numbers[0]} to {self.numbers[1]}, such as 0 or 42"


@dataclass(frozen=True, slots=True)
class Option:
    """An option of an event type: how its value is read from a message, and which values there are."""

    read: ReadOption
    values: OptionValues


def compile_option(descriptor: Descriptor, option: str, path: str) -> Option:
    """Compiles the path of an option's field, such as `repository.full_name`.

    Strings are read as they are, integers in decimal, bools as `true` and `false`, enums by name, or by number where it has
    none. Raises `Invalid` / `FIELD_INVALID` where the path leads to no such field.
    """
    parents, of = _resolve(descriptor, option, path)
    if of.cpp_type == FieldDescriptor.CPPTYPE_STRING and of.type != FieldDescriptor.TYPE_BYTES:
        # A message that is absent reads as an empty one, so an absent string and an empty one need no telling apart.
        return Option(attrgetter(path), OptionValues(is_text=True))
    return Option(_reader_of_number(parents, of, _spelling(option, path, of)), _values(of))


_INTEGERS: Final[Mapping[int, tuple[int, int]]] = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_DECIMAL: Final = re.compile(r"0|-?[1-9][0-9]{0,19}")
_MOST_LISTED: Final = 10
_LONGEST_COMPARED: Final = 64


def _resolve(descriptor: Descriptor, option: str, path: str) -> tuple[list[str], FieldDescriptor]:
    *parents, last = path.split(".")
    for parent in parents:
        found = descriptor.fields_by_name.get(parent)
        if found is None or found.message_type is None or found.is_repeated:
            raise _unfit(option, path, f"{parent!r} is no singular message in {descriptor.full_name}")
        descriptor = found.message_type
    found = descriptor.fields_by_name.get(last)
    if found is None or found.is_repeated:
        raise _unfit(option, path, f"{last!r} is no singular field of {descriptor.full_name}")
    return parents, found


def _spelling(option: str, path: str, of: FieldDescriptor) -> Callable[[int], str]:
    if of.enum_type is not None:
        names = _names(of.enum_type)
        return lambda number: names.get(number, str(number))
    if of.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return lambda value: "true" if value else "false"
    if of.cpp_type in _INTEGERS:
        return str
    raise _unfit(option, path, "only strings, integers, bools and enums can be selected by")


def _values(of: FieldDescriptor) -> OptionValues:
    if of.enum_type is None:
        if of.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return OptionValues(words=("true", "false"))
        return OptionValues(numbers=_INTEGERS[of.cpp_type])
    names = _names(of.enum_type)
    spelled = {str(number): name for number, name in names.items()}
    spelled |= {value.name: names[value.number] for value in of.enum_type.values if value.name != names[value.number]}
    # An open enum may have numbers that the schema does not know.
    numbers = None if of.enum_type.is_closed else _INTEGERS[FieldDescriptor.CPPTYPE_INT32]
    return OptionValues(words=tuple(names.values()), numbers=numbers, spelled=spelled)


def _names(enum: EnumDescriptor) -> Mapping[int, str]:
    """Returns the name by which each number goes: of several the first, as in JSON."""
    names: dict[int, str] = {}
    for value in enum.values:
        names.setdefault(value.number, value.name)
    return names


def _reader_of_number(parents: list[str], of: FieldDescriptor, spell: Callable[[int], str]) -> ReadOption:
    name, has_presence = of.name, of.has_presence

    def read(message: Message) -> str:
        # Zero is a value like any other here, so absence must be asked for, on the whole way.
        for parent in parents:
            if not message.HasField(parent):
                return ""
            message = getattr(message, parent)
        if has_presence and not message.HasField(name):
            return ""
        return spell(getattr(message, name))

    return read


def _unfit(option: str, path: str, problem: str) -> Invalid:
    return Invalid(
        Reason.FIELD_INVALID,
        f"subscription option {option!r} cannot select by the field {path!r}: {problem}",
        metadata={"option": option, "field": path},
    )
