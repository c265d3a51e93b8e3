r"""JSON text of strangers into documents, strictly: the one door for every body that is JSON.

Theory of operation
-------------------
orjson reads the text, and with it refuses what is no JSON: a byte order mark, bytes that are no UTF-8, NaN, numbers that no
double can hold, lone surrogates, raw control characters, anything after the document. Two faults it lets pass.

*Nesting* beyond `MAXIMUM_NESTING`. *Keys that an object has twice*, of which it takes the last without a word, where another
reader of the same bytes takes the first: a document must not mean two things.

Both are found by writing the document again, in C. It is written at the bottom of a nest of arrays that uses up what orjson
allows beyond `MAXIMUM_NESTING`. And each key of the text is followed by one colon outside of its strings, each key of the
document by one in what is written. So if the two have the same number of colons, no key was dropped, given that none is
spelled `\u003a` in the text; colons within strings are in both, or were dropped with their key. What a machine wrote is
mostly the same, byte for byte, which is found out sooner still. Only where the numbers differ does the standard library's
reader look at every object.

Integers beyond 64 bits become the nearest double, as in JavaScript; a field of an integer type then refuses them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn, cast

import orjson

from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.schemas.json_paths import JsonPath, place_at

MAXIMUM_NESTING: Final = 100
"""Objects and arrays within each other."""


def read_object(body: bytes, reason: Reason) -> dict[str, Any]:
    """Returns the JSON object that a body is. Raises `Invalid` with the reason given; see `read_json`."""
    document = read_json(body, reason)
    if document.__class__ is not dict:
        raise Invalid(reason, "the body is JSON, but no object.")
    return cast("dict[str, Any]", document)


def read_json(body: bytes, reason: Reason) -> object:
    """Returns the JSON document that a body is, in time and memory that grow with its length alone.

    Raises `Invalid` with the reason given, where the fault is in a place with a name also with a violation for that field,
    such as `commits[2].author`; its metadata have the `line` and `column` where the text is no JSON.
    """
    try:
        document: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        _refuse_text(body, error, reason)
    try:
        written = orjson.dumps(_NEST, default=lambda _: document)
    except orjson.JSONEncodeError:
        _refuse_depth(body, reason)
    if written[_LEVELS:-_LEVELS] != body and (written.count(_COLON) != body.count(_COLON) or _hides_colons(body)):
        _check_keys(body, reason)
    return document


class _Twice:
    """Stands in a document for an object that has a key twice."""

    def __init__(self, key: str) -> None:
        self.key: Final = key


class _Bottom:
    """Stands where the document goes; orjson asks what to write in its place."""


def _nest(document: object, levels: int) -> object:
    # Of lists, and not of tuples, which orjson does not count.
    for _ in range(levels):
        document = [document]
    return document


def _deepest_written() -> int:
    """Returns how many arrays within each other orjson writes."""
    for levels in range(MAXIMUM_NESTING, _MOST_LEVELS):
        try:
            orjson.dumps(_nest(None, levels + 1))
        except orjson.JSONEncodeError:
            return levels
    raise AssertionError(levels)  # it says that it is 254


_COLON: Final = ord(":")
_MOST_LEVELS: Final = 1024
_LEVELS: Final = _deepest_written() - MAXIMUM_NESTING
_NEST: Final = _nest(_Bottom(), _LEVELS)


def _hides_colons(body: bytes) -> bool:
    return b"\\" in body and (b"\\u003a" in body or b"\\u003A" in body)


def _check_keys(body: bytes, reason: Reason) -> None:
    """Refuses a document with an object that has a key twice. The body is JSON, and not nested too deeply."""
    try:
        json.loads(body, object_pairs_hook=_look_for_twice)
        return
    except _FoundTwice:
        document = json.loads(body, object_pairs_hook=_mark_twice)
    path = _path_of_twice(document, JsonPath())
    assert path is not None  # One was found.
    where = path.text
    raise Invalid(
        reason,
        f"{where}: the object has this key twice.",
        violations=[FieldViolation(where, "the object has this key twice")],
        metadata={"field": where},
    )


class _FoundTwice(Exception):
    """An object has a key twice."""


def _look_for_twice(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        raise _FoundTwice


def _mark_twice(pairs: list[tuple[str, Any]]) -> object:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            break
        seen.add(key)
    return _Twice(key)


def _path_of_twice(document: object, path: JsonPath) -> JsonPath | None:
    if isinstance(document, _Twice):
        return path.key(document.key)
    if isinstance(document, dict):
        steps: Callable[[Any], JsonPath] = path.key
        items: Any = document.items()
    elif isinstance(document, list):
        steps, items = path.index, enumerate(document)
    else:
        return None
    for step, item in items:
        if isinstance(item, dict | list | _Twice):
            found = _path_of_twice(item, steps(step))
            if found is not None:
                return found
    return None


def _refuse_text(body: bytes, error: orjson.JSONDecodeError, reason: Reason) -> NoReturn:
    problem = error.msg
    text, position = error.doc, error.pos
    try:
        body.decode()
    except UnicodeDecodeError as fault:
        problem = "it is not UTF-8"
        text = body[: fault.start].decode()
        position = len(text)
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    where, is_too_deep = place_at(text, position, MAXIMUM_NESTING)
    if is_too_deep:
        _refuse_depth(body, reason)
    violations = [FieldViolation(where, problem)] if where else []
    raise Invalid(
        reason,
        f"the body is no JSON: {problem}, at line {line}, column {column}{f', in {where}' if where else ''}.",
        violations=violations,
        metadata={"line": str(line), "column": str(column), **({"field": where} if where else {})},
    )


def _refuse_depth(body: bytes, reason: Reason) -> NoReturn:
    where, _ = place_at(body.decode(errors="replace"), len(body), MAXIMUM_NESTING)
    problem = f"is nested more than {MAXIMUM_NESTING} deep"
    raise Invalid(
        reason,
        f"{where or 'the body'}: {problem}.",
        violations=[FieldViolation(where, problem)] if where else [],
        metadata={"limit": str(MAXIMUM_NESTING), **({"field": where} if where else {})},
    )
