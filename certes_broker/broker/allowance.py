"""An allowance: how much may be used at once, and how fast it comes back."""

from __future__ import annotations


class Allowance:
    """Lets something be used up to `most`, which comes back at `rate` a second. Times are seconds of a monotonic clock."""

    def __init__(self, most: float, rate: float) -> None:
        self._most = most
        self._rate = rate
        self._left = most
        self._as_of = 0.0

    def take(self, amount: float, now: float) -> bool:
        """Uses so much of it, if so much is left; what is more than there ever is, is taken when all is left."""
        self._left = min(self._most, self._left + (now - self._as_of) * self._rate)
        self._as_of = now
        if min(amount, self._most) > self._left:
            return False
        self._left -= min(amount, self._most)
        return True
