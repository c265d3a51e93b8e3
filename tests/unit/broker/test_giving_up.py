"""Webhooks that say what is to become of them, and such as have not taken anything for days."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certes_broker.broker.webhooks import WebhookLimits
from certes_broker.domain.retry import Linear, RetryPolicy
from certes_broker.domain.subscriptions import State, Subscription
from tests.fakes.broker_world import DAY, SETTINGS, URL, World, ping, pings
from tests.fakes.scripted_sender import Answers, Step

HOUR = 3600.0
STUBBORN = RetryPolicy(Linear(2 * HOUR, 0.0, 2 * HOUR), max_attempts=100, jitter=0.0)


def says(word: str, status: int = 400) -> Answers:
    return Answers(status, {"webhook-delivery": word})


def state(world: World) -> Subscription:
    return world.broker.subscriptions.get(world.name("hook"))


async def failing(world: World, *steps: Step) -> None:
    """Makes a webhook whose one delivery is tried every second hour."""
    world.sender.script(URL, *(steps or (Answers(500),)))
    await world.create_webhook(policy=STUBBORN)
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)


async def impatient(world: World) -> None:
    """Has subscriptions disabled after a day."""
    world.settings = replace(SETTINGS, webhooks=WebhookLimits(64, disable_after=DAY))
    await world.restart()


async def tries(world: World, count: int, *, each: int = 1) -> None:
    """Lets two hours pass again and again, and waits for the attempts that are made then."""
    for _ in range(count):
        before = len(await world.attempts(world.name("hook")))
        world.clock.advance(2 * HOUR)
        await world.attempted(world.name("hook"), before + each)
        await world.quiet()


async def test_a_delivery_that_its_receiver_aborts_is_a_dead_letter_and_not_tried_again(either_world: World) -> None:
    world = either_world
    world.sender.script(URL, says("abort"), Answers())
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
    await world.publish(ping("p2"))
    await world.attempted(world.name("hook"), 2)
    await world.restart()
    await world.advance(DAY)
    assert len(world.sender.requests) == 2
    [letter] = await world.dead_letters(world.name("hook"))
    assert (letter.event.id, letter.attempts, letter.reason) == ("p1", 1, "aborted_by_receiver")
    assert "webhook-delivery: abort" in letter.error
    assert state(world).state is State.ACTIVE


@pytest.mark.parametrize(("status", "taken"), [(200, True), (500, False)])
async def test_a_receiver_that_says_disable_disables_its_subscription(
    world: World, status: int, *, taken: bool
) -> None:
    world.sender.script(URL, says("disable", status))
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.eventually(lambda: state(world).state is State.DISABLED)
    assert "webhook-delivery: disable" in state(world).state_reason
    await world.publish(ping("p2"))
    await world.advance(HOUR)
    assert len(world.sender.requests) == 1
    world.sender.script(URL, Answers())
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.sent(2 if taken else 3)
    await world.quiet()
    assert len(world.sender.requests) == (2 if taken else 3)


async def test_after_five_days_without_a_success_the_subscription_is_disabled_and_says_why(either_world: World) -> None:
    world = either_world
    await failing(world)
    await tries(world, 59)
    assert state(world).state is State.ACTIVE
    await tries(world, 1)
    await world.eventually(lambda: state(world).state is State.DISABLED)
    assert "5 days" in state(world).state_reason
    sent = len(world.sender.requests)
    await world.restart()
    await world.advance(DAY)
    assert (state(world).state, len(world.sender.requests)) == (State.DISABLED, sent)
    assert "5 days" in state(world).state_reason


async def test_the_time_is_counted_over_restarts(either_world: World) -> None:
    world = either_world
    await impatient(world)
    await failing(world)
    for _ in range(4):
        assert state(world).state is State.ACTIVE
        await tries(world, 2)
        await world.restart()
        await tries(world, 1)
    await world.eventually(lambda: state(world).state is State.DISABLED)


async def test_one_success_begins_the_time_anew_also_over_a_restart(either_world: World) -> None:
    world = either_world
    await impatient(world)
    await failing(world)
    await tries(world, 10)
    world.sender.script(URL, Answers(), Answers(500))
    await tries(world, 1)
    await world.publish(ping("p2"))
    await world.attempted(world.name("hook"), 13)
    await tries(world, 5)
    await world.restart()
    await tries(world, 6)
    assert state(world).state is State.ACTIVE
    await tries(world, 1)
    await world.eventually(lambda: state(world).state is State.DISABLED)


async def test_who_resumes_gives_the_receiver_the_whole_time_again(world: World) -> None:
    await impatient(world)
    await failing(world)
    await tries(world, 12)
    await world.eventually(lambda: state(world).state is State.DISABLED)
    await world.publish(ping("p2"))
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.attempted(world.name("hook"), 14)
    await tries(world, 11, each=2)
    assert state(world).state is State.ACTIVE
    await tries(world, 1)
    await world.eventually(lambda: state(world).state is State.DISABLED)


async def test_few_failures_over_many_days_disable_nothing(world: World) -> None:
    world.sender.script(URL, Answers(500))
    await world.create_webhook(policy=replace(STUBBORN, max_attempts=1))
    for number in range(9):
        await world.publish(ping(f"p{number}"))
        await world.sent(number + 1)
        await world.quiet()
        await world.advance(DAY)
    assert (state(world).state, len(world.sender.requests)) == (State.ACTIVE, 9)
    await world.publish(ping("last"))
    await world.eventually(lambda: state(world).state is State.DISABLED)


async def test_a_receiver_that_fails_now_and_then_costs_no_writes(world: World) -> None:
    world.sender.script(URL, *[Answers(500), Answers()] * 20)
    await world.create_webhook()
    await world.publish(*pings(20))
    await world.quiet()
    assert await world.engine.settings.list("failing/") == []


async def test_nothing_is_kept_of_a_streak_that_has_ended(world: World) -> None:
    await failing(world)
    await tries(world, 2)
    assert len(await world.engine.settings.list("failing/")) == 1
    world.sender.script(URL, Answers())
    await tries(world, 1)
    assert await world.engine.settings.list("failing/") == []


async def test_a_streak_that_cannot_be_stored_for_now_is_stored_with_the_next_failure(world: World) -> None:
    await failing(world)
    world.engine.fail("settings.put", 1)
    world.clock.advance(2 * HOUR)
    await world.eventually(lambda: world.engine.failures_left("settings.put") == 0)
    assert await world.engine.settings.list("failing/") == []
    await tries(world, 1)
    assert len(await world.engine.settings.list("failing/")) == 1
    assert state(world).state is State.ACTIVE
