"""Lanes: live from memory, behind from the journal, and back; asleep, where they cost nothing."""

from __future__ import annotations

import asyncio
import gc

from certes_broker.broker.items import Item
from certes_broker.domain.limits import LIMITS
from certes_broker.domain.seeking import SeekEnd
from certes_broker.domain.settlement import Nack, NackAction
from tests.fakes.broker_world import PUSH, Reader, World, ids, ping, pings


def is_live(world: World) -> bool:
    lane = world.broker.lanes.get(world.name().text)
    return lane is not None and lane.live


async def drained(reader: Reader, count: int) -> list[str]:
    """Takes and acknowledges until so many deliveries have come."""
    found: list[str] = []
    while len(found) < count:
        taken = await reader.take(min(50, count - len(found)))
        found += ids(taken)
        await reader.ack(taken[0].ordinal, taken[-1].ordinal)
    return found


async def test_an_event_reaches_a_live_stream_from_memory(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.quiet()
    world.engine.calls.clear()
    await world.publish(*pings(3))
    assert ids(await reader.take(3)) == ["p1", "p2", "p3"]
    assert world.engine.calls["journal.read"] == 0


async def test_a_full_lane_falls_behind_and_catches_up_without_loss_duplicate_or_disorder(either_world: World) -> None:
    world = either_world
    count = LIMITS.loaded.deliveries + 2000
    await world.create()
    reader = await world.open(most=50)
    await world.quiet()
    for first in range(1, count, 1000):
        await world.publish(*pings(min(1000, count - first + 1), first))
    await world.eventually(lambda: not is_live(world))
    assert await drained(reader, count) == [f"p{number}" for number in range(1, count + 1)]
    await reader.nothing_more()
    assert is_live(world)
    world.engine.calls.clear()
    await world.publish(ping("last"))
    assert ids(await reader.take(1)) == ["last"]
    assert world.engine.calls["journal.read"] == 0


async def test_what_is_published_while_a_lane_catches_up_comes_once_and_in_order(world: World) -> None:
    await world.create()
    await world.publish(*pings(1500))
    await world.quiet()
    gate = world.engine.hold("journal.read")
    reader = await world.open(most=50)
    await world.publish(*pings(10, 1501))
    gate.set()
    assert await drained(reader, 1510) == [f"p{number}" for number in range(1, 1511)]
    await reader.nothing_more()


async def test_events_that_do_not_match_are_passed_over_while_catching_up(world: World) -> None:
    await world.create("app", PUSH)
    await world.publish(*pings(1500))
    reader = await world.open()
    await world.eventually(lambda: is_live(world))
    await reader.nothing_more()


async def test_a_thousand_sleeping_subscriptions_cost_nothing_on_publish(world: World) -> None:
    for number in range(1000):
        await world.create(f"app{number}")
    await world.quiet()
    world.engine.calls.clear()
    await world.publish(*pings(10))
    await world.advance(1)
    calls = {name for name in world.engine.calls if not name.startswith("settings") and name != "journal.bounds"}
    assert calls == {"journal.append", "cursors.settle"}
    assert world.engine.settled == []
    assert len(world.broker.lanes) == 0


async def test_two_lanes_share_one_item(world: World) -> None:
    await world.create("a")
    await world.create("b")
    readers = [await world.open("a"), await world.open("b")]
    await world.quiet()
    await world.publish(ping("p1"))
    for reader in readers:
        await reader.take(1)
    items = [one for one in gc.get_objects() if isinstance(one, Item) and one.entry.event.id == "p1"]
    assert len(items) == 1


async def test_a_first_attempt_is_the_same_bytes_on_every_stream(world: World) -> None:
    await world.create("a")
    await world.create("b")
    readers = [await world.open("a"), await world.open("b")]
    await world.quiet()
    await world.publish(*pings(3))
    for reader in readers:
        await reader.take(3)
    assert readers[0].raw[1:] == readers[1].raw[1:]


async def test_reading_that_fails_is_tried_again(world: World) -> None:
    await world.create()
    await world.publish(ping("p1"))
    await world.quiet()
    world.engine.fail("journal.read", 1)
    reader = await world.open()
    await world.quiet()
    await world.advance(1)
    assert ids(await reader.take(1)) == ["p1"]


async def test_a_page_that_was_being_read_when_selectors_changed_is_judged_by_the_new_ones(world: World) -> None:
    await world.create()
    await world.publish(*pings(3))
    await world.quiet()
    reading = world.engine.hold("journal.read")
    reader = await world.open()
    await world.quiet()
    world.engine.calls.clear()
    storing = world.engine.hold("settings.put")
    async with asyncio.TaskGroup() as group:
        group.create_task(world.select(world.name(), PUSH))
        await world.eventually(lambda: world.engine.calls["settings.put"] > 0)
        reading.set()
        for _ in range(50):
            await asyncio.sleep(0)
        storing.set()
    await reader.nothing_more()


async def test_a_lane_at_rest_does_nothing_more_whatever_it_had_begun(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(*pings(2))
    await reader.take(2)
    await reader.say(acked=((2, 2),), nacked=(Nack(1, 1, NackAction.RETRY, 5.0, ""),))
    getting = world.engine.hold("journal.get")
    await world.advance(5)
    await reader.close()
    [third] = await world.publish(ping("p3"))
    await world.broker.subscriptions.seek(world.name(), SeekEnd())
    await world.engine.journal.trim(1)
    getting.set()
    await world.quiet()
    stored = await world.cursor(world.name())
    assert (stored.state.floor, stored.owed) == (third.position, ())
    assert await world.gaps(world.name()) == []
