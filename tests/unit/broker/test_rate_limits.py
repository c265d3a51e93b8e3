"""Webhooks whose subscription says how often a request may begin."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from certes_broker.domain.subscriptions import RateLimit, StoredSecret, WebhookDelivery
from tests.fakes.broker_world import SECRET, URL, World, pings
from tests.fakes.scripted_sender import Answers

SLOW = RateLimit(2, 1.0)


async def limited(world: World, limit: RateLimit | None, count: int = 20) -> None:
    """Makes a webhook with a rate, for which events come at once."""
    await world.create("hook", delivery=WebhookDelivery(URL, (StoredSecret(SECRET),), rate_limit=limit))
    await world.publish(*pings(count))
    await world.quiet()


async def sent_in(world: World, seconds: float) -> int:
    """Lets time pass, and says how many requests began meanwhile."""
    before = len(world.sender.requests)
    await world.advance(seconds)
    return len(world.sender.requests) - before


@pytest.mark.parametrize(
    ("limit", "at_once", "in_ten_seconds"),
    [(RateLimit(2), 2, 20), (RateLimit(1, 2.0), 1, 5), (RateLimit(30, 10.0), 3, 30), (None, 200, 0)],
)
async def test_no_more_requests_begin_than_the_webhook_s_rate_allows(
    world: World, limit: RateLimit | None, at_once: int, in_ten_seconds: int
) -> None:
    await limited(world, limit, 200)
    assert len(world.sender.requests) == at_once
    sent = 0
    for _ in range(40):
        sent += await sent_in(world, 0.25)
    assert sent == in_ten_seconds


async def test_what_waits_for_the_rate_uses_no_attempts_and_all_goes_out(either_world: World) -> None:
    world = either_world
    await limited(world, SLOW)
    for _ in range(20):
        await world.advance(0.5)
    attempts = await world.attempted(world.name("hook"), 20)
    assert {one.number for one in attempts} == {1}
    assert (await world.cursor(world.name("hook"))).owed == ()


async def test_retries_keep_to_the_rate_too(world: World) -> None:
    world.sender.script(URL, *[Answers(500)] * 4, Answers())
    await limited(world, SLOW, 4)
    for _ in range(40):
        await world.advance(0.25)
    times = [one.time / 1_000_000 for one in await world.attempted(world.name("hook"), 8)]
    for (first, began), (last, ended) in combinations(enumerate(times), 2):
        assert last - first + 1 <= SLOW.count + (ended - began) * SLOW.per_second + 0.001


async def test_a_rate_is_kept_over_updates_of_other_settings_and_over_restarts(either_world: World) -> None:
    world = either_world
    await limited(world, SLOW, 50)
    await world.update(world.name("hook"), labels=(("a", "b"),))
    await world.quiet()
    assert len(world.sender.requests) == 2
    await world.restart()
    await world.quiet()
    assert len(world.sender.requests) == 4
    assert await sent_in(world, 0.5) == 1


async def test_a_rate_that_is_changed_counts_at_once(world: World) -> None:
    await limited(world, RateLimit(1, 3600.0), 50)
    found = world.broker.subscriptions.get(world.name("hook"))
    assert isinstance(found.delivery, WebhookDelivery)
    await world.update(found.name, delivery=replace(found.delivery, rate_limit=None))
    await world.sent(50)


async def test_a_rate_that_is_raised_is_kept_from_then_on_and_not_when_the_old_one_would_have_allowed_more(
    world: World,
) -> None:
    await limited(world, RateLimit(1, 3600.0), 50)
    found = world.broker.subscriptions.get(world.name("hook"))
    assert isinstance(found.delivery, WebhookDelivery)
    await world.update(found.name, delivery=replace(found.delivery, rate_limit=RateLimit(1, 2.0)))
    await world.quiet()
    before = len(world.sender.requests)
    assert [await sent_in(world, 2.0) for _ in range(5)] == [1, 1, 1, 1, 1]
    assert before <= 2


async def test_a_slow_subscription_holds_up_no_other(world: World) -> None:
    await limited(world, RateLimit(1, 3600.0), 200)
    await world.create_webhook("other", "https://other.example.com/hooks")
    await world.publish(*pings(100, first=1000))
    await world.attempted(world.name("other"), 100)
