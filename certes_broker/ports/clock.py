"""The clock port: the only way the broker learns the time."""

from __future__ import annotations

from typing import Protocol

from certes_broker.domain.events import Micros


class Clock(Protocol):
    """Tells the time. The real one reads the system's; tests have one that they set."""

    def now(self) -> Micros:
        """Returns the time of day, in microseconds since the epoch. It may jump."""

    def monotonic(self) -> float:
        """Returns seconds that never go back, for durations and timers."""
