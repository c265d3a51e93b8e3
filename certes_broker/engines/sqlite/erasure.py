"""Erasing what is kept of one subscriber, by writing over it.

Blocks with events for the subscriber are found by their headers, beside the writer, and written anew without them. SQLite
leaves what is deleted in the file unless it is told to overwrite it (`secure_delete`), which would make every trim write what it
forgets; so it is told while a subscriber is erased. Of events that come meanwhile nothing is said.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from certes_broker.domain.events import BEGINNING, Position
from certes_broker.engines.blocks import decode_header, is_for
from certes_broker.engines.sqlite.connection import Readers
from certes_broker.engines.sqlite.journal import erase_events
from certes_broker.engines.sqlite.queries import named_queries
from certes_broker.engines.sqlite.writer import WriteQueue

QUERIES: Final = named_queries("erasure")

SCANNED: Final = 512
"""Headers that are read at once."""
REWRITTEN: Final = 4
"""Blocks that one transaction writes anew: each has up to a MiB."""
WRITE_BYTES: Final = 4 << 20

REMAINS: Final = (
    "The write-ahead log may have former pages until it has been written over, or the broker was stopped and started.",
    "Pages freed before, by retention, may have content until they are used again, or a stopped broker's database is VACUUMed.",
)

Step = Callable[[sqlite3.Connection], int]


class Erasures:
    """A kind of write: steps of an erasure. A request is what to run; the outcome is how much it erased."""

    ready = True

    def load(self, db: sqlite3.Connection) -> None:
        """Keeps nothing in mind."""

    def apply(self, db: sqlite3.Connection, requests: Sequence[Step]) -> Sequence[int]:
        return [request(db) for request in requests]

    def announce(self) -> None:
        """Has nothing to hand on."""


class SqliteErasure:
    """Erases by writes of its own, in slices, so that others are not held up."""

    def __init__(self, readers: Readers, queue: WriteQueue[Step, int]) -> None:
        self._readers = readers
        self._queue = queue

    @property
    def remains(self) -> tuple[str, ...]:
        return REMAINS

    @asynccontextmanager
    async def wiping(self) -> AsyncIterator[None]:
        await self._queue.submit(partial(_overwrite, on=True), 0)
        try:
            yield
        finally:
            await self._queue.submit(partial(_overwrite, on=False), 0)

    async def events(self, subscriber: str) -> int:
        erased, after = 0, BEGINNING
        while True:
            found, through = await self._readers.run(partial(_blocks, after=after, subscriber=subscriber))
            for start in range(0, len(found), REWRITTEN):
                part = found[start : start + REWRITTEN]
                erased += await self._do(partial(erase_events, blocks=part, subscriber=subscriber))
            if through == after:
                return erased
            after = through

    async def dead_letters(self, subscriber: str) -> int:
        erased, after = 0, 0
        while True:
            found, through = await self._readers.run(partial(_letters, after=after, subscriber=subscriber))
            if found:
                erased += await self._do(partial(_bury, rows=found))
            if through == after:
                return erased
            after = through

    async def attempts(self, subscriber: str) -> int:
        return await self._do(partial(_attempts, subscriber=subscriber))

    async def _do(self, step: Step) -> int:
        # A connection that was replaced after a failure does not overwrite any more; so each step says it itself.
        def wiped(db: sqlite3.Connection) -> int:
            _overwrite(db, on=True)
            return step(db)

        return await self._queue.submit(wiped, WRITE_BYTES)


def _overwrite(db: sqlite3.Connection, *, on: bool) -> int:
    db.execute(f"PRAGMA secure_delete = {'ON' if on else 'OFF'}").fetchall()
    return 0


def _blocks(db: sqlite3.Connection, after: Position, subscriber: str) -> tuple[Sequence[Position], Position]:
    """Returns the blocks that have events for a subscriber, of the next ones, and how far it has looked."""
    found = []
    for first, text in db.execute(QUERIES["headers"], (after, SCANNED)):
        after = first
        if is_for(decode_header(text), subscriber):
            found.append(first)
    return found, after


def _letters(db: sqlite3.Connection, after: int, subscriber: str) -> tuple[Sequence[int], int]:
    found = []
    for row, text in db.execute(QUERIES["letter_headers"], (after, SCANNED)):
        after = row
        if is_for(decode_header(text), subscriber):
            found.append(row)
    return found, after


def _bury(db: sqlite3.Connection, rows: Sequence[int]) -> int:
    return db.executemany(QUERIES["forget_letter"], [(row,) for row in rows]).rowcount


def _attempts(db: sqlite3.Connection, subscriber: str) -> int:
    begins = f"subscribers/{subscriber}/"
    erased: int = db.execute(QUERIES["count_attempts"], (begins,)).fetchone()[0]
    db.execute(QUERIES["forget_attempts"], (begins,))
    return erased
