"""Seeking: a subscription is moved to a point of what is kept; what was pending is discarded and counted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from certes_broker.domain.errors import FailedPrecondition, NotFound, OutOfRange, Reason, Unavailable
from certes_broker.domain.events import Micros
from certes_broker.domain.seeking import SeekBeginning, SeekEnd, SeekEvent, SeekPoint, SeekTime
from certes_broker.domain.settlement import Nack, NackAction
from tests.fakes.broker_world import World, ids, ping, pings
from tests.fakes.scripted_sender import Answers, Holds


async def seek(world: World, point: SeekPoint, subscription_id: str = "app") -> int:
    _, discarded = await world.broker.subscriptions.seek(world.name(subscription_id), point)
    return discarded


@pytest.mark.parametrize("awake", [True, False])
async def test_seeking_to_the_beginning_brings_everything_kept_again(either_world: World, awake: bool) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    await world.publish(*pings(3))
    await reader.take(3)
    await reader.ack(1, 3)
    if not awake:
        await reader.close()
    assert await seek(world, SeekBeginning()) == 0
    if awake:
        await reader.ended()
    await world.restart()
    reader = await world.open()
    assert [(one.id, one.attempt) for one in await reader.take(3)] == [("p1", 1), ("p2", 1), ("p3", 1)]


async def test_seeking_to_the_end_discards_what_was_pending_and_says_how_much(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open(most=3)
    await world.publish(*pings(5), ping("k1", ordering_key="k"), ping("k2", ordering_key="k"))
    await reader.take(3)
    await reader.nack(Nack(1, 1, NackAction.RETRY, 60.0, ""))
    await world.quiet()
    assert await seek(world, SeekEnd()) == 7
    await reader.ended()
    await world.restart()
    await world.publish(ping("p8"))
    reader = await world.open()
    assert ids(await reader.take(1)) == ["p8"]
    await reader.ack(1)
    await world.advance(60)
    await reader.nothing_more()
    assert (await world.cursor(world.name())).owed == ()


async def test_seeking_to_a_time_begins_with_what_was_accepted_then(either_world: World) -> None:
    world = either_world
    await world.create()
    times = []
    for number in range(1, 4):
        times.append(world.clock.now())
        await world.publish(ping(f"p{number}"))
        world.clock.advance(10)
    await seek(world, SeekTime(times[1]))
    assert ids(await (await world.open()).take(2)) == ["p2", "p3"]


async def test_seeking_to_a_time_to_come_waits_for_the_next_event(world: World) -> None:
    await world.create()
    await world.publish(ping("p1"))
    await seek(world, SeekTime(Micros(world.clock.now() + 60_000_000)))
    await world.publish(ping("p2"))
    reader = await world.open()
    assert ids(await reader.take(1)) == ["p2"]
    await reader.nothing_more()


async def test_seeking_to_an_event_begins_with_it(either_world: World) -> None:
    world = either_world
    await world.create()
    receipts = await world.publish(*pings(3))
    await seek(world, SeekEvent(world.broker.names.name(receipts[1].position)))
    assert ids(await (await world.open()).take(2)) == ["p2", "p3"]


async def test_seeking_to_an_event_that_is_no_longer_kept_says_what_is_the_earliest(world: World) -> None:
    await world.create()
    receipts = []
    for number in range(1, 4):
        receipts += await world.publish(ping(f"p{number}"))
        world.clock.advance(10)
    accepted = datetime.fromtimestamp(world.clock.now() / 1_000_000 - 20, UTC)
    await world.engine.journal.trim(receipts[0].position)
    with pytest.raises(OutOfRange) as refusal:
        await seek(world, SeekEvent(world.broker.names.name(receipts[0].position)))
    assert refusal.value.reason is Reason.CURSOR_EXPIRED
    assert refusal.value.metadata["earliest"] == world.broker.names.name(receipts[1].position)
    assert datetime.fromisoformat(refusal.value.metadata["earliest_time"]) == accepted


async def test_seeking_to_a_time_before_the_earliest_kept_event_is_refused(world: World) -> None:
    await world.create()
    first = world.clock.now()
    await world.publish(ping("p1"))
    world.clock.advance(10)
    [kept] = await world.publish(ping("p2"))
    await world.engine.journal.trim(1)
    with pytest.raises(OutOfRange) as refusal:
        await seek(world, SeekTime(first))
    assert refusal.value.reason is Reason.CURSOR_EXPIRED
    assert refusal.value.metadata["earliest"] == world.broker.names.name(kept.position)


async def test_a_refused_seek_changes_nothing(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    await world.engine.journal.trim(1)
    with pytest.raises(OutOfRange):
        await seek(world, SeekEvent(world.broker.names.name(1)))
    await reader.ack(1)


async def test_a_guessed_event_is_not_found(world: World) -> None:
    await world.create()
    with pytest.raises(NotFound) as refusal:
        await seek(world, SeekEvent("events/" + "0" * 32))
    assert refusal.value.reason is Reason.EVENT_NOT_FOUND


async def test_what_was_handed_out_before_a_seek_cannot_be_settled_after_it(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    assert await seek(world, SeekBeginning()) == 1
    with pytest.raises(FailedPrecondition) as refusal:
        await reader.ack(1)
    assert refusal.value.reason is Reason.STREAM_ENDED
    await reader.ended()
    assert [(one.id, one.attempt) for one in await (await world.open()).take(1)] == [("p1", 1)]


async def test_a_webhook_request_under_way_while_its_subscription_is_moved_settles_nothing(either_world: World) -> None:
    world = either_world
    held = Holds()
    world.sender.script("https://receiver.example.com/hooks", held, Answers())
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.sent(1)
    assert await seek(world, SeekBeginning(), "hook") == 1
    await world.sent(2)
    held.until.set()
    await world.quiet()
    assert len(world.sender.requests) == 2
    assert (await world.cursor(world.name("hook"))).state.floor == 1


async def test_a_paused_subscription_can_be_moved(either_world: World) -> None:
    world = either_world
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.sent(1)
    await world.quiet()
    await world.broker.subscriptions.pause(world.name("hook"))
    await world.publish(ping("p2"))
    await seek(world, SeekBeginning(), "hook")
    await world.quiet()
    assert len(world.sender.requests) == 1
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.sent(3)


async def test_a_seek_that_could_not_be_made_durable_leaves_the_subscription_at_work(world: World) -> None:
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.sent(1)
    await world.quiet()
    world.engine.fail("cursors.settle", 1)
    async with asyncio.TaskGroup() as group:
        refused = group.create_task(unavailable(seek(world, SeekBeginning(), "hook")))
        await world.quiet()
        await world.advance(1)
        await refused
    await world.sent(2)


async def unavailable(call) -> None:
    with pytest.raises(Unavailable):
        await call


async def test_a_deleted_subscription_cannot_be_moved(world: World) -> None:
    await world.create()
    await world.broker.subscriptions.delete(world.name(), etag="")
    with pytest.raises(FailedPrecondition) as refusal:
        await seek(world, SeekEnd())
    assert refusal.value.reason is Reason.SUBSCRIPTION_DELETED
