"""The publisher: bounded, durable before it answers, and all or nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from certes_broker.domain.errors import AlreadyExists, Exhausted, Reason, Unavailable
from tests.fakes.broker_world import SETTINGS, World, ids, ping, pings


async def test_more_than_the_bound_at_once_is_pushed_back_with_a_time_to_try_again(world: World) -> None:
    world.settings = replace(SETTINGS, in_flight_bytes=1000)
    await world.restart()
    gate = world.engine.hold("journal.append")
    async with asyncio.TaskGroup() as group:
        group.create_task(world.publish(*pings(5)))
        await world.eventually(lambda: world.broker.publisher.in_flight_bytes > 0)
        with pytest.raises(Exhausted) as refusal:
            await world.publish(*pings(5, first=10))
        assert refusal.value.reason is Reason.BUFFER_FULL
        assert refusal.value.retry_after is not None
        assert refusal.value.metadata == {"limit": "1000", "setting": "limits.in_flight_bytes"}
        gate.set()
    assert world.broker.publisher.in_flight_bytes == 0
    await world.publish(*pings(5, first=10))


@pytest.mark.parametrize("ending", ["fails", "cancelled"])
async def test_what_is_no_longer_under_way_takes_no_room(world: World, ending: str) -> None:
    if ending == "fails":
        world.engine.fail("journal.append", 1)
        with pytest.raises(Unavailable):
            await world.publish(ping("p1"))
    else:
        world.engine.hold("journal.append")
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(world.publish(ping("p1")))
            await world.eventually(lambda: world.broker.publisher.in_flight_bytes > 0)
            publishing.cancel()
    assert world.broker.publisher.in_flight_bytes == 0


async def test_a_drain_refuses_more_and_waits_until_what_was_taken_in_is_durable(either_world: World) -> None:
    world = either_world
    await world.create()
    gate = world.engine.hold("journal.append")
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(world.publish(ping("p1")))
        await world.eventually(lambda: world.broker.publisher.in_flight_bytes > 0)
        draining = group.create_task(world.broker.drain())
        for _ in range(10):
            await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refusal:
            await world.publish(ping("p2"))
        assert refusal.value.reason is Reason.DRAINING
        assert not draining.done()
        gate.set()
    assert not publishing.result()[0].duplicate
    await world.restart()
    assert ids(await (await world.open()).take(1)) == ["p1"]


async def test_the_same_event_again_is_a_duplicate_with_the_first_position(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    [first] = await world.publish(ping("p1"))
    again, other = await world.publish(ping("p1"), ping("p2"))
    assert (again.position, again.duplicate, again.id) == (first.position, True, "p1")
    assert not other.duplicate
    assert ids(await reader.take(2)) == ["p1", "p2"]
    await reader.nothing_more()


async def test_the_same_id_with_other_content_is_refused_and_nothing_of_the_request_is_stored(
    either_world: World,
) -> None:
    world = either_world
    await world.publish(ping("p1"))
    with pytest.raises(AlreadyExists) as refusal:
        await world.publish(ping("p2"), ping("p1", subject="other"))
    assert refusal.value.reason is Reason.EVENT_ID_REUSED
    assert (await world.engine.journal.bounds()).last == 1


async def test_events_without_an_id_are_never_duplicates(world: World) -> None:
    receipts = await world.publish(ping(), ping())
    assert not any(receipt.duplicate for receipt in receipts)
    assert receipts[0].id != receipts[1].id


async def test_an_accepted_event_survives_a_crash_right_after_the_answer(either_world: World) -> None:
    world = either_world
    await world.create()
    await world.publish(*pings(3))
    await world.restart()
    assert ids(await (await world.open()).take(3)) == ["p1", "p2", "p3"]
