"""Changing selectors: what was read and is unsettled stays owed, what is unread is judged by the new ones."""

from __future__ import annotations

import asyncio

import pytest

from certes_broker.domain.errors import Unavailable
from certes_broker.domain.settlement import Nack, NackAction
from tests.fakes.broker_world import PING, PUSH, World, ids, ping, pings, push

WATERMARK = 1.0


async def test_what_is_published_after_the_change_is_judged_by_the_new_selectors(either_world: World) -> None:
    world = either_world
    await world.create("app", PING)
    reader = await world.open()
    await world.select(world.name(), PUSH)
    await world.publish(ping("p1"), push("p2"))
    assert ids(await reader.take(1)) == ["p2"]
    await reader.nothing_more()


async def test_what_was_read_and_is_unsettled_stays_owed(either_world: World) -> None:
    world = either_world
    await world.create("app", PING)
    reader = await world.open(most=2)
    await world.publish(*pings(4))
    await reader.take(2)
    await world.select(world.name(), PUSH)
    await world.publish(ping("p5"), push("p6"))
    await reader.ack(1)
    assert set(ids(await reader.take(1))) <= {"p3", "p4", "p6"}
    found = {"p1", "p2", reader.got[-1].id}
    while len(found) < 5:
        await reader.ack(reader.out[0].ordinal)
        found |= set(ids(await reader.take(1)))
    assert found == {"p1", "p2", "p3", "p4", "p6"}
    await reader.ack(reader.out[0].ordinal)
    await reader.nothing_more()


@pytest.mark.parametrize("settled", [False, True])
async def test_it_stays_owed_across_a_crash_and_what_was_settled_does_not_come_again(
    either_world: World, settled: bool
) -> None:
    world = either_world
    await world.create("app", PING)
    reader = await world.open()
    await world.publish(*pings(4))
    await reader.take(4)
    await reader.ack(2)
    await world.select(world.name(), PUSH)
    if settled:
        await reader.ack(3)
    await world.publish(ping("p5"), push("p6"))
    await world.advance(WATERMARK)
    await world.restart()
    reader = await world.open()
    expected = {"p1", "p4", "p6"} if settled else {"p1", "p3", "p4", "p6"}
    assert set(ids(await reader.take(len(expected)))) == expected
    await reader.nothing_more()


async def test_retries_and_parked_deliveries_stay_owed_in_order_across_a_crash(either_world: World) -> None:
    world = either_world
    await world.create("app", PING)
    reader = await world.open()
    await world.publish(*pings(3, ordering_key="k"))
    await reader.take(1)
    await reader.nack(Nack(1, 1, NackAction.RETRY, 10.0, ""))
    await world.select(world.name(), PUSH)
    await world.publish(push("p4", ordering_key="k"))
    await world.advance(WATERMARK)
    await world.restart()
    reader = await world.open()
    await reader.nothing_more()
    await world.advance(10)
    for number in range(1, 5):
        assert ids(await reader.take(1)) == [f"p{number}"]
        await reader.nothing_more()
        await reader.ack(number)


async def test_what_a_sleeping_subscription_has_not_read_is_judged_by_the_new_selectors(either_world: World) -> None:
    world = either_world
    await world.create("app", PING)
    await world.publish(ping("p1"), push("p2"))
    await world.select(world.name(), PUSH)
    assert len(world.broker.lanes) == 0
    reader = await world.open()
    assert ids(await reader.take(1)) == ["p2"]
    await reader.nothing_more()


async def test_what_a_sleeping_subscription_had_read_stays_owed(either_world: World) -> None:
    world = either_world
    await world.create("app", PING)
    reader = await world.open()
    await world.publish(ping("p1"), push("p2"), ping("p3"))
    await reader.take(2)
    await reader.close()
    await world.publish(ping("p4"), push("p5"))
    await world.select(world.name(), PUSH)
    await world.restart()
    reader = await world.open()
    assert set(ids(await reader.take(3))) == {"p1", "p3", "p5"}
    await reader.nothing_more()


async def test_a_crash_before_the_change_is_stored_leaves_everything_as_it_was(either_world: World) -> None:
    world = either_world
    await world.create("app", PING)
    reader = await world.open()
    await world.publish(*pings(2))
    await reader.take(2)
    world.engine.fail("settings.put", 1)
    with pytest.raises(Unavailable):
        await world.select(world.name(), PUSH)
    await world.restart()
    await world.publish(ping("p3"), push("p4"))
    reader = await world.open()
    assert set(ids(await reader.take(3))) == {"p1", "p2", "p3"}
    await reader.nothing_more()


@pytest.mark.parametrize("call", ["settings.put", "cursors.settle"])
async def test_a_change_that_could_not_be_stored_leaves_the_subscription_at_work(world: World, call: str) -> None:
    await world.create("app", PING)
    reader = await world.open()
    world.engine.fail(call, 1)
    with pytest.raises(Unavailable):
        await world.select(world.name(), PUSH)
    await world.advance(WATERMARK)
    await world.publish(ping("p1"), push("p2"))
    assert ids(await reader.take(1)) == ["p1"]
    await reader.nothing_more()


async def test_a_caller_that_gives_up_does_not_leave_the_lane_frozen(world: World) -> None:
    await world.create("app", PING)
    reader = await world.open()
    await world.quiet()
    world.engine.calls.clear()
    gate = world.engine.hold("settings.put")
    async with asyncio.TaskGroup() as group:
        changing = group.create_task(world.select(world.name(), PUSH))
        await world.eventually(lambda: world.engine.calls["settings.put"] > 0)
        changing.cancel()
    gate.set()
    await world.quiet()
    await world.publish(ping("p1"), push("p2"))
    assert ids(await reader.take(1)) == ["p2"]
    await reader.nothing_more()


async def test_events_published_while_the_change_is_under_way_are_not_lost(either_world: World) -> None:
    world = either_world
    await world.create("app", PING)
    reader = await world.open()
    await world.quiet()
    world.engine.calls.clear()
    gate = world.engine.hold("settings.put")
    async with asyncio.TaskGroup() as group:
        group.create_task(world.select(world.name(), PING, PUSH))
        await world.eventually(lambda: world.engine.calls["settings.put"] > 0)
        await world.publish(ping("p1"), push("p2"))
        gate.set()
    assert ids(await reader.take(2)) == ["p1", "p2"]


async def test_a_webhook_s_selectors_change_in_the_same_way(either_world: World) -> None:
    world = either_world
    await world.create_webhook()
    await world.select(world.name("hook"), PUSH)
    await world.publish(ping("p1"), push("p2"))
    await world.sent(1)
    await world.quiet()
    assert [b'"p2"' in request.body for request in world.sender.requests] == [True]
