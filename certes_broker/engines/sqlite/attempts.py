"""The log of webhook attempts: what one commit records for one subscription is one row."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from certes_broker.domain.events import Micros, Position
from certes_broker.engines.sqlite.connection import Readers
from certes_broker.engines.sqlite.queries import named_queries, write_rows
from certes_broker.engines.sqlite.writer import WriteQueue
from certes_broker.ports.engine import Attempt

QUERIES: Final = named_queries("attempts")

ATTEMPT_BYTES: Final = 256
"""What an attempt adds to the log beside its answer, roughly."""


class Attempts:
    """A kind of write: attempts to add to the log, or, as a time, to trim it before."""

    ready = True

    def load(self, db: sqlite3.Connection) -> None:
        """Keeps nothing in mind."""

    def apply(self, db: sqlite3.Connection, requests: Sequence[Sequence[Attempt] | Micros]) -> Sequence[bool]:
        by_subscription: dict[str, list[Attempt]] = {}
        outcomes = []
        for request in requests:
            if isinstance(request, int):
                outcomes.append(_trim_slice(db, request))
                continue
            outcomes.append(False)
            for attempt in request:
                by_subscription.setdefault(attempt.subscription, []).append(attempt)
        rows: list[Any] = []
        for subscription, attempts in by_subscription.items():
            rows += (subscription, max(attempt.time for attempt in attempts), _encode(attempts))
        write_rows(db, QUERIES["add"], 3, rows)
        return outcomes

    def announce(self) -> None:
        """Has nothing to hand on."""


class SqliteAttempts:
    """The log: writes go through the writer, reads through connections of their own."""

    def __init__(self, readers: Readers, queue: WriteQueue[Sequence[Attempt] | Micros, bool]) -> None:
        self._readers = readers
        self._queue = queue

    async def record(self, attempts: Sequence[Attempt]) -> None:
        await self._queue.submit(attempts, sum(ATTEMPT_BYTES + len(attempt.answer) for attempt in attempts))

    async def list(self, subscription: str, position: Position | None, limit: int) -> Sequence[Attempt]:
        return await self._readers.run(partial(_list, subscription=subscription, position=position, limit=limit))

    async def trim(self, before: Micros) -> None:
        while await self._queue.submit(before, ATTEMPT_BYTES):
            pass


def _encode(attempts: Sequence[Attempt]) -> str:
    """Writes attempts as JSON. Bytes of an answer become characters of the same number."""
    entries = [
        (a.position, a.number, a.time, a.duration, a.status, a.failure, a.error, a.answer.decode("latin-1"), a.next_try)
        for a in attempts
    ]
    return json.dumps(entries, separators=(",", ":"), ensure_ascii=False)


def _list(db: sqlite3.Connection, subscription: str, position: Position | None, limit: int) -> Sequence[Attempt]:
    found: list[Attempt] = []
    for (entries,) in db.execute(QUERIES["newest_first"], (subscription,)):
        for at, number, time, duration, status, failure, error, answer, next_try in reversed(json.loads(entries)):
            if len(found) >= limit:
                return found
            if position in (None, at):
                kept = answer.encode("latin-1")
                found.append(Attempt(subscription, at, number, time, duration, status, failure, error, kept, next_try))
    return found


def _trim_slice(db: sqlite3.Connection, before: Micros) -> bool:
    """Deletes some of the oldest rows, up to the first that is young enough; says whether there may be more."""
    end = None
    rows = db.execute(QUERIES["oldest"]).fetchall()
    for number, latest in rows:
        if latest >= before:
            break
        end = number
    if end is None:
        return False
    db.execute(QUERIES["trim"], (end,))
    return bool(end == rows[-1][0])
