"""Placement: which lanes are awake here.

Rules
-----
* The lane of an active webhook subscription is awake at the member that it belongs to (`domain/placement.py`). When the
  members change, a lane that belongs elsewhere takes nothing more; once nothing of it is under way it goes to rest, which
  gives its lease up, and its new owner takes that. So no two members ever take deliveries out of one lane.
* The lane of a stream subscription is where its first stream was opened, until the last one is closed.
* What cannot be done now, as storage fails or another member still has the lease, is tried again every `AGAIN_AFTER` seconds.

With an engine that is not shared everything belongs here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import structlog

from certes_broker.broker.elsewhere import Elsewhere
from certes_broker.broker.lanes import Lanes
from certes_broker.broker.streams import Streams
from certes_broker.broker.subscription_index import SubscriptionIndex
from certes_broker.broker.webhooks import WebhookPump
from certes_broker.domain.errors import CertesError
from certes_broker.domain.placement import owner_of
from certes_broker.domain.subscriptions import State, Subscription
from certes_broker.ports.clock import Clock
from certes_broker.ports.cluster import Members
from certes_broker.schemas.wire import Closing

AGAIN_AFTER: Final = 0.5
_AT_ONCE: Final = 500
"""How many lanes wake together."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Placement:
    """Wakes lanes where they belong, and puts them to rest elsewhere."""

    def __init__(
        self,
        members: Members,
        clock: Clock,
        index: SubscriptionIndex,
        lanes: Lanes,
        streams: Streams,
        pump: WebhookPump,
    ) -> None:
        self._members = members
        self._clock = clock
        self._index = index
        self._lanes = lanes
        self._streams = streams
        self._pump = pump
        self._due = asyncio.Event()

    def belongs_here(self, name: str) -> bool:
        """Whether this member is the owner of a name."""
        living = self._members.living
        return len(living) <= 1 or owner_of(name, living) == self._members.own

    async def start(self) -> None:
        """Wakes the webhook lanes that belong here and are free."""
        await self._wake(self._asleep())

    async def run(self) -> None:
        """Follows the members for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            while True:
                await self._due.wait()
                self._due.clear()
                await self._go_round()

    def look_again(self) -> None:
        """Sees to lanes that are not where they belong, in a moment."""
        self._clock.alarm(AGAIN_AFTER, self._due.set)

    async def take_effect(self, subscription: Subscription) -> None:
        """Lets the lane, if it is or has to be awake, follow the settings. The caller is `alone` with it."""
        lane = self._lanes.get(subscription.name.text)
        if lane is not None:
            lane.become(subscription)
        if subscription.state is not State.ACTIVE:
            if lane is not None:
                reason, message = _CLOSINGS[subscription.state]
                for stream in self._streams.of(lane):
                    stream.end(reason, message)
                if subscription.is_webhook:
                    await self._pump.stop(lane)
                await self._lanes.rest(lane)
        elif not subscription.is_webhook:
            if lane is not None:
                await self._lanes.rest(lane)
        elif self.belongs_here(subscription.name.text):
            try:
                [lane] = await self._lanes.wake([subscription])
            except Elsewhere:
                self.look_again()
            else:
                self._pump.start(lane)
        elif lane is not None:
            await self._pump.give_away(lane)

    async def _watch(self) -> None:
        async for living in self._members.watch():
            log.info("members_changed", living=len(living))
            self._due.set()

    async def _go_round(self) -> None:
        try:
            await self._pump.clear_lost()
            await self._give_away()
            await self._lanes.release_rested()
            await self._wake(self._asleep())
        except CertesError as error:
            log.warning("lanes_not_placed", error=str(error))
            self.look_again()

    async def _give_away(self) -> None:
        for lane in list(self._lanes.all()):
            if lane.subscription.is_webhook and not self.belongs_here(lane.name):
                async with self._lanes.alone(lane.name):
                    if self._lanes.get(lane.name) is lane and not self.belongs_here(lane.name):
                        await self._pump.give_away(lane)

    def _asleep(self) -> Sequence[Subscription]:
        """The active webhook subscriptions that belong here and whose lanes nobody takes from."""
        return [
            one
            for one in self._index.all()
            if one.is_webhook
            and one.state is State.ACTIVE
            and self.belongs_here(one.name.text)
            and not self._pump.takes_from(self._lanes.get(one.name.text))
        ]

    async def _wake(self, subscriptions: Sequence[Subscription]) -> None:
        for first in range(0, len(subscriptions), _AT_ONCE):
            async with AsyncExitStack() as stack:
                # Whoever holds one waits for no other, so nobody waits for us who holds one that we wait for.
                for subscription in subscriptions[first : first + _AT_ONCE]:
                    await stack.enter_async_context(self._lanes.alone(subscription.name.text))
                wanted = [
                    one for one in subscriptions[first : first + _AT_ONCE] if self._index.find(one.name.text) is one
                ]
                lanes = await self._lanes.wake_free(wanted)
                for lane in lanes:
                    self._pump.start(lane)
                if len(lanes) < len(wanted):
                    self.look_again()


_CLOSINGS: Final = {
    State.PAUSED: (Closing.REASON_PAUSED, "The subscription was paused."),
    State.DISABLED: (Closing.REASON_PAUSED, "The subscription was disabled."),
    State.DELETED: (Closing.REASON_DELETED, "The subscription was deleted."),
}
