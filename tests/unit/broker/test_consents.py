"""Webhooks whose receiver must consent first: when it is asked, what waits meanwhile, and what its answer changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from certes_broker.broker.webhooks import WebhookLimits
from certes_broker.domain.consent import MINIMUM_ASKED, NOT_REQUIRED, UNASKED, Consent, Granted, Withheld
from certes_broker.domain.custom_headers import CustomHeader
from certes_broker.domain.errors import FailedPrecondition, Reason, Unavailable
from certes_broker.domain.notices import DisableCause, Disabling
from certes_broker.domain.subscriptions import RateLimit, State, StoredSecret, WebhookDelivery
from certes_broker.ports.sender import Method, SendFailure, SendRequest
from tests.fakes.broker_world import SECRET, SETTINGS, URL, World, one_memory_engine, ping, pings
from tests.fakes.scripted_sender import Answers, Fails, Holds, Step
from tests.unit.broker.test_placement import hook_of, settle_down
from tests.unit.broker.worlds import opened

DOMAIN = SETTINGS.domain
OTHER = "https://other.example.com/hooks"
ALLOWS = Answers(204, {"WebHook-Allowed-Origin": DOMAIN, "WebHook-Allowed-Rate": "*"})
SILENT = Answers(405)


def asks(world: World, *steps: Step, url: str = URL) -> None:
    """Says what the receiver answers when it is asked."""
    world.sender.script(url, *steps, method=Method.OPTIONS)


async def make(world: World, name: str = "hook", **fields: Any) -> None:
    """Makes a webhook whose receiver must consent, and waits until it was asked."""
    delivery = WebhookDelivery(**{"url": URL, "secrets": (StoredSecret(SECRET),), "consent": UNASKED, **fields})
    await world.create(name, delivery=delivery)
    await world.quiet()


def sent(world: World, method: Method) -> list[SendRequest]:
    return [request for request in world.sender.requests if request.method is method]


def posted(world: World) -> int:
    return len(sent(world, Method.POST))


def questions(world: World) -> int:
    return len(sent(world, Method.OPTIONS))


def consent(world: World, name: str = "hook") -> Consent:
    delivery = world.broker.subscriptions.get(world.name(name)).delivery
    assert isinstance(delivery, WebhookDelivery)
    return delivery.consent


async def test_a_receiver_is_asked_when_its_webhook_is_made_and_then_gets_what_came_meanwhile(
    either_world: World,
) -> None:
    world = either_world
    hold = Holds(then=ALLOWS)
    asks(world, hold)
    await make(world)
    await world.publish(*pings(3))
    await world.quiet()
    assert (questions(world), posted(world), consent(world)) == (1, 0, UNASKED)
    hold.until.set()
    attempts = await world.attempted(world.name("hook"), 3)
    assert {(one.number, one.status) for one in attempts} == {(1, 200)}
    assert questions(world) == 1


async def test_those_that_wait_for_consent_are_counted_and_no_others(world: World) -> None:
    async def counted() -> int:
        return (await world.broker.stats()).awaiting_consent

    asks(world, SILENT)
    asks(world, ALLOWS, url=OTHER)
    await make(world)
    await make(world, "other", url=OTHER)
    await world.create_webhook("free", url="https://free.example.com/")
    assert await counted() == 1
    await world.broker.subscriptions.pause(world.name("hook"))
    assert await counted() == 0
    await world.broker.subscriptions.resume(world.name("hook"))
    assert await counted() == 1
    asks(world, ALLOWS)
    await world.broker.receivers.ask(world.name("hook"))
    assert await counted() == 0


async def test_the_question_is_signed_and_has_the_webhook_s_own_headers(world: World) -> None:
    asks(world, ALLOWS)
    await make(world, headers=(CustomHeader("authorization", "Bearer t-1"),), timeout=7.0)
    [question] = world.sender.requests
    headers = question.headers
    assert (question.url, question.body, question.timeout) == (URL, b"", 7.0)
    assert headers["webhook-request-origin"] == DOMAIN
    assert headers["authorization"] == "Bearer t-1"
    assert "content-type" not in headers
    assert "webhook-request-rate" not in headers
    assert "webhook-request-callback" not in headers
    moment = world.clock.now() // 1_000_000
    assert headers["webhook-timestamp"] == str(moment)
    expected = Webhook(SECRET).sign(headers["webhook-id"], _datetime(moment), "")
    assert expected in headers["webhook-signature"].split(" ")


def _datetime(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


async def test_each_delivery_says_by_which_origin_it_was_allowed(world: World) -> None:
    asks(world, ALLOWS)
    await make(world)
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
    await world.broker.receivers.test(world.name("hook"))
    assert [one.headers["webhook-request-origin"] for one in sent(world, Method.POST)] == [DOMAIN, DOMAIN]


async def test_where_no_consent_is_required_nobody_is_asked(world: World) -> None:
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
    assert questions(world) == 0
    assert "webhook-request-origin" not in world.sender.requests[0].headers


async def test_a_receiver_that_does_not_consent_is_sent_nothing_and_nothing_is_charged_to_it(
    either_world: World,
) -> None:
    world = either_world
    asks(world, SILENT)
    await make(world)
    began = world.clock.now()
    await world.publish(*pings(20))
    for _ in range(20):
        await world.advance(600)
    answer = consent(world)
    assert isinstance(answer, Withheld)
    assert answer.since == began
    assert "405" in answer.reason
    assert posted(world) == 0
    assert await world.attempts(world.name("hook")) == []
    assert await world.dead_letters(world.name("hook")) == []
    assert world.broker.subscriptions.get(world.name("hook")).state is State.ACTIVE
    asks(world, ALLOWS)
    await world.advance(4400)
    assert {one.number for one in await world.attempted(world.name("hook"), 20)} == {1}


async def test_a_receiver_is_asked_again_ever_more_seldom(world: World) -> None:
    asks(world, SILENT)
    await make(world)
    counts = []
    for seconds in (6, 12, 24, 48):
        await world.advance(seconds)
        counts.append(questions(world))
    assert counts == [2, 3, 4, 5]
    for _ in range(12):
        await world.advance(4400)
    before = questions(world)
    await world.advance(3590)
    assert questions(world) == before
    await world.advance(740)
    assert questions(world) == before + 1


async def test_a_receiver_can_ask_for_a_longer_wait(world: World) -> None:
    asks(world, Answers(429, {"Retry-After": "1800"}), ALLOWS)
    await make(world)
    await world.advance(1700)
    assert questions(world) == 1
    await world.advance(500)
    assert questions(world) == 2
    assert isinstance(consent(world), Granted)


async def test_consent_outlives_a_crash_and_is_not_asked_for_again(either_world: World) -> None:
    world = either_world
    asks(world, ALLOWS)
    await make(world)
    await world.restart()
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
    assert questions(world) == 1


async def test_a_question_that_a_crash_cut_off_is_asked_again(either_world: World) -> None:
    world = either_world
    asks(world, Holds(then=ALLOWS), ALLOWS)
    await make(world)
    await world.publish(ping("p1"))
    await world.restart()
    await world.attempted(world.name("hook"), 1)
    assert questions(world) == 2


async def test_whoever_stores_nothing_asks_again(world: World) -> None:
    asks(world, ALLOWS)
    await world.create("hook", delivery=WebhookDelivery(URL, (StoredSecret(SECRET),)))
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
    hold = Holds(then=ALLOWS)
    asks(world, hold, ALLOWS)
    await require(world)
    await world.quiet()
    world.engine.fail("settings.put", 1)
    alarms = world.clock.alarms
    hold.until.set()
    await world.eventually(lambda: world.clock.alarms > alarms)
    assert consent(world) == UNASKED
    await world.advance(10)
    assert isinstance(consent(world), Granted)


async def require(world: World, **fields: Any) -> None:
    """Changes the webhook as a caller would who wants its receiver's consent."""
    delivery = world.broker.subscriptions.get(world.name("hook")).delivery
    assert isinstance(delivery, WebhookDelivery)
    await world.update(world.name("hook"), delivery=replace(delivery, **{"consent": UNASKED, **fields}))


async def test_another_url_is_asked_at_once_and_gets_nothing_before_it_consents(world: World) -> None:
    asks(world, ALLOWS)
    asks(world, SILENT, ALLOWS, url=OTHER)
    await make(world)
    await require(world, url=OTHER)
    await world.publish(ping("p1"))
    await world.quiet()
    assert [one.url for one in world.sender.requests] == [URL, OTHER]
    await world.advance(10)
    await world.attempted(world.name("hook"), 1)
    assert [one.url for one in sent(world, Method.POST)] == [OTHER]


async def test_an_answer_for_a_url_that_has_changed_meanwhile_counts_for_nothing(world: World) -> None:
    hold = Holds(then=ALLOWS)
    asks(world, hold)
    asks(world, SILENT, url=OTHER)
    await make(world)
    await require(world, url=OTHER)
    hold.until.set()
    await world.publish(ping("p1"))
    await world.advance(60)
    assert isinstance(consent(world), Withheld)
    assert posted(world) == 0


async def test_whoever_changes_a_webhook_whose_receiver_withholds_consent_has_it_asked_at_once(world: World) -> None:
    asks(world, SILENT)
    await make(world)
    for _ in range(5):
        await world.advance(600)
    asked = questions(world)
    asks(world, ALLOWS)
    await require(world, consent=consent(world), headers=(CustomHeader("authorization", "Bearer right"),))
    await world.quiet()
    assert questions(world) == asked + 1
    assert isinstance(consent(world), Granted)


async def test_a_consent_changes_no_etag_and_no_update_time(world: World) -> None:
    hold = Holds(then=ALLOWS)
    asks(world, hold)
    await make(world)
    before = world.broker.subscriptions.get(world.name("hook"))
    await world.advance(1)
    hold.until.set()
    await world.quiet()
    after = world.broker.subscriptions.get(world.name("hook"))
    assert (after.etag, after.update_time) == (before.etag, before.update_time)
    assert after.delivery != before.delivery


async def test_the_same_refusal_is_stored_once(world: World) -> None:
    asks(world, SILENT)
    await make(world)
    revision = world.broker.subscriptions.get(world.name("hook")).revision
    for _ in range(5):
        await world.advance(600)
    assert questions(world) > 3
    assert world.broker.subscriptions.get(world.name("hook")).revision == revision


# Rates.


@pytest.mark.parametrize(
    ("limit", "allowed", "requested", "in_half_a_minute"),
    [
        (None, "30", None, 15),
        (RateLimit(2), "30", "120", 15),
        (RateLimit(10, 60.0), "30", "10", 5),
        (RateLimit(10, 60.0), "*", "10", 5),
        (RateLimit(1, 3600.0), "*", "1", 0),
    ],
)
async def test_no_more_requests_begin_than_the_webhook_and_its_receiver_allow(
    world: World, limit: RateLimit | None, allowed: str, requested: str | None, in_half_a_minute: int
) -> None:
    asks(world, Answers(200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": allowed}))
    await make(world, rate_limit=limit)
    assert world.sender.requests[0].headers.get("webhook-request-rate") == requested
    await world.publish(*pings(100))
    await world.quiet()
    before = posted(world)
    for _ in range(60):
        await world.advance(0.5)
    assert posted(world) - before == in_half_a_minute


# Faults of our own.


async def test_a_fault_of_our_own_is_no_answer(world: World) -> None:
    asks(world, Fails(SendFailure.OURS, "no file handles"), ALLOWS)
    await make(world)
    assert consent(world) == UNASKED
    await world.advance(6)
    assert isinstance(consent(world), Granted)


async def test_a_receiver_that_cannot_be_reached_has_not_consented(world: World) -> None:
    asks(world, Fails(SendFailure.ADDRESS_REFUSED, "10.0.0.1 is private"))
    await make(world)
    answer = consent(world)
    assert isinstance(answer, Withheld)
    assert answer.reason == "10.0.0.1 is private"


async def test_receivers_that_do_not_answer_delay_no_other(world: World) -> None:
    for number in range(40):
        url = f"https://silent-{number}.example.com/"
        asks(world, Holds(), url=url)
        await make(world, f"silent-{number}", url=url)
    asks(world, ALLOWS)
    await make(world)
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)


# The end of it.


async def with_patience(world: World, hours: float) -> None:
    """Lets the broker disable what has failed for some hours; five days are long for a clock that rings each second."""
    world.settings = replace(SETTINGS, webhooks=WebhookLimits(64, disable_after=hours * 3600))
    await world.restart()


async def test_a_receiver_that_withholds_its_consent_for_days_has_its_subscription_disabled(world: World) -> None:
    await with_patience(world, 12)
    asks(world, SILENT)
    await make(world)
    await world.publish(ping("p1"))
    for _ in range(9):
        await world.advance(4400)
    assert questions(world) >= MINIMUM_ASKED
    assert world.broker.subscriptions.get(world.name("hook")).state is State.ACTIVE
    await world.advance(4400)
    found = world.broker.subscriptions.get(world.name("hook"))
    assert found.state is State.DISABLED
    assert "consent" in found.state_reason
    asked = questions(world)
    await world.advance(4400)
    assert questions(world) == asked
    # Whoever resumes it has it asked anew, and nothing was lost.
    asks(world, SILENT, ALLOWS)
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.quiet()
    assert questions(world) == asked + 1
    assert world.broker.subscriptions.get(world.name("hook")).state is State.ACTIVE
    await world.advance(6)
    await world.attempted(world.name("hook"), 1)


async def test_hours_in_which_nobody_could_ask_do_not_count_against_a_receiver(world: World) -> None:
    await with_patience(world, 1)
    asks(world, SILENT)
    await make(world)
    await world.crash()
    world.clock.set(world.clock.now() + 7_200_000_000)
    await world.start()
    for _ in range(5):
        await world.advance(60)
    assert questions(world) > 2
    assert world.broker.subscriptions.get(world.name("hook")).state is State.ACTIVE


async def test_a_receiver_that_wants_nothing_more_has_taken_its_consent_back(world: World) -> None:
    asks(world, ALLOWS, SILENT)
    await make(world)
    world.sender.script(URL, Answers(410))
    await world.publish(ping("p1"))
    await world.eventually(lambda: world.broker.subscriptions.get(world.name("hook")).state is State.DISABLED)
    assert consent(world) == UNASKED
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.quiet()
    assert (questions(world), posted(world)) == (2, 1)


async def test_pausing_and_resuming_keeps_a_consent(world: World) -> None:
    asks(world, ALLOWS)
    await make(world)
    await world.broker.subscriptions.pause(world.name("hook"))
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
    assert questions(world) == 1


async def test_a_paused_subscription_s_receiver_is_asked_when_it_is_resumed(world: World) -> None:
    asks(world, SILENT)
    await make(world)
    await world.broker.subscriptions.pause(world.name("hook"))
    await world.advance(600)
    assert questions(world) == 1
    asks(world, ALLOWS)
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.quiet()
    assert isinstance(consent(world), Granted)


async def test_disabling_leaves_a_webhook_without_the_wish_for_consent_as_it_was(world: World) -> None:
    await world.create_webhook()
    name = world.name("hook")
    await world.broker.receivers.disable(name.text, URL, Disabling(DisableCause.GONE, "Gone."))
    assert consent(world) == NOT_REQUIRED


# Asking by hand.


async def test_a_receiver_can_be_asked_by_hand_before_it_is_time(world: World) -> None:
    asks(world, SILENT, ALLOWS)
    await make(world)
    await world.publish(ping("p1"))
    stored = await world.broker.receivers.ask(world.name("hook"))
    assert stored.delivery == world.broker.subscriptions.get(world.name("hook")).delivery
    await world.attempted(world.name("hook"), 1)


async def test_a_consent_that_is_withheld_when_it_is_asked_for_again_is_gone(world: World) -> None:
    asks(world, ALLOWS, SILENT)
    await make(world)
    await world.broker.receivers.ask(world.name("hook"))
    await world.publish(ping("p1"))
    await world.quiet()
    assert isinstance(consent(world), Withheld)
    assert posted(world) == 0


async def test_a_receiver_that_withdrew_its_consent_is_asked_again_as_if_for_the_first_time(world: World) -> None:
    asks(world, *[SILENT] * 5, ALLOWS, SILENT)
    await make(world)
    for _ in range(5):
        await world.advance(600)
    assert isinstance(consent(world), Granted)
    await world.broker.receivers.ask(world.name("hook"))
    await world.quiet()
    asked = questions(world)
    await world.advance(6)
    assert questions(world) == asked + 1


async def test_asking_by_hand_that_fails_by_our_own_fault_says_so_and_changes_nothing(world: World) -> None:
    asks(world, ALLOWS, Fails(SendFailure.OURS, "no file handles"))
    await make(world)
    with pytest.raises(Unavailable, match="no file handles") as refused:
        await world.broker.receivers.ask(world.name("hook"))
    assert refused.value.reason is Reason.RECEIVER_NOT_ASKED
    assert isinstance(consent(world), Granted)


async def test_where_no_consent_is_required_none_can_be_asked_for(world: World) -> None:
    await world.create_webhook()
    with pytest.raises(FailedPrecondition) as refused:
        await world.broker.receivers.ask(world.name("hook"))
    assert refused.value.reason is Reason.CONSENT_NOT_REQUIRED


async def test_nothing_is_tried_out_at_a_receiver_that_has_not_consented(world: World) -> None:
    asks(world, SILENT)
    await make(world)
    with pytest.raises(FailedPrecondition) as refused:
        await world.broker.receivers.test(world.name("hook"))
    assert refused.value.reason is Reason.CONSENT_MISSING
    assert posted(world) == 0


# Several brokers.


@pytest.fixture
async def two() -> AsyncIterator[tuple[World, World]]:
    engine = one_memory_engine()
    async with opened(engine) as one, opened(engine) as other:
        yield one, other


async def test_a_consent_that_one_broker_got_is_known_to_the_one_that_goes_on(two: tuple[World, World]) -> None:
    one, other = two
    name = hook_of(other, two)
    for world in two:
        asks(world, ALLOWS)
    await make(one, name)
    await settle_down(*two)
    assert (questions(one), questions(other)) == (0, 1)
    await other.crash()
    await settle_down(one)
    await one.publish(ping("p1"))
    await one.sent(1)
    assert [request.method for request in one.sender.requests] == [Method.POST]


async def test_a_consent_asked_for_by_hand_at_any_broker_lets_deliveries_go_out(two: tuple[World, World]) -> None:
    one, other = two
    name = hook_of(other, two)
    asks(other, SILENT)
    asks(one, ALLOWS)
    await make(one, name)
    await settle_down(*two)
    await one.publish(ping("p1"))
    await one.broker.receivers.ask(one.name(name))
    await settle_down(*two)
    await other.eventually(lambda: posted(other) == 1)
