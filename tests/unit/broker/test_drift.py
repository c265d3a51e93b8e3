"""Drift: what schemas do not know is told once for each type and field, whatever happens to storage meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from certes.v1.event_pb2 import Event
from certes.v1.system_events_pb2 import SchemaDrift
from certes_broker.broker.drift import PREFIX, TOLD_OF_A_VERSION, Drift, DriftSurroundings
from certes_broker.broker.publisher import Publisher
from certes_broker.broker.space import Space
from certes_broker.domain.events import AcceptedEvent
from certes_broker.engines.memory import MemoryEngine
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.system_events import SeenIn
from certes_broker.schemas.unknown_fields import UnknownField
from certes_broker.schemas.unknown_keys import UnknownKey
from tests.fakes.manual_clock import ManualClock
from tests.fakes.troubled_engine import TroubledEngine

REGISTRY = Registry(community_versions())
PUSH = REGISTRY.lookup("community.certes.dev/github/1/push")
PING = REGISTRY.lookup("community.certes.dev/github/1/ping")
MESSAGE = "certes.community.github.v1.Repository"


class World:
    """Drift on an engine that may be in trouble."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.kept = MemoryEngine(self.clock)
        self.engine = TroubledEngine(self.kept)
        self.drift = self.another()

    def another(self) -> Drift:
        space = Space(self.engine.journal, self.clock, 0)
        publisher = Publisher(self.engine.journal, space, in_flight_bytes=1 << 20)
        return Drift(DriftSurroundings(self.engine.settings, publisher, self.clock, "events.example.com"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.drift.run())
            try:
                yield
            finally:
                task.cancel()

    async def told(self) -> list[AcceptedEvent]:
        return [entry.event for entry in (await self.kept.journal.read(0, 10_000, 1 << 30)).entries]

    async def quiet(self) -> None:
        """Waits until nothing waits to be told."""
        while self.drift.waiting:  # noqa: ASYNC110  every step of the other task is one turn of the loop
            await asyncio.sleep(0)


@pytest.fixture
def world() -> World:
    return World()


def keys(*paths: str) -> list[UnknownKey]:
    return [UnknownKey(path, MESSAGE) for path in paths]


def seen(source: str = "//app", event_id: str = "e1", subscriber: str | None = None) -> SeenIn:
    return SeenIn(source, event_id, subscriber)


def said(event: AcceptedEvent) -> SchemaDrift:
    return SchemaDrift.FromString(Event.FromString(event.body).data.value)


async def test_a_field_is_told_once_for_each_type(world) -> None:
    async with world.running():
        for number in range(3):
            world.drift.found(PUSH, keys("repository.mood"), seen("sources/github", f"e{number}"))
        world.drift.found(PING, keys("repository.mood"), seen("sources/github", "e9"))
        await world.quiet()
    one, other = await world.told()
    assert (one.type, one.subscriber, one.source) == (
        "community.certes.dev/github/1/_drift",
        None,
        "//events.example.com",
    )
    assert one.options == (("type", PUSH.type_text),)
    drift = said(one)
    assert (drift.type, drift.field, drift.message, drift.revision) == (PUSH.type_text, "repository.mood", MESSAGE, 1)
    assert (drift.source, drift.event_id) == ("sources/github", "e0")
    assert said(other).type == PING.type_text


async def test_unknown_numbers_of_protobuf_are_told_and_counted(world) -> None:
    async with world.running():
        for _ in range(3):
            world.drift.noticed(PUSH, iter([UnknownField("repository.999", MESSAGE)]), seen("//app", "e1"))
        await world.quiet()
    assert [said(event).field for event in await world.told()] == ["repository.999"]
    assert world.drift.counts[PUSH.type_text] == 3


async def test_it_is_told_to_those_whom_the_event_was_for(world) -> None:
    async with world.running():
        world.drift.found(PUSH, keys("a"), seen(subscriber="org_2"))
        world.drift.noticed(PUSH, iter([UnknownField("b", MESSAGE)]), seen())
        await world.quiet()
    events = [(event.subscriber, Event.FromString(event.body)) for event in await world.told()]
    assert [(who, body.subscriber, body.everyone) for who, body in events] == [
        ("org_2", "org_2", False),
        (None, "", True),
    ]


async def test_nothing_is_told_of_an_event_that_whoever_calls_may_not_publish(world) -> None:
    world.drift.is_published = lambda event, _type: event.source != "//theirs"
    world.drift.noticed(PUSH, iter([UnknownField("b", MESSAGE)]), seen("//theirs"))
    assert (world.drift.waiting, world.drift.counts[PUSH.type_text]) == (0, 0)
    world.drift.noticed(PUSH, iter([UnknownField("b", MESSAGE)]), seen("//app"))
    assert world.drift.waiting == 1


async def test_what_was_told_is_not_told_again_after_a_restart(world) -> None:
    async with world.running():
        world.drift.found(PUSH, keys("a", "b"), seen("//app", "e1"))
        await world.quiet()
    world.drift = world.another()
    await world.drift.start()
    async with world.running():
        world.drift.found(PUSH, keys("a", "b", "c"), seen("//app", "e2"))
        await world.quiet()
    assert [said(event).field for event in await world.told()] == ["a", "b", "c"]


async def test_it_is_told_in_the_end_however_often_storage_fails(world) -> None:
    world.engine.fail("journal.append", 2)
    world.engine.fail("settings.put", 2)
    async with world.running():
        world.drift.found(PUSH, keys("a"), seen("//app", "e1"))
        while world.drift.waiting:
            world.clock.advance(1.0)
            await asyncio.sleep(0)
    assert [said(event).field for event in await world.told()] == ["a"]
    assert await world.kept.settings.list(PREFIX)


async def test_a_version_whose_events_have_ever_new_fields_is_told_of_so_many_and_no_more(world) -> None:
    async with world.running():
        for number in range(TOLD_OF_A_VERSION + 100):
            world.drift.found(PUSH, keys(f"k{number}"), seen("//app", "e1"))
            await world.quiet()
    assert len(await world.told()) == TOLD_OF_A_VERSION


async def test_an_event_with_many_new_fields_makes_one_line_in_the_log(world) -> None:
    with capture_logs() as logs:
        world.drift.found(PUSH, keys(*(f"k{number}" for number in range(500))), seen("//app", "e1"))
        world.drift.found(PUSH, keys("k1"), seen("//app", "e2"))
    (line,) = logs
    assert (line["event"], line["count"]) == ("schema_drift", 500)
    assert line["fields"] == [f"k{number}" for number in range(10)]


async def test_findings_that_nobody_tells_are_bounded(world) -> None:
    for number in range(5_000):
        world.drift.found(PUSH, keys(f"k{number}"), seen("//app", "e1"))
    assert world.drift.waiting <= TOLD_OF_A_VERSION
