"""Unwritten: what the cursor machine has decided and nobody has made durable yet."""

from __future__ import annotations

from certes_broker.domain.cursor_state import CursorChange, CursorState, DeadLetter, Gap, Owed
from certes_broker.domain.events import Micros, Position


class Unwritten:
    """One subscription's changes since the last time that they were collected."""

    def __init__(self, subscription: str, epoch: int) -> None:
        self._subscription = subscription
        self._epoch = epoch
        self._begin()

    def _begin(self) -> None:
        self._put: dict[Position, Owed] = {}
        self._drop: set[Position] = set()
        self._dead: dict[Position, DeadLetter] = {}
        self._buried: set[Position] = set()
        self._gaps: list[Gap] = []
        self._reset = False

    def put(self, row: Owed) -> None:
        """Writes a row, or writes it anew. What was dropped does not come back."""
        self._put[row.position] = row

    def drop(self, position: Position) -> None:
        """Drops a row. One that waits here to be put may be stored as well, from an earlier attempt; so both go."""
        self._put.pop(position, None)
        self._drop.add(position)

    def drop_all(self) -> None:
        """Drops every row, stored or not. Dead letters and gaps stay: they tell what was, not what is to come."""
        self._put.clear()
        self._drop.clear()
        self._reset = True

    def add_dead_letter(self, dead: DeadLetter) -> None:
        """Adds a dead letter, in the place of an older one."""
        self._dead[dead.position] = dead

    def bury(self, position: Position) -> None:
        """Lets go of a dead letter, if there is one: its delivery was done after all."""
        self._dead.pop(position, None)
        self._buried.add(position)

    def add_gap(self, first: Position, last: Position, now: Micros) -> Gap:
        """Adds a gap that retention has left, and returns it."""
        gap = Gap(first, last, "retention", now)
        self._gaps.append(gap)
        return gap

    def collect(self, state: CursorState) -> CursorChange:
        """Returns all of it, and begins anew."""
        change = CursorChange(
            subscription=self._subscription,
            epoch=self._epoch,
            state=state,
            put=tuple(self._put.values()),
            drop=tuple(self._drop),
            dead=tuple(self._dead.values()),
            gaps=tuple(self._gaps),
            reset=self._reset,
            buried=tuple(self._buried),
        )
        self._begin()
        return change
