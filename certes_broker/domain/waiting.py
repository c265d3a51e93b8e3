"""Deliveries that wait for a time of day, of one subscription."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from typing import Final, Generic, TypeVar

from certes_broker.domain.deliveries import Tracked
from certes_broker.domain.events import Micros, Position

P = TypeVar("P")

_AT_ONCE: Final = Micros(0)


class Waiting(Generic[P]):
    """Those that wait, the earliest first, and of one time the oldest event."""

    def __init__(self) -> None:
        self._heap: list[tuple[Micros, Position, Tracked[P]]] = []

    @property
    def next_due(self) -> Micros | None:
        """When the next of them falls due."""
        return self._heap[0][0] if self._heap else None

    def add(self, tracked: Tracked[P], due: Micros) -> None:
        """Adds one."""
        heapq.heappush(self._heap, (due, tracked.position, tracked))

    def take_due(self, now: Micros, hastened: Collection[Position] = ()) -> Iterator[Tracked[P]]:
        """Takes out those that are due, and those of events that are hastened."""
        if hastened:
            self._hasten(hastened)
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[2]

    def put_forward(self, by: Micros, after: Micros) -> None:
        """Lets those be due so much earlier that are due later than `after`."""
        self._heap = [
            (Micros(due - by) if due > after else due, position, tracked) for due, position, tracked in self._heap
        ]
        heapq.heapify(self._heap)

    def _hasten(self, positions: Collection[Position]) -> None:
        """Lets those of some events be due now."""
        self._heap = [
            (_AT_ONCE if position in positions else due, position, tracked) for due, position, tracked in self._heap
        ]
        heapq.heapify(self._heap)
