"""Streams: whatever ends one, its deliveries go back at once, and it says why."""

from __future__ import annotations

import asyncio

import pytest

from certes_broker.broker.stream import StreamLimits
from certes_broker.domain.errors import FailedPrecondition, NotFound, Reason, Unavailable
from certes_broker.domain.seeking import SeekEnd
from certes_broker.schemas.wire import Closing
from tests.fakes.broker_world import World, ids, ping, pings


async def test_what_was_out_on_a_stream_that_ends_goes_to_another_at_once(world: World) -> None:
    await world.create()
    first = await world.open(most=2)
    await world.publish(*pings(3))
    await first.take(2)
    second = await world.open()
    assert ids(await second.take(1)) == ["p3"]
    await first.close()
    assert [(one.id, one.attempt) for one in await second.take(2)] == [("p1", 2), ("p2", 2)]


async def test_what_was_out_on_the_only_stream_comes_again_on_the_next(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    await world.publish(*pings(3))
    await reader.take(3)
    await reader.ack(2)
    await reader.close()
    reader = await world.open()
    assert sorted(ids(await reader.take(2))) == ["p1", "p3"]
    await reader.nothing_more()


async def test_a_subscription_without_streams_sleeps(world: World) -> None:
    await world.create()
    readers = [await world.open(), await world.open()]
    await readers[0].close()
    assert len(world.broker.lanes) == 1
    await readers[1].close()
    assert len(world.broker.lanes) == 0
    assert len(world.broker.streams) == 0


async def test_a_stream_can_be_closed_twice(world: World) -> None:
    await world.create()
    reader = await world.open()
    await reader.close()
    await reader.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [("pause", Closing.REASON_PAUSED), ("delete", Closing.REASON_DELETED), ("seek", Closing.REASON_SOUGHT)],
)
async def test_a_stream_says_why_it_ends(world: World, change: str, reason: Closing.ValueType) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    match change:
        case "pause":
            await world.broker.subscriptions.pause(world.name())
        case "delete":
            await world.broker.subscriptions.delete(world.name(), etag="")
        case _:
            await world.broker.subscriptions.seek(world.name(), SeekEnd())
    closing = await reader.ended()
    assert closing.reason == reason
    assert closing.message
    assert len(world.broker.lanes) == 0


async def test_a_draining_broker_ends_its_streams_and_opens_no_more(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    async with asyncio.TaskGroup() as group:
        group.create_task(world.broker.drain())
        closing = await reader.ended()
    assert closing.reason == Closing.REASON_DRAINING
    with pytest.raises(Unavailable) as refusal:
        await world.open()
    assert refusal.value.reason is Reason.DRAINING
    await world.restart()
    assert ids(await (await world.open()).take(1)) == ["p1"]


async def test_after_a_pause_what_was_out_comes_again_when_it_is_resumed(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    await world.broker.subscriptions.pause(world.name())
    with pytest.raises(FailedPrecondition) as refusal:
        await reader.ack(1)
    assert refusal.value.reason is Reason.STREAM_ENDED
    await reader.ended()
    await world.publish(ping("p2"))
    with pytest.raises(FailedPrecondition) as refusal:
        await world.open()
    assert refusal.value.reason is Reason.SUBSCRIPTION_NOT_STREAMABLE
    await world.broker.subscriptions.resume(world.name())
    assert ids(await (await world.open()).take(2)) == ["p1", "p2"]


async def test_a_stream_opened_after_resuming_does_not_wait_for_one_that_was_never_closed(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    reader.vanish()
    await world.broker.subscriptions.pause(world.name())
    await world.broker.subscriptions.resume(world.name())
    again = await world.open()
    assert ids(await again.take(1)) == ["p1"]
    await reader.stream.close()
    await world.publish(ping("p2"))
    assert ids(await again.take(1)) == ["p2"]


async def test_no_stream_can_be_opened_on_what_does_not_exist_or_delivers_by_webhook(world: World) -> None:
    with pytest.raises(NotFound) as missing:
        await world.open("nobody")
    assert missing.value.reason is Reason.SUBSCRIPTION_NOT_FOUND
    await world.create_webhook()
    with pytest.raises(FailedPrecondition) as refusal:
        await world.open("hook")
    assert refusal.value.reason is Reason.SUBSCRIPTION_NOT_STREAMABLE
    await world.create()
    await world.broker.subscriptions.delete(world.name(), etag="")
    with pytest.raises(FailedPrecondition) as refusal:
        await world.open()
    assert refusal.value.reason is Reason.SUBSCRIPTION_DELETED


async def test_a_caller_that_gives_up_while_a_lane_wakes_leaves_the_subscription_usable(world: World) -> None:
    await world.create()
    await world.publish(ping("p1"))
    waking = world.engine.hold("cursors.load")
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(world.broker.streams.open(world.name(), StreamLimits(10, 1 << 20)))
        for _ in range(5):
            await asyncio.sleep(0)
        opening.cancel()
    waking.set()
    assert ids(await (await world.open()).take(1)) == ["p1"]


async def test_a_client_that_does_not_read_why_its_stream_ended_keeps_no_lane_awake(world: World) -> None:
    await world.create()
    await world.publish(*pings(1))
    stream = await world.broker.streams.open(world.name(), StreamLimits(10, 10_000))
    frames = stream.frames()
    await anext(frames)
    await world.broker.subscriptions.pause(world.name())
    assert world.broker.lanes.get(world.name().text) is None
    await world.broker.subscriptions.resume(world.name())
    again = await world.open()
    assert ids(await again.take(1)) == ["p1"]
    await stream.close()
    await world.publish(ping("p2"))
    assert ids(await again.take(1)) == ["p2"]
