"""What makes appends idempotent: the ids of the dedupe window, and which appends they admit.

Rules
-----
* Ids are kept by period. A period is one dedupe window long; the present one and the one before it are looked at. So an
  id is known for at least one window and less than two, and forgetting is dropping whole periods.
* The present period is the clock's, or a later one that has ids: so a clock that goes back parts no ids from new ones. It
  follows from the clock and from what is stored alone, so that neither a restart nor a look ahead of the clock changes it.
* Almost every append is new. It is written as if it were, and SQLite counts: if as many rows were added as were given,
  nothing was known. Only otherwise are the rows taken back and each call judged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from itertools import chain, repeat
from typing import Any, Final, NamedTuple

from certes_broker.domain.errors import AlreadyExists
from certes_broker.domain.events import AcceptedEvent, Micros, Position
from certes_broker.engines.kept import id_reused
from certes_broker.engines.sqlite.queries import ROWS_A_STATEMENT, named_queries, with_rows, write_rows
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Appended

QUERIES: Final = named_queries("ids")

_make_appended: Final = partial(tuple.__new__, Appended)

Key = tuple[str, str]
"""The source and the id of an event."""


class First(NamedTuple):
    """The event that an id was first used for."""

    position: Position
    digest: bytes


class Admission(NamedTuple):
    """Which events are new, in order, their positions following the last one's; and what became of each call."""

    fresh: Sequence[AcceptedEvent]
    outcomes: Sequence[Sequence[Appended] | AlreadyExists]


class Ids:
    """The ids of the dedupe window, which is given in microseconds. Used in the writer's thread but for `find`."""

    def __init__(self, clock: Clock, window: int) -> None:
        self._clock = clock
        self._window = window
        self._period = 0
        self._has_previous = False

    def load(self, db: sqlite3.Connection) -> None:
        """Enters the present period."""
        self._enter(db, self._present(db))

    def admit(self, db: sqlite3.Connection, calls: Sequence[Sequence[AcceptedEvent]], last: Position) -> Admission:
        """Judges appends that stand to come after `last`, and remembers the ids of those that it admits."""
        period = self._present(db)
        if period != self._period:
            self._enter(db, period)
        events = calls[0] if len(calls) == 1 else list(chain.from_iterable(calls))
        if self._add_all(db, events, last):
            start, outcomes = int(last) + 1, []
            for call in calls:
                positions = range(start, start + len(call))
                outcomes.append(list(map(_make_appended, zip(positions, repeat(False), strict=False))))
                start += len(call)
            return Admission(events, outcomes)
        return self._judge(db, calls, last)

    def find(self, db: sqlite3.Connection, source: str, event_id: str) -> Position | None:
        """Returns where the event with an id is. For a connection that reads."""
        row = db.execute(QUERIES["find"], (self._present(db), source, event_id)).fetchone()
        return None if row is None else row[0]

    def forget(self, db: sqlite3.Connection, before: Micros) -> bool:
        """Drops some of the ids of periods that ended before a time; says whether there may be more."""
        expired = before // self._window - 1
        return db.execute(QUERIES["forget"], (expired,)).rowcount > 0

    def _present(self, db: sqlite3.Connection) -> int:
        newest: int = db.execute(QUERIES["newest_period"]).fetchone()[0]
        return max(newest, self._clock.now() // self._window)

    def _enter(self, db: sqlite3.Connection, period: int) -> None:
        self._period = period
        self._has_previous = bool(db.execute(QUERIES["any_in_period"], (period - 1,)).fetchone()[0])

    def _add_all(self, db: sqlite3.Connection, events: Sequence[AcceptedEvent], last: Position) -> bool:
        """Adds the ids of events that are taken for new; says whether they were, and has added none if not."""
        period = self._period
        _, _, ids, sources, _, _, _, _, digests, _ = zip(*events, strict=True)
        columns: Any = zip(repeat(period), sources, ids, digests, range(last + 1, last + 1 + len(events)), strict=False)
        if None in digests:
            columns = [row for row in columns if row[3] is not None]
        rows: list[Any] = list(chain.from_iterable(columns))
        if not rows:
            return True
        if self._has_previous and self._known(
            db, [(rows[i + 1], rows[i + 2]) for i in range(0, len(rows), 5)], [period - 1]
        ):
            return False
        if write_rows(db, QUERIES["add"], 5, rows) == len(rows) // 5:
            return True
        db.executemany(QUERIES["take_back"], [(period, rows[i + 1], rows[i + 2], last) for i in range(0, len(rows), 5)])
        return False

    def _judge(self, db: sqlite3.Connection, calls: Sequence[Sequence[AcceptedEvent]], last: Position) -> Admission:
        keys = {(event.source, event.id) for call in calls for event in call if event.digest is not None}
        known = self._known(db, sorted(keys), [self._period, self._period - 1])
        fresh: list[AcceptedEvent] = []
        outcomes: list[Sequence[Appended] | AlreadyExists] = []
        rows: list[Any] = []
        for call in calls:
            verdict = _judge_call(call, known, last + len(fresh) + 1)
            outcomes.append(verdict.outcome)
            fresh.extend(verdict.fresh)
            known.update(verdict.added)
            for (source, event_id), first in verdict.added.items():
                rows += (self._period, source, event_id, first.digest, first.position)
        write_rows(db, QUERIES["add"], 5, rows)
        return Admission(fresh, outcomes)

    @staticmethod
    def _known(db: sqlite3.Connection, keys: Sequence[Key], periods: Sequence[int]) -> dict[Key, First]:
        known: dict[Key, First] = {}
        for start in range(0, len(keys), ROWS_A_STATEMENT):
            part = keys[start : start + ROWS_A_STATEMENT]
            for period in periods:
                values = [value for source, event_id in part for value in (period, source, event_id)]
                for source, event_id, digest, position in db.execute(with_rows(QUERIES["known"], len(part), 3), values):
                    known.setdefault((source, event_id), First(position, digest))
        return known


class _Verdict(NamedTuple):
    outcome: Sequence[Appended] | AlreadyExists
    fresh: Sequence[AcceptedEvent]
    added: dict[Key, First]


def _judge_call(call: Sequence[AcceptedEvent], known: dict[Key, First], start: int) -> _Verdict:
    appended: list[Appended] = []
    fresh: list[AcceptedEvent] = []
    added: dict[Key, First] = {}
    for index, event in enumerate(call):
        position = Position(start + len(fresh))
        if event.digest is not None:
            key = (event.source, event.id)
            first = added.get(key) or known.get(key)
            if first is not None:
                if first.digest != event.digest:
                    return _Verdict(id_reused(event, index), (), {})
                appended.append(Appended(first.position, duplicate=True))
                continue
            added[key] = First(position, event.digest)
        appended.append(Appended(position, duplicate=False))
        fresh.append(event)
    return _Verdict(appended, fresh, added)
