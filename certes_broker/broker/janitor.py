"""The janitor: lets go of what is past its time.

Retention trims events by age and by size. It asks nobody's leave: a subscription that had not read what is trimmed finds
a gap when it comes to read it, and the gap is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from certes_broker.broker.rejected_payloads import DEFAULT_BOUNDS, RejectedBounds, RejectedPayloads
from certes_broker.domain.errors import CertesError
from certes_broker.domain.events import Micros
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Engine

INTERVAL: Final = 30.0

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept: `age`, `dedupe_window` and `dead_letters` in seconds, `size` in bytes of events."""

    age: float
    size: int
    dedupe_window: float
    rejected: RejectedBounds = DEFAULT_BOUNDS
    dead_letters: float = 30 * 86_400.0


class Janitor:
    """Goes round now and then."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        retention: Retention,
        rejected: RejectedPayloads,
        purge: Callable[[Micros], Awaitable[int]],
        is_here: Callable[[str], bool],
    ) -> None:
        """`is_here` says whether what has a name is this broker's to do; of several brokers one goes round."""
        self._engine = engine
        self._clock = clock
        self._retention = retention
        self._rejected = rejected
        self._purge = purge
        self._is_here = is_here
        self._due = asyncio.Event()

    async def run(self) -> None:
        """Goes round for ever."""
        while True:
            try:
                if self._is_here("janitor"):
                    await self.go_round()
            except CertesError as error:
                log.warning("janitor_failed", error=str(error))
            self._due.clear()
            self._clock.alarm(INTERVAL, self._due.set)
            await self._due.wait()

    async def go_round(self) -> None:
        """Lets go of everything that is past its time now."""
        now, journal = self._clock.now(), self._engine.journal
        oldest = _before(now, self._retention.age)
        bounds = await journal.bounds()
        through = max(await journal.position_at(oldest), await journal.surplus(self._retention.size))
        if through > bounds.trimmed:
            trimmed = await journal.trim(through)
            if trimmed.trimmed > bounds.trimmed:
                log.info("events_trimmed", bytes_kept=trimmed.bytes)
        await journal.forget_ids(_before(now, self._retention.dedupe_window))
        await self._engine.attempts.trim(oldest)
        await self._engine.cursors.expire(_before(now, self._retention.dead_letters))
        await self._rejected.trim()
        await self._purge(now)


def _before(now: Micros, seconds: float) -> Micros:
    return Micros(max(0, now - int(seconds * 1_000_000)))
