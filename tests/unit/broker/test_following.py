"""Two brokers on one engine: what one of them stores is in force at the other, and both may store at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from certes_broker.domain.errors import CertesError, Reason
from certes_broker.domain.events import Position
from certes_broker.domain.sources import Everyone, Source, SourceSecret
from certes_broker.domain.subscriptions import State
from certes_broker.schemas.submissions import Sources
from tests.fakes.broker_world import PING, PUSH, World, one_memory_engine
from tests.unit.broker.test_schema_store import BOOKED, MEETLY, MOVED, source
from tests.unit.broker.worlds import opened

Two = tuple[World, World]


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    engine = one_memory_engine()
    async with opened(engine) as one, opened(engine) as other:
        yield one, other


async def test_a_subscription_that_one_broker_makes_the_other_knows(two: Two) -> None:
    one, other = two
    made = await one.create("app")
    await other.quiet()
    assert other.broker.subscriptions.get(other.name("app")) == made


async def test_a_subscription_that_one_broker_changes_and_deletes_is_so_at_the_other(two: Two) -> None:
    one, other = two
    await one.create("app", PING)
    await other.quiet()
    changed = await one.select(one.name("app"), PUSH)
    await other.quiet()
    assert other.broker.subscriptions.get(other.name("app")) == changed
    await one.broker.subscriptions.delete(one.name("app"), etag="")
    await other.quiet()
    assert other.broker.subscriptions.get(other.name("app")).state is State.DELETED


async def test_a_stream_ends_when_another_broker_pauses_its_subscription(two: Two) -> None:
    one, other = two
    await one.create("app")
    reader = await one.open("app")
    await other.quiet()
    await other.broker.subscriptions.pause(other.name("app"))
    assert "paused" in (await reader.ended()).message


async def test_brokers_that_change_one_subscription_at_once_make_all_of_the_changes(two: Two) -> None:
    one, other = two
    await one.create("app")
    await other.quiet()
    worlds = (one, other) * 5
    async with asyncio.TaskGroup() as tasks:
        for number, world in enumerate(worlds):
            tasks.create_task(world.update(world.name("app"), priority=number))
    await one.quiet()
    stored = one.broker.subscriptions.get(one.name("app"))
    assert stored == other.broker.subscriptions.get(other.name("app"))
    assert stored.revision > len(worlds)


async def test_of_brokers_that_make_one_subscription_at_once_one_makes_it(two: Two) -> None:
    outcomes = await asyncio.gather(*(world.create("app") for world in two * 5), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, CertesError)]
    assert len(refused) == len(outcomes) - 1
    assert {error.reason for error in refused} == {Reason.SUBSCRIPTION_EXISTS}


async def test_schemas_that_one_broker_registers_the_other_reads_events_by(two: Two) -> None:
    one, other = two
    await one.broker.schemas.register(Sources((source(),)))
    await other.eventually(lambda: other.broker.registry.version(MEETLY) is not None)
    assert other.broker.registry.lookup(BOOKED).revision == 1


async def test_brokers_that_register_at_once_each_have_all_of_it_and_lose_nothing(two: Two) -> None:
    names = ("Booked", "Moved", "Left", "Paid", "Seated", "Gone")
    await asyncio.gather(
        *(world.broker.schemas.register(Sources((source(name),))) for name, world in zip(names, two * 3, strict=True))
    )
    await two[0].eventually(lambda: [revision_of(world) for world in two] == [len(names)] * 2)
    for world in two:
        known = world.broker.registry.version(MEETLY)
        assert known is not None
        assert [event_type.name for event_type in known.event_types] == sorted(name.lower() for name in names)


async def test_what_a_broker_registers_while_another_decides_is_not_lost(two: Two) -> None:
    one, other = two
    gate = other.engine.hold("settings.put")
    async with asyncio.TaskGroup() as tasks:
        deciding = tasks.create_task(other.broker.schemas.register(Sources((source("Moved"),))))
        await other.eventually(lambda: other.engine.calls["settings.put"] > 0)
        await one.broker.schemas.register(Sources((source("Booked"),)))
        gate.set()
    assert deciding.result().versions[0].revision == 2
    await one.eventually(lambda: revision_of(one) == 2)
    for world in two:
        assert world.broker.registry.lookup(BOOKED).revision == 2
        assert world.broker.registry.lookup(MOVED).revision == 2


def revision_of(world: World) -> int:
    version = world.broker.registry.version(MEETLY)
    return 0 if version is None else version.revision


async def test_a_source_that_one_broker_stores_changes_and_deletes_is_so_at_the_other(two: Two) -> None:
    one, other = two
    made = Source("billing", "github", Everyone(), (SourceSecret("one"),))
    await one.broker.sources.create(made)
    await other.quiet()
    assert other.broker.sources.get("billing") == one.broker.sources.get("billing")
    await one.broker.sources.rotate("billing", "another", 60.0)
    await other.quiet()
    assert other.broker.sources.get("billing").secrets == one.broker.sources.get("billing").secrets
    await one.broker.sources.delete("billing", etag="")
    await other.quiet()
    assert other.broker.sources.find("billing") is None


async def test_a_change_that_cannot_be_read_as_storage_fails_is_taken_over_a_moment_later(two: Two) -> None:
    one, other = two
    await one.create("app", PING)
    await other.quiet()
    other.engine.fail("settings.get", 1)
    changed = await one.select(one.name("app"), PUSH)
    await other.quiet()
    assert other.broker.subscriptions.get(other.name("app")) != changed
    await other.advance(1.0)
    assert other.broker.subscriptions.get(other.name("app")) == changed


async def test_brokers_that_start_at_once_name_events_with_one_key() -> None:
    engine = one_memory_engine()
    async with asyncio.TaskGroup() as tasks:
        worlds = [World(engine, tasks) for _ in range(3)]
        await asyncio.gather(*(world.start() for world in worlds))
        position = Position(7)
        assert len({world.broker.names.name(position) for world in worlds}) == 1
        for world in worlds:
            await world.leave()
