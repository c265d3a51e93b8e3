"""Limits: how much of one subscription is kept in memory, and how far its floor may stay behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Window:
    """How many deliveries may be in memory, and of how many bytes: once either is reached it is full."""

    deliveries: int
    bytes: int

    def is_full(self, deliveries: int, size: int) -> bool:
        """Whether so many deliveries of so many bytes together fill it."""
        return deliveries >= self.deliveries or size >= self.bytes

    def within(self, size: int) -> Window:
        """Returns it with no more than so many bytes."""
        return replace(self, bytes=min(self.bytes, size))


@dataclass(frozen=True, slots=True)
class CursorLimits:
    """The limits of one cursor.

    `parked` bounds what waits for ordering keys; what is beyond gets rows. `waiting` is how much stays in memory of what
    waits for no more than `soon`, in microseconds. `loaded` is how much may be ready before no
    more events are read again for deliveries that are due. `overtakers` is how many may go on passing a delivery that
    stands still before it gets a row; at most twice as many have passed it then.
    """

    parked: Window = Window(10_000, 16 * 1024 * 1024)
    waiting: Window = Window(1024, 4 * 1024 * 1024)
    loaded: Window = Window(4096, 8 * 1024 * 1024)
    overtakers: int = 10_000
    soon: int = 10_000_000

    def within(self, size: int) -> CursorLimits:
        """Returns these limits with no window of more than so many bytes."""
        if size >= max(self.parked.bytes, self.loaded.bytes):
            return self
        return replace(
            self, parked=self.parked.within(size), waiting=self.waiting.within(size), loaded=self.loaded.within(size)
        )


LIMITS: Final = CursorLimits()
