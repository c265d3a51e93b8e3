"""Webhooks: when a failed delivery is tried again, and when it is given up."""

from __future__ import annotations

from dataclasses import replace
from email.utils import formatdate

import pytest

from certes_broker.broker.webhooks import WebhookLimits
from certes_broker.domain.breaker import BreakerLimits
from certes_broker.domain.retry import Exponential, RetryPolicy, Schedule
from tests.fakes.broker_world import SETTINGS, URL, World, ids, ping, pings
from tests.fakes.scripted_sender import Answers

WAITS = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
"""Seconds after each failed attempt, as the design says."""
HOOK = "hook"
SECOND = 1_000_000


async def failed_once(world: World, answer: Answers, policy: RetryPolicy | None = None) -> float:
    """Lets one delivery fail, and returns the seconds until it is due again."""
    world.sender.script(URL, answer)
    await world.create_webhook(policy=policy)
    await world.publish(ping("p1"))
    [attempt] = await world.attempted(world.name(HOOK), 1)
    assert attempt.next_try is not None
    return (attempt.next_try - attempt.time) / SECOND


async def test_the_default_schedule_is_kept_with_jitter_only_added_and_then_it_is_given_up(world: World) -> None:
    world.sender.script(URL, Answers(500))
    await world.create_webhook()
    await world.publish(ping("p1"))
    for number, wait in enumerate(WAITS, 1):
        attempts = await world.attempted(world.name(HOOK), number)
        due = attempts[-1].next_try
        assert due is not None
        assert wait <= (due - attempts[-1].time) / SECOND <= wait * 1.2 + 0.001
        await world.advance((due - world.clock.now()) / SECOND - 0.1)
        assert len(world.sender.requests) == number
        await world.advance(0.2)
        await world.sent(number + 1)
    attempts = await world.attempted(world.name(HOOK), len(WAITS) + 1)
    assert [one.number for one in attempts] == list(range(1, len(WAITS) + 2))
    assert attempts[-1].next_try is None
    await world.quiet()
    [dead] = await world.dead_letters(world.name(HOOK))
    assert (dead.event.id, dead.attempts, dead.reason, dead.error) == ("p1", 8, "attempts_exhausted", "HTTP 500")


async def test_a_dead_letter_keeps_its_event_after_the_journal_has_forgotten_it(either_world: World) -> None:
    world = either_world
    world.sender.script(URL, Answers(500))
    await world.create_webhook(policy=RetryPolicy(Schedule((0.0,))))
    await world.publish(ping("p1"))
    await world.attempted(world.name(HOOK), 1)
    await world.quiet()
    await world.engine.journal.trim(1)
    await world.restart()
    [dead] = await world.dead_letters(world.name(HOOK))
    assert world.broker.reader.read(dead.event.body, world.clock.now()).id == "p1"


async def test_the_subscription_s_policy_comes_before_the_default(world: World) -> None:
    wait = await failed_once(world, Answers(500), RetryPolicy(Exponential(7.0), jitter=0.0))
    assert wait == pytest.approx(7.0)


async def test_max_duration_gives_up_before_the_attempts_are_used(world: World) -> None:
    world.sender.script(URL, Answers(500))
    await world.create_webhook(policy=RetryPolicy(Exponential(4.0, 1.0), max_duration=10.0, jitter=0.0))
    await world.publish(ping("p1"))
    for number in (1, 2, 3):
        await world.attempted(world.name(HOOK), number)
        await world.advance(4)
    await world.quiet()
    [dead] = await world.dead_letters(world.name(HOOK))
    assert (dead.attempts, dead.reason) == (3, "duration_exhausted")


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_in_seconds_is_honoured(world: World, status: int) -> None:
    wait = await failed_once(world, Answers(status, {"Retry-After": "120"}))
    assert 120 <= wait <= 144.001


async def test_retry_after_as_a_date_is_honoured(world: World) -> None:
    date = formatdate(world.clock.now() / SECOND + 120, usegmt=True)
    wait = await failed_once(world, Answers(503, {"Retry-After": date}))
    assert 119 <= wait <= 144.001


@pytest.mark.parametrize(
    ("status", "header", "longest"),
    [(500, "120", 6.0), (429, "1", 6.0), (429, "soon", 6.0), (503, "99999999", 1.2 * 86_400)],
    ids=["not on 500", "never sooner than the policy", "not if it says nothing", "at most a day"],
)
async def test_retry_after_is_honoured_within_bounds(world: World, status: int, header: str, longest: float) -> None:
    wait = await failed_once(world, Answers(status, {"Retry-After": header}))
    assert 5.0 <= wait <= longest + 0.001


@pytest.mark.parametrize(("wait", "reads"), [(5.0, 0), (60.0, 1)], ids=["soon", "later"])
async def test_what_is_due_again_soon_is_not_read_again(world: World, wait: float, reads: int) -> None:
    await failed_once(world, Answers(500), RetryPolicy(Exponential(wait), jitter=0.0))
    await world.advance(wait)
    await world.sent(2)
    assert world.sender.requests[0].body == world.sender.requests[1].body
    assert world.engine.calls["journal.get"] == reads


async def test_first_attempts_are_not_delayed_by_a_backlog_of_retries(world: World) -> None:
    world.settings = replace(SETTINGS, webhooks=WebhookLimits(64, BreakerLimits(minimum=10_000, failures=10_000)))
    await world.restart()
    world.sender.script(URL, Answers(500))
    await world.create_webhook(policy=RetryPolicy(Exponential(10.0, 1.0), max_attempts=100, jitter=0.0))
    await world.publish(*pings(500))
    await world.attempted(world.name(HOOK), 500)
    await world.broker.subscriptions.pause(world.name(HOOK))
    await world.advance(10)
    await world.publish(*[ping(f"fresh{number}") for number in range(20)])
    await world.quiet()
    before = len(world.sender.requests)
    await world.broker.subscriptions.resume(world.name(HOOK))
    await world.sent(before + 520)
    sent = [b'"fresh' in request.body for request in world.sender.requests[before:]]
    last_fresh = max(index for index, is_fresh in enumerate(sent) if is_fresh)
    assert last_fresh < 60


async def test_a_retry_is_due_at_its_time_although_the_broker_was_down_then(either_world: World) -> None:
    world = either_world
    wait = await failed_once(world, Answers(500))
    await world.stop()
    world.sender.script(URL, Answers())
    world.clock.advance(wait + 1)
    await world.start()
    await world.sent(2)


async def test_a_dead_letter_releases_its_key(world: World) -> None:
    world.sender.script(URL, Answers(500), Answers())
    await world.create_webhook(policy=RetryPolicy(Schedule((0.0,))))
    await world.publish(*pings(2, ordering_key="k"))
    await world.sent(2)
    await world.quiet()
    assert [one.event.id for one in await world.dead_letters(world.name(HOOK))] == ["p1"]


async def test_a_key_has_one_request_under_way_also_while_it_waits_for_a_retry(world: World) -> None:
    world.sender.script(URL, Answers(500), Answers())
    await world.create_webhook()
    await world.publish(*pings(3, ordering_key="k"))
    await world.attempted(world.name(HOOK), 1)
    await world.quiet()
    assert len(world.sender.requests) == 1
    await world.advance(10)
    await world.sent(4)
    assert [
        next(one for one in ("p1", "p2", "p3") if f'"{one}"'.encode() in r.body) for r in world.sender.requests
    ] == [
        "p1",
        "p1",
        "p2",
        "p3",
    ]


async def test_a_stream_does_not_see_a_webhook_s_retries(world: World) -> None:
    world.sender.script(URL, Answers(500))
    await world.create_webhook()
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await world.attempted(world.name(HOOK), 1)
    assert ids(await reader.take(1)) == ["p1"]
    await reader.ack(1)
    await world.advance(100)
    await reader.nothing_more()
