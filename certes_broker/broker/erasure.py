"""Erasing a subscriber: everything that the broker keeps of one, and a report of what that was and what remains.

Each step can be made again, and the one that says who is meant comes last: what a crash broke off is said once more, and goes on.
Subscriptions go first, so that nothing new is kept for them meanwhile. Then events leave the journal, after that the memory of the
lanes that had read them, at every broker, and then what was made of them before. Whoever publishes for the subscriber later begins
anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from certes_broker.broker.attempt_log import AttemptLog
from certes_broker.broker.lanes import Lanes
from certes_broker.broker.rejected_payloads import RejectedPayloads
from certes_broker.broker.source_store import SourceStore
from certes_broker.broker.subscription_index import SubscriptionIndex
from certes_broker.broker.subscriptions import Subscriptions
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.domain.events import Position
from certes_broker.domain.names import SubscriberName, SubscriptionName
from certes_broker.ports.engine import Engine

REMAINS: Final = (
    "What was sent out, or on its way out in that moment: to the subscriber's receivers, and to subscriptions to the events of all subscribers.",
    "Backups of the broker's storage, until they are deleted.",
    "Sources and ids of its events, without their content, until the dedupe window has passed (dedupe.window, 24 h by default).",
    "Attempts that subscriptions to the events of all subscribers made at its events, until retention.age has passed.",
    "Payloads that sources rejected before anybody knew whose they were, until rejected.retention has passed.",
)

SILENT: Final = "What brokers that did not answer have in memory of its events, and dead letters and attempts that they make of it: erase once more when they do."

LET_GO: Final = "erasure/letGo"
"""By which name other brokers are told to let go of what they have in memory."""

TellOthers = Callable[[str, bytes], Awaitable[int]]
"""Tells all other brokers something by a name, and returns how many have not answered."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What was erased by this call, and, in sentences, what remains."""

    subscriptions: int
    events: int
    dead_letters: int
    attempts: int
    rejected: int
    remains: tuple[str, ...]


class SubscriberErasure:
    """Erases subscribers, one after the other."""

    def __init__(
        self,
        engine: Engine,
        subscriptions: Subscriptions,
        index: SubscriptionIndex,
        makers: tuple[Lanes, AttemptLog],
        origins: tuple[SourceStore, RejectedPayloads],
        undisturbed: Undisturbed,
    ) -> None:
        self._engine = engine
        self._subscriptions = subscriptions
        self._index = index
        self._lanes, self._attempts = makers
        self._sources, self._rejected = origins
        self._undisturbed = undisturbed
        self._alone = asyncio.Lock()
        self.tell_others: TellOthers = _nobody
        """Called with what other brokers are to let go of."""

    async def erase(self, name: SubscriberName) -> ErasureReport:
        """Erases all that is kept of a subscriber. Idempotent."""
        return await self._undisturbed.do(self._erase(name))

    async def let_go(self, body: bytes) -> None:
        """Hears from another broker that events were erased: nothing that is in memory here is made of them any more."""
        through, _, subscriber = body.decode().partition(" ")
        # Its subscriptions first: what is answered to one that goes on here would be recorded after this.
        await self._engine.settings.refresh()
        for subscription in self._subscriptions_of(subscriber):
            await self._subscriptions.look_again(subscription)
        # What the engine has of the journal in memory goes when it looks at what the journal holds.
        await self._engine.journal.bounds()
        await self._lanes.erase(subscriber, Position(int(through)))
        await self._attempts.flush()

    async def _erase(self, name: SubscriberName) -> ErasureReport:
        engine, subscriber = self._engine, name.subscriber
        async with self._alone, engine.erasure.wiping():
            theirs = self._subscriptions_of(subscriber)
            for subscription in theirs:
                await self._subscriptions.erase(subscription)
            rejected = 0
            for source in self._sources.all():
                if source.audience == name:
                    rejected += await self._rejected.count(source.name)
                    await self._rejected.forget(source.name, None)
            through = (await engine.journal.bounds()).last
            events = await engine.erasure.events(subscriber)
            await self._lanes.erase(subscriber, through)
            silent = await self.tell_others(LET_GO, f"{through} {subscriber}".encode())
            dead_letters = await engine.erasure.dead_letters(subscriber)
            # Those that were made just now wait to be written.
            await self._attempts.flush()
            attempts = await engine.erasure.attempts(subscriber)
        remains = (*REMAINS, *engine.erasure.remains, *((SILENT,) if silent else ()))
        report = ErasureReport(len(theirs), events, dead_letters, attempts, rejected, remains)
        log.info("subscriber_erased", subscriptions=report.subscriptions, events=report.events)
        return report

    def _subscriptions_of(self, subscriber: str) -> Sequence[SubscriptionName]:
        return [one.name for one in self._index.all() if one.name.subscriber == subscriber]


async def _nobody(_name: str, _body: bytes) -> int:
    """Tells nobody: there are no others."""
    return 0
