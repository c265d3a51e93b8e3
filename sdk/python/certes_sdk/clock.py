"""Time and chance, as the moving parts are given them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> None:
        """Lets it not happen."""


class Clock(Protocol):
    """Knows the time, waits, and rolls dice."""

    def now(self) -> float:
        """Returns seconds of a clock that never goes back."""

    def wall(self) -> float:
        """Returns seconds since the epoch."""

    def chance(self) -> float:
        """Returns a number from 0 to 1."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Calls back after so many seconds."""

    async def sleep(self, delay: float) -> None:
        """Returns after so many seconds."""


class SystemClock:
    """The real one."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return time.time()

    def chance(self) -> float:
        return random.random()  # noqa: S311 - it spreads load, and is no secret

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)

    async def sleep(self, delay: float) -> None:
        await asyncio.sleep(delay)
