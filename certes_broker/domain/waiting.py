"""Deliveries that wait for a time of day, of one subscription.

The events of those that are due soon stay in memory, up to a window: most retries are, and to read their events again would
cost more than to keep them.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from typing import Final, Generic, TypeVar

from certes_broker.domain.deliveries import Tracked
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.limits import CursorLimits

P = TypeVar("P")

_AT_ONCE: Final = Micros(0)


class Waiting(Generic[P]):
    """Those that wait, the earliest first, and of one time the oldest event."""

    def __init__(self) -> None:
        self._heap: list[tuple[Micros, Position, Tracked[P]]] = []
        self.kept = 0
        """How many have their events in memory."""
        self.bytes = 0
        """How many bytes these have together."""

    @property
    def next_due(self) -> Micros | None:
        """When the next of them falls due."""
        return self._heap[0][0] if self._heap else None

    def add(self, tracked: Tracked[P], due: Micros) -> None:
        """Adds one whose event is not in memory."""
        heapq.heappush(self._heap, (due, tracked.position, tracked))

    def keep(self, tracked: Tracked[P], due: Micros, wait: int, limits: CursorLimits) -> None:
        """Adds one. Its event leaves memory unless the wait, in microseconds, is short and there is room."""
        is_kept = wait <= 0 or (wait <= limits.soon and not limits.waiting.is_full(self.kept, self.bytes))
        if is_kept and tracked.payload is not None:
            self.kept += 1
            self.bytes += tracked.size
        else:
            tracked.payload = None
        self.add(tracked, due)

    def let_go(self, tracked: Tracked[P]) -> None:
        """Lets the event of one leave memory, if it is there."""
        if tracked.payload is not None:
            self._uncount(tracked)
            tracked.payload = None

    def take_due(self, now: Micros, hastened: Collection[Position] = ()) -> Iterator[Tracked[P]]:
        """Takes out those that are due, and those of events that are hastened."""
        if hastened:
            self._hasten(hastened)
        while self._heap and self._heap[0][0] <= now:
            tracked = heapq.heappop(self._heap)[2]
            if tracked.payload is not None:
                self._uncount(tracked)
            yield tracked

    def put_forward(self, by: Micros, after: Micros) -> None:
        """Lets those be due so much earlier that are due later than `after`."""
        self._heap = [
            (Micros(due - by) if due > after else due, position, tracked) for due, position, tracked in self._heap
        ]
        heapq.heapify(self._heap)

    def _uncount(self, tracked: Tracked[P]) -> None:
        self.kept -= 1
        self.bytes -= tracked.size

    def _hasten(self, positions: Collection[Position]) -> None:
        """Lets those of some events be due now."""
        self._heap = [
            (_AT_ONCE if position in positions else due, position, tracked) for due, position, tracked in self._heap
        ]
        heapq.heapify(self._heap)
