"""The settler: makes durable what lanes have settled, many lanes in one commit.

While one commit is under way the lanes that change are noted; all of them go into the next. So a commit costs the same
whether one acknowledgement waits or a thousand, and nobody waits longer than for two.

Once a second, if anything moved, the **watermark** is written: the position up to which everything has been routed. It
speaks for all lanes whose stored cursor is *level*. A lane that was stored as level and is so no longer is written in
the same commit; so an idle lane is written never, however far the journal goes on.

Dead letters and gaps are facts that the owner of a subscription is told of: their intent is stored before the commit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from certes_broker.broker.lane import Lane
from certes_broker.broker.notices import Intent, Notices
from certes_broker.domain.cursor_state import CursorChange
from certes_broker.domain.errors import Aborted, CertesError, Internal, Reason, Unavailable
from certes_broker.domain.events import Position
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Cursors

WATERMARK_INTERVAL: Final = 1.0
_AGAIN_AFTER: Final = 0.5

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Settler:
    """Makes cursors durable."""

    def __init__(self, cursors: Cursors, clock: Clock, routed: Callable[[], Position], notices: Notices) -> None:
        self._cursors = cursors
        self._notices = notices
        self._clock = clock
        self._routed = routed
        # Bounded by the number of lanes.
        self._dirty: dict[Lane, None] = {}
        self._waiters: list[tuple[Lane | None, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._watermark_due = False
        self._watermark = Position(0)
        self._stopping = False
        self._given_up = False
        self.dead_letters: Counter[str] = Counter()
        """Deliveries that were given up since the start, by reason."""
        self.gaps = 0
        """Ranges that retention trimmed before a subscription had read them, found since the start."""
        self.on_refused: Callable[[Lane], None] = _nothing
        """Called with each lane whose settle was refused, since another broker runs it."""
        self.is_failing = False
        """Whether the last commit that was tried failed."""

    @property
    def waiting(self) -> int:
        """How many lanes wait for the next commit."""
        return len(self._dirty)

    def settle(self, lane: Lane) -> None:
        """Notes that a lane has changed."""
        self._dirty[lane] = None
        self._wake.set()

    async def settled(self, lane: Lane) -> None:
        """Returns when everything that a lane has settled by now is durable.

        Raises `Unavailable` (STORAGE_UNAVAILABLE) if the commit failed; it is tried again, so that what was settled may
        still become durable. Raises `Aborted` (LEASE_LOST) if another broker runs the lane now.
        """
        if not lane.durable:
            return
        self.settle(lane)
        await self._committed(lane)

    async def flush(self) -> None:
        """Returns when all that any lane has settled by now is durable. Raises `Unavailable` as `settled` does."""
        self._wake.set()
        await self._committed(None)

    async def _committed(self, lane: Lane | None) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((lane, future))
        await future

    async def settled_at_last(self, lane: Lane) -> None:
        """Does what `settled` does, and goes on waiting while storage fails. A lane that another broker runs is settled.

        After `give_up` nothing is waited for any more.
        """
        while True:
            try:
                await self.settled(lane)
            except Unavailable:
                if self._given_up:
                    return
            except Aborted:
                return
            else:
                return

    async def run(self, lanes: Callable[[], Iterable[Lane]]) -> None:
        """Commits until it is stopped; `lanes` returns all that are awake. The last commit has all that was left."""
        self._set_watermark_alarm()
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            await self._commit(lanes())
        self._watermark_due = True
        await self._commit(lanes())

    def stop(self) -> None:
        """Lets `run` end after one more commit."""
        self._stopping = True
        self._wake.set()

    def give_up(self) -> None:
        """Lets a commit that fails be the last that was tried for its changes: what they settled is delivered again."""
        self._given_up = True

    async def _commit(self, lanes: Iterable[Lane]) -> None:
        routed = self._routed()
        watermark = routed if self._watermark_due and routed > self._watermark else None
        self._watermark_due = False
        if watermark is not None:
            for lane in lanes:
                if lane.stored_level != lane.is_level:
                    self._dirty[lane] = None
        dirty, self._dirty = self._dirty, {}
        waiters, self._waiters = self._waiters, []
        changes = [lane.collect(routed) for lane in dirty]
        for change in changes:
            self.dead_letters.update(letter.reason for letter in change.dead)
            self.gaps += len(change.gaps)
        refused: frozenset[str] = frozenset()
        if changes or watermark is not None:
            intent = self._notices.settling(zip(dirty, changes, strict=True))
            refused = await self._write(changes, watermark, waiters, intent)
        self._watermark = max(self._watermark, watermark or Position(0))
        for lane in dirty:
            if lane.name in refused and not lane.lost:
                self.on_refused(lane)
        for waited, future in waiters:
            if not future.done():
                if waited is not None and waited.name in refused:
                    future.set_exception(_lease_lost(waited.name))
                else:
                    future.set_result(None)

    async def _write(
        self,
        changes: list[CursorChange],
        watermark: Position | None,
        waiters: list[tuple[Lane | None, asyncio.Future[None]]],
        intent: Intent,
    ) -> frozenset[str]:
        """Writes until it succeeds, or is given up: the changes have left their lanes and are nowhere else."""
        while True:
            try:
                await intent.store()
                refused = await self._cursors.settle(changes, watermark)
            except (Unavailable, Internal) as error:
                self.is_failing = True
                log.warning("settle_failed", error=str(error), subscriptions=len(changes))
                # Those who came meanwhile wait for the next commit; it cannot begin before this one has succeeded.
                late, self._waiters = self._waiters, []
                for _, future in (*waiters, *late):
                    if not future.done():
                        future.set_exception(_not_yet(error))
                if self._given_up:
                    log.error("settles_given_up", subscriptions=len(changes))
                    intent.is_unsure()
                    return frozenset()
                again = asyncio.Event()
                self._clock.alarm(_AGAIN_AFTER, again.set)
                await again.wait()
            else:
                self.is_failing = False
                intent.happened(but=refused)
                return frozenset(refused)

    def _set_watermark_alarm(self) -> None:
        if self._stopping:
            return
        self._watermark_due = True
        self._wake.set()
        self._clock.alarm(WATERMARK_INTERVAL, self._set_watermark_alarm)


def _nothing(_: Lane) -> None:
    pass


def _lease_lost(name: str) -> CertesError:
    return Aborted(Reason.LEASE_LOST, f"Another broker runs {name} now.", hint="Open the stream again.")


def _not_yet(error: CertesError) -> CertesError:
    return Unavailable(
        Reason.STORAGE_UNAVAILABLE,
        f"Settling was not made durable: {error.message}",
        hint="It is tried again; until then a restart of the broker would deliver again.",
        retry_after=1.0,
    )
