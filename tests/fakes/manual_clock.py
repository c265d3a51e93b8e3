"""A clock that a test sets."""

from __future__ import annotations

from certes_broker.domain.events import Micros


class ManualClock:
    """Tells the time that it was set to."""

    def __init__(self, now: int = 1_800_000_000_000_000) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> Micros:
        return Micros(self._now)

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self._now += round(seconds * 1_000_000)
        self._monotonic += seconds

    def set(self, now: int) -> None:
        """Sets the time of day, which may go back; the monotonic time stays."""
        self._now = now
