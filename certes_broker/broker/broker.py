"""The broker: its parts put together, started and drained."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import structlog

from certes_broker.broker import source_documents, subscription_documents
from certes_broker.broker.attempt_log import AttemptLog
from certes_broker.broker.backoff_store import BackoffStore
from certes_broker.broker.catch_up import WORKERS, CatchUp
from certes_broker.broker.conversion import Conversion
from certes_broker.broker.dead_letters import DeadLetters
from certes_broker.broker.discovery import Discovery
from certes_broker.broker.drift import Drift, DriftSurroundings
from certes_broker.broker.erasure import SubscriberErasure
from certes_broker.broker.filtering import Filtering
from certes_broker.broker.follower import Follower
from certes_broker.broker.inheritance import Estate, Inheritance
from certes_broker.broker.intake import Intake
from certes_broker.broker.janitor import Janitor, Retention
from certes_broker.broker.kept_events import KeptEvents
from certes_broker.broker.key_store import KeyStore
from certes_broker.broker.lane import Attendants
from certes_broker.broker.lanes import Lanes
from certes_broker.broker.memory import DEFAULT_DELIVERY_BYTES, Memory
from certes_broker.broker.migration import check_complete
from certes_broker.broker.names import KEY_BYTES, NAME_KEY, EventNames
from certes_broker.broker.notices import Notices, NoticeSurroundings
from certes_broker.broker.placement import Placement
from certes_broker.broker.posting import Poster
from certes_broker.broker.publisher import Publisher
from certes_broker.broker.receivers import Receivers
from certes_broker.broker.rejected_payloads import RejectedPayloads
from certes_broker.broker.replays import Replays
from certes_broker.broker.router import Router
from certes_broker.broker.schema_store import SchemaStore, SchemaSurroundings
from certes_broker.broker.settler import Settler
from certes_broker.broker.source_store import SourceStore
from certes_broker.broker.space import Space
from certes_broker.broker.stats import Stats
from certes_broker.broker.streak_log import StreakLog
from certes_broker.broker.streams import Streams
from certes_broker.broker.subscription_index import SubscriptionIndex
from certes_broker.broker.subscriptions import Subscriptions, Surroundings
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.broker.webhook_attempts import WebhookAttempts
from certes_broker.broker.webhooks import WebhookLimits, WebhookPump
from certes_broker.broker.workers import Workers
from certes_broker.domain.errors import Aborted, Reason, Unavailable
from certes_broker.domain.events import AcceptedEvent
from certes_broker.domain.notices import FilterFailed, is_operational
from certes_broker.domain.open_namespaces import NONE_OPEN, OpenNamespaces
from certes_broker.domain.subscriptions import Subscription
from certes_broker.observability.arrivals import Arrivals
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Engine, Settings
from certes_broker.ports.sender import Sender
from certes_broker.schemas import stored_versions
from certes_broker.schemas.compiling.compiler import SchemaCompiler
from certes_broker.schemas.events import EventReader
from certes_broker.schemas.filters.evaluation import Failure, FailureReason
from certes_broker.schemas.filters.filters import Filters
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.operational_events import OwnName
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.worker.answers import Answers

LAST_WRITES: Final = 10.0
"""Seconds for which a broker that ends goes on trying to store what was settled."""

DISPLACED_WRITES: Final = 1.0
"""The same for one that is not current: others may have taken over, and what it writes is refused then."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """What a broker is told. Sizes are bytes."""

    domain: str
    retention: Retention
    max_event_bytes: int
    in_flight_bytes: int
    webhooks: WebhookLimits
    storage_reserve: int = 0
    delivery_bytes: int = DEFAULT_DELIVERY_BYTES
    open_namespaces: OpenNamespaces = NONE_OPEN


@dataclass(frozen=True, slots=True)
class Ports:
    """What a broker stands on."""

    engine: Engine
    sender: Sender
    clock: Clock


@dataclass(frozen=True, slots=True)
class _Footing:
    """What must be there before the broker's parts can be put together."""

    router: Router
    names: EventNames
    undisturbed: Undisturbed


class Broker:
    """One broker, running. Made by `running`."""

    def __init__(self, ports: Ports, registry: Registry, settings: BrokerSettings, footing: _Footing) -> None:
        router, names = footing.router, footing.names
        engine, clock = ports.engine, ports.clock
        self._engine = engine
        self.domain = settings.domain
        self.arrivals = Arrivals()
        """What comes in, which the doors count."""
        self.clock = clock
        self.registry = registry
        self.documents = EventDocuments(registry)
        self._workers = Workers(footing.undisturbed, Answers(registry).answer)
        self.conversion = Conversion(self.documents, self._workers)
        self._space = Space(engine.journal, clock, settings.storage_reserve)
        self.publisher = Publisher(engine.journal, self._space, in_flight_bytes=settings.in_flight_bytes)
        self.drift = Drift(DriftSurroundings(engine.settings, self.publisher, clock, settings.domain))
        self.reader = EventReader(
            registry,
            max_event_bytes=settings.max_event_bytes,
            open_namespaces=settings.open_namespaces,
            drift=self.drift,
        )
        self.intake = Intake(
            self.reader, self.conversion, self.drift, settings.max_event_bytes, settings.open_namespaces
        )
        self.validator = EventReader(
            registry, max_event_bytes=settings.max_event_bytes, open_namespaces=settings.open_namespaces
        )
        """Reads events that nobody publishes: what it finds is told to whoever asked, and to nobody else."""
        self.names = names
        self.schemas = SchemaStore(
            registry,
            SchemaSurroundings(engine.settings, self.publisher, clock, footing.undisturbed, settings.domain),
            SchemaCompiler(),
        )
        self.discovery = Discovery(ports.sender, clock, self.conversion)
        self.kept_events = KeptEvents(engine.journal, names)
        self.filtering = router.filtering
        self._router = router
        index = self._index = SubscriptionIndex()
        registry.add_operational_events(settings.domain)
        self.notices = Notices(
            NoticeSurroundings(
                engine.members,
                engine.settings,
                engine.cursors,
                self.publisher,
                clock,
                OwnName(settings.domain, names.name),
            )
        )
        self.filtering.on_failure = self._tell_of_filter
        self._settler = Settler(engine.cursors, clock, lambda: router.position, self.notices)
        self._catch_up = CatchUp(engine, names, clock, router)
        self.backoffs = BackoffStore(engine.settings, clock, footing.undisturbed)
        attendants = Attendants(
            clock,
            self._settler.settle,
            self._catch_up.read_for,
            router.filtering,
            self.backoffs,
            engine.members.is_current,
            router.memory,
        )
        self.lanes = Lanes(engine, attendants, router, self._settler, self._catch_up)
        self._inheritance = Inheritance(Estate(engine.members, engine.settings, clock), self.lanes, self.notices)
        self.streams = Streams(engine.members, index, self.lanes, self.kept_events, clock, footing.undisturbed)
        poster = Poster(ports.sender, self.conversion, engine.journal, clock, settings.domain)
        self._attempts = AttemptLog(engine.attempts, clock)
        self._pump = WebhookPump(
            self.lanes,
            WebhookAttempts(poster, self._attempts, clock),
            StreakLog(engine.settings, settings.webhooks.disable_after),
            clock,
            settings.webhooks,
            self.notices,
        )
        self.endpoints = self._pump.endpoints
        self._placement = Placement(engine.members, clock, index, self.lanes, self.streams, self._pump)
        self.lanes.on_lost = self._placement.look_again
        self.subscriptions = Subscriptions(
            Surroundings(
                engine,
                clock,
                index,
                self.lanes,
                self.streams,
                self._placement,
                self.kept_events,
                footing.undisturbed,
                self.notices,
            )
        )
        self.receivers = Receivers(self.subscriptions, poster, clock)
        self._pump.on_disable = self.receivers.disable
        self._pump.on_answer = self.receivers.heard
        self.dead_letters = DeadLetters(engine, names, self.lanes)
        self.replays = Replays(self.dead_letters, self.lanes, self.subscriptions.get, footing.undisturbed)
        self.sources = SourceStore(engine, clock, footing.undisturbed)
        self.keys = KeyStore(engine.settings, clock, footing.undisturbed, lambda: len(engine.members.living) <= 1)
        self.rejected = RejectedPayloads(engine.rejections, clock, settings.retention.rejected)
        self.erasure = SubscriberErasure(
            engine,
            self.subscriptions,
            index,
            (self.lanes, self._attempts),
            (self.sources, self.rejected),
            footing.undisturbed,
        )
        self._janitor = Janitor(
            engine, clock, settings.retention, self.rejected, self.subscriptions.purge, self._placement.belongs_here
        )
        self._webhooks_in_flight = settings.webhooks.in_flight
        self._followers: Sequence[Follower] = ()
        self._looking = asyncio.Lock()
        self._looks = 0
        self.draining = False

    def _tell_of_filter(self, subscription: Subscription, event: AcceptedEvent, failure: Failure) -> None:
        # A pattern may match more types than its filter is written for, on purpose.
        is_meant = failure.reason is FailureReason.UNFIT or is_operational(event.type)
        # Whoever watches with an ephemeral one has no name that anything could be told of.
        if not is_meant and self._index.find(subscription.name.text) is not None:
            fact = FilterFailed(event.type, event.id, failure.reason.value, failure.detail, self.clock.now())
            self.notices.tell(subscription, fact)

    @classmethod
    @asynccontextmanager
    async def running(cls, ports: Ports, registry: Registry, settings: BrokerSettings) -> AsyncIterator[Broker]:
        """Starts a broker; leaving stops it, after `drain` without losing anything, otherwise as a crash would."""
        await check_complete(ports.engine)
        names = EventNames(await _name_key(ports.engine.settings))
        filtering = Filtering(Filters(registry), ports.clock)
        memory = Memory(settings.delivery_bytes)
        router = Router(ports.engine.journal, names, await ports.engine.cursors.watermark(), filtering, memory)
        async with asyncio.TaskGroup() as tasks:
            undisturbed = Undisturbed(tasks)
            broker = cls(ports, registry, settings, _Footing(router, names, undisturbed))
            settling = tasks.create_task(broker._settler.run(broker.lanes.all), name="settler")
            recording = tasks.create_task(broker._attempts.run(), name="attempts")
            others = [tasks.create_task(broker._catch_up.run(), name="catch-up") for _ in range(WORKERS)]
            followers = broker._followers = [
                Follower(ports.engine.settings, prefix, apply, ports.clock)
                for prefix, apply in (
                    (stored_versions.PREFIX, broker.schemas.follow),
                    (source_documents.PREFIX, broker.sources.follow),
                    (subscription_documents.PREFIX, broker.subscriptions.follow),
                )
            ]
            await broker.schemas.start()
            await broker.drift.start()
            await broker.sources.start()
            others.append(tasks.create_task(broker.keys.run(await broker.keys.start()), name="keys"))
            others.append(tasks.create_task(broker.backoffs.run(await broker.backoffs.start()), name="backoffs"))
            await broker.subscriptions.start()
            others += [tasks.create_task(follower.run(), name="follower") for follower in followers]
            tail = await router.catch_up()
            others.append(tasks.create_task(router.run(tail), name="router"))
            others.append(tasks.create_task(broker._placement.run(), name="placement"))
            others.append(tasks.create_task(broker.drift.run(), name="drift"))
            others.append(tasks.create_task(broker.notices.run(), name="notices"))
            others.append(tasks.create_task(broker._inheritance.run(), name="notices of others"))
            others += [
                tasks.create_task(broker._pump.run(), name="webhooks") for _ in range(broker._webhooks_in_flight)
            ]
            others.append(tasks.create_task(broker._janitor.run(), name="janitor"))
            await broker._space.look()
            others.append(tasks.create_task(broker._space.run(), name="space"))
            try:
                yield broker
            finally:
                for task in others:
                    task.cancel()
                patience = LAST_WRITES if ports.engine.members.is_current() else DISPLACED_WRITES
                giving_up = ports.clock.alarm(patience, broker._give_up)
                await undisturbed.finished()
                await broker._workers.close()
                broker._settler.stop()
                broker._attempts.stop()
                await asyncio.wait([settling, recording])
                giving_up.cancel()

    def _give_up(self) -> None:
        """Lets go of what storage does not take: a broker must end even then. What was settled is delivered again."""
        self._settler.give_up()
        self._attempts.give_up()

    async def look(self) -> bool:
        """Returns True when everything is in force here that any broker had stored before; False at once where there is no other.

        Calls share the work.
        """
        if len(self._engine.members.living) <= 1:
            return False
        asked = self._looks
        async with self._looking:
            if self._looks > asked:
                # Somebody began after this call did, and is done.
                return True
            self._looks += 1
            await self._engine.settings.refresh()
            for follower in self._followers:
                await follower.catch_up()
            await self.keys.catch_up()
        return True

    async def unavailable(self) -> Sequence[str]:
        """Names the parts that do not work now; none when it is ready."""
        if self.draining:
            return ("draining",)
        try:
            await self._engine.journal.bounds()
        except Unavailable:
            return ("storage",)
        return ("storage",) if self._settler.is_failing else ()

    @property
    def weaker(self) -> Sequence[str]:
        """Says which guarantees the storage weakens as it is set up."""
        return self._engine.weaker

    async def stats(self) -> Stats:
        """Looks at the broker."""
        journal = self._engine.journal
        journal_bytes: int | None = None
        storage_left: int | None = None
        with suppress(Unavailable):
            journal_bytes, storage_left = (await journal.bounds()).bytes, await journal.room()
        now = self.clock.now()
        unread = [now - lane.oldest_unread for lane in self.lanes.all() if lane.oldest_unread is not None]
        return Stats(
            accepted=self.publisher.accepted,
            duplicates=self.publisher.duplicates,
            pushed_back=self.publisher.pushed_back,
            arrivals=self.arrivals,
            latencies=self.lanes.latencies,
            attempts=self._attempts.outcomes,
            dead_letters=self._settler.dead_letters,
            gaps=self._settler.gaps,
            subscriptions=Counter(one.state.value for one in self._index.all()),
            awaiting_consent=sum(one.awaits_consent for one in self._index.all()),
            breakers={condition.value: count for condition, count in self._pump.endpoints.count().items()},
            streams=len(self.streams),
            awake=len(self.lanes),
            in_flight_bytes=self.publisher.in_flight_bytes,
            delivery_bytes=self.lanes.memory.held,
            webhooks_in_flight=self._pump.in_flight,
            waiting_writes=self._engine.waiting,
            oldest_unread=max(unread, default=0) / 1_000_000,
            journal_bytes=journal_bytes,
            storage_left=storage_left,
            unavailable=await self.unavailable(),
            weaker=self._engine.weaker,
        )

    async def drain(self) -> None:
        """Takes nothing more in, ends streams with a reason, and returns when nothing is under way."""
        self.draining = True
        await self.publisher.drain()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.streams.drain())
            tasks.create_task(self._pump.drain())


async def _name_key(settings: Settings) -> bytes:
    """Returns the key of event names, made at the first start."""
    document = await settings.get(NAME_KEY)
    if document is None:
        try:
            await settings.put(NAME_KEY, secrets.token_bytes(KEY_BYTES), 0)
        except Aborted as conflict:
            # Another broker starts at the same time, and was faster.
            if conflict.reason is not Reason.REVISION_CONFLICT:
                raise
        document = await settings.get(NAME_KEY)
    assert document is not None  # It was put just now, and nobody deletes it.
    return document.body
