"""Where storage runs out of room, events are refused, and everything else goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from certes_broker.broker.space import INTERVAL
from certes_broker.domain.errors import Exhausted, Reason
from tests.fakes.broker_world import SETTINGS, URL, World, ping
from tests.fakes.scripted_sender import Answers, Holds

RESERVE = 1_000_000
ENOUGH = RESERVE + 10_000


async def keeping_a_reserve(world: World) -> None:
    world.settings = replace(SETTINGS, storage_reserve=RESERVE)
    await world.restart()


async def with_room(world: World, room: int) -> None:
    """Lets storage have so much room, and the broker see it."""
    world.engine.room = room
    await world.advance(2 * INTERVAL)


async def test_events_are_refused_while_less_than_the_reserve_is_left(world: World) -> None:
    await keeping_a_reserve(world)
    await with_room(world, ENOUGH)
    await world.publish(ping("p1"))
    await with_room(world, RESERVE + 1)
    with pytest.raises(Exhausted, match="1000001 bytes left") as refused:
        await world.publish(ping("p2"))
    assert refused.value.reason is Reason.STORAGE_FULL
    assert refused.value.metadata == {"limit": str(RESERVE), "setting": "limits.storage_reserve"}
    assert refused.value.retry_after is not None
    await with_room(world, ENOUGH)
    await world.publish(ping("p2"))


async def test_what_is_taken_in_between_two_looks_counts(world: World) -> None:
    await keeping_a_reserve(world)
    await with_room(world, ENOUGH)
    with pytest.raises(Exhausted):
        for number in range(1000):
            await world.publish(ping(f"p{number}"))


async def test_what_was_accepted_is_delivered_meanwhile(world: World) -> None:
    held = Holds(then=Answers())
    world.sender.script(URL, held, Answers(500), Answers())
    await keeping_a_reserve(world)
    await world.create_webhook()
    await world.publish(ping("p1"), ping("p2"))
    await world.sent(2)
    await with_room(world, 0)
    held.until.set()
    await world.advance(10)
    await world.attempted(world.name("hook"), 3)
    await world.quiet()
    assert (await world.cursor(world.name("hook"))).owed == ()


async def test_a_broker_that_starts_without_room_takes_nothing_in_from_the_first(world: World) -> None:
    await keeping_a_reserve(world)
    await with_room(world, 0)
    world.settings = replace(SETTINGS, storage_reserve=0)
    await world.restart()
    await world.publish(ping("p1"))
    world.settings = replace(SETTINGS, storage_reserve=RESERVE)
    await world.stop()
    await world.start()
    world.engine.room = 0
    await world.advance(2 * INTERVAL)
    with pytest.raises(Exhausted):
        await world.publish(ping("p2"))


async def test_the_log_says_once_that_room_is_low_and_once_that_there_is_some(world: World) -> None:
    await keeping_a_reserve(world)
    with capture_logs() as logs:
        for room in (RESERVE, 5, 4, 3, RESERVE, RESERVE):
            await with_room(world, room)
    said = [entry["event"] for entry in logs if entry["event"].startswith("storage_")]
    assert said == ["storage_low", "storage_has_room"]


async def test_where_storage_does_not_answer_what_was_found_before_holds(world: World) -> None:
    await keeping_a_reserve(world)
    await with_room(world, 0)
    world.engine.fail("journal.room", 2)
    await with_room(world, ENOUGH)
    with pytest.raises(Exhausted):
        await world.publish(ping("p1"))


async def test_storage_of_which_nothing_is_known_takes_everything(world: World) -> None:
    await keeping_a_reserve(world)
    await world.advance(2 * INTERVAL)
    await world.publish(ping("p1"))
