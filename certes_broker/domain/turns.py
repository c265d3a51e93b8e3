"""Turns: who goes next where subscriptions of several priorities wait for one limit.

Rules
-----
* Priorities are 0 to 9, and 9 is first in rank: where all wait, one of priority p gets p + 1 turns out of 55.
* Nobody starves. Whoever waits at the head of its priority's line is passed by another priority q at most (q + 1) / (p + 1) times
  and once more, however many wait there.
* Within a priority, first come, first served.
* Turns that nobody used are not saved up: a priority that was idle begins where the others are.

It is stride scheduling (Waldspurger and Weihl, 1995): each priority has a pass that grows by a stride, the inverse of its weight,
at each of its turns, and the lowest pass is next.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Generic, TypeVar

T = TypeVar("T")

PRIORITIES: Final = range(10)
DEFAULT_PRIORITY: Final = 5

_ONE: Final = math.lcm(*(priority + 1 for priority in PRIORITIES))
_STRIDES: Final = tuple(_ONE // (priority + 1) for priority in PRIORITIES)


class Turns(Generic[T]):
    """Those who wait, in a line for each priority."""

    def __init__(self) -> None:
        self._lines: tuple[deque[T], ...] = tuple(deque() for _ in PRIORITIES)
        self._passes = [0 for _ in PRIORITIES]
        self._now = 0
        self._size = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._size

    def put(self, item: T, priority: int) -> None:
        """Lets somebody wait."""
        line = self._lines[priority]
        if not line:
            self._passes[priority] = max(self._passes[priority], self._now)
        line.append(item)
        self._size += 1

    def take(self) -> T:
        """Returns whose turn it is. Raises `IndexError` if nobody waits."""
        waiting = [priority for priority in PRIORITIES if self._lines[priority]]
        if not waiting:
            raise IndexError("nobody waits")
        # Of equal passes the higher priority goes first.
        chosen = min(waiting, key=lambda priority: (self._passes[priority], -priority))
        self._now = self._passes[chosen]
        self._passes[chosen] += _STRIDES[chosen]
        self._size -= 1
        return self._lines[chosen].popleft()
