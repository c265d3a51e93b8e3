"""Progress: how far one subscription has read, and how far it has settled.

A delivery is **passed** when it has ended or has a row. The **floor** is the position at or below which everything is
passed. What is passed above it is the **sparse set**: since everything up to the read mark has been read, that is all
that lies between one unpassed delivery and the next, and so as short as what is unsettled, however much was settled
around it. Events that were read and did not match are in it too; that is right as long as the selectors are the same,
and before they change everything unsettled gets a row.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from certes_broker.domain.cursor_state import CursorState, Ranges
from certes_broker.domain.deliveries import ENDED, Tracked
from certes_broker.domain.events import Position

P = TypeVar("P")


class Progress(Generic[P]):
    """The floor, the read mark, and what is between them.

    What is above the floor is read again after a restart, and that reading must pass over what is known already.
    """

    def __init__(self, state: CursorState) -> None:
        self.floor = state.floor
        self.read_mark = state.floor
        self.known_through = state.settled[-1][1] if state.settled else state.floor
        """Up to here, what is read may have been passed before the restart."""
        self.open: deque[Tracked[P]] = deque()
        """What was read and does not lie below the floor, in order; some of it may be passed."""
        # How far it had read before the restart: never stored lower, since those who change selectors must know.
        self._read_before = state.read_mark
        self._passed_before: Ranges = state.settled
        self._passed_in_open = 0
        self._highest_passed = state.floor
        # How many passed out of order since the mark was set, nearly all of them above it.
        self._overtakers = 0
        self._mark = state.floor

    @property
    def unpassed(self) -> int:
        """How many deliveries are not passed."""
        return len(self.open) - self._passed_in_open

    def was_passed(self, position: Position) -> bool:
        """Says whether an event that is read was passed before the restart."""
        index = bisect_right(self._passed_before, position, key=lambda passed: passed[0]) - 1
        return index >= 0 and position <= self._passed_before[index][1]

    def open_at(self, position: Position) -> Tracked[P] | None:
        """Returns what was read at `position` if it is not passed."""
        index = bisect_left(self.open, position, key=lambda tracked: tracked.position)
        found = self.open[index] if index < len(self.open) else None
        return found if found is not None and found.position == position and not found.is_passed else None

    def pass_over(self, position: Position) -> None:
        """Notes that what was read at `position` is passed and need not be open."""
        self._highest_passed = position

    def pass_open(self, tracked: Tracked[P]) -> None:
        """Notes that an open delivery has ended, or gets its row."""
        if self.open[0] is tracked:
            self.open.popleft()
            return
        self._passed_in_open += 1
        self._overtakers += 1
        if tracked.position > self._highest_passed:  # noqa: PLR1730 - max() is a call, and this is done for every delivery
            self._highest_passed = tracked.position

    def shed(self) -> None:
        """Lets go of what is passed before the first that is not. Everything that has ended must have been counted."""
        opened = self.open
        left = self._passed_in_open
        while left and (opened[0].row is not None or opened[0].state in ENDED):
            opened.popleft()
            left -= 1
        self._passed_in_open = left

    def overtaken(self, overtakers: int) -> Iterator[Tracked[P]]:
        """Yields, whenever so many more have passed out of order, what was overtaken by then and stands still ever since."""
        if self._overtakers > overtakers:
            mark, self._mark, self._overtakers = self._mark, self._highest_passed, 0
            yield from self.unpassed_through(mark)

    def unpassed_through(self, position: Position) -> Iterator[Tracked[P]]:
        """Yields the unpassed deliveries at or below `position`; each may be passed while it is at it."""
        for tracked in tuple(self.open):
            if tracked.position > position:
                break
            if not tracked.is_passed:
                yield tracked

    def move_floor(self) -> None:
        """Moves the floor as far as it can go."""
        self.shed()
        self.floor = Position(self.open[0].position - 1) if self.open else self.read_mark

    def state(self, *, level: bool) -> CursorState:
        """Returns what is to be kept of it."""
        return CursorState(self.floor, max(self.read_mark, self._read_before), self._sparse_set(), level)

    def _sparse_set(self) -> Ranges:
        ranges: list[tuple[Position, Position]] = []
        last = self.floor
        for tracked in self._without_passed():
            if tracked.position - last > 1:
                ranges.append((Position(last + 1), Position(tracked.position - 1)))
            last = tracked.position
        if self._highest_passed > last:
            ranges.append((Position(last + 1), self._highest_passed))
        if self.read_mark >= self.known_through:
            self._passed_before = ()
        unread = Position(self.read_mark + 1)
        ranges.extend((max(first, unread), last) for first, last in self._passed_before if last >= unread)
        return tuple(ranges)

    def _without_passed(self) -> list[Tracked[P]]:
        """Returns the unpassed deliveries below the highest passed one, and keeps only them: nobody walks over others twice."""
        unpassed: list[Tracked[P]] = []
        opened = self.open
        while opened and opened[0].position <= self._highest_passed:
            tracked = opened.popleft()
            if not tracked.is_passed:
                unpassed.append(tracked)
        opened.extendleft(reversed(unpassed))
        self._passed_in_open = 0
        return unpassed
