"""Steps of a clock: whether the time of day was set back.

What waits for a time of day would wait for as long again as the clock was set back. A clock that never goes back tells the two
apart: where fewer microseconds have passed by the time of day than by that one, it was set back. Being set forward needs nothing:
what waits is due then, if early.
"""

from __future__ import annotations

from typing import Final

from certes_broker.domain.events import Micros

TOLERATED: Final = Micros(1_000_000)
"""By how much the two clocks may differ without it being a step: two readings are not made at once."""


class Steps:
    """Compares a time of day, in microseconds, with a clock that never goes back, in seconds."""

    def __init__(self, now: Micros, monotonic: float) -> None:
        self._ahead = _ahead(now, monotonic)

    def back(self, now: Micros, monotonic: float) -> Micros:
        """Returns by how much the time of day was set back since this last returned something; 0 for not, or hardly."""
        ahead = _ahead(now, monotonic)
        back = self._ahead - ahead
        if 0 <= back <= TOLERATED:
            return Micros(0)
        self._ahead = ahead
        return Micros(max(0, back))


def _ahead(now: Micros, monotonic: float) -> int:
    return now - int(monotonic * 1_000_000)
