"""The lanes that are awake, and how they wake and go to rest.

A lane is awake while somebody takes deliveries out of it: a stream, or the webhook pump. A subscription without a taker
has no lane and costs nothing: its cursor lies in the engine, and what it missed is read from the journal when it wakes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import structlog

from certes_broker.broker.catch_up import CatchUp
from certes_broker.broker.elsewhere import Elsewhere
from certes_broker.broker.items import Item
from certes_broker.broker.lane import Attendants, Consumer, Lane
from certes_broker.broker.memory import Memory
from certes_broker.broker.router import Router
from certes_broker.broker.settler import Settler
from certes_broker.domain.cursor import Cursor
from certes_broker.domain.cursor_state import CursorChange, CursorState, StoredCursor
from certes_broker.domain.errors import CertesError, Reason, Unavailable
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.steps import TOLERATED
from certes_broker.domain.subscriptions import Subscription
from certes_broker.observability.latencies import Latencies
from certes_broker.ports.cluster import MemberId
from certes_broker.ports.engine import Bounds, Engine

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Lanes:
    """Wakes lanes and puts them to rest."""

    def __init__(
        self, engine: Engine, attendants: Attendants, router: Router, settler: Settler, catch_up: CatchUp
    ) -> None:
        self._engine = engine
        self._clock = attendants.clock
        self._router = router
        self._settler = settler
        self._catch_up = catch_up
        self._attendants = attendants
        settler.on_refused = self.lose
        self._awake: dict[str, Lane] = {}
        # Bounded by the number of streams.
        self._ephemeral: set[Lane] = set()
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        # Bounded by the number of subscriptions.
        self._unreleased: set[str] = set()
        """Lanes that rest, whose leases could not be given up yet."""
        self.on_lost: Callable[[], None] = _nothing
        """Called when a lane was lost."""

    @property
    def latencies(self) -> Latencies:
        """How long deliveries waited from acceptance to the hand-over of their first attempt."""
        return self._attendants.latencies

    @property
    def memory(self) -> Memory:
        """The account of what all of them hold."""
        return self._attendants.memory

    def __len__(self) -> int:
        """How many durable lanes are awake."""
        return len(self._awake)

    def all(self) -> Iterable[Lane]:
        """Returns the durable lanes that are awake."""
        return self._awake.values()

    def get(self, name: str) -> Lane | None:
        """Returns a subscription's lane, if it is awake."""
        return self._awake.get(name)

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """Keeps everybody else from waking, resting or changing one subscription."""
        lock, holders = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, holders + 1)
        try:
            async with lock:
                yield
        finally:
            lock, holders = self._locks.pop(name)
            if holders > 1:
                self._locks[name] = (lock, holders - 1)

    async def wake(self, subscriptions: Sequence[Subscription]) -> Sequence[Lane]:
        """Returns the lanes of subscriptions, in order, woken where they were not. The caller is `alone` with each.

        Raises `Elsewhere` if another member has one of them; then some of the others may be awake.
        """
        await self.wake_free(subscriptions)
        held = [name for subscription in subscriptions if (name := subscription.name.text) not in self._awake]
        if held:
            raise await self._elsewhere(held[0])
        return [self._awake[subscription.name.text] for subscription in subscriptions]

    async def wake_free(self, subscriptions: Sequence[Subscription]) -> Sequence[Lane]:
        """Does what `wake` does with those that no other member has, and returns theirs."""
        asleep = [subscription for subscription in subscriptions if subscription.name.text not in self._awake]
        if asleep:
            names = [subscription.name.text for subscription in asleep]
            epochs = await self._engine.leases.lease(names)
            cursors = await self._engine.cursors.load(names)
            bounds = await self._engine.journal.bounds()
            for subscription, epoch, stored in zip(asleep, epochs, cursors, strict=True):
                self._unreleased.discard(subscription.name.text)
                if epoch is not None:
                    self._begin(subscription, epoch, stored or _new_cursor(subscription), bounds)
        return [lane for subscription in subscriptions if (lane := self._awake.get(subscription.name.text))]

    async def check_free(self, name: str) -> None:
        """Raises `Elsewhere` if another member has a lane."""
        [holder] = await self._engine.leases.holders([name])
        if holder is not None and holder != self._engine.members.own:
            raise _at(holder, name)

    async def shut_out(self, name: str) -> None:
        """Sees to it that members that have ended settle nothing more of a subscription, whether it is awake or not."""
        async with self.alone(name):
            if name not in self._awake:
                # Who else has it took it after they had ended.
                [epoch] = await self._engine.leases.lease([name])
                if epoch is not None:
                    await self._engine.leases.release([name])

    async def _elsewhere(self, name: str) -> CertesError:
        [holder] = await self._engine.leases.holders([name])
        if holder is None or holder == self._engine.members.own:
            return Unavailable(Reason.LEASE_LOST, f"Another broker gave {name} up just now.", retry_after=0.1)
        return _at(holder, name)

    async def stand_alone(self, subscriptions: Sequence[Subscription]) -> None:
        """Sees to it that the watermark goes on without these, which sleep.

        A broker that crashed leaves cursors that are level although nobody takes part for them any more. Where engines are
        shared, its watermark speaks for these, and stays.
        """
        if self._engine.members.is_shared:
            return
        names = [subscription.name.text for subscription in subscriptions]
        cursors = await self._engine.cursors.load(names)
        level = [
            (name, stored.state) for name, stored in zip(names, cursors, strict=True) if stored and stored.state.level
        ]
        if level:
            epochs = await self._engine.leases.lease([name for name, _ in level])
            await self._engine.cursors.settle(
                [
                    CursorChange(name, epoch, replace(state, level=False))
                    for (name, state), epoch in zip(level, epochs, strict=True)
                    if epoch is not None
                ]
            )

    def _begin(self, subscription: Subscription, epoch: int, stored: StoredCursor, bounds: Bounds) -> None:
        cursor: Cursor[Item] = Cursor(subscription.name.text, epoch, stored)
        lane = Lane(subscription, cursor, self._attendants, durable=True)
        lane.stored_level = stored.state.level
        lane.resume_mark = stored.state.read_mark
        self._awake[lane.name] = lane
        self._router.put(lane)
        # A page of one step may have been trimmed in the meantime; the first reading sees to later ones.
        if cursor.skip_trimmed(bounds.trimmed, self._clock.now()) is not None:
            log.warning("backlog_trimmed", subscription=lane.name, reason="retention")
            lane.changed()
        if cursor.read_mark >= self._router.position:
            lane.go_live()
        behind = bounds.latest - self._clock.now()
        if behind > TOLERATED:
            # The clock was set back since. What is due after the journal's latest event began to wait before that, as a rule; what
            # is due earlier may have begun to wait after it.
            cursor.put_forward(Micros(behind), after=bounds.latest)
        cursor.wake(self._clock.now())
        lane.attend()

    def ephemeral(self, subscription: Subscription) -> Lane:
        """Returns a lane that is never stored, and begins at the subscription's start."""
        cursor: Cursor[Item] = Cursor(subscription.name.text, 0, _new_cursor(subscription))
        lane = Lane(subscription, cursor, self._attendants, durable=False)
        self._ephemeral.add(lane)
        self._router.put(lane)
        if cursor.read_mark >= self._router.position:
            lane.go_live()
        lane.attend()
        return lane

    def join(self, lane: Lane, consumer: Consumer) -> None:
        """Adds a taker, and tells it that something may be ready."""
        lane.consumers.append(consumer)
        consumer.wake()

    async def settled(self, lane: Lane) -> None:
        """Returns when all that a lane has settled by now is durable. Raises as `Settler.settled` does."""
        await self._settler.settled(lane)

    async def rest(self, lane: Lane) -> None:
        """Puts a lane to rest, unless somebody takes from it. The caller is `alone` with it."""
        if lane.consumers or lane.lost:
            return
        lane.fall_behind(self._router.position)
        lane.frozen = True
        lane.rest()
        self._router.remove(lane)
        if not lane.durable:
            self._ephemeral.discard(lane)
            # Whoever has the lane still keeps no events in memory by it.
            lane.cursor.seek(lane.cursor.read_mark)
            return
        if self._awake.get(lane.name) is lane:
            await self._settler.settled_at_last(lane)
        if self._awake.get(lane.name) is lane:
            del self._awake[lane.name]
            if self._engine.members.is_shared:
                self._unreleased.add(lane.name)
                with suppress(Unavailable):
                    await self._engine.leases.release([lane.name])
                    self._unreleased.discard(lane.name)

    async def release_rested(self) -> None:
        """Gives up the leases that could not be when their lanes went to rest."""
        names = sorted(self._unreleased - self._awake.keys())
        if names:
            await self._engine.leases.release(names)
            self._unreleased.difference_update(names)

    def lose(self, lane: Lane) -> None:
        """Lets go of a lane that another member has: nobody takes from it here any more, and nothing of it is written."""
        if self._awake.get(lane.name) is lane:
            log.warning("lane_lost", subscription=lane.name)
            self._let_go(lane)

    def abandon(self, name: str) -> None:
        """Lets go of the lane of a subscription that is to be forgotten: what was handed out of it concerns nobody any more."""
        lane = self._awake.get(name)
        if lane is not None:
            lane.era += 1
            self._let_go(lane)

    def _let_go(self, lane: Lane) -> None:
        del self._awake[lane.name]
        lane.frozen = lane.lost = True
        lane.rest()
        self._router.remove(lane)
        for consumer in list(lane.consumers):
            consumer.lose()
        self.on_lost()

    async def erase(self, subscriber: str, through: Position) -> None:
        """Lets go of the events for a subscriber up to a position, which the journal has no longer.

        Nothing that is made of them comes to the engine after this, and none of them goes out.
        """
        self._catch_up.read_again()
        self._router.erase(subscriber, through)
        for lane in (*self._awake.values(), *self._ephemeral):
            lane.erase(subscriber, through)
        await self._settler.flush()

    async def freeze(self, lane: Lane) -> None:
        """Stops a lane's reading and gives rows to all that it has read and not settled; durable when it returns.

        What it had read before it last went to rest counts as read, and nothing beyond.
        """
        lane.frozen = True
        while lane.cursor.read_mark < lane.resume_mark:
            await self._catch_up.read_page(lane, lane.resume_mark)
        lane.fall_behind(self._router.position)
        lane.cursor.secure()
        await self._settler.settled(lane)

    def thaw(self, lane: Lane, subscription: Subscription) -> None:
        """Lets a frozen lane go on with changed settings."""
        lane.become(subscription)
        if lane.lost:
            return
        self._router.put(lane)
        lane.frozen = False
        lane.attend()

    async def seek(self, lane: Lane, target: Position) -> int:
        """Moves a lane; returns how many deliveries were discarded. Durable when it returns."""
        lane.fall_behind(self._router.position)
        lane.rest()
        lane.era += 1
        discarded = lane.cursor.seek(target)
        lane.resume_mark = target
        try:
            await self._settler.settled(lane)
        finally:
            # It has moved, even if that is not durable yet.
            lane.attend()
        return discarded


def _at(holder: MemberId, name: str) -> Elsewhere:
    return Elsewhere(holder, f"Another broker runs {name}.")


def _nothing() -> None:
    pass


def _new_cursor(subscription: Subscription) -> StoredCursor:
    return StoredCursor(CursorState(subscription.start, subscription.start), ())
