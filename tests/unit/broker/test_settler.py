"""The settler: many lanes in one commit, durable when it says so, and nothing lost while storage fails."""

from __future__ import annotations

import asyncio

import pytest

from certes_broker.broker.stream import StreamLimits
from certes_broker.domain.errors import FailedPrecondition, Reason, Unavailable
from tests.fakes.broker_world import ORG, World, ids, ping, pings, selectors

AGAIN = 0.5
"""Seconds after which a commit that failed is tried again."""


async def test_lanes_that_settle_at_once_share_a_commit(world: World) -> None:
    names = [f"app{number}" for number in range(20)]
    readers = []
    for name in names:
        await world.create(name)
        readers.append(await world.open(name))
    await world.publish(ping("p1"))
    for reader in readers:
        await reader.take(1)
    world.engine.calls.clear()
    async with asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(reader.ack(1))
    assert world.engine.calls["cursors.settle"] == 1


async def test_who_settles_while_a_commit_is_under_way_shares_the_next(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(*pings(10))
    await reader.take(10)
    world.engine.calls.clear()
    gate = world.engine.hold("cursors.settle")
    async with asyncio.TaskGroup() as group:
        group.create_task(reader.ack(1))
        await world.eventually(lambda: world.engine.calls["cursors.settle"] == 1)
        for ordinal in range(2, 11):
            group.create_task(reader.ack(ordinal))
        for _ in range(20):
            await asyncio.sleep(0)
        gate.set()
    assert world.engine.calls["cursors.settle"] == 2


async def test_an_acknowledgement_is_answered_only_when_it_is_durable(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    gate = world.engine.hold("cursors.settle")
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(reader.ack(1))
        await world.quiet()
        assert not answer.done()
        gate.set()
    assert (await world.cursor(world.name())).state.floor == 1


async def test_while_storage_fails_those_who_wait_hear_it_and_it_becomes_durable_later(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    world.engine.fail("cursors.settle", 2)
    with pytest.raises(Unavailable) as refusal:
        await reader.ack(1)
    assert refusal.value.reason is Reason.STORAGE_UNAVAILABLE
    assert refusal.value.retry_after == 1.0
    await world.advance(AGAIN)
    await world.advance(AGAIN)
    await world.quiet()
    assert world.engine.failures_left("cursors.settle") == 0
    assert (await world.cursor(world.name())).state.floor == 1
    await world.restart()
    await (await world.open()).nothing_more()


async def test_who_begins_to_wait_while_storage_fails_hears_it_too(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(*pings(2))
    await reader.take(2)
    world.engine.fail("cursors.settle", 2)
    with pytest.raises(Unavailable):
        await reader.ack(1)
    async with asyncio.TaskGroup() as group:
        second = group.create_task(unavailable(reader.ack(2)))
        await world.quiet()
        assert not second.done()
        await world.advance(AGAIN)
        await second
    await world.advance(AGAIN)
    assert (await world.cursor(world.name())).state.floor == 2


async def test_a_broker_whose_storage_fails_says_so_until_it_works_again(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(*pings(1))
    await reader.take(1)
    assert await world.broker.unavailable() == ()
    world.engine.fail("cursors.settle", 1)
    with pytest.raises(Unavailable):
        await reader.ack(1)
    assert await world.broker.unavailable() == ("storage",)
    await world.advance(AGAIN)
    assert await world.broker.unavailable() == ()
    world.engine.fail("journal.bounds", 1)
    assert await world.broker.unavailable() == ("storage",)
    assert await world.broker.unavailable() == ()


async def unavailable(call) -> None:
    with pytest.raises(Unavailable):
        await call


async def test_a_stream_that_closes_while_storage_fails_loses_nothing_and_its_subscription_can_be_opened_again(
    world: World,
) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(*pings(2))
    await reader.take(2)
    world.engine.fail("cursors.settle", 2)
    with pytest.raises(Unavailable):
        await reader.ack(1)
    async with asyncio.TaskGroup() as group:
        group.create_task(reader.close())
        for _ in range(3):
            await world.advance(AGAIN)
    assert ids(await (await world.open()).take(1)) == ["p2"]


async def test_what_was_settled_while_storage_failed_is_in_the_last_commit_of_a_drained_broker(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    world.engine.fail("cursors.settle", 1)
    with pytest.raises(Unavailable):
        await reader.ack(1)
    async with asyncio.TaskGroup() as group:
        group.create_task(world.stop())
        await world.quiet()
        world.clock.advance(AGAIN)
    await world.start()
    await (await world.open()).nothing_more()


async def test_a_broker_ends_although_storage_takes_nothing_more_and_delivers_again_what_it_did_not(
    either_world: World,
) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    world.engine.fail("cursors.settle", 1_000_000)
    with pytest.raises(Unavailable):
        await reader.ack(1)
    async with asyncio.TaskGroup() as group:
        ending = group.create_task(world.end())
        while not ending.done():
            world.clock.advance(AGAIN)
            await asyncio.sleep(0)
    assert world.engine.failures_left("cursors.settle") < 1_000_000
    await world.start()
    assert ids(await (await world.open()).take(1)) == ["p1"]


async def test_an_acknowledgement_of_a_lane_that_another_broker_runs_is_refused(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    another = world.engine.behind.another()
    world.engine.behind.members.end()
    assert await another.leases.lease([world.name().text]) != [None]
    with pytest.raises(FailedPrecondition) as refusal:
        await reader.ack(1)
    assert refusal.value.reason is Reason.STREAM_ENDED


async def test_a_lane_that_another_broker_runs_cannot_be_opened(world: World) -> None:
    await world.create()
    await world.engine.behind.another().leases.lease([world.name().text])
    with pytest.raises(Unavailable) as refusal:
        await world.open()
    assert refusal.value.reason is Reason.LEASE_LOST


async def test_an_acknowledgement_of_an_ephemeral_stream_waits_for_no_commit(world: World) -> None:
    stream = await world.broker.streams.open_ephemeral(ORG, selectors(), None, StreamLimits(10, 1 << 20))
    reader = world.read(stream)
    gate = world.engine.hold("cursors.settle")
    await world.publish(ping("p1"))
    await reader.take(1)
    await reader.ack(1)
    gate.set()


@pytest.mark.parametrize("call", ["cursors.settle", "attempts.record"])
async def test_a_fault_of_the_engine_in_one_commit_does_not_end_the_broker(world: World, call: str) -> None:
    await world.create_webhook()
    world.engine.fail(call, 1, by_fault=True)
    await world.publish(ping("p1"))
    await world.sent(1)
    await world.eventually(lambda: world.engine.failures_left(call) == 0)
    await world.advance(AGAIN)
    await world.advance(AGAIN)
    assert (await world.cursor(world.name("hook"))).state.floor == 1
    assert len(await world.attempts(world.name("hook"))) == 1


async def test_a_broker_whose_storage_fails_for_good_ends_all_the_same_and_delivers_again(world: World) -> None:
    await world.create_webhook()
    world.engine.fail("cursors.settle", 1_000_000)
    world.engine.fail("attempts.record", 1_000_000)
    await world.publish(ping("p1"))
    await world.sent(1)
    await world.quiet()
    async with asyncio.TaskGroup() as group:
        ending = group.create_task(world.end())
        while not ending.done():
            world.clock.advance(AGAIN)
            await asyncio.sleep(0)
    await world.start()
    await world.sent(2)
