"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class ManualTimer:
    """Something that will happen when the clock gets there."""

    def __init__(self, at: float, callback: Callable[[], object]) -> None:
        self.at = at
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """Time and chance in a test's hands."""

    def __init__(self, wall: float = 1_764_221_727.0) -> None:
        self._now = 1000.0
        self._wall = wall
        self._timers: list[ManualTimer] = []
        self._changed = asyncio.Event()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall

    def chance(self) -> float:
        return 1.0

    def call_later(self, delay: float, callback: Callable[[], object]) -> ManualTimer:
        timer = ManualTimer(self._now + delay, callback)
        self._timers.append(timer)
        self._changed.set()
        return timer

    async def sleep(self, delay: float) -> None:
        woken = asyncio.Event()
        timer = self.call_later(delay, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()

    async def until_waiting(self, delay: float) -> None:
        """Returns when somebody waits for a moment that is exactly so many seconds away."""
        while not any(abs(timer.at - self._now - delay) < 1e-6 for timer in self._pending()):
            self._changed.clear()
            await self._changed.wait()

    def waits(self) -> list[float]:
        """Returns how long whoever waits has to wait, in order."""
        return sorted(timer.at - self._now for timer in self._pending())

    def advance(self, seconds: float) -> None:
        """Moves on, and does what was to happen meanwhile, in its order."""
        end = self._now + seconds
        while due := sorted((timer for timer in self._pending() if timer.at <= end), key=lambda timer: timer.at):
            self._now = max(self._now, due[0].at)
            self._timers.remove(due[0])
            due[0].callback()
        self._now = end
        self._wall += seconds

    def _pending(self) -> list[ManualTimer]:
        self._timers = [timer for timer in self._timers if not timer.cancelled]
        return self._timers
