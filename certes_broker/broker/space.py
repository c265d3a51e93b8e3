"""The room that storage has left, and the refusal to take events in before there is none.

Settling deliveries, retrying and dead letters write, too. A broker that took events until the disk was full could not deliver
them any more; so it keeps a reserve, beyond which nothing is accepted and everything else goes on. It looks twice a second; what
is taken in between two looks is counted, twice over, since it goes into a log first. Once there is room again, by retention or by
somebody's hand, the next look finds it.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from certes_broker.domain.errors import Exhausted, Reason, Unavailable
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Journal

INTERVAL: Final = 0.5
"""Seconds between two looks."""
_COPIES: Final = 2
RETRY_AFTER: Final = 10.0
"""Seconds after which a publisher may try again: room seldom comes back faster."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Space:
    """Knows whether there is room for events. `reserve` is bytes; with 0 it does not look."""

    def __init__(self, journal: Journal, clock: Clock, reserve: int) -> None:
        self._journal = journal
        self._clock = clock
        self._reserve = reserve
        self._left: int | None = None
        self._taken = 0
        self._due = asyncio.Event()

    @property
    def is_low(self) -> bool:
        """Whether less than the reserve is left."""
        return self._left is not None and self._left < self._reserve

    def take(self, size: int) -> None:
        """Counts events that are taken in. Raises `Exhausted` (STORAGE_FULL) if there is no room for them."""
        needed = self._taken + _COPIES * size
        if self._left is not None and self._left - needed < self._reserve:
            raise Exhausted(
                Reason.STORAGE_FULL,
                f"Storage has {self._left} bytes left, and {self._reserve} are kept free for deliveries.",
                hint="Publish again after the delay. Whoever runs the broker makes room, or shortens [retention]; "
                "limits.storage_reserve is the setting.",
                metadata={"limit": str(self._reserve), "setting": "limits.storage_reserve"},
                retry_after=RETRY_AFTER,
            )
        self._taken = needed

    async def run(self) -> None:
        """Looks for ever."""
        while self._reserve:
            self._due.clear()
            self._clock.alarm(INTERVAL, self._due.set)
            await self._due.wait()
            await self.look()

    async def look(self) -> None:
        """Looks once. Where storage does not answer, what was found before holds."""
        if not self._reserve:
            return
        was_low = self.is_low
        taken, self._taken = self._taken, 0
        try:
            self._left = await self._journal.room()
        except Unavailable:
            self._taken += taken
            return
        if self.is_low and not was_low:
            log.error("storage_low", bytes_left=self._left, reserve=self._reserve, effect="events are refused")
        elif was_low and not self.is_low:
            log.info("storage_has_room", bytes_left=self._left)
