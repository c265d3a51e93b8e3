"""Breakers: an endpoint that keeps failing is left alone, costs no attempts meanwhile, and comes back slowly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from certes_broker.broker.endpoints import Endpoint, Endpoints, endpoint_of
from certes_broker.domain.breaker import BreakerLimits, Condition, Outcome
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.notices import BreakerClosed, BreakerOpened
from certes_broker.domain.retry import RetryPolicy, Schedule
from certes_broker.domain.subscriptions import MAXIMUM_IN_FLIGHT, StreamDelivery, Subscription, WebhookDelivery
from certes_broker.ports.sender import SendFailure
from tests.fakes.broker_world import URL, World, pings
from tests.fakes.manual_clock import ManualAlarm, ManualClock
from tests.fakes.scripted_sender import Answers, Fails, Holds, Step

ELSEWHERE = "https://receiver.example.com/others"
PATIENT = RetryPolicy(Schedule((0.0, *[1.0] * 20)), jitter=0.0)


def conditions(world: World) -> dict[Condition, int]:
    return {one: count for one, count in world.broker.endpoints.count().items() if count}


async def opened(world: World, *steps: Step, subscription_id: str = "hook", count: int = 10) -> None:
    """Makes a webhook whose endpoint fails until it is left alone; then come the steps."""
    world.sender.script(URL, *[Answers(500)] * count, *(steps or (Answers(),)))
    await world.create_webhook(subscription_id, policy=PATIENT)
    await world.publish(*pings(count))
    await world.attempted(world.name(subscription_id), count)
    await world.quiet()


async def test_an_endpoint_that_keeps_failing_is_left_alone_for_thirty_seconds(world: World) -> None:
    await opened(world)
    assert conditions(world) == {Condition.OPEN: 1}
    await world.publish(*pings(5, first=100))
    await world.advance(29)
    assert len(world.sender.requests) == 10
    await world.advance(1)
    await world.sent(25)
    await world.quiet()
    assert conditions(world) == {Condition.RECOVERING: 1}


async def test_nine_failures_open_nothing(world: World) -> None:
    await opened(world, count=9)
    assert conditions(world) == {Condition.CLOSED: 1}
    await world.advance(1)
    await world.sent(18)


async def failing(world: World) -> int:
    """Makes a webhook whose endpoint was well and busy and fails now; returns how many requests went well."""
    well = 1_000
    world.sender.script(URL, *[Answers()] * well, Answers(500))
    await world.create_webhook(policy=PATIENT)
    await world.publish(*pings(well))
    await world.sent(well)
    await world.publish(*pings(300, first=well + 1))
    await world.quiet()
    return well


async def test_before_it_is_judged_an_endpoint_fails_so_often_at_once_and_then_so_often_a_second(world: World) -> None:
    well = await failing(world)
    assert len(world.sender.requests) - well == 100
    for second in range(1, 21):
        for _ in range(10):
            await world.advance(0.1)
        assert len(world.sender.requests) - well == pytest.approx(100 + 10 * second, abs=1)
    assert conditions(world) == {Condition.CLOSED: 1}
    rows = (await world.cursor(world.name("hook"))).owed
    assert sum(row.attempt - 1 for row in rows) <= 300


async def test_what_an_endpoint_that_fails_was_not_sent_goes_out_as_soon_as_it_is_well(world: World) -> None:
    well = await failing(world)
    world.sender.script(URL, Answers())
    await world.advance(0.1)
    await world.quiet()
    assert len(world.sender.requests) == well + 100 + 200
    await world.advance(1)
    await world.sent(well + 100 + 300)
    await world.quiet()
    assert (await world.cursor(world.name("hook"))).owed == ()


async def test_whoever_else_sends_to_an_endpoint_hears_when_it_is_well(world: World) -> None:
    well = await failing(world)
    await world.create_webhook("other", URL + "?other")
    await world.publish(*pings(40, first=5_000))
    await world.quiet()
    assert len(world.sender.requests) - well == 100
    world.sender.script(URL, Answers())
    world.sender.script(URL + "?other", Answers())
    await world.advance(0.1)
    await world.attempted(world.name("other"), 40)


async def test_what_waits_for_an_endpoint_uses_no_attempts(either_world: World) -> None:
    world = either_world
    await opened(world, Answers(500))
    for _ in range(6):
        await world.advance(30)
    attempts = await world.attempted(world.name("hook"), 16)
    assert len(attempts) == 16
    rows = (await world.cursor(world.name("hook"))).owed
    assert sum(row.attempt - 1 for row in rows) == 16
    assert await world.dead_letters(world.name("hook")) == []


async def test_a_probe_goes_alone_and_what_follows_begins_slowly(world: World) -> None:
    probe, held = Holds(), Holds()
    await opened(world, probe, held)
    await world.publish(*pings(50, first=100))
    await world.advance(30)
    assert len(world.sender.requests) == 11
    assert conditions(world) == {Condition.HALF_OPEN: 1}
    await world.advance(300)
    assert len(world.sender.requests) == 11
    probe.until.set()
    await world.quiet()
    assert len(world.sender.requests) == 12
    held.until.set()
    await world.sent(70)
    await world.quiet()
    assert conditions(world) == {Condition.CLOSED: 1}
    assert len(world.sender.requests) == 70


async def test_requests_at_once_grow_by_one_with_each_success_after_it_closed(world: World) -> None:
    gates = [Holds() for _ in range(6)]
    await opened(world, Answers(), *gates)
    await world.publish(*pings(50, first=100))
    await world.advance(30)
    before = 11
    for number, gate in enumerate(gates[:3], start=1):
        assert len(world.sender.requests) - before == 2 * number - 1
        gate.until.set()
        await world.quiet()


@pytest.mark.parametrize("fault", [Fails(SendFailure.OURS, "no file handles"), Answers(410)])
async def test_what_is_no_fault_of_the_receivers_opens_nothing(world: World, fault: Step) -> None:
    world.sender.script(URL, fault)
    await world.create_webhook(policy=PATIENT)
    await world.publish(*pings(30))
    await world.sent(1)
    await world.quiet()
    assert set(conditions(world)) <= {Condition.CLOSED}


async def test_subscriptions_of_one_subscriber_share_what_is_known_of_an_endpoint(world: World) -> None:
    await opened(world)
    await world.create_webhook("same", URL.replace("receiver.", "RECEIVER.") + "?for=same")
    await world.create_webhook("other", ELSEWHERE)
    await world.publish(*pings(5, first=100))
    await world.attempted(world.name("other"), 5)
    await world.quiet()
    assert await world.attempts(world.name("same")) == []
    assert conditions(world) == {Condition.OPEN: 1, Condition.CLOSED: 1}
    await world.advance(30)
    await world.attempted(world.name("same"), 5)


async def test_another_subscriber_has_its_own_judgement_of_the_same_endpoint(world: World) -> None:
    await opened(world)
    webhook = world.broker.subscriptions.get(world.name("hook")).delivery
    await world.create("hook", subscriber="org_2", delivery=webhook)
    await world.publish(*pings(5, first=100))
    await world.attempted(world.name("hook", "org_2"), 5)


async def test_a_subscription_that_goes_elsewhere_does_not_wait_for_where_it_went(world: World) -> None:
    await opened(world)
    found = world.broker.subscriptions.get(world.name("hook"))
    assert isinstance(found.delivery, WebhookDelivery)
    await world.update(found.name, delivery=replace(found.delivery, url=ELSEWHERE))
    await world.advance(1)
    assert {one.url for one in world.sender.requests[10:]} == {ELSEWHERE}
    assert len(world.sender.requests) == 20
    assert conditions(world) == {Condition.CLOSED: 1}


async def test_who_pauses_and_resumes_begins_anew(world: World) -> None:
    await opened(world)
    await world.broker.subscriptions.pause(world.name("hook"))
    assert conditions(world) == {}
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.advance(1)
    assert len(world.sender.requests) == 20


async def test_what_waited_for_an_endpoint_goes_out_after_a_crash_and_nothing_is_lost(either_world: World) -> None:
    world = either_world
    await opened(world)
    await world.publish(*pings(MAXIMUM_IN_FLIGHT, first=100))
    await world.quiet()
    await world.restart()
    await world.advance(1)
    await world.sent(20 + MAXIMUM_IN_FLIGHT)
    await world.quiet()
    cursor = await world.cursor(world.name("hook"))
    assert (cursor.owed, cursor.state.floor) == ((), (await world.engine.journal.bounds()).last)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://a.example.com", "https://a.example.com:443/"),
        ("https://A.example.com:443/?q=1", "https://a.example.com:443/"),
        ("http://a.example.com/Hooks?q=1", "http://a.example.com:80/Hooks"),
        ("http://[::1]:9000/x", "http://::1:9000/x"),
    ],
)
def test_an_endpoint_is_scheme_host_port_and_path(url: str, endpoint: str) -> None:
    assert endpoint_of(url) == endpoint


class EarlyClock(ManualClock):
    """Its alarms go off a little early, as those of an event loop may."""

    def alarm(self, seconds: float, action: Callable[[], None]) -> ManualAlarm:
        return super().alarm(seconds * 0.999 if seconds > 0.001 else seconds, action)


def told_nobody(_subscription: Subscription, _fact: BreakerOpened | BreakerClosed) -> None:
    """Hears what owners are told."""


class Waiter:
    """Notes whether it was admitted when it was woken."""

    subscription = Subscription(
        SubscriptionName("org_1", "hook"), (), StreamDelivery(), Position(0), Micros(0), Micros(0)
    )

    def __init__(self) -> None:
        self.admitted: list[bool] = []
        self.endpoint: Endpoint

    def wake(self) -> None:
        self.admitted.append(self.endpoint.admits)


def test_failures_that_hold_nobody_up_wake_nobody_and_others_wake_once() -> None:
    clock, waiter = ManualClock(), Waiter()
    limits = BreakerLimits(minimum=1_000, failures=3)
    endpoint = waiter.endpoint = Endpoints(limits, clock, told_nobody).join("org_1", URL, waiter)
    for outcome in (Outcome.FAILURE, Outcome.SUCCESS) * 10:
        assert endpoint.wait == 0
        endpoint.begin().end(outcome)
    assert waiter.admitted == []
    permits = [endpoint.begin() for _ in range(4)]
    permits.pop().end(Outcome.FAILURE)
    assert endpoint.wait > 0
    for permit in permits:
        permit.end(Outcome.SUCCESS)
    assert waiter.admitted == [True]


def test_an_alarm_that_is_early_does_not_leave_what_waits_unwoken() -> None:
    clock, waiter = EarlyClock(), Waiter()
    endpoint = waiter.endpoint = Endpoints(BreakerLimits(), clock, told_nobody).join("org_1", URL, waiter)
    for _ in range(10):
        endpoint.begin().end(Outcome.FAILURE)
    clock.advance(29)
    assert waiter.admitted == []
    clock.advance(2)
    assert waiter.admitted == [True]
