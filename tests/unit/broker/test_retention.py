"""Retention: what is past its time goes, and a subscription that had not read it learns of the gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from certes_broker.broker.janitor import INTERVAL, Retention
from certes_broker.domain.errors import NotFound
from certes_broker.domain.events import Position
from certes_broker.domain.limits import LIMITS
from certes_broker.domain.settlement import Nack, NackAction
from certes_broker.domain.subscriptions import StreamDelivery, Subscription
from tests.fakes.broker_world import DAY, PUSH, SETTINGS, World, ids, ping, pings

PATIENT = StreamDelivery(ack_deadline=30 * DAY)


async def settings(world: World, **fields: float) -> None:
    """Starts the broker again with another retention."""
    retention = Retention(**{"age": 7 * DAY, "size": 1 << 30, "dedupe_window": DAY, **fields})
    world.settings = replace(SETTINGS, retention=retention)
    await world.restart()


async def kept(world: World) -> list[str]:
    page = await world.engine.journal.read(Position(0), 10_000, 1 << 30)
    return [entry.event.id for entry in page.entries]


def deleted(world: World) -> Sequence[Subscription]:
    page = world.broker.subscriptions.list(None, show_deleted=True, page_size=100, page_token="")
    return page.subscriptions


async def test_events_older_than_the_age_are_trimmed_and_younger_ones_are_not(world: World) -> None:
    await settings(world, age=100.0)
    await world.publish(*pings(2))
    await world.advance(60)
    await world.publish(ping("p3"))
    await world.advance(60)
    assert await kept(world) == ["p3"]


async def test_by_a_clock_that_is_set_forward_or_back_nothing_is_trimmed_that_it_says_is_young(world: World) -> None:
    await settings(world)
    await world.publish(ping("p1"))
    for number, days in enumerate((1, -2, 1), start=2):
        world.clock.set(world.clock.now() + round(days * DAY * 1e6))
        await world.advance(INTERVAL)
        await world.publish(ping(f"p{number}"))
    await world.advance(6.9 * DAY)
    assert await kept(world) == ["p1", "p2", "p3", "p4"]
    # What came after an event of a later time goes when that one goes.
    await world.advance(0.2 * DAY)
    assert await kept(world) == ["p2", "p3", "p4"]
    await world.advance(DAY)
    assert await kept(world) == []


async def test_the_oldest_events_are_trimmed_when_there_are_more_bytes_than_the_size(world: World) -> None:
    await settings(world, size=20_000)
    await world.publish(*pings(1000))
    for _ in range(5):
        await world.advance(INTERVAL)
    bounds = await world.engine.journal.bounds()
    assert bounds.bytes <= 20_000
    assert bounds.bytes > 10_000
    assert (await kept(world))[-1] == "p1000"


async def test_a_sleeping_subscription_finds_one_gap_where_retention_trimmed_what_it_had_not_read(
    either_world: World,
) -> None:
    world = either_world
    await world.create()
    await world.publish(*pings(3))
    await world.engine.journal.trim(Position(2))
    trimmed = (await world.engine.journal.bounds()).trimmed
    reader = await world.open()
    assert ids(await reader.take(3 - trimmed)) == [f"p{number}" for number in range(trimmed + 1, 4)]
    await world.quiet()
    if trimmed:
        [gap] = await world.gaps(world.name())
        assert (gap.first, gap.last, gap.reason) == (1, trimmed, "retention")


async def test_a_gap_is_recorded_once_however_often_its_subscription_wakes(world: World) -> None:
    await world.create()
    await world.publish(*pings(3))
    await world.engine.journal.trim(Position(2))
    for _ in range(2):
        reader = await world.open()
        await reader.take(1)
        await reader.close()
        await world.restart()
    [gap] = await world.gaps(world.name())
    assert (gap.first, gap.last) == (1, 2)


async def test_a_lane_that_is_behind_finds_the_gap_when_it_comes_to_read(world: World) -> None:
    count = LIMITS.loaded.deliveries + 3000
    await world.create(delivery=PATIENT)
    reader = await world.open(most=1)
    for first in range(1, count, 1000):
        await world.publish(*pings(1000, first))
    await world.quiet()
    await world.engine.journal.trim(Position(count - 100))
    await reader.take(1)
    await reader.close()
    assert await world.gaps(world.name()) == []
    await world.open()
    await world.quiet()
    [gap] = await world.gaps(world.name())
    assert gap.last == count - 100


async def test_a_subscription_that_had_read_everything_has_no_gap(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(*pings(3))
    await reader.take(3)
    await reader.ack(1, 3)
    await reader.close()
    await world.engine.journal.trim(Position(3))
    await world.open()
    await world.quiet()
    assert await world.gaps(world.name()) == []


async def test_a_retry_whose_event_was_trimmed_ends_with_a_gap_and_releases_its_key(world: World) -> None:
    await world.create(delivery=PATIENT)
    reader = await world.open()
    await world.publish(*pings(2, ordering_key="k"))
    await reader.take(1)
    await reader.nack(Nack(1, 1, NackAction.RETRY, 60.0, ""))
    await world.engine.journal.trim(Position(1))
    await world.advance(60)
    assert ids(await reader.take(1)) == ["p2"]
    [gap] = await world.gaps(world.name())
    assert (gap.first, gap.last) == (1, 1)


async def test_what_is_in_memory_is_delivered_although_it_was_trimmed(world: World) -> None:
    await world.create(delivery=PATIENT)
    reader = await world.open(most=1)
    await world.publish(*pings(3))
    await reader.take(1)
    await world.engine.journal.trim(Position(3))
    await reader.ack(1)
    assert ids(await reader.take(1)) == ["p2"]


async def test_attempts_are_trimmed_with_the_events_of_their_time(world: World) -> None:
    await settings(world, age=100.0)
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
    await world.advance(200)
    assert await world.attempts(world.name("hook")) == []


async def test_ids_are_known_for_the_dedupe_window_and_forgotten_some_time_after_it(world: World) -> None:
    await world.publish(ping("p1"))
    await world.advance(DAY - 60)
    [again] = await world.publish(ping("p1"))
    assert again.duplicate
    await world.advance(2 * DAY)
    [later] = await world.publish(ping("p1"))
    assert not later.duplicate


async def test_a_deleted_subscription_is_purged_after_24_hours(either_world: World) -> None:
    world = either_world
    await world.create()
    await world.publish(ping("p1"))
    await world.broker.subscriptions.delete(world.name(), etag="")
    await world.advance(DAY - 60)
    assert world.broker.subscriptions.get(world.name()).delete_time is not None
    await world.advance(60)
    await world.in_time(lambda: not deleted(world), INTERVAL)
    await world.restart()
    with pytest.raises(NotFound):
        world.broker.subscriptions.get(world.name())
    assert await world.engine.cursors.load([world.name().text]) == [None]


@pytest.mark.parametrize("call", ["cursors.forget", "settings.delete"])
async def test_a_purge_that_was_interrupted_is_finished_by_the_next_round(either_world: World, call: str) -> None:
    world = either_world
    await world.create("first")
    await world.create("second")
    for name in ("first", "second"):
        await (await world.open(name)).close()
        await world.broker.subscriptions.delete(world.name(name), etag="")
    world.engine.fail(call, 1)
    await world.advance(DAY)
    await world.in_time(lambda: world.engine.failures_left(call) == 0, INTERVAL)
    await world.in_time(lambda: not deleted(world), INTERVAL)
    names = [world.name(name).text for name in ("first", "second")]
    assert await world.engine.cursors.load(names) == [None, None]


async def test_a_subscription_that_was_restored_is_not_purged(world: World) -> None:
    await world.create()
    await world.broker.subscriptions.delete(world.name(), etag="")
    await world.advance(DAY / 2)
    await world.update(world.name(), restore=True)
    await world.advance(DAY)
    assert world.broker.subscriptions.get(world.name()).delete_time is None


async def test_a_failing_round_is_made_up_for_by_the_next(world: World) -> None:
    await settings(world, age=100.0)
    await world.publish(ping("p1"))
    world.engine.fail("journal.trim", 1)
    await world.advance(101)
    await world.advance(2 * INTERVAL)
    assert await kept(world) == []


async def test_a_subscription_to_other_events_learns_of_the_gap_too_since_nobody_knows_what_was_in_it(
    world: World,
) -> None:
    await world.create("app", PUSH)
    await world.publish(*pings(2))
    await world.engine.journal.trim(Position(2))
    await world.open()
    await world.quiet()
    assert len(await world.gaps(world.name())) == 1
