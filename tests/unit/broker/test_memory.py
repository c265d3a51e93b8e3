"""Memory: what all lanes and streams hold together stays within bounds, and whoever waits for room gets it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator

import pytest

from certes_broker.broker.memory import LITTLE, PART, Memory
from certes_broker.broker.stream import Stream, StreamLimits
from certes_broker.domain.seeking import SeekBeginning
from tests.fakes.broker_world import ORG, PLENTY, SETTINGS, Reader, World, push, selectors
from tests.fakes.scripted_sender import Holds

LIMIT = 256 << 20
SIZE = 60 << 10
EVENTS = 350
"""Of that size: more than all may hold."""
STREAMS = 40
HOOKS = 12


async def begun(world: World, limit: int) -> None:
    """Lets a broker run in which all may hold so much, with events."""
    world.settings = dataclasses.replace(SETTINGS, delivery_bytes=limit)
    await world.restart()
    await published(world, "p")


async def published(world: World, name: str, count: int = EVENTS) -> None:
    for first in range(0, count, 50):
        await world.publish(*[push(f"{name}{number}", "x" * SIZE) for number in range(first, first + 50)])


@pytest.fixture
async def small(world: World) -> World:
    """A world in which the streams of a caller may hold 64 MiB."""
    await begun(world, LIMIT)
    return world


async def opened_by(world: World, caller: str) -> Stream:
    """An ephemeral stream of a caller's on everything that is kept."""
    limits = StreamLimits(1000, PLENTY, caller)
    return await world.broker.streams.open_ephemeral(ORG, selectors(), SeekBeginning(), limits)


async def ack_all(reader: Reader) -> None:
    """Acknowledges whatever comes, until everything has."""
    while len(reader.got) < EVENTS or reader.out:
        if reader.out:
            for one in reader.out:
                await reader.ack(one.ordinal)
        else:
            await reader.world.advance(1)


async def test_streams_of_one_caller_that_settle_nothing_hold_its_part_however_many_they_are(small: World) -> None:
    readers = [small.read(await opened_by(small, "greedy")) for _ in range(STREAMS)]
    await small.advance(1)
    assert all(reader.got for reader in readers)
    assert LIMIT // PART // 2 < small.broker.lanes.memory.held < LIMIT // PART + STREAMS * 2048


async def test_streams_that_nobody_reads_hold_no_more_either(small: World) -> None:
    sent: list[AsyncGenerator[bytes, None]] = []
    for _ in range(STREAMS):
        stream = await opened_by(small, "silent")
        sent.append(frames := stream.frames())
        await anext(frames)
        while not stream.lane.cursor.ready:
            await small.quiet()
        # It is on its way for ever.
        await anext(frames)
    await small.advance(1)
    assert small.broker.lanes.memory.held < 2 * LIMIT // PART
    for frames in sent:
        await frames.aclose()


async def test_whoever_waits_for_room_gets_it_when_others_let_go_and_nothing_is_lost(small: World) -> None:
    greedy = [small.read(await opened_by(small, "greedy")) for _ in range(STREAMS)]
    other = small.read(await opened_by(small, "other"))
    # Beside them as if they were not there.
    await ack_all(other)
    for reader in greedy[1:]:
        await reader.close()
    await ack_all(greedy[0])
    for reader in (other, greedy[0]):
        assert {one.id for one in reader.got} == {f"p{number}" for number in range(EVENTS)}
        await reader.close()
    assert small.broker.lanes.memory.held == 0


async def test_webhooks_that_hang_hold_no_more_than_all_may(world: World) -> None:
    limit = 16 << 20
    await begun(world, limit)
    held = Holds()
    for number in range(HOOKS):
        url = f"https://receiver.example.com/{number}"
        world.sender.script(url, held)
        await world.create_webhook(f"hook{number}", url)
        await published(world, f"{number} ", 100)
    # Each has events waiting and under way, and the latter bodies.
    assert limit // 2 < world.broker.lanes.memory.held < limit + HOOKS * 4 * SIZE


async def test_no_more_bodies_are_made_while_those_under_way_hold_twice_what_all_may(world: World) -> None:
    with world.broker.lanes.memory.carrying(2 * SETTINGS.delivery_bytes):
        await world.create_webhook()
        await world.publish(push("p1", "x" * SIZE))
        [attempt] = await world.attempted(world.name("hook"), 1)
        assert (attempt.failure, world.sender.requests) == ("ours", [])
        assert "limits.delivery_bytes" in attempt.error
    await world.advance(1)
    await world.sent(1)


async def test_a_lane_that_finds_no_room_at_all_asks_again(small: World) -> None:
    with small.broker.lanes.memory.part("greedy").carrying(LIMIT // PART):
        reader = small.read(await opened_by(small, "greedy"))
        await small.advance(10)
        await reader.nothing_more()
    await small.advance(1)
    assert reader.got


def test_a_share_is_what_is_free_of_half_a_part_and_of_the_whole_and_a_little_in_any_case() -> None:
    whole = Memory(64 << 20)
    part, other = whole.part("one"), whole.part("other")
    assert (whole.share, part.share, whole.part("one") is part) == (64 << 20, 8 << 20, True)
    with part.carrying(3 << 20):
        assert (whole.share, part.share, other.share) == (61 << 20, 5 << 20, 8 << 20)
    whole.held = 63 << 20
    assert (part.share, other.share) == (1 << 20, 1 << 20)
    whole.held = part.held = 15 << 20
    assert (part.share, other.share) == (LITTLE, 8 << 20)
    part.held = 16 << 20
    assert (part.share, other.share) == (0, 8 << 20)
    whole.held = 65 << 20
    assert (whole.share, other.share) == (LITTLE, LITTLE)
