"""The engine's SQL: files of named queries, one file a subject, and the one way to read them.

A query begins after a line `-- name: its_name` and ends at the next one. `{rows}` in it stands for as many parenthesised
rows of parameters as the call has: one statement of many rows takes the interpreter's lock once, `executemany` once a row.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

ROWS_A_STATEMENT: Final = 128
"""More rows than this in a call are written by several statements, so that each distinct one is compiled once."""

_NAMED: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def named_queries(subject: str) -> Mapping[str, str]:
    """Reads the queries of one subject, by name."""
    text = files(__package__).joinpath(f"{subject}.sql").read_text(encoding="utf-8")
    _, *parts = _NAMED.split(text)
    return MappingProxyType({name: _statement(query) for name, query in zip(parts[::2], parts[1::2], strict=True)})


def write_rows(db: sqlite3.Connection, query: str, width: int, values: Sequence[Any]) -> int:
    """Runs a query with `{rows}` for rows of `width` columns, given one after the other; returns how many rows changed."""
    changed = 0
    step = ROWS_A_STATEMENT * width
    for start in range(0, len(values), step):
        part = values[start : start + step]
        changed += db.execute(with_rows(query, len(part) // width, width), part).rowcount
    return changed


@lru_cache(maxsize=1024)
def with_rows(query: str, count: int, width: int) -> str:
    """Returns the query with `count` rows of `width` parameters in place of `{rows}`."""
    row = f"({', '.join('?' * width)})"
    return query.replace("{rows}", ", ".join([row] * count))


def _statement(query: str) -> str:
    lines = [line for line in query.splitlines() if not line.startswith("--")]
    return "\n".join(lines).strip().removesuffix(";")
