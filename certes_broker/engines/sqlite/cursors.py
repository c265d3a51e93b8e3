"""The subscriptions' durable positions, and the leases of who may move them.

All settles of a group are reduced to what they come to, and written by a few statements of many rows. Leases are kept
in memory: the lock on the data directory proves every holder of an earlier process dead. What outlives the process is the
newest epoch, so that epochs keep growing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, chain
from operator import sub
from typing import Any, Final, NamedTuple

from certes_broker.domain.events import BEGINNING, Micros, Position
from certes_broker.engines.blocks import decode_one, encode
from certes_broker.engines.kept import raised, within
from certes_broker.engines.sqlite.connection import Readers
from certes_broker.engines.sqlite.leases import Leases
from certes_broker.engines.sqlite.queries import named_queries, write_rows
from certes_broker.engines.sqlite.writer import WriteQueue
from certes_broker.ports.engine import CursorChange, CursorState, DeadLetter, Gap, Owed, OwedKind, Ranges, StoredCursor

QUERIES: Final = named_queries("cursors")

CURSOR_BYTES: Final = 256
ROW_BYTES: Final = 512
"""What a cursor and a row of one add to the log, roughly."""
EXPIRED_AT_ONCE: Final = 500
"""How many dead letters that are past their time one transaction deletes."""


class Settle(NamedTuple):
    """One call's changes."""

    changes: Sequence[CursorChange]
    watermark: Position | None


class Burial(NamedTuple):
    """One call's dead letters to forget."""

    subscription: str
    positions: Sequence[Position]


class Settles:
    """A kind of write: settles."""

    ready = True

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._watermark = BEGINNING

    def load(self, db: sqlite3.Connection) -> None:
        self._watermark = _counter(db, "watermark")

    def apply(self, db: sqlite3.Connection, requests: Sequence[Settle]) -> Sequence[Sequence[str]]:
        net = _Net()
        outcomes = []
        watermark = self._watermark
        for request in requests:
            refused = []
            for change in request.changes:
                if change.epoch != self._leases.epoch(change.subscription):
                    refused.append(change.subscription)
                else:
                    net.add(change)
            outcomes.append(refused)
            if request.watermark is not None:
                watermark = max(watermark, request.watermark)
        net.write(db)
        if watermark > self._watermark:
            db.execute(QUERIES["set_counter"], ("watermark", watermark))
            self._watermark = watermark
        return outcomes

    def announce(self) -> None:
        """Has nothing to hand on."""


class Burials:
    """A kind of write: dead letters to forget, or, as a time, all of before it. The outcome is how many went."""

    ready = True

    def load(self, db: sqlite3.Connection) -> None:
        """Keeps nothing in mind."""

    def apply(self, db: sqlite3.Connection, requests: Sequence[Burial | Micros]) -> Sequence[int]:
        return [_bury(db, request) for request in requests]

    def announce(self) -> None:
        """Has nothing to hand on."""


class Forgets:
    """A kind of write: forgetting subscriptions."""

    ready = True

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    def load(self, db: sqlite3.Connection) -> None:
        """Keeps nothing in mind."""

    def apply(self, db: sqlite3.Connection, requests: Sequence[str]) -> Sequence[None]:
        for subscription in requests:
            for name in ("forget_cursor", "forget_owed", "forget_dead_letters", "forget_gaps"):
                db.execute(QUERIES[name], (subscription,))
            self._leases.forget(subscription)
        return [None] * len(requests)

    def announce(self) -> None:
        """Has nothing to hand on."""


@dataclass(slots=True)
class _Net:
    """What the settles of a group come to."""

    states: dict[str, CursorState] = field(default_factory=dict)
    resets: dict[str, None] = field(default_factory=dict)
    put: dict[tuple[str, Position], Owed] = field(default_factory=dict)
    drop: dict[tuple[str, Position], None] = field(default_factory=dict)
    dead: dict[tuple[str, Position], DeadLetter] = field(default_factory=dict)
    buried: dict[tuple[str, Position], None] = field(default_factory=dict)
    gaps: list[tuple[str, Gap]] = field(default_factory=list)

    def add(self, change: CursorChange) -> None:
        name = change.subscription
        self.states[name] = change.state
        if change.reset:
            self.resets[name] = None
            self.put = {key: owed for key, owed in self.put.items() if key[0] != name}
        for position in change.drop:
            self.put.pop((name, position), None)
            self.drop[name, position] = None
        for owed in change.put:
            self.put[name, owed.position] = owed
            self.drop.pop((name, owed.position), None)
        for position in change.buried:
            self.dead.pop((name, position), None)
            self.buried[name, position] = None
        self.dead.update(((name, dead.position), dead) for dead in change.dead)
        self.gaps.extend((name, gap) for gap in change.gaps)

    def write(self, db: sqlite3.Connection) -> None:
        for subscription in self.resets:
            db.execute(QUERIES["forget_owed"], (subscription,))
        if self.drop:
            db.executemany(QUERIES["drop_owed"], list(self.drop))
        if self.buried:
            db.executemany(QUERIES["drop_dead_letter"], list(self.buried))
        cursors = [
            (name, s.floor, s.read_mark, s.level, _encode_ranges(s.floor, s.settled)) for name, s in self.states.items()
        ]
        owed = [
            (name, row.position, row.kind.value, row.due, row.attempt, row.first_try, row.ordering_key, row.error)
            for (name, _), row in self.put.items()
        ]
        dead = [
            (name, row.position, row.attempts, row.reason, row.error, row.time, *encode([row.event]))
            for (name, _), row in self.dead.items()
        ]
        gaps = [(name, gap.first, gap.last, gap.reason, gap.time) for name, gap in self.gaps]
        for query, rows in (
            ("put_cursors", cursors),
            ("put_owed", owed),
            ("put_dead_letters", dead),
            ("put_gaps", gaps),
        ):
            if rows:
                flat: list[Any] = list(chain.from_iterable(rows))
                write_rows(db, QUERIES[query], len(flat) // len(rows), flat)


class SqliteCursors:
    """The cursors: writes go through the writer, reads through connections of their own."""

    def __init__(
        self,
        readers: Readers,
        settles: WriteQueue[Settle, Sequence[str]],
        burials: WriteQueue[Burial | Micros, int],
        forgets: WriteQueue[str, None],
    ) -> None:
        self._readers = readers
        self._settles = settles
        self._burials = burials
        self._forgets = forgets

    async def load(self, subscriptions: Sequence[str]) -> Sequence[StoredCursor | None]:
        return await self._readers.run(partial(_load, subscriptions=subscriptions))

    async def settle(self, changes: Sequence[CursorChange], watermark: Position | None = None) -> Sequence[str]:
        size = sum(
            CURSOR_BYTES + ROW_BYTES * (len(change.put) + len(change.drop) + len(change.buried)) for change in changes
        )
        size += sum(len(dead.event.body) for change in changes for dead in change.dead)
        return await self._settles.submit(Settle(changes, watermark), size)

    async def watermark(self) -> Position:
        return await self._readers.run(lambda db: _counter(db, "watermark"))

    async def dead_letters(
        self, subscription: str, after: Position, limit: int, max_bytes: int | None = None
    ) -> Sequence[DeadLetter]:
        return await self._readers.run(
            lambda db: within(_letters(db, "dead_letters", (subscription, after, limit)), limit, max_bytes)
        )

    async def dead_letter(self, subscription: str, position: Position) -> DeadLetter | None:
        return await self._readers.run(lambda db: next(_letters(db, "dead_letter", (subscription, position)), None))

    async def count_dead_letters(self, subscription: str) -> int:
        return await self._readers.run(lambda db: db.execute(QUERIES["count_dead"], (subscription,)).fetchone()[0])

    async def bury(self, subscription: str, positions: Sequence[Position]) -> int:
        return await self._burials.submit(Burial(subscription, positions), ROW_BYTES * len(positions))

    async def expire(self, before: Micros) -> None:
        while await self._burials.submit(before, ROW_BYTES) == EXPIRED_AT_ONCE:
            pass

    async def gaps(self, subscription: str) -> Sequence[Gap]:
        return await self._readers.run(lambda db: [Gap(*row) for row in db.execute(QUERIES["gaps"], (subscription,))])

    async def forget(self, subscription: str) -> None:
        await self._forgets.submit(subscription, ROW_BYTES)


def _load(db: sqlite3.Connection, subscriptions: Sequence[str]) -> Sequence[StoredCursor | None]:
    names = json.dumps(subscriptions)
    watermark = _counter(db, "watermark")
    owed: dict[str, list[Owed]] = {}
    for name, position, kind, *rest in db.execute(QUERIES["owed"], (names,)):
        owed.setdefault(name, []).append(Owed(position, OwedKind(kind), *rest))
    stored = {}
    for name, floor, read_mark, level, settled in db.execute(QUERIES["cursors"], (names,)):
        state = CursorState(floor, read_mark, _decode_ranges(floor, settled), bool(level))
        stored[name] = StoredCursor(raised(state, watermark), tuple(owed.get(name, ())))
    return [stored.get(name) for name in subscriptions]


def _letters(db: sqlite3.Connection, query: str, values: tuple[str | int, ...]) -> Iterator[DeadLetter]:
    for position, attempts, reason, error, time, header, body in db.execute(QUERIES[query], values):
        yield DeadLetter(position, decode_one(position, header, body), attempts, reason, error, time)


def _bury(db: sqlite3.Connection, request: Burial | Micros) -> int:
    if isinstance(request, Burial):
        rows = [(request.subscription, position) for position in request.positions]
        return db.executemany(QUERIES["bury"], rows).rowcount if rows else 0
    return db.execute(QUERIES["expire"], (request, EXPIRED_AT_ONCE)).rowcount


def _counter(db: sqlite3.Connection, name: str) -> Position:
    row = db.execute(QUERIES["counter"], (name,)).fetchone()
    return BEGINNING if row is None else row[0]


def _encode_ranges(floor: Position, ranges: Ranges) -> str:
    if not ranges:
        return ""
    ends = list(chain.from_iterable(ranges))
    return json.dumps(list(map(sub, ends, [floor, *ends])), separators=(",", ":"))


def _decode_ranges(floor: Position, stored: str) -> Ranges:
    if not stored:
        return ()
    _, *ends = accumulate(json.loads(stored), initial=int(floor))
    return tuple(zip(map(Position, ends[::2]), map(Position, ends[1::2]), strict=True))
