"""What `certes_delivery_latency_seconds` counts: how long each event took from when it was received to when it was handed over."""

from __future__ import annotations

import asyncio

from certes_broker.broker.dead_letters import DeadLetterFilter, Selection
from certes_broker.domain.settlement import Nack, NackAction
from tests.fakes.broker_world import URL, World, ping
from tests.fakes.scripted_sender import Answers


def measured(world: World) -> tuple[int, int]:
    """How many waits there were, and their sum in milliseconds."""
    latencies = world.broker.lanes.latencies
    return latencies.count, latencies.micros // 1_000


async def test_a_wait_begins_when_the_event_is_received_and_so_storing_it_is_part_of_it(world: World) -> None:
    await world.create()
    reader = await world.open()
    stored = world.engine.hold("journal.append")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.publish(ping("p1")))
        await world.quiet()
        world.clock.advance(0.1)
        stored.set()
        await reader.take(1)
    assert measured(world) == (1, 100)


async def test_a_wait_ends_when_a_stream_takes_the_event_and_not_when_it_is_acknowledged(world: World) -> None:
    await world.create()
    await world.publish(ping("p1"))
    await world.advance(0.04)
    reader = await world.open()
    await reader.take(1)
    await world.advance(5)
    await reader.ack(1)
    assert measured(world) == (1, 40)


async def test_a_wait_for_a_webhook_ends_when_its_request_begins_however_long_the_answer_takes(world: World) -> None:
    await world.create_webhook()
    await world.broker.subscriptions.pause(world.name("hook"))
    await world.publish(ping("p1"))
    await world.advance(0.25)
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.sent(1)
    await world.advance(5)
    assert measured(world) == (1, 250)


async def test_each_event_counts_once_for_each_subscription_and_retries_do_not(world: World) -> None:
    world.sender.script(URL, Answers(500), Answers())
    await world.create_webhook()
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    await world.attempted(world.name("hook"), 1)
    await world.advance(7)
    await world.sent(2)
    assert measured(world) == (2, 0)


async def test_what_is_replayed_does_not_count_for_it_was_received_long_ago(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    await reader.nack(Nack(1, 1, NackAction.DEAD_LETTER, None, "no"))
    await world.advance(3600)
    selection = Selection(DeadLetterFilter(), lambda _: True, "")
    assert (await world.broker.replays.replay(world.name(), selection)).replayed == 1
    await reader.take(1)
    assert measured(world) == (1, 0)
