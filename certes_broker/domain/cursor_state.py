"""What of a subscription's cursor is kept: the values that pass between the cursor machine and an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import NamedTuple

from certes_broker.domain.events import AcceptedEvent, Micros, Position


@unique
class OwedKind(Enum):
    """Why a delivery is owed later."""

    RETRY = "retry"
    """It failed, and is due again at a time."""
    PARKED = "parked"
    """An earlier delivery of its ordering key is unsettled."""
    REPLAY = "replay"
    """Somebody asked for it once more: a dead letter, or an event that had been settled. It has no part in any order."""


class Owed(NamedTuple):
    """A row for one delivery that is owed later.

    `attempt` is the number of the next attempt. `due` and `first_try` are times, 0 where there is none. `error` says for
    a person what the last attempt ended with.
    """

    position: Position
    kind: OwedKind
    due: Micros
    attempt: int
    first_try: Micros
    ordering_key: str
    error: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that was given up on, with a copy of its event. `attempts` were made; `reason` is a stable word."""

    position: Position
    event: AcceptedEvent
    attempts: int
    reason: str
    error: str
    time: Micros


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of positions, both ends included, that retention trimmed before a subscription had read it."""

    first: Position
    last: Position
    reason: str
    time: Micros


Ranges = tuple[tuple[Position, Position], ...]
"""Disjoint ascending ranges of positions, both ends included."""


@dataclass(frozen=True, slots=True)
class CursorState:
    """The durable position of a subscription.

    Everything at or below `floor` is settled or has a row; `settled` are ranges above it that are, too. `read_mark` is
    how far it had read. `level` says that nothing is owed and it stands at the journal's end, so that the shared
    watermark speaks for it: its floor is the higher of its own and the watermark.
    """

    floor: Position
    read_mark: Position
    settled: Ranges = ()
    level: bool = False


@dataclass(frozen=True, slots=True)
class StoredCursor:
    """A cursor as loaded: the state, with `floor` and `read_mark` raised to the watermark if level, and its rows by position."""

    state: CursorState
    owed: tuple[Owed, ...]


@dataclass(frozen=True, slots=True)
class CursorChange:
    """One subscription's part of a settle: the whole new state, rows to put and to drop, dead letters and gaps to add.

    With `reset`, every row it had is dropped first. `buried` are dead letters that go, before those of `dead` come.
    """

    subscription: str
    epoch: int
    state: CursorState
    put: Sequence[Owed] = ()
    drop: Sequence[Position] = ()
    dead: Sequence[DeadLetter] = ()
    gaps: Sequence[Gap] = ()
    reset: bool = False
    buried: Sequence[Position] = ()
