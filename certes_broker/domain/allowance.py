"""An allowance: how much may be used at once, and how fast it comes back. Others call it a token bucket."""

from __future__ import annotations

from typing import Final

_SHORTEST: Final = 0.001
"""Whoever waits, waits for so long at least: less than a clock can tell would be asked for again and again."""
_ROUNDING: Final = 1e-9


class Allowance:
    """Lets something be used up to `most`, which comes back at `rate` a second. Times are seconds of a monotonic clock."""

    def __init__(self, most: float, rate: float) -> None:
        self._most = most
        self._rate = rate
        self._left = most
        self._as_of = 0.0

    def take(self, amount: float, now: float) -> bool:
        """Uses so much of it, if so much is left; what is more than there ever is, is taken when all is left."""
        if self.wait(amount, now) > 0:
            return False
        self._left -= min(amount, self._most)
        return True

    def use(self, amount: float, now: float) -> None:
        """Uses so much of it, or what is left: for what has been used already, whether it was allowed or not."""
        self._catch_up(now)
        self._left = max(0.0, self._left - amount)

    def give(self, amount: float, now: float) -> bool:
        """Gives so much back; returns whether all is left now."""
        self._catch_up(now)
        self._left = min(self._most, self._left + amount)
        return self._left == self._most

    def wait(self, amount: float, now: float) -> float:
        """Returns in how many seconds `take` will succeed, if nothing is used meanwhile; 0 if it would now."""
        self._catch_up(now)
        missing = min(amount, self._most) - self._left
        return max(_SHORTEST, missing / self._rate) if missing > _ROUNDING else 0.0

    def _catch_up(self, now: float) -> None:
        self._left = min(self._most, self._left + (now - self._as_of) * self._rate)
        self._as_of = now
