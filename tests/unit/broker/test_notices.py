"""Notices: the owner of a subscription is told what became of it, truly and once, whatever crashes in between."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

import pytest
from google.protobuf.message import Message

from certes.v1 import event_pb2
from certes.v1.operational_events_pb2 import (
    BacklogGap,
    BreakerClosed,
    BreakerOpened,
    ConsentGranted,
    ConsentWithheld,
    DeliveryExhausted,
    SubscriptionDisabled,
)
from certes_broker.broker import notices
from certes_broker.broker.notice_documents import PREFIX
from certes_broker.broker.notices import INTERVAL
from certes_broker.domain.consent import UNASKED, Granted, Withheld
from certes_broker.domain.errors import CertesError, Invalid, Unavailable
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.notices import BreakerClosed as Closed
from certes_broker.domain.notices import BreakerOpened as Opened
from certes_broker.domain.notices import DisableCause, Disabling
from certes_broker.domain.retry import RetryPolicy, Schedule
from certes_broker.domain.settlement import Nack, NackAction
from certes_broker.domain.subscriptions import StoredSecret, WebhookDelivery
from certes_broker.ports.sender import Method
from tests.fakes.broker_world import ORG, SECRET, SETTINGS, URL, World, ids, ping, pings
from tests.fakes.scripted_sender import Answers

OWN = f"{SETTINGS.domain}/_/1"
EXHAUSTED, GAP, DISABLED = f"{OWN}/_delivery_exhausted", f"{OWN}/_gap", f"{OWN}/_subscription_disabled"
WITHHELD = f"{OWN}/_consent_withheld"
GRANTED = f"{OWN}/_consent_granted"
OPENED, CLOSED = f"{OWN}/_breaker_opened", f"{OWN}/_breaker_closed"
ONCE = RetryPolicy(Schedule((0.0,)), max_attempts=1)

M = TypeVar("M", bound=Message)


async def kept(world: World, event_type: str) -> list[event_pb2.Event]:
    """The operational events of a type, as they are kept."""
    page = await world.engine.journal.read(Position(0), 10_000, 1 << 30)
    return [world.event(entry) for entry in page.entries if entry.event.type == event_type]


async def told(world: World, event_type: str, message: type[M]) -> list[M]:
    await world.quiet()
    return [message.FromString(event.data.value) for event in await kept(world, event_type)]


async def documents(world: World) -> Sequence[str]:
    return [document.key for document in await world.engine.settings.list(PREFIX)]


async def give_up(world: World, *event_ids: str) -> None:
    """Lets deliveries of `app` become dead letters."""
    reader = await world.open()
    await world.publish(*[ping(event_id) for event_id in event_ids])
    taken = await reader.take(len(event_ids))
    for one in taken:
        await reader.nack(Nack(one.ordinal, one.ordinal, NackAction.DEAD_LETTER, None, "no use for it"))
    await reader.close()


async def test_a_dead_letter_is_told_to_its_subscriber_like_any_other_event(either_world: World) -> None:
    world = either_world
    await world.create()
    await world.create("watch", EXHAUSTED)
    await world.create("other", EXHAUSTED, subscriber="org_2")
    watch, other = await world.open("watch"), await world.open("other", subscriber="org_2")
    await give_up(world, "p1")
    [_] = await watch.take(1)
    await other.nothing_more()
    [event] = await kept(world, EXHAUSTED)
    assert (event.subscriber, event.source) == (ORG, f"//{SETTINGS.domain}")
    assert event.subject == world.name().text
    [dead] = await told(world, EXHAUSTED, DeliveryExhausted)
    [delivery] = dead.deliveries
    [letter] = await world.dead_letters(world.name())
    assert dead.subscription == world.name().text
    assert delivery.event == world.broker.names.name(letter.position)
    assert (delivery.id, delivery.attempts, delivery.reason, delivery.error) == ("p1", 1, "rejected", "no use for it")
    assert delivery.time.ToMicroseconds() == letter.time
    assert await documents(world) == []


async def test_a_webhook_that_is_tried_too_often_is_told(world: World) -> None:
    await world.create_webhook(policy=ONCE)
    world.sender.script(URL, Answers(500))
    await world.publish(ping("p1"))
    await world.sent(1)
    [dead] = await told(world, EXHAUSTED, DeliveryExhausted)
    assert [(one.id, one.reason, one.error) for one in dead.deliveries] == [("p1", "attempts_exhausted", "HTTP 500")]


async def test_a_gap_is_told_with_the_names_of_its_ends(world: World) -> None:
    await world.create()
    await world.publish(*pings(3))
    await world.engine.journal.trim(Position(3))
    await world.open()
    [gaps] = await told(world, GAP, BacklogGap)
    [gap] = await world.gaps(world.name())
    [one] = gaps.gaps
    name = world.broker.names.name
    assert gaps.subscription == world.name().text
    assert (one.first_event, one.last_event, one.reason) == (name(gap.first), name(gap.last), "retention")


async def test_a_subscription_that_its_receiver_disables_is_told_with_the_cause(either_world: World) -> None:
    world = either_world
    await world.create_webhook()
    world.sender.script(URL, Answers(410))
    await world.publish(ping("p1"))
    await world.sent(1)
    await world.eventually(lambda: world.broker.subscriptions.get(world.name("hook")).state_reason != "")
    [disabled] = await told(world, DISABLED, SubscriptionDisabled)
    subscription = world.broker.subscriptions.get(world.name("hook"))
    assert (disabled.subscription, disabled.cause) == (subscription.name.text, SubscriptionDisabled.CAUSE_GONE)
    assert disabled.message == subscription.state_reason
    assert disabled.disable_time.ToMicroseconds() == subscription.update_time


async def test_a_receiver_that_begins_to_withhold_its_consent_is_told_once_and_why(either_world: World) -> None:
    world = either_world
    world.sender.script(URL, Answers(405), Answers(500), method=Method.OPTIONS)
    await world.create("hook", delivery=WebhookDelivery(URL, (StoredSecret(SECRET),), consent=UNASKED))
    await world.quiet()
    for _ in range(4):
        await world.advance(INTERVAL)
    [told_once] = await told(world, WITHHELD, ConsentWithheld)
    assert (told_once.subscription, told_once.count) == (world.name("hook").text, 1)
    assert "HTTP 405" in told_once.message
    delivery = world.broker.subscriptions.get(world.name("hook")).delivery
    assert isinstance(delivery, WebhookDelivery)
    assert isinstance(delivery.consent, Withheld)
    assert "HTTP 500" in delivery.consent.reason
    assert told_once.withhold_time.ToMicroseconds() == delivery.consent.since


async def test_a_receiver_that_consents_after_all_is_told_once_and_when(either_world: World) -> None:
    world = either_world
    consents = Answers(200, {"webhook-allowed-origin": "*"})
    world.sender.script(URL, Answers(405), consents, method=Method.OPTIONS)
    await world.create("hook", delivery=WebhookDelivery(URL, (StoredSecret(SECRET),), consent=UNASKED))
    await world.quiet()
    assert await kept(world, GRANTED) == []
    for _ in range(2):
        await world.advance(INTERVAL)
    await world.broker.receivers.ask(world.name("hook"))
    await world.advance(INTERVAL)
    [told_once] = await told(world, GRANTED, ConsentGranted)
    assert (told_once.subscription, told_once.count) == (world.name("hook").text, 1)
    delivery = world.broker.subscriptions.get(world.name("hook")).delivery
    assert isinstance(delivery, WebhookDelivery)
    assert isinstance(delivery.consent, Granted)
    assert told_once.grant_time.ToMicroseconds() < delivery.consent.time


async def test_a_receiver_that_consents_at_once_is_not_told_of(world: World) -> None:
    world.sender.script(URL, Answers(200, {"webhook-allowed-origin": "*"}), method=Method.OPTIONS)
    await world.create("hook", delivery=WebhookDelivery(URL, (StoredSecret(SECRET),), consent=UNASKED))
    await world.quiet()
    await world.advance(INTERVAL)
    assert await kept(world, GRANTED) == await kept(world, WITHHELD) == []


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", range(1, 5))
async def test_a_crash_at_any_write_tells_of_a_consent_once_if_it_was_given(
    world: World, write: int, done: bool
) -> None:
    world.sender.script(URL, Answers(405), Answers(200, {"webhook-allowed-origin": "*"}), method=Method.OPTIONS)
    await world.create("hook", delivery=WebhookDelivery(URL, (StoredSecret(SECRET),), consent=UNASKED))
    await world.quiet()
    await world.advance(2)
    world.engine.crash_at(write, done=done)
    with suppress(CertesError):
        await world.broker.receivers.ask(world.name("hook"))
    await world.quiet_or_dead()
    await world.restart()
    await world.advance(INTERVAL)
    delivery = world.broker.subscriptions.get(world.name("hook")).delivery
    assert isinstance(delivery, WebhookDelivery)
    assert isinstance(delivery.consent, Granted)
    assert len(await told(world, GRANTED, ConsentGranted)) == 1
    await world.advance(INTERVAL)
    assert await documents(world) == []


async def test_a_consent_that_is_withheld_when_the_broker_crashes_is_told_by_the_next(either_world: World) -> None:
    world = either_world
    world.sender.script(URL, Answers(405), method=Method.OPTIONS)
    world.engine.fail("journal.append", 1000)
    await world.create("hook", delivery=WebhookDelivery(URL, (StoredSecret(SECRET),), consent=UNASKED))
    await world.quiet()
    assert await documents(world) != []
    world.engine.fail("journal.append", 0)
    await world.restart()
    [told_once] = await told(world, WITHHELD, ConsentWithheld)
    assert "HTTP 405" in told_once.message


async def test_what_is_disabled_again_without_need_is_told_once(world: World) -> None:
    await world.create_webhook()
    for _ in range(2):
        await world.broker.receivers.disable(world.name("hook").text, URL, Disabling(DisableCause.FAILING, "It fails."))
    [disabled] = await told(world, DISABLED, SubscriptionDisabled)
    assert (disabled.cause, disabled.count) == (SubscriptionDisabled.CAUSE_FAILING, 1)


async def test_every_subscription_of_an_endpoint_is_told_when_its_breaker_opens_and_closes(world: World) -> None:
    for name in ("hook", "other"):
        await world.create_webhook(name)
    world.sender.script(URL, Answers(500))
    await world.publish(*pings(10))
    both = {world.name(name).text for name in ("hook", "other")}
    assert {event.subscription for event in await told(world, OPENED, BreakerOpened)} == both
    assert await kept(world, CLOSED) == []
    world.sender.script(URL, Answers(200))
    await world.advance(31)
    await world.advance(31)
    assert {event.subscription for event in await told(world, CLOSED, BreakerClosed)} == both


async def test_what_a_breaker_does_is_told(world: World) -> None:
    subscription = await world.create_webhook()
    world.broker.notices.tell(subscription, Opened(Micros(1_000_000), Micros(31_000_000), "8 of 10 failed"))
    world.broker.notices.tell(subscription, Closed(Micros(32_000_000)))
    [opened] = await told(world, OPENED, BreakerOpened)
    assert (opened.open_time.seconds, opened.retry_time.seconds) == (1, 31)
    assert (opened.message, opened.count) == ("8 of 10 failed", 1)
    [closed] = await told(world, CLOSED, BreakerClosed)
    assert (closed.subscription, closed.close_time.seconds) == (subscription.name.text, 32)


# A flood.


async def test_what_repeats_within_a_minute_is_told_together_when_it_is_over(world: World) -> None:
    await world.create()
    await give_up(world, "p1")
    await give_up(world, "p2")
    await give_up(world, "p3")
    [first] = await told(world, EXHAUSTED, DeliveryExhausted)
    assert [one.id for one in first.deliveries] == ["p1"]
    await world.advance(INTERVAL)
    [_, second] = await told(world, EXHAUSTED, DeliveryExhausted)
    assert [one.id for one in second.deliveries] == ["p2", "p3"]
    assert await documents(world) == []


async def test_a_flood_is_one_bounded_event_and_few_writes(world: World) -> None:
    await world.create()
    await give_up(world, "first")
    await world.quiet()
    world.engine.calls.clear()
    await give_up(world, *[f"p{number}" for number in range(300)])
    await world.quiet()
    assert world.engine.calls["settings.put"] < 100 + 2 + 2 * 5  # those of `quiet` among them
    await world.advance(INTERVAL)
    [_, flood] = await told(world, EXHAUSTED, DeliveryExhausted)
    assert len(flood.deliveries) == 100
    assert flood.deliveries_left_out == 200


async def test_a_breaker_that_flaps_is_told_by_its_newest_state_and_how_often(world: World) -> None:
    subscription = await world.create_webhook()
    world.broker.notices.tell(subscription, Opened(Micros(0), None, "once"))
    await world.quiet()
    for number in range(5):
        world.broker.notices.tell(subscription, Opened(Micros(number), None, f"again {number}"))
    await world.advance(INTERVAL)
    [_, opened] = await told(world, OPENED, BreakerOpened)
    assert (opened.message, opened.count) == ("again 4", 5)


async def test_what_is_done_with_is_forgotten(world: World) -> None:
    await world.create()
    await give_up(world, "p1")
    await world.quiet()
    assert len(world.broker.notices) == 1
    await world.advance(INTERVAL)
    assert len(world.broker.notices) == 0


# No loops.


async def test_nothing_is_told_of_the_delivery_of_an_operational_event(world: World) -> None:
    await world.create()
    await world.create("watch", EXHAUSTED, "community.certes.dev/github/1/ping")
    watch = await world.open("watch")
    await give_up(world, "p1")
    for one in await watch.take(2):
        await watch.nack(Nack(one.ordinal, one.ordinal, NackAction.DEAD_LETTER, None, ""))
    await world.advance(INTERVAL)
    about = [dead.subscription for dead in await told(world, EXHAUSTED, DeliveryExhausted)]
    assert about == [world.name().text, world.name("watch").text]
    [_, of_watch] = await told(world, EXHAUSTED, DeliveryExhausted)
    assert [one.id for one in of_watch.deliveries] == ["p1"]


async def test_a_subscription_to_nothing_but_operational_events_has_no_gaps_and_breakers_told(world: World) -> None:
    subscription = await world.create("app", GAP, OPENED)
    world.broker.notices.tell(subscription, Opened(Micros(0), None, ""))
    await world.publish(*pings(2))
    await world.engine.journal.trim(Position(2))
    await world.open()
    await world.quiet()
    assert len(await world.gaps(world.name())) == 1
    assert await kept(world, GAP) == await kept(world, OPENED) == []


async def test_nobody_but_the_broker_publishes_operational_events(world: World) -> None:
    with pytest.raises(Invalid):
        await world.publish(ping("p1", type=GAP))


# Crashes and storage that fails.


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", range(1, 6))
async def test_a_crash_at_any_write_tells_of_every_dead_letter_once_and_of_nothing_else(
    world: World, write: int, done: bool
) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    [one] = await reader.take(1)
    world.engine.crash_at(write, done=done)
    nack = Nack(one.ordinal, one.ordinal, NackAction.DEAD_LETTER, None, "")
    with suppress(CertesError):
        await reader.nack(nack)
    await world.quiet_or_dead()
    await world.restart()
    await world.quiet()
    letters = [letter.event.id for letter in await world.dead_letters(world.name())]
    deliveries = [each.id for dead in await told(world, EXHAUSTED, DeliveryExhausted) for each in dead.deliveries]
    assert deliveries == letters
    await world.advance(INTERVAL)
    assert await documents(world) == []


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", range(1, 5))
async def test_a_crash_at_any_write_tells_of_a_disabled_subscription_once_if_it_is(
    world: World, write: int, done: bool
) -> None:
    subscription = await world.create_webhook()
    world.engine.crash_at(write, done=done)
    with suppress(CertesError):
        await world.broker.receivers.disable(subscription.name.text, URL, Disabling(DisableCause.GONE, "Gone."))
    await world.quiet_or_dead()
    await world.restart()
    is_disabled = world.broker.subscriptions.get(subscription.name).state_reason == "Gone."
    assert len(await told(world, DISABLED, SubscriptionDisabled)) == is_disabled
    await world.advance(INTERVAL)
    assert await documents(world) == []


async def test_a_gap_that_is_found_by_starting_is_told_once(world: World) -> None:
    await world.create_webhook()
    await world.broker.subscriptions.pause(world.name("hook"))
    await world.publish(*pings(3))
    await world.engine.journal.trim(Position(3))
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.quiet()
    await world.restart()
    [gaps] = await told(world, GAP, BacklogGap)
    assert len(gaps.gaps) == 1


async def test_while_nothing_can_be_published_it_waits(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    [one] = await reader.take(1)
    world.engine.fail("journal.append", 2)
    await reader.nack(Nack(one.ordinal, one.ordinal, NackAction.DEAD_LETTER, None, ""))
    await world.quiet()
    assert await kept(world, EXHAUSTED) == []
    await world.advance(notices.AGAIN_AFTER)
    await world.advance(notices.AGAIN_AFTER)
    assert len(await told(world, EXHAUSTED, DeliveryExhausted)) == 1
    assert await documents(world) == []


async def test_what_was_published_without_an_answer_is_told_once(world: World) -> None:
    await world.create()
    world.engine.calls.clear()
    reader = await world.open()
    await world.publish(ping("p1"))
    [one] = await reader.take(1)
    world.engine.lose_answer("journal.append")
    await reader.nack(Nack(one.ordinal, one.ordinal, NackAction.DEAD_LETTER, None, ""))
    await world.quiet()
    await world.advance(notices.AGAIN_AFTER)
    assert len(await told(world, EXHAUSTED, DeliveryExhausted)) == 1


async def test_while_intents_cannot_be_stored_nothing_is_settled_and_everything_later(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    world.engine.fail("settings.put", 1)
    with pytest.raises(Unavailable, match="put fails"):
        await reader.nack(Nack(1, 1, NackAction.DEAD_LETTER, None, ""))
    assert await world.dead_letters(world.name()) == []
    await world.advance(0.5)
    assert len(await world.dead_letters(world.name())) == 1
    assert len(await told(world, EXHAUSTED, DeliveryExhausted)) == 1


async def test_a_change_that_was_not_stored_is_not_told(world: World) -> None:
    subscription = await world.create_webhook()
    stored = world.broker.subscriptions.get(subscription.name)
    world.engine.lose_answer("settings.put")
    with pytest.raises(Unavailable, match="put fails"):
        await world.update(stored.name, labels=(("team", "tides"),))
    # The document is newer than what is known, so that disabling is refused, and done again on the newer one.
    await world.broker.receivers.disable(stored.name.text, URL, Disabling(DisableCause.GONE, "Gone."))
    assert world.broker.subscriptions.get(stored.name).labels == (("team", "tides"),)
    assert len(await told(world, DISABLED, SubscriptionDisabled)) == 1


async def test_a_watcher_that_was_asleep_finds_what_was_told(world: World) -> None:
    await world.create()
    await world.create("watch", EXHAUSTED)
    await give_up(world, "p1")
    await world.quiet()
    await world.restart()
    watch = await world.open("watch")
    [event] = await kept(world, EXHAUSTED)
    assert ids(await watch.take(1)) == [event.id]
