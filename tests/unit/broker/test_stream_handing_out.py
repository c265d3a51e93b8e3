"""Streams: how much is handed out, under which numbers, and what is said when there is nothing to hand out."""

from __future__ import annotations

import functools
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.broker.items import OVERHEAD
from certes_broker.broker.stream import BATCH_BYTES, HEARTBEAT_INTERVAL, StreamLimits
from certes_broker.domain.limits import LIMITS
from certes_broker.domain.settlement import Nack, NackAction
from tests.fakes.broker_world import ORG, Reader, World, ids, ping, pings, selectors
from tests.unit.broker.worlds import in_a_world


def outstanding_bytes(reader: Reader) -> int:
    """What the deliveries of its batches weigh together, as the broker counts."""
    batches = [frame.batch for frame in reader.frames if frame.HasField("batch")]
    return sum(delivery.event.ByteSize() + OVERHEAD for batch in batches for delivery in batch.deliveries)


async def test_the_first_frame_names_the_stream(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.eventually(lambda: len(reader.frames) == 1)
    assert reader.frames[0].opened.stream == reader.stream.name
    assert reader.stream.name.startswith(f"{world.name().text}/streams/")


async def test_no_more_than_max_outstanding_is_out_and_each_settled_one_makes_room_for_one(world: World) -> None:
    await world.create()
    reader = await world.open(most=3)
    await world.publish(*pings(10))
    assert ids(await reader.take(3)) == ["p1", "p2", "p3"]
    await reader.nothing_more()
    await reader.ack(2)
    assert ids(await reader.take(1)) == ["p4"]
    await reader.nothing_more()
    await reader.nack(Nack(1, 1, NackAction.DROP, None, ""))
    assert ids(await reader.take(1)) == ["p5"]
    await reader.nothing_more()


async def test_no_more_than_max_outstanding_bytes_is_out(world: World) -> None:
    await world.create()
    most = 3000
    reader = await world.open(most_bytes=most)
    await world.publish(*[ping(f"p{number}", subject="x" * 600) for number in range(10)])
    await world.quiet()
    assert 0 < outstanding_bytes(reader) <= most
    before = len(reader.got)
    await reader.take(before)
    await reader.ack(1)
    await reader.take(1)
    await reader.nothing_more()


async def test_a_delivery_that_is_larger_than_the_limit_goes_out_alone(world: World) -> None:
    await world.create()
    reader = await world.open(most_bytes=100)
    await world.publish(*pings(2))
    assert ids(await reader.take(1)) == ["p1"]
    await reader.nothing_more()
    await reader.ack(1)
    assert ids(await reader.take(1)) == ["p2"]


async def test_a_batch_stays_below_3_mib(world: World) -> None:
    await world.create()
    reader = await world.open()
    for number in range(8):
        await world.publish(ping(f"p{number}", attributes={f"a{index}": "x" * 1024 for index in range(64)}))
    big = [ping(f"b{number}", attributes={f"a{index}": "x" * 1024 for index in range(64)}) for number in range(60)]
    await world.publish(*big)
    await reader.take(68)
    assert max(map(len, reader.raw)) < 3 * 1024 * 1024
    assert max(map(len, reader.raw)) > BATCH_BYTES // 2


async def test_ordinals_begin_with_1_and_leave_none_out_also_over_redeliveries(world: World) -> None:
    await world.create()
    reader = await world.open(most=4)
    await world.publish(*pings(6))
    await reader.take(4)
    await reader.say(acked=((2, 2), (4, 4)), nacked=(Nack(1, 1, NackAction.RETRY, 0.0, ""),))
    await world.advance(0)
    await reader.take(2)
    await reader.say(acked=((3, 3), (5, 6)))
    await reader.take(1)
    assert [one.ordinal for one in reader.got] == list(range(1, len(reader.got) + 1))
    assert {one.id for one in reader.got} == {f"p{number}" for number in range(1, 7)}


async def test_each_batch_says_where_it_begins(world: World) -> None:
    await world.create()
    reader = await world.open(most=5)
    await world.publish(*pings(12))
    for first in (1, 6):
        await reader.take(5)
        await reader.ack(first, first + 4)
    await reader.take(2)
    following = 1
    for frame in reader.frames[1:]:
        assert frame.batch.first_ordinal == following
        following += len(frame.batch.deliveries)


async def test_several_streams_share_the_work_of_a_subscription_without_overlap(world: World) -> None:
    await world.create()
    readers = [await world.open(most=4) for _ in range(3)]
    await world.publish(*pings(12))
    shares = [ids(await reader.take(4)) for reader in readers]
    assert sorted(functools.reduce(operator.iadd, shares, [])) == sorted(f"p{number}" for number in range(1, 13))
    await world.publish(ping("p13"))
    for reader in readers:
        await reader.nothing_more()
    await readers[1].ack(1)
    assert ids(await readers[1].take(1)) == ["p13"]


async def test_an_ephemeral_stream_gets_what_comes_after_it_and_leaves_nothing_behind(world: World) -> None:
    await world.publish(ping("p1"))
    stream = await world.broker.streams.open_ephemeral(ORG, selectors(), None, StreamLimits(10, 1 << 20))
    reader = world.read(stream)
    world.engine.calls.clear()
    await world.publish(*pings(2, first=2))
    assert ids(await reader.take(2)) == ["p2", "p3"]
    await reader.say(acked=((1, 1),), nacked=(Nack(2, 2, NackAction.RETRY, 5.0, ""),))
    await world.advance(5)
    assert ids(await reader.take(1)) == ["p3"]
    await reader.close()
    assert world.engine.settled == []
    assert len(world.broker.streams) == 0


@pytest.mark.parametrize("seconds", [HEARTBEAT_INTERVAL, 4 * HEARTBEAT_INTERVAL])
async def test_a_heartbeat_comes_after_15_seconds_of_silence(world: World, seconds: float) -> None:
    await world.create()
    reader = await world.open()
    await world.advance(0.9 * HEARTBEAT_INTERVAL)
    assert len(reader.frames) == 1
    for _ in range(round(seconds / HEARTBEAT_INTERVAL)):
        await world.advance(HEARTBEAT_INTERVAL)
    beats = [frame for frame in reader.frames if frame.HasField("heartbeat")]
    assert len(beats) == seconds / HEARTBEAT_INTERVAL
    assert beats[0].heartbeat.lag.ToSeconds() == 0


async def test_a_delivery_begins_the_silence_anew(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.advance(10)
    await world.publish(ping("p1"))
    await reader.take(1)
    await world.advance(10)
    assert not any(frame.HasField("heartbeat") for frame in reader.frames)
    await world.advance(5)
    assert reader.frames[-1].HasField("heartbeat")


async def test_a_stream_that_can_take_no_more_gets_heartbeats_although_events_keep_coming(world: World) -> None:
    await world.create()
    reader = await world.open(most=1)
    await world.publish(ping("p0"))
    await reader.take(1)
    for number in range(1, 6):
        await world.advance(5)
        await world.publish(ping(f"p{number}"))
    await world.quiet()
    assert sum(frame.HasField("heartbeat") for frame in reader.frames) == 1


async def test_a_heartbeat_says_how_far_a_lane_is_behind_that_was_live_before(world: World) -> None:
    await world.create()
    reader = await world.open(most=1)
    for first in range(1, LIMITS.loaded.deliveries + 2, 1000):
        await world.publish(*pings(1000, first))
    await reader.take(1)
    await world.publish(ping("unread"))
    await world.advance(HEARTBEAT_INTERVAL)
    assert reader.frames[-1].heartbeat.lag.ToSeconds() == HEARTBEAT_INTERVAL


@given(
    most=st.integers(1, 7),
    steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["publish", "ack", "drop"])), max_size=20),
)
def test_never_more_is_out_than_allowed_whatever_happens(most: int, steps: list[tuple[int, str]]) -> None:
    async def play(world: World) -> None:
        await world.create()
        reader = await world.open(most=most)
        published, unsettled = 0, []
        for count, action in steps:
            if action == "publish":
                await world.publish(*pings(count + 1, published + 1))
                published += count + 1
                await world.quiet()
            elif unsettled:
                ordinal = unsettled.pop(count % len(unsettled))
                if action == "ack":
                    await reader.ack(ordinal)
                else:
                    await reader.nack(Nack(ordinal, ordinal, NackAction.DROP, None, ""))
                await world.quiet()
            new = len(reader.got) - reader.taken
            unsettled += [one.ordinal for one in await reader.take(new)]
            assert len(unsettled) == reader.stream.outstanding <= most
            assert len(reader.got) == published or len(unsettled) == most

    in_a_world(play)
