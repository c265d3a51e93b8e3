"""Webhook subscriptions share the broker's limit by their priority."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certes_broker.broker.webhooks import WebhookLimits
from tests.fakes.broker_world import SETTINGS, URL, World, pings
from tests.fakes.scripted_sender import Answers, Holds

LOW = "https://low.example.com/hooks"


async def compete(world: World, high: int | None, low: int | None) -> list[str]:
    """Lets two subscriptions want the only place; returns the order in which they had it, by their URLs."""
    held = Holds(then=Answers())
    world.sender.script(URL, held, Answers())
    world.settings = replace(SETTINGS, webhooks=WebhookLimits(1))
    await world.restart()
    await world.create_webhook("high")
    await world.create_webhook("low", LOW)
    await world.update(world.name("high"), priority=high)
    await world.update(world.name("low"), priority=low)
    await world.publish(*pings(66))
    await world.quiet()
    held.until.set()
    await world.attempted(world.name("high"), 66)
    await world.attempted(world.name("low"), 66)
    return [request.url for request in world.sender.requests]


@pytest.mark.parametrize(("high", "low", "times"), [(9, 0, 10), (5, 2, 2), (None, 2, 2), (3, 3, 1)])
async def test_each_gets_its_part_of_the_limit(world: World, high: int | None, low: int | None, times: int) -> None:
    order = await compete(world, high, low)
    # While both want it: until the one with more has had all of its own.
    both = order[: order.index(LOW, 1) + (times + 1) * 5]
    of_low = both.count(LOW)
    assert abs((len(both) - of_low) - times * of_low) <= 2 * times, both


async def test_who_has_the_lowest_priority_is_not_starved(world: World) -> None:
    order = await compete(world, 9, 0)
    assert order.index(LOW) <= 12
