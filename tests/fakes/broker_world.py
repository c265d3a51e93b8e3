"""A real broker in a world that a test rules: an engine that can fail, a clock set by hand, receivers that follow a script.

Nothing here waits for time to pass. `take` and `eventually` wait for what must come, `quiet` until nothing is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.any_pb2 import Any as AnyMessage

from certes.community.github.v1.ping_event_pb2 import PingEvent
from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1 import event_pb2, event_service_pb2
from certes_broker.broker.broker import Broker, BrokerSettings, Ports
from certes_broker.broker.janitor import Retention
from certes_broker.broker.publisher import Receipt
from certes_broker.broker.stream import Stream, StreamLimits
from certes_broker.broker.webhooks import WebhookLimits
from certes_broker.domain.errors import Unavailable
from certes_broker.domain.events import Entry, Micros, Position
from certes_broker.domain.matching import Selector
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.retry import RetryPolicy
from certes_broker.domain.seeking import SeekPoint
from certes_broker.domain.settlement import Extension, Nack, Settlement
from certes_broker.domain.subscriptions import (
    Format,
    Scope,
    StoredSecret,
    StreamDelivery,
    Subscription,
    WebhookDelivery,
)
from certes_broker.domain.uris import parse_pattern
from certes_broker.engines.memory import MemoryEngine
from certes_broker.engines.nats import Access, NatsEngine, Place
from certes_broker.engines.sqlite.engine import SqliteEngine
from certes_broker.ports.engine import Attempt, DeadLetter, Engine, Gap, StoredCursor
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.registry import Registry
from tests.fakes.manual_clock import ManualClock
from tests.fakes.scripted_sender import ScriptedSender
from tests.fakes.troubled_engine import TroubledEngine

PING = "community.certes.dev/github/1/ping"
PUSH = "community.certes.dev/github/1/push"
ALL = "community.certes.dev/github/1/*"
ORG = "org_1"
URL = "https://receiver.example.com/hooks"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATIENCE = 50.0
"""Seconds until a wait for what never comes fails its test."""
PLENTY = 64 << 20
DAY = 86_400.0

SETTINGS = BrokerSettings(
    domain="events.example.com",
    retention=Retention(age=7 * DAY, size=1 << 30, dedupe_window=DAY),
    max_event_bytes=1 << 20,
    in_flight_bytes=64 << 20,
    webhooks=WebhookLimits(64),
)
_VERSIONS = tuple(community_versions())

OpenEngine = Callable[[ManualClock], AbstractAsyncContextManager[Engine]]


def one_memory_engine() -> OpenEngine:
    """Returns an opener of engines on one store, so that a broker finds what those before it left."""
    kept: list[MemoryEngine] = []

    @asynccontextmanager
    async def opened(clock: ManualClock) -> AsyncIterator[Engine]:
        kept.append(kept[-1].another() if kept else MemoryEngine(clock))
        engine = kept[-1]
        try:
            yield engine
        finally:
            engine.members.end()

    return opened


def sqlite_engine(directory: Path) -> OpenEngine:
    """Returns an opener of an engine on one directory."""

    def opened(clock: ManualClock) -> AbstractAsyncContextManager[Engine]:
        return SqliteEngine.open(directory, clock)

    return opened


def nats_engine(access: Access, prefix: str) -> OpenEngine:
    """Returns an opener of an engine on one prefix of NATS servers."""

    def opened(clock: ManualClock) -> AbstractAsyncContextManager[Engine]:
        return NatsEngine.open(Place(access, prefix), clock)

    return opened


def ping(event_id: str = "", **fields: Any) -> event_pb2.Event:
    """A ping for everyone, or for the subscriber given."""
    return _event(PING, PingEvent(zen=event_id), event_id, fields)


def push(event_id: str = "", repo: str = "meetly/meetly", **fields: Any) -> event_pb2.Event:
    """A push to a repository, for everyone or for the subscriber given."""
    return _event(PUSH, PushEvent(ref="refs/heads/main", repository={"full_name": repo}), event_id, fields)


def _event(event_type: str, message: Any, event_id: str, fields: dict[str, Any]) -> event_pb2.Event:
    data = AnyMessage()
    data.Pack(message)
    audience = {} if "subscriber" in fields else {"everyone": True}
    return event_pb2.Event(
        **{"id": event_id, "type": event_type, "source": "//test", "data": data, **audience, **fields}
    )


def pings(count: int, first: int = 1, **fields: Any) -> list[event_pb2.Event]:
    """Pings with ids p1, p2, …"""
    return [ping(f"p{number}", **fields) for number in range(first, first + count)]


class Got(NamedTuple):
    """One delivery as a stream handed it out."""

    ordinal: int
    id: str
    attempt: int


def ids(deliveries: Sequence[Got]) -> list[str]:
    return [delivery.id for delivery in deliveries]


class Reader:
    """Reads a stream's frames as they come, as the gateway does."""

    def __init__(self, world: World, stream: Stream) -> None:
        self.world = world
        self.stream = stream
        self.frames: list[event_service_pb2.SubscribeResponse] = []
        self.raw: list[bytes] = []
        self.got: list[Got] = []
        self.taken = 0
        """How many of these a test has looked at."""
        self._said: set[int] = set()
        self._changed = asyncio.Condition()
        self._task = world.tasks.create_task(self._read())

    async def _read(self) -> None:
        async for frame in self.stream.frames():
            message = event_service_pb2.SubscribeResponse.FromString(frame)
            self.raw.append(frame)
            self.frames.append(message)
            batch = message.batch
            self.got += [
                Got(batch.first_ordinal + index, delivery.event.id, delivery.attempt)
                for index, delivery in enumerate(batch.deliveries)
            ]
            async with self._changed:
                self._changed.notify_all()

    async def take(self, count: int) -> list[Got]:
        """Waits for the next deliveries, and returns them."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.got) >= self.taken + count)
        taken = self.got[self.taken : self.taken + count]
        self.taken += count
        return taken

    async def nothing_more(self) -> None:
        """Fails if there is a delivery that was not taken."""
        await self.world.quiet()
        assert self.got[self.taken :] == []

    @property
    def out(self) -> list[Got]:
        """What it got and has said nothing of. It does not know of deadlines."""
        return [one for one in self.got if one.ordinal not in self._said]

    async def ack(self, first: int, last: int | None = None) -> None:
        await self.say(acked=((first, last or first),))

    async def nack(self, nack: Nack) -> None:
        await self.say(nacked=(nack,))

    async def say(
        self,
        *,
        acked: tuple[tuple[int, int], ...] = (),
        nacked: tuple[Nack, ...] = (),
        extended: tuple[Extension, ...] = (),
    ) -> None:
        """Acknowledges; durable when it returns."""
        async with asyncio.timeout(PATIENCE):
            await self.world.broker.streams.acknowledge(self.stream.name, Settlement(acked, nacked, extended))
        for first, last in (*acked, *((nack.first, nack.last) for nack in nacked)):
            self._said.update(range(first, last + 1))

    async def ended(self) -> event_service_pb2.SubscribeResponse.Closing:
        """Waits for the last frame and closes the stream, as the gateway does; returns what the frame said."""
        async with asyncio.timeout(PATIENCE):
            await self._task
            await self.stream.close()
        return self.frames[-1].closing

    async def close(self) -> None:
        """Goes away without a word."""
        self._task.cancel()
        await asyncio.wait([self._task])
        async with asyncio.timeout(PATIENCE):
            await self.stream.close()

    def vanish(self) -> None:
        """Stops reading, and the stream does not hear of it."""
        self._task.cancel()


class World:
    """One broker after the other on one engine."""

    def __init__(self, open_engine: OpenEngine, tasks: asyncio.TaskGroup) -> None:
        self.clock = ManualClock()
        self.sender = ScriptedSender()
        self.settings = SETTINGS
        self.tasks = tasks
        self.engine: TroubledEngine
        self.broker: Broker
        self._open_engine = open_engine
        self._readers: list[Reader] = []
        self._stop = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    # The broker's life.

    async def start(self) -> None:
        """Starts a broker on what the one before it left."""
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop.clear()
        self._keeper = self.tasks.create_task(self._keep(started))
        async with asyncio.timeout(PATIENCE):
            await started

    async def _keep(self, started: asyncio.Future[None]) -> None:
        try:
            async with self._open_engine(self.clock) as behind:
                self.engine = TroubledEngine(behind)
                ports = Ports(self.engine, self.sender, self.clock)
                async with Broker.running(ports, Registry(_VERSIONS), self.settings) as self.broker:
                    started.set_result(None)
                    await self._stop.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    async def crash(self) -> None:
        """Ends the broker as `kill -9` would."""
        self.engine.crash()
        await self.end()

    async def stop(self) -> None:
        """Drains the broker and ends it."""
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(self.broker.drain())
            for reader in self._readers:
                group.create_task(reader.ended())
        self._readers.clear()
        await self.end()

    async def restart(self) -> None:
        """Crashes, and starts a broker on what is left."""
        await self.crash()
        await self.start()

    async def end(self) -> None:
        """Ends the broker without a drain, as one does that was cut off while it drained."""
        for reader in self._readers:
            reader.vanish()
        self._readers.clear()
        self._stop.set()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait([keeper])
            keeper.result()

    async def leave(self) -> None:
        """Ends the broker if it runs; raises what it ended with if it ended by itself."""
        if self._keeper is not None:
            self.engine.crash()
            await self.end()

    # Events.

    async def publish(self, *events: event_pb2.Event) -> Sequence[Receipt]:
        now = self.clock.now()
        read = self.broker.reader.read
        async with asyncio.timeout(PATIENCE):
            return list(await self.broker.publisher.publish([read(one.SerializeToString(), now) for one in events]))

    @staticmethod
    def event(entry: Entry) -> event_pb2.Event:
        """An event as it is kept."""
        return event_pb2.Event.FromString(entry.event.body)

    # Subscriptions.

    def name(self, subscription_id: str = "app", subscriber: str = ORG) -> SubscriptionName:
        return SubscriptionName(subscriber, subscription_id)

    def subscription(self, subscription_id: str = "app", *patterns: str, **fields: Any) -> Subscription:
        """A stream subscription of `org_1` to every GitHub event, or to the patterns given."""
        name = self.name(subscription_id, fields.pop("subscriber", ORG))
        delivery = fields.pop("delivery", StreamDelivery())
        made = Subscription(name, selectors(*patterns), delivery, Position(0), Micros(0), Micros(0), Scope.OWN)
        return replace(made, **fields)

    async def create(
        self, subscription_id: str = "app", *patterns: str, start: SeekPoint | None = None, **fields: Any
    ) -> Subscription:
        wanted = self.subscription(subscription_id, *patterns, **fields)
        return await self.broker.subscriptions.create(wanted, start)

    async def create_webhook(
        self,
        subscription_id: str = "hook",
        url: str = URL,
        policy: RetryPolicy | None = None,
        form: Format = Format.CLOUDEVENTS_JSON,
        max_in_flight: int | None = None,
    ) -> Subscription:
        delivery = WebhookDelivery(url, (StoredSecret(SECRET),), form, max_in_flight=max_in_flight)
        return await self.create(subscription_id, delivery=delivery, retry_policy=policy)

    async def select(self, name: SubscriptionName, *patterns: str) -> Subscription:
        """Changes a subscription's selectors."""
        return await self.update(name, selectors=selectors(*patterns))

    async def update(self, name: SubscriptionName, **fields: Any) -> Subscription:
        etag, generation = fields.pop("etag", ""), fields.pop("generation", None)
        restore = fields.pop("restore", False)
        if generation is not None:
            fields["generation"] = generation
        return await self.broker.subscriptions.update(
            name, lambda one: replace(one, **fields), etag=etag, generation=generation, restore=restore
        )

    async def open(
        self, subscription_id: str = "app", *, most: int = 1000, most_bytes: int = PLENTY, subscriber: str = ORG
    ) -> Reader:
        name = self.name(subscription_id, subscriber)
        async with asyncio.timeout(PATIENCE):
            stream = await self.broker.streams.open(name, StreamLimits(most, most_bytes))
        return self.read(stream)

    def read(self, stream: Stream) -> Reader:
        reader = Reader(self, stream)
        self._readers.append(reader)
        return reader

    # What is kept.

    async def cursor(self, name: SubscriptionName) -> StoredCursor:
        [stored] = await self.engine.cursors.load([name.text])
        assert isinstance(stored, StoredCursor)
        return stored

    async def dead_letters(self, name: SubscriptionName) -> Sequence[DeadLetter]:
        return await self.engine.cursors.dead_letters(name.text, Position(0), 1000)

    async def gaps(self, name: SubscriptionName) -> Sequence[Gap]:
        return await self.engine.cursors.gaps(name.text)

    async def attempts(self, name: SubscriptionName) -> Sequence[Attempt]:
        """The attempts recorded so far, oldest first."""
        return list(reversed(await self.engine.attempts.list(name.text, None, 1000)))

    async def attempted(self, name: SubscriptionName, count: int) -> Sequence[Attempt]:
        """Waits until so many attempts are recorded, and returns all."""
        async with asyncio.timeout(PATIENCE):
            while len(found := await self.attempts(name)) < count:  # noqa: ASYNC110  it waits for no time
                await asyncio.sleep(0)
        return found

    # Waiting.

    async def sent(self, count: int) -> None:
        """Waits until so many requests have been sent in all."""
        async with asyncio.timeout(PATIENCE):
            await self.sender.sent(count)

    async def eventually(self, condition: Callable[[], bool]) -> None:
        """Waits until something is so."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110  it waits for no time
                await asyncio.sleep(0)

    async def in_time(self, condition: Callable[[], bool], seconds: float) -> None:
        """Lets time pass, so many seconds at once, until something is so: what was under way before may have set its alarm since."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self.advance(seconds)

    async def quiet(self) -> None:
        """Lets everything happen that happens without the clock."""
        for _ in range(5):
            # To the engine's writer and readers and back, so that what was handed to them before has been done.
            await self.engine.settings.put("test/quiet", b"")
            await self.engine.journal.bounds()
            for _ in range(20):
                await asyncio.sleep(0)

    async def quiet_or_dead(self) -> None:
        """Does what `quiet` does, for a broker that may crash meanwhile."""
        with suppress(Unavailable):
            await self.quiet()

    async def advance(self, seconds: float) -> None:
        """Lets time pass, and then everything happen that follows."""
        self.clock.advance(seconds)
        await self.quiet()

    async def days_pass(self, days: float) -> None:
        """Lets days pass by the date, and of those the last two minutes with everything that happens in them."""
        self.clock.set(self.clock.now() + round(days * 86_400_000_000))
        await self.advance(120)


def selectors(*patterns: str) -> tuple[Selector, ...]:
    return tuple(Selector(parse_pattern(pattern)) for pattern in patterns or (ALL,))
