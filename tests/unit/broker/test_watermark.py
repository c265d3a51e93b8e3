"""The watermark and what a crash leaves: nothing that was accepted is lost, and an idle subscription is never written."""

from __future__ import annotations

import pytest

from certes_broker.domain.seeking import SeekBeginning, SeekEvent, SeekTime
from certes_broker.domain.settlement import Nack, NackAction
from tests.fakes.broker_world import PING, PUSH, World, ids, ping, pings, push

WATERMARK = 1.0


async def test_an_idle_lane_is_never_written_however_far_the_journal_goes_on(either_world: World) -> None:
    world = either_world
    await world.create("idle", PUSH)
    await world.open("idle")
    await world.publish(ping("p0"))
    await world.advance(WATERMARK)
    world.engine.settled.clear()
    for number in range(1, 5):
        await world.publish(ping(f"p{number}"))
        await world.advance(WATERMARK)
    assert world.engine.settled == []
    assert await world.engine.cursors.watermark() == 5


async def test_the_watermark_is_not_written_when_nothing_moved(world: World) -> None:
    await world.publish(ping("p1"))
    await world.advance(WATERMARK)
    world.engine.calls.clear()
    await world.advance(10 * WATERMARK)
    assert world.engine.calls["cursors.settle"] == 0


async def test_a_lane_that_is_level_loses_nothing_by_a_crash(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    await world.publish(*pings(3))
    await reader.take(3)
    await reader.ack(1, 3)
    await world.advance(WATERMARK)
    assert (await world.cursor(world.name())).state.level
    await world.publish(*pings(3, first=4))
    await world.restart()
    assert ids(await (await world.open()).take(3)) == ["p4", "p5", "p6"]


async def test_a_subscription_that_sleeps_on_after_a_crash_loses_nothing_although_the_watermark_moves(
    either_world: World,
) -> None:
    world = either_world
    subscription = await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    await reader.ack(1)
    await world.advance(WATERMARK)
    assert (await world.cursor(subscription.name)).state.level
    await world.publish(ping("p2"))
    await world.restart()
    await world.publish(ping("p3"))
    await world.advance(WATERMARK)
    reader = await world.open()
    assert ids(await reader.take(2)) == ["p2", "p3"]


async def test_a_paused_subscription_loses_nothing_by_a_crash_and_a_moving_watermark(either_world: World) -> None:
    world = either_world
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.sent(1)
    await world.quiet()
    await world.advance(WATERMARK)
    await world.broker.subscriptions.pause(world.name("hook"))
    await world.restart()
    await world.publish(ping("p2"))
    await world.advance(WATERMARK)
    await world.restart()
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.sent(2)


async def test_a_webhook_that_is_level_gets_after_a_crash_what_was_accepted_just_before(either_world: World) -> None:
    world = either_world
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.sent(1)
    await world.advance(WATERMARK)
    world.engine.crash()
    await world.crash()
    await world.start()
    await world.publish(ping("p2"))
    await world.sent(2)
    assert b'"p2"' in world.sender.requests[-1].body


async def test_what_was_outstanding_comes_again_after_a_crash_and_what_was_settled_does_not(
    either_world: World,
) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    await world.publish(*pings(6))
    await reader.take(6)
    await reader.say(acked=((1, 2), (4, 5)))
    await world.advance(WATERMARK)
    await world.restart()
    reader = await world.open()
    assert ids(await reader.take(2)) == ["p3", "p6"]
    await reader.nothing_more()


async def test_a_retry_is_still_due_after_a_crash_with_its_attempt_and_its_time(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    await world.publish(*pings(2))
    await reader.take(2)
    await reader.say(acked=((2, 2),), nacked=(Nack(1, 1, NackAction.RETRY, 60.0, "busy"),))
    await world.advance(WATERMARK)
    await world.restart()
    reader = await world.open()
    await world.advance(58)
    await reader.nothing_more()
    await world.advance(2)
    [again] = await reader.take(1)
    assert (again.id, again.attempt) == ("p1", 2)


async def test_a_parked_delivery_comes_after_its_predecessor_across_a_crash(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    await world.publish(*pings(3, ordering_key="k"))
    await reader.take(1)
    await reader.nack(Nack(1, 1, NackAction.RETRY, 60.0, ""))
    await world.advance(WATERMARK)
    await world.restart()
    reader = await world.open()
    await reader.nothing_more()
    await world.advance(60)
    assert ids(await reader.take(1)) == ["p1"]
    await reader.nothing_more()
    await reader.ack(1)
    assert ids(await reader.take(1)) == ["p2"]


async def test_a_dead_letter_stays_one_across_a_crash(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    await world.publish(*pings(2))
    await reader.take(2)
    await reader.say(acked=((2, 2),), nacked=(Nack(1, 1, NackAction.DEAD_LETTER, None, "no"),))
    await world.restart()
    reader = await world.open()
    await reader.nothing_more()
    [dead] = await world.dead_letters(world.name())
    assert (dead.event.id, dead.error) == ("p1", "no")


async def test_a_second_crash_during_the_recovery_of_the_first_loses_nothing(either_world: World) -> None:
    world = either_world
    await world.create()
    await world.open()
    await world.publish(*pings(5))
    await world.restart()
    reader = await world.open()
    await reader.take(5)
    await reader.ack(3)
    await world.advance(WATERMARK)
    await world.restart()
    assert ids(await (await world.open()).take(4)) == ["p1", "p2", "p4", "p5"]


async def test_what_is_published_while_its_subscription_sleeps_comes_after_a_clean_stop(either_world: World) -> None:
    world = either_world
    await world.create()
    await world.publish(ping("p1"))
    await world.stop()
    await world.start()
    await world.publish(ping("p2"))
    await world.advance(WATERMARK)
    await world.stop()
    await world.start()
    assert ids(await (await world.open()).take(2)) == ["p1", "p2"]


async def test_a_new_subscription_gets_only_what_comes_after_it(either_world: World) -> None:
    world = either_world
    await world.publish(*pings(3))
    await world.create()
    await world.publish(ping("p4"))
    await world.restart()
    reader = await world.open()
    assert ids(await reader.take(1)) == ["p4"]
    await reader.nothing_more()


@pytest.mark.parametrize("point", ["beginning", "time", "event"])
async def test_a_new_subscription_can_begin_with_kept_events(either_world: World, point: str) -> None:
    world = either_world
    await world.publish(ping("p1"))
    world.clock.advance(10)
    middle = world.clock.now()
    [second] = await world.publish(ping("p2"))
    await world.publish(ping("p3"))
    start = {
        "beginning": SeekBeginning(),
        "time": SeekTime(middle),
        "event": SeekEvent(world.broker.names.name(second.position)),
    }[point]
    await world.create(start=start)
    reader = await world.open()
    expected = ["p1", "p2", "p3"] if point == "beginning" else ["p2", "p3"]
    assert ids(await reader.take(len(expected))) == expected
    await reader.nothing_more()


async def test_lanes_in_every_condition_lose_nothing_by_one_crash(either_world: World) -> None:
    world = either_world
    for one in ("level", "outstanding", "retrying", "parked", "behind", "asleep"):
        await world.create(one, PING, PUSH)
    readers = {one: await world.open(one, most=2) for one in ("outstanding", "retrying", "parked", "behind")}
    level = await world.open("level")
    await world.publish(*[push(f"p{number}", ordering_key="k" if number < 3 else "") for number in range(1, 6)])
    assert ids(await level.take(4)) == ["p1", "p3", "p4", "p5"]
    await level.ack(1, 4)
    await level.take(1)
    await level.ack(5)
    for reader in readers.values():
        await reader.take(2)
    await readers["outstanding"].ack(2)
    await readers["retrying"].nack(Nack(1, 1, NackAction.RETRY, 5.0, ""))
    await readers["parked"].ack(2)
    await world.advance(WATERMARK)
    await world.restart()
    await world.publish(push("p6"))
    await world.advance(WATERMARK)
    owed = {
        "level": {"p6"},
        "outstanding": {"p1", "p2", "p4", "p5", "p6"},
        "retrying": {"p1", "p2", "p3", "p4", "p5", "p6"},
        "parked": {"p1", "p2", "p4", "p5", "p6"},
        "behind": {"p1", "p2", "p3", "p4", "p5", "p6"},
        "asleep": {"p1", "p2", "p3", "p4", "p5", "p6"},
    }
    for one, expected in owed.items():
        reader = await world.open(one)
        await world.advance(WATERMARK)
        got: set[str] = set()
        while len(got) < len(expected):
            if not reader.got[len(got) :]:
                await world.advance(5)
            for delivery in await reader.take(1):
                got.add(delivery.id)
                await reader.ack(delivery.ordinal)
        await reader.nothing_more()
        assert got == expected, one
