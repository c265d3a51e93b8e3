"""Where in a JSON text something stands, as a path: `commits[2].author`.

The text before the place is read token by token, so the place may be one where the text stops being JSON. It is done once,
for a refusal, and only so far that it takes a few milliseconds at most; beyond that a place has no name.
"""

from __future__ import annotations

import json
import re
from typing import Final

LONGEST_PATH: Final = 300
"""Characters of a path that are shown; the rest is left out from its middle."""
MOST_TOKENS: Final = 10_000
"""Brackets, commas and strings that are read to find a place."""


class JsonPath:
    """The way from a document to a place in it. Never changes: its methods make longer ones."""

    __slots__ = ("_before", "_step")

    def __init__(self, before: JsonPath | None = None, step: str = "") -> None:
        self._before = before
        self._step = step

    def key(self, name: str) -> JsonPath:
        """Returns the path of what an object here has under a key."""
        return JsonPath(self, f".{_shown(name)}")

    def index(self, number: int) -> JsonPath:
        """Returns the path of an element of an array here."""
        return JsonPath(self, f"[{number}]")

    def entry(self, name: str) -> JsonPath:
        """Returns the path of an entry of a map here."""
        return JsonPath(self, f"[{_shown(name)}]")

    @property
    def text(self) -> str:
        """The path as it is shown; empty for the document itself."""
        steps = []
        place: JsonPath | None = self
        while place is not None:
            steps.append(place._step)
            place = place._before
        text = "".join(reversed(steps)).removeprefix(".")
        return text if len(text) <= LONGEST_PATH else f"{text[: LONGEST_PATH // 2]}…{text[-LONGEST_PATH // 2 :]}"


def place_at(text: str, position: int, limit: int) -> tuple[str, bool]:
    """Returns the path of the place at a position, up to which the text is the beginning of a JSON document.

    It is the path of the value there, or of the object whose key is there; empty where that is the document itself, and where
    too much stands before it. If more than `limit` objects and arrays are within each other before that, it is the path of the
    first that is too deep; the second value says so.
    """
    stack, is_too_deep = _open_at(text, position, limit)
    return _path_of(stack), is_too_deep


class _Open:
    """An array or object that has begun. `key` is that of the member read last, as it is spelled, with its quotes."""

    __slots__ = ("count", "expects_key", "is_object", "key")

    def __init__(self, *, is_object: bool) -> None:
        self.is_object = is_object
        self.expects_key = is_object
        self.key = ""
        self.count = 0


def _open_at(text: str, end: int, limit: int) -> tuple[list[_Open], bool]:
    """Returns what is open at a position, nothing if that is too far off; or at the first place that is too deep, and True."""
    stack: list[_Open] = []
    for number, match in enumerate(_TOKEN.finditer(text, 0, end)):
        if number >= MOST_TOKENS:
            return [], False
        token = match.group()
        if token in "{[":
            if len(stack) == limit:
                return stack, True
            stack.append(_Open(is_object=token == "{"))
            continue
        if not stack:
            continue
        here = stack[-1]
        if token in "}]":
            stack.pop()
        elif token == ",":
            here.count += 1
            here.expects_key = here.is_object
            here.key = ""
        elif here.expects_key and match.group("closed"):
            here.expects_key = False
            here.key = token
    return stack, False


def _path_of(stack: list[_Open]) -> str:
    path = JsonPath()
    for here in stack:
        if not here.is_object:
            path = path.index(here.count)
        elif here.key:
            path = path.key(_name_of(here.key))
    return path.text


def _name_of(key: str) -> str:
    """Returns what a key of the text says. It may be no JSON either: bytes that are no UTF-8 are found before all else."""
    try:
        name: str = json.loads(key)
    except ValueError:
        return key[1:-1]
    return name


# The quantifiers are possessive: a string is never read twice, and a long one takes no memory.
_TOKEN: Final = re.compile(r"""[{}\[\],]|"(?:[^"\\]++|\\.)*+(?P<closed>"?)""", re.DOTALL)
_LONGEST_KEY: Final = 100


def _shown(name: str) -> str:
    name = name if name.isprintable() else ascii(name)[1:-1]
    return name if len(name) <= _LONGEST_KEY else f"{name[:_LONGEST_KEY]}…"
