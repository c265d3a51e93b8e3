"""The attempt log: gathers webhook attempts while the last write is under way, and writes them together."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

import structlog

from certes_broker.domain.errors import Internal, Unavailable
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
        self.outcomes: Counter[str] = Counter()
        """Attempts since the start by what came of them: a class of HTTP status, such as `5xx`, or a failure's name."""
        self._added = asyncio.Event()
        self._written = asyncio.Event()
        self._stopping = False
        self._given_up = False
        self._turn = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """How many attempts wait to be written."""
        return len(self._waiting)

    async def add(self, attempt: Attempt) -> None:
        """Adds one attempt."""
        while len(self._waiting) >= LIMIT:
            self._written.clear()
            await self._written.wait()
        self.outcomes[attempt.failure if attempt.status is None else f"{attempt.status // 100}xx"] += 1
        self._waiting.append(attempt)
        self._added.set()

    async def run(self) -> None:
        """Writes until it is stopped. The last write has all that was left."""
        while not self._stopping:
            await self._added.wait()
            self._added.clear()
            await self.flush()
        await self.flush()

    def stop(self) -> None:
        """Lets `run` end once everything is written. It is not to be cancelled instead: what it writes then may be lost."""
        self._stopping = True
        self._added.set()

    def give_up(self) -> None:
        """Lets a write that fails be the last that is tried."""
        self._given_up = True

    async def flush(self) -> None:
        """Writes what waits, until it is written or given up, and returns when nothing is being written."""
        async with self._turn:
            await self._write()

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            self._written.set()
            try:
                await self._attempts.record(batch)
            except (Unavailable, Internal) as error:
                log.warning("attempts_not_recorded", error=str(error), attempts=len(batch))
                if self._given_up:
                    return
                self._waiting = batch + self._waiting
                again = asyncio.Event()
                self._clock.alarm(_AGAIN_AFTER, again.set)
                await again.wait()
