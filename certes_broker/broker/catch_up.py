"""Catch-up: reads the journal for lanes that are behind, and events that are due again for all.

A lane that asks is read for one page, then stands at the end of the queue again if it wants more, so that a lane with a
million events to read does not hold up one with ten. A few workers read at once.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from certes_broker.broker.items import Item
from certes_broker.broker.lane import Lane
from certes_broker.broker.names import EventNames
from certes_broker.broker.router import Router
from certes_broker.domain.errors import Unavailable
from certes_broker.domain.events import Entry, Position
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Engine

WORKERS: Final = 4
PAGE: Final = 512
PAGE_BYTES: Final = 4 * 1024 * 1024
_AGAIN_AFTER: Final = 1.0

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class CatchUp:
    """Reads the journal for lanes."""

    def __init__(self, engine: Engine, names: EventNames, clock: Clock, router: Router) -> None:
        self._journal = engine.journal
        self._cursors = engine.cursors
        self._names = names
        self._clock = clock
        self._router = router
        # Bounded by the number of lanes: a lane is in it once at most.
        self._queue: asyncio.Queue[Lane] = asyncio.Queue()
        self._erasures = 0
        """Counts erasures: what was read before the last of them may have been erased by it."""

    @property
    def waiting(self) -> int:
        """How many lanes wait to be read for."""
        return self._queue.qsize()

    def read_for(self, lane: Lane) -> None:
        """Puts a lane in the queue, unless it is there."""
        if not lane.being_read:
            lane.being_read = True
            self._queue.put_nowait(lane)

    def read_again(self) -> None:
        """Lets what is being read be read again: something of it may have been erased meanwhile."""
        self._erasures += 1

    async def run(self) -> None:
        """Works for ever; run several."""
        while True:
            lane = await self._queue.get()
            try:
                # What others hold may have changed since it asked.
                lane.reckon()
                if not lane.frozen:
                    await self.load_needed(lane)
                if not lane.live and not lane.frozen and lane.has_room:
                    await self.read_page(lane)
            except Unavailable as error:
                log.warning("catch_up_failed", subscription=lane.name, error=str(error))
                self._clock.alarm(_AGAIN_AFTER, lane.attend)
                lane.being_read = False
                continue
            lane.being_read = False
            if lane.cursor.ready:
                lane.wake()
            lane.attend()

    async def read_page(self, lane: Lane, limit: Position | None = None) -> None:
        """Reads one page for a lane, no further than `limit`, and lets it go live where it has reached the router."""
        era, mark, erasures = lane.era, lane.cursor.read_mark, self._erasures
        page = await self._journal.read(mark, PAGE, max(1, min(PAGE_BYTES, lane.share)))
        bounds = await self._journal.bounds()
        # A lane that was frozen meanwhile would take in what its coming selectors are to judge.
        if lane.era != era or lane.cursor.read_mark != mark or (lane.frozen and limit is None):
            return
        if self._erasures != erasures:
            return
        gap = lane.cursor.skip_trimmed(Position(min(bounds.trimmed, page.through)), self._clock.now())
        if gap is not None:
            log.warning("backlog_trimmed", subscription=lane.name, reason=gap.reason)
            lane.changed()
        through = page.through if limit is None else Position(min(limit, page.through))
        names = self._names.names([entry.position for entry in page.entries])
        for entry, name in zip(page.entries, names, strict=True):
            if entry.position > through:
                break
            item = Item(entry, name, self._router.memory)
            if lane.accepts(item):
                lane.take_in(item)
        if page.entries:
            lane.read_time = page.entries[-1].event.accept_time
        lane.cursor.advance(through)
        lane.cursor.lose_deferred(self._clock.now())
        if limit is None and through >= self._router.position:
            lane.go_live()

    async def load_needed(self, lane: Lane) -> None:
        """Reads again the events of deliveries that may go out."""
        for tracked in lane.cursor.needed(PAGE):
            if not lane.cursor.needs_events:
                # As much is in memory as may be; the rest when there is room.
                return
            era, erasures = lane.era, self._erasures
            entry = await self._journal.get(tracked.position)
            if entry is None and tracked.is_replay:
                entry = await self._copy(lane, tracked.position)
            if lane.era != era or lane.frozen or self._erasures != erasures:
                return
            if entry is None:
                lane.cursor.lose(tracked, self._clock.now())
                lane.changed()
            else:
                item = Item(entry, self._names.name(entry.position), self._router.memory)
                lane.cursor.load(tracked, item.size, item)

    async def _copy(self, lane: Lane, position: Position) -> Entry | None:
        """Returns the event of a dead letter, which has a copy where the journal has forgotten it."""
        letter = await self._cursors.dead_letter(lane.name, position)
        return None if letter is None else Entry(position, letter.event)
