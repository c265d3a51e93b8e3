"""A time of day that is set forward or back by a day: what waits, waits no longer for it, and everything else goes on."""

from __future__ import annotations

from certes_broker.domain.retry import RetryPolicy, Schedule
from certes_broker.domain.settlement import Nack, NackAction
from tests.fakes.broker_world import URL, World, ids, ping, pings
from tests.fakes.scripted_sender import Answers

HOOK = "hook"
DAY = 86_400
MICROS = 1_000_000
WAIT = 300.0
SLOWLY = RetryPolicy(Schedule((0.0, WAIT, WAIT)), jitter=0.0)


def set_clock(world: World, seconds: float) -> None:
    world.clock.set(world.clock.now() + round(seconds * MICROS))


async def one_waits(world: World, policy: RetryPolicy = SLOWLY) -> None:
    world.sender.script(URL, Answers(500))
    await world.create_webhook(policy=policy)
    await world.publish(ping("p1"))
    await world.attempted(world.name(HOOK), 1)
    await world.quiet()


async def goes_out_after(world: World, seconds: float, requests: int) -> None:
    """Sees to it that so many requests have been sent in all, the last of them after so many seconds."""
    await world.advance(seconds - 1)
    assert len(world.sender.requests) == requests - 1
    await world.advance(2)
    await world.sent(requests)


async def test_a_retry_waits_for_as_long_as_it_was_to_although_the_clock_is_set_back(world: World) -> None:
    await one_waits(world)
    await world.advance(100)
    set_clock(world, -DAY)
    await goes_out_after(world, WAIT - 100, requests=2)
    await goes_out_after(world, WAIT, requests=3)


async def test_a_retry_that_begins_to_wait_after_the_clock_was_set_back_waits_for_its_time(world: World) -> None:
    await one_waits(world)
    set_clock(world, -DAY)
    await world.publish(ping("p2"))
    await world.attempted(world.name(HOOK), 2)
    await world.advance(WAIT - 1)
    assert len(world.sender.requests) == 2
    await world.advance(2)
    await world.sent(4)


async def test_a_retry_comes_at_once_or_a_minute_later_when_the_clock_is_set_forward(world: World) -> None:
    await one_waits(world)
    set_clock(world, DAY)
    await world.advance(60)
    await world.sent(2)


async def test_a_clock_that_was_ahead_for_a_while_leaves_what_began_to_wait_then_no_day_to_wait(world: World) -> None:
    set_clock(world, DAY)
    await one_waits(world)
    await world.advance(10)
    set_clock(world, -DAY)
    await goes_out_after(world, WAIT - 10, requests=2)


async def test_a_delivery_that_its_subscriber_wants_later_comes_then(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    await reader.nack(Nack(1, 1, NackAction.RETRY, WAIT, "later"))
    set_clock(world, -DAY)
    await world.advance(WAIT - 1)
    await reader.nothing_more()
    await world.advance(2)
    assert ids(await reader.take(1)) == ["p1"]


async def test_a_broker_that_starts_after_the_clock_was_set_back_lets_nothing_wait_for_the_day(
    either_world: World,
) -> None:
    world = either_world
    await one_waits(world)
    await world.crash()
    set_clock(world, -DAY)
    await world.start()
    await goes_out_after(world, WAIT, requests=2)


async def test_what_began_to_wait_after_the_clock_was_set_back_keeps_its_time_over_a_restart(
    either_world: World,
) -> None:
    world = either_world
    await world.publish(ping("before"))
    set_clock(world, -DAY)
    await one_waits(world)
    await world.restart()
    await goes_out_after(world, WAIT, requests=2)


async def test_order_dedupe_and_streams_hold_whatever_the_clock_does(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    came: list[str] = []
    for number, seconds in enumerate((0.0, DAY, -2 * DAY, DAY)):
        set_clock(world, seconds)
        sent = pings(5, first=1 + 5 * number, ordering_key="k")
        assert not any(one.duplicate for one in await world.publish(*sent))
        assert all(one.duplicate for one in await world.publish(*sent))
        for _ in sent:
            [one] = await reader.take(1)
            came.append(one.id)
            await reader.ack(one.ordinal)
    assert came == [one.id for one in pings(20)]
