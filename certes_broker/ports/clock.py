"""The clock port: the only way the broker learns the time and is called later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from certes_broker.domain.events import Micros


class Alarm(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Calls it off. Idempotent."""


class Clock(Protocol):
    """Tells the time. The real one reads the system's; tests have one that they set."""

    def now(self) -> Micros:
        """Returns the time of day, in microseconds since the epoch. It may jump."""

    def monotonic(self) -> float:
        """Returns seconds that never go back, for durations and deadlines in memory."""

    def alarm(self, seconds: float, action: Callable[[], None]) -> Alarm:
        """Calls `action` once, from the event loop, when `seconds` have passed on the monotonic clock."""
