"""The attempt log: gathers webhook attempts while the last write is under way, and writes them together."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from certes_broker.domain.errors import Unavailable
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Attempt, Attempts

LIMIT: Final = 4096
_AGAIN_AFTER: Final = 0.5

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class AttemptLog:
    """Writes attempts to the engine. Bounded: whoever adds to a full log waits."""

    def __init__(self, attempts: Attempts, clock: Clock) -> None:
        self._attempts = attempts
        self._clock = clock
        self._waiting: list[Attempt] = []
        self._added = asyncio.Event()
        self._written = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many attempts wait to be written."""
        return len(self._waiting)

    async def add(self, attempt: Attempt) -> None:
        """Adds one attempt."""
        while len(self._waiting) >= LIMIT:
            self._written.clear()
            await self._written.wait()
        self._waiting.append(attempt)
        self._added.set()

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            await self._added.wait()
            self._added.clear()
            await self.flush()

    async def flush(self) -> None:
        """Writes what waits, until it is written."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            self._written.set()
            try:
                await self._attempts.record(batch)
            except Unavailable as error:
                log.warning("attempts_not_recorded", error=str(error), attempts=len(batch))
                # Back where a later flush finds them, should this one be cancelled while it waits.
                self._waiting = batch + self._waiting
                again = asyncio.Event()
                self._clock.alarm(_AGAIN_AFTER, again.set)
                await again.wait()
