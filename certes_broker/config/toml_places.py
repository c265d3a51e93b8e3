"""Where each key of a TOML document stands, so that an error can point at it.

The parser of the standard library gives values without places. This is no second parser: it is only given text which
that one has accepted, so it need not judge anything. It walks from statement to statement, steps over each value as a
whole, and notes where every key began. Keys within an inline table have no place of their own; `find` answers with the
statement that holds them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Final, NamedTuple

KeyPath = tuple[str | int, ...]
"""Keys from the root; a number counts the tables of an array of tables, from 0."""


class Place(NamedTuple):
    """A position in a text: both numbers count from 1, the column in characters."""

    line: int
    column: int


def places(text: str) -> dict[KeyPath, Place]:
    """Returns the place of every key and table header of a valid TOML document."""
    found: dict[KeyPath, Place] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    position = _SPACE.match(text).end()  # type: ignore[union-attr]  # the pattern matches everywhere, if only ""
    while position < len(text):
        place = Place(text.count("\n", 0, position) + 1, position - (text.rfind("\n", 0, position) + 1) + 1)
        brackets = 2 if text.startswith("[[", position) else 1 if text[position] == "[" else 0
        end = _key_end(text, position + brackets)
        keys = _keys(text[position + brackets : end])
        if brackets:
            table = _enter(keys, is_array=brackets == 2, counts=counts)
            path = table
            position = end + brackets
        else:
            path = table + keys
            position = _value_end(text, end + 1)
        for length in range(1, len(path) + 1):
            found.setdefault(path[:length], place)
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]  # as above
    return found


def find(known: Mapping[KeyPath, Place], path: KeyPath) -> Place:
    """Returns the place of a key, or of the nearest thing around it that has one."""
    for length in range(len(path), 0, -1):
        if path[:length] in known:
            return known[path[:length]]
    return Place(1, 1)


_SPACE: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_STRING: Final = (
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
)
_TOKEN: Final = re.compile(rf"(?P<string>{_STRING})|(?P<comment>#[^\n]*)|(?P<other>.)", re.DOTALL)
_KEY_TOKEN: Final = re.compile(rf"(?P<string>{_STRING})|(?P<end>[=\]])|(?P<other>.)", re.DOTALL)


def _key_end(text: str, position: int) -> int:
    """Returns where the `=` or `]` stands that ends a key."""
    for token in _KEY_TOKEN.finditer(text, position):
        if token["end"]:
            return token.start()
    return len(text)


def _value_end(text: str, position: int) -> int:
    """Returns where the line break stands that ends a value, or the end of the text."""
    depth = 0
    for token in _TOKEN.finditer(text, position):
        match token["other"]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case "\n" if depth == 0:
                return token.start()
            case _:
                pass
    return len(text)


def _keys(text: str) -> tuple[str, ...]:
    """Decodes a key, dotted or quoted as it may be, by the parser that accepted it."""
    keys: list[str] = []
    value: object = tomllib.loads(f"{text.strip()} = 0")
    while isinstance(value, dict):
        ((key, value),) = value.items()
        keys.append(key)
    return tuple(keys)


def _enter(keys: tuple[str, ...], *, is_array: bool, counts: dict[KeyPath, int]) -> KeyPath:
    """Returns the path of the table that a header opens; a part that is an array of tables means its latest one."""
    path: KeyPath = ()
    for index, key in enumerate(keys):
        path = (*path, key)
        if is_array and index == len(keys) - 1:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path
