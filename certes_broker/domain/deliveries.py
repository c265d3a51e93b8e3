"""Deliveries: the states in the life of one delivery, and the only ways from one to another.

`TRANSITIONS` is the whole of it. A signal that it does not name for a delivery's state raises `IllegalTransition` and
changes nothing. The diagram in `docs/guide/deliveries.md` is drawn from it by `scripts/delivery_diagram.py`.

A delivery begins in one of `BEGINNINGS`: READY as a rule; PARKED if its ordering key is taken; WAITING if it comes back
from its row after a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, unique
from typing import Final, Generic, TypeVar

from certes_broker.domain.cursor_state import Owed, OwedKind
from certes_broker.domain.events import Micros, Position

P = TypeVar("P")


@unique
class State(Enum):
    """Where a delivery is in its life."""

    READY = "ready"
    """Waits to be handed out; its event is in memory."""
    OUT = "out"
    """Handed to a stream or a receiver, unsettled."""
    WAITING = "waiting"
    """Failed; due again at a time."""
    PARKED = "parked"
    """Waits for an earlier delivery of its ordering key."""
    DUE = "due"
    """May go out as soon as its event is in memory."""
    SETTLED = "settled"
    """Done."""
    DEAD = "dead"
    """Given up on; kept as a dead letter."""
    DISCARDED = "discarded"
    """Let go of, because its subscription was moved to another position."""

    # Members are singletons, so their identity is their hash; Enum's own is a call of Python code for each look-up.
    __hash__ = object.__hash__


@unique
class Signal(Enum):
    """What happens to a delivery."""

    TAKE = "take"
    ACK = "ack"
    RETRY = "retry"
    GIVE_BACK = "give back"
    GIVE_UP = "give up"
    FALL_DUE = "fall due"
    RELEASE = "release"
    LOAD = "load"
    LOSE = "lose"
    DISCARD = "discard"

    __hash__ = object.__hash__


BEGINNINGS: Final = (State.READY, State.PARKED, State.WAITING)

TRANSITIONS: Final[dict[tuple[State, Signal], State]] = {
    (State.READY, Signal.TAKE): State.OUT,
    (State.READY, Signal.LOSE): State.SETTLED,
    (State.OUT, Signal.ACK): State.SETTLED,
    (State.OUT, Signal.RETRY): State.WAITING,
    (State.OUT, Signal.GIVE_BACK): State.READY,
    (State.OUT, Signal.GIVE_UP): State.DEAD,
    (State.OUT, Signal.LOSE): State.SETTLED,
    (State.WAITING, Signal.FALL_DUE): State.DUE,
    (State.PARKED, Signal.RELEASE): State.DUE,
    (State.DUE, Signal.LOAD): State.READY,
    (State.DUE, Signal.LOSE): State.SETTLED,
    (State.READY, Signal.DISCARD): State.DISCARDED,
    (State.OUT, Signal.DISCARD): State.DISCARDED,
    (State.WAITING, Signal.DISCARD): State.DISCARDED,
    (State.PARKED, Signal.DISCARD): State.DISCARDED,
    (State.DUE, Signal.DISCARD): State.DISCARDED,
}

ENDED: Final = frozenset(State) - {state for state, _ in TRANSITIONS}
"""The states that nothing leads out of."""


class IllegalTransition(Exception):
    """A signal that a delivery's state does not allow: a fault of the broker, not of a caller."""


class Tracked(Generic[P]):
    """One delivery, from when it was read until it has ended.

    `attempt` is the number of the attempt under way, or of the next one. `payload` is None while the event is not in
    memory, and of what is out if it was erased meanwhile; `size` is its bytes. `row` is what is written of it, or is about to be: a delivery with a row does not hold
    the floor. `is_replay` says that somebody asked for it once more: when it is done, its dead letter goes.
    """

    __slots__ = ("attempt", "is_replay", "key", "payload", "position", "row", "size", "state")

    def __init__(self, position: Position, key: str, size: int, payload: P | None, state: State) -> None:
        self.position = position
        self.key = key
        self.size = size
        self.payload = payload
        self.state = state
        self.attempt = 1
        self.row: Owed | None = None
        self.is_replay = False

    def __repr__(self) -> str:
        return f"Tracked({self.position}, {self.state.value}, attempt {self.attempt}{', row' if self.row else ''})"

    @classmethod
    def of_row(cls, row: Owed) -> Tracked[P]:
        """Returns the delivery that a row speaks for."""
        begins = State.PARKED if row.kind is OwedKind.PARKED else State.WAITING
        tracked: Tracked[P] = cls(row.position, row.ordering_key, 0, None, begins)
        tracked.attempt = row.attempt
        tracked.row = row
        tracked.is_replay = row.kind is OwedKind.REPLAY
        return tracked

    @property
    def kind(self) -> OwedKind:
        """Why it is owed, unless it is parked."""
        return OwedKind.REPLAY if self.is_replay else OwedKind.RETRY

    def do_for_replay(self) -> Owed | None:
        """Does for a replay too, and waits no longer. Returns the row that says so; None if it did already, or is parked: that row is a place in the order."""
        if self.is_replay and self.state is not State.WAITING:
            return None
        self.is_replay = True
        row = self.row or Owed(self.position, OwedKind.RETRY, Micros(0), self.attempt, Micros(0), self.key, "")
        if self.state is State.WAITING:
            row = row._replace(due=Micros(0))
        return None if self.state is State.PARKED else row._replace(kind=OwedKind.REPLAY)

    @property
    def first_try(self) -> Micros:
        """When its first failed attempt began; 0 if none has failed."""
        return Micros(0) if self.row is None else self.row.first_try

    @property
    def has_ended(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.state in ENDED

    @property
    def is_passed(self) -> bool:
        """Whether the floor may pass it: it has ended, or a row speaks for it."""
        return self.row is not None or self.state in ENDED

    def signal(self, signal: Signal) -> None:
        """Moves to the state that the table names. Raises `IllegalTransition` where it names none."""
        state = TRANSITIONS.get((self.state, signal))
        if state is None:
            raise IllegalTransition(f"a delivery that is {self.state.value} cannot {signal.value}")
        self.state = state


def ack_all(deliveries: Sequence[Tracked[P]]) -> None:
    """Moves deliveries that are out to settled. Raises `IllegalTransition` if one is not out; none is moved then."""
    for index, tracked in enumerate(deliveries):
        if tracked.state is not _ACKED_FROM:
            for done in deliveries[:index]:
                done.state = _ACKED_FROM
            raise IllegalTransition(f"{tracked} cannot be acknowledged, or not twice")
        tracked.state = _ACKED


def only_way(signal: Signal) -> tuple[State, State]:
    """Returns the states before and after a signal that the table allows in one state only.

    For loops over many deliveries, where comparing with one state is all that a look-up would do.
    """
    ((before, after),) = [(state, after) for (state, named), after in TRANSITIONS.items() if named is signal]
    return before, after


_ACKED_FROM, _ACKED = only_way(Signal.ACK)
