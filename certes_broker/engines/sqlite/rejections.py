"""The log of payloads that sources did not take: one row each.

What the log is bounded by, its bytes and what each source has of unverified payloads, the writer keeps in mind: a trim
that finds nothing to do reads no more than the oldest rows.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, assert_never

from certes_broker.domain.events import Micros, Original
from certes_broker.engines.kept import rejected_size
from certes_broker.engines.sqlite.connection import Readers
from certes_broker.engines.sqlite.queries import named_queries
from certes_broker.engines.sqlite.writer import WriteQueue
from certes_broker.ports.engine import Rejected, RejectedSummary

QUERIES: Final = named_queries("rejections")

ROW_BYTES: Final = 1024
"""What a row adds to the log beside its body and headers, roughly."""
SLICE_ROWS: Final = 256
SLICE_BYTES: Final = 8 << 20
"""A slice of a longer deletion ends once it has this many rows or bytes, so that nobody waits long for the writer."""
NEWEST: Final = (1 << 63) - 1


class Forget(NamedTuple):
    """A call of `forget`."""

    source: str
    number: int | None


class Trim(NamedTuple):
    """A call of `trim`."""

    before: Micros
    max_bytes: int
    max_unverified: int


Request = Rejected | Forget | Trim


class _Row(NamedTuple):
    """What deleting a row must know of it."""

    number: int
    source: str
    time: Micros
    verified: int
    size: int


class Rejections:
    """A kind of write: payloads to keep, forget or trim.

    The outcome is the number of a payload that was kept; of the others, 1 if there may be more to delete, else 0.
    """

    ready = True

    def __init__(self) -> None:
        self._bytes = 0
        self._unverified: Counter[str] = Counter()

    def load(self, db: sqlite3.Connection) -> None:
        self._bytes = db.execute(QUERIES["bytes"]).fetchone()[0]
        self._unverified = Counter(dict(db.execute(QUERIES["unverified"])))

    def apply(self, db: sqlite3.Connection, requests: Sequence[Request]) -> Sequence[int]:
        return [self._apply(db, request) for request in requests]

    def announce(self) -> None:
        """Has nothing to hand on."""

    def _apply(self, db: sqlite3.Connection, request: Request) -> int:
        match request:
            case Rejected():
                return self._keep(db, request)
            case Forget(source, None):
                return self._delete(db, _rows(db, "of_source", source, SLICE_ROWS))
            case Forget(source, number):
                return self._delete(db, _rows(db, "one", number, source))
            case Trim():
                return self._delete(db, self._surplus(db, request))
            case _:
                assert_never(request)

    def _keep(self, db: sqlite3.Connection, rejected: Rejected) -> int:
        payload, size = rejected.payload, rejected_size(rejected)
        headers = json.dumps(payload.headers, separators=(",", ":"), ensure_ascii=False)
        told = (rejected.reason, rejected.message, payload.content_type, headers, payload.body)
        row = db.execute(QUERIES["add"], (rejected.source, rejected.time, rejected.verified, size, *told))
        self._bytes += size
        self._unverified[rejected.source] += not rejected.verified
        assert row.lastrowid is not None  # it has been inserted
        return row.lastrowid

    def _surplus(self, db: sqlite3.Connection, trim: Trim) -> Iterator[_Row]:
        """Yields what is to go, as long as each is gone before the next is asked for; no more than one slice."""
        for row in _rows(db, "oldest", SLICE_ROWS):
            if row.time >= trim.before:
                break
            yield row
        for source, count in list(self._unverified.items()):
            if count > trim.max_unverified:
                yield from _rows(
                    db, "oldest_unverified_of_source", source, min(count - trim.max_unverified, SLICE_ROWS)
                )
        for query in ("oldest_unverified", "oldest"):
            if self._bytes > trim.max_bytes:
                for row in _rows(db, query, SLICE_ROWS):
                    yield row
                    if self._bytes <= trim.max_bytes:
                        break

    def _delete(self, db: sqlite3.Connection, rows: Iterator[_Row]) -> int:
        """Deletes rows, and says whether it stopped before their end."""
        count = size = 0
        for row in rows:
            if count == SLICE_ROWS or size >= SLICE_BYTES:
                return 1
            db.execute(QUERIES["forget"], (row.number,))
            self._bytes -= row.size
            if not row.verified:
                self._unverified[row.source] -= 1
                if not self._unverified[row.source]:
                    del self._unverified[row.source]
            count, size = count + 1, size + row.size
        return int(count == SLICE_ROWS)


class SqliteRejections:
    """The log: writes go through the writer, reads through connections of their own."""

    def __init__(self, readers: Readers, queue: WriteQueue[Request, int]) -> None:
        self._readers = readers
        self._queue = queue

    async def keep(self, rejected: Rejected) -> int:
        return await self._queue.submit(rejected, ROW_BYTES + rejected_size(rejected))

    async def list(self, source: str, before: int | None, limit: int) -> Sequence[RejectedSummary]:
        below = NEWEST if before is None else before
        return await self._readers.run(partial(_list, source=source, below=below, limit=limit))

    async def get(self, source: str, number: int) -> Rejected | None:
        return await self._readers.run(partial(_get, source=source, number=number))

    async def forget(self, source: str, number: int | None) -> None:
        while await self._queue.submit(Forget(source, number), ROW_BYTES):
            pass

    async def trim(self, before: Micros, max_bytes: int, max_unverified: int) -> None:
        while await self._queue.submit(Trim(before, max_bytes, max_unverified), ROW_BYTES):
            pass


def _rows(db: sqlite3.Connection, query: str, *wanted: Any) -> Iterator[_Row]:
    """Reads rows whole, so that they can be deleted one by one."""
    return map(_Row._make, db.execute(QUERIES[query], wanted).fetchall())


def _list(db: sqlite3.Connection, source: str, below: int, limit: int) -> Sequence[RejectedSummary]:
    return [
        RejectedSummary(number, source, time, reason, message, bool(verified), kind, _pairs(headers), body_bytes)
        for number, time, reason, message, verified, kind, headers, body_bytes in db.execute(
            QUERIES["newest_first"], (source, below, limit)
        )
    ]


def _get(db: sqlite3.Connection, source: str, number: int) -> Rejected | None:
    row = db.execute(QUERIES["get"], (number, source)).fetchone()
    if row is None:
        return None
    time, reason, message, verified, content_type, headers, body = row
    payload = Original(content_type, _pairs(headers), body)
    return Rejected(source, time, reason, message, bool(verified), payload, number)


def _pairs(headers: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in json.loads(headers))
