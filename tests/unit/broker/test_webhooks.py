"""Webhooks: what an answer means, what is recorded of it, and what a slow or dead receiver costs the others."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from certes_broker.broker.webhook_attempts import MOST_LOST
from certes_broker.broker.webhooks import WebhookLimits
from certes_broker.broker.workers import JobLost
from certes_broker.domain.custom_headers import CustomHeader
from certes_broker.domain.errors import FailedPrecondition
from certes_broker.domain.events import Original
from certes_broker.domain.subscriptions import MAXIMUM_IN_FLIGHT, Format, State, StoredSecret, WebhookDelivery
from certes_broker.ports.sender import SendFailure, SendRequest
from tests.fakes.broker_world import SECRET, SETTINGS, URL, World, ping, pings, push
from tests.fakes.scripted_sender import Answers, Fails, Holds

OTHER = "https://other.example.com/hooks"


async def owed(world: World, subscription_id: str = "hook"):
    await world.quiet()
    return (await world.cursor(world.name(subscription_id))).owed


def verified(request: SendRequest, secret: str = SECRET) -> bool:
    """Whether the library of the standard accepts a request; its age is not the subject."""
    at = int(request.headers["webhook-timestamp"])
    signature = Webhook(secret).sign(request.headers["webhook-id"], moment(at), request.body.decode())
    return signature in request.headers["webhook-signature"].split(" ")


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_every_2xx_settles(either_world: World, status: int) -> None:
    world = either_world
    world.sender.script(URL, Answers(status))
    await world.create_webhook()
    await world.publish(ping("p1"))
    [attempt] = await world.attempted(world.name("hook"), 1)
    assert (attempt.status, attempt.number, attempt.failure, attempt.next_try) == (status, 1, "", None)
    assert await owed(world) == ()
    assert (await world.cursor(world.name("hook"))).state.floor == 1


@pytest.mark.parametrize("status", [100, 301, 302, 307, 400, 404, 429, 500, 503])
async def test_every_other_status_is_a_failure_that_is_tried_again(world: World, status: int) -> None:
    world.sender.script(URL, Answers(status, body=b"no"), Answers())
    await world.create_webhook()
    await world.publish(ping("p1"))
    [attempt] = await world.attempted(world.name("hook"), 1)
    assert (attempt.status, attempt.answer) == (status, b"no")
    [row] = await owed(world)
    assert (row.attempt, row.due, row.error) == (2, attempt.next_try, f"HTTP {status}")
    await world.advance(10)
    await world.sent(2)


@pytest.mark.parametrize("failure", [one for one in SendFailure if one is not SendFailure.OURS])
async def test_no_answer_is_a_failure_that_is_tried_again(world: World, failure: SendFailure) -> None:
    world.sender.script(URL, Fails(failure, "it did not work"), Answers())
    await world.create_webhook()
    await world.publish(ping("p1"))
    [attempt] = await world.attempted(world.name("hook"), 1)
    assert (attempt.status, attempt.failure, attempt.error) == (None, failure.value, "it did not work")
    await world.advance(10)
    await world.sent(2)
    assert await owed(world) == ()


async def test_a_receiver_that_is_gone_disables_its_subscription_and_loses_nothing(either_world: World) -> None:
    world = either_world
    world.sender.script(URL, Answers(410))
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.eventually(lambda: world.broker.subscriptions.get(world.name("hook")).state is State.DISABLED)
    assert "410" in world.broker.subscriptions.get(world.name("hook")).state_reason
    await world.publish(ping("p2"))
    await world.advance(3600)
    assert len(world.sender.requests) == 1
    world.sender.script(URL, Answers())
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.sent(3)
    assert world.broker.subscriptions.get(world.name("hook")).state_reason == ""


async def test_no_more_is_sent_to_a_receiver_that_said_it_is_gone(world: World) -> None:
    world.sender.script(URL, Answers(410))
    await world.create_webhook()
    await world.broker.subscriptions.pause(world.name("hook"))
    await world.publish(*pings(200))
    world.settings = replace(SETTINGS, webhooks=WebhookLimits(1))
    await world.restart()
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.quiet()
    assert len(world.sender.requests) == 1


async def test_a_receiver_that_was_replaced_before_it_said_that_it_is_gone_disables_nothing(world: World) -> None:
    held = Holds(then=Answers(410))
    world.sender.script(URL, held)
    made = await world.create_webhook()
    await world.publish(ping("p1"))
    await world.sent(1)
    assert isinstance(made.delivery, WebhookDelivery)
    await world.update(made.name, delivery=replace(made.delivery, url=OTHER))
    held.until.set()
    await world.sent(2)
    assert world.sender.requests[1].url == OTHER
    await world.quiet()
    assert world.broker.subscriptions.get(made.name).state is State.ACTIVE
    await still_works(world)


async def test_a_subscription_deleted_while_its_receiver_says_that_it_is_gone_is_deleted(world: World) -> None:
    held = Holds(then=Answers(410))
    world.sender.script(URL, held)
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.sent(1)
    await world.quiet()
    world.engine.calls.clear()
    gate = world.engine.hold("settings.put")
    async with asyncio.TaskGroup() as group:
        group.create_task(world.broker.subscriptions.delete(world.name("hook"), etag=""))
        await world.eventually(lambda: world.engine.calls["settings.put"] > 0)
        held.until.set()
        for _ in range(50):
            await asyncio.sleep(0)
        gate.set()
    await world.quiet()
    assert world.broker.subscriptions.get(world.name("hook")).state is State.DELETED
    await still_works(world)


async def test_a_subscription_that_cannot_be_disabled_for_now_is_disabled_by_the_next_answer(world: World) -> None:
    world.sender.script(URL, Answers(410))
    await world.create_webhook()
    await world.quiet()
    await world.publish(ping("p1"))
    world.engine.fail("settings.put", 1)
    await world.eventually(lambda: world.engine.failures_left("settings.put") == 0)
    await world.quiet()
    assert world.broker.subscriptions.get(world.name("hook")).state is State.ACTIVE
    await world.advance(1)
    assert world.broker.subscriptions.get(world.name("hook")).state is State.DISABLED
    assert len(world.sender.requests) == 2
    await still_works(world)


async def still_works(world: World) -> None:
    """Another webhook is delivered to."""
    await world.create_webhook("another", OTHER)
    before = len(world.sender.requests)
    await world.publish(ping("after"))
    await world.sent(before + 1)


async def test_our_own_fault_is_not_counted(either_world: World) -> None:
    world = either_world
    world.sender.script(URL, *[Fails(SendFailure.OURS, "no file handles")] * 20, Answers())
    await world.create_webhook()
    await world.publish(ping("p1"))
    for number in range(20):
        await world.attempted(world.name("hook"), number + 1)
        await world.advance(31)
    await world.sent(21)
    attempts = await world.attempted(world.name("hook"), 21)
    assert {one.number for one in attempts} == {1}
    assert await world.dead_letters(world.name("hook")) == []


async def test_what_fails_by_our_own_fault_is_tried_ever_more_seldom_and_at_once_again_when_it_works(
    world: World,
) -> None:
    world.sender.script(URL, Fails(SendFailure.OURS, "no resolver"))
    await world.create_webhook()
    await world.publish(*pings(100))
    await world.quiet()
    tried = []
    for _ in range(9):
        before = len(world.sender.requests)
        for _ in range(20):
            await world.advance(1)
        tried.append(len(world.sender.requests) - before)
    assert tried[0] >= 3
    assert sum(tried[-3:]) <= 3
    world.sender.script(URL, Answers())
    await world.advance(31)
    await world.advance(2)
    assert await owed(world) == ()


async def test_an_event_that_cannot_be_rendered_for_now_holds_up_no_other_of_its_subscription(world: World) -> None:
    await world.create_webhook(form=Format.ORIGINAL)
    world.engine.fail("journal.original", 1)
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
    await world.publish(ping("p2"))
    await world.sent(1)


async def test_an_event_that_cannot_be_rendered_is_tried_ever_more_seldom_and_uses_no_attempts(world: World) -> None:
    await world.create_webhook(form=Format.ORIGINAL)
    world.engine.fail("journal.original", 1_000)
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
    for number, wait in enumerate([1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300], 2):
        await world.advance(wait - 0.5)
        assert len(await world.attempts(world.name("hook"))) == number - 1
        await world.advance(0.5)
        await world.attempted(world.name("hook"), number)
    assert [row.attempt for row in await owed(world)] == [1]
    world.engine.fail("journal.original", 0)
    await world.advance(300)
    await world.sent(1)


async def test_an_event_that_every_worker_is_lost_with_is_given_up_and_who_is_lost_now_and_then_is_not(
    world: World,
) -> None:
    await world.create_webhook(form=Format.ORIGINAL)
    name = world.name("hook")
    world.engine.fail("journal.original", MOST_LOST - 1, error=lambda: JobLost("it took longer than 10 s"))
    await world.publish(ping("mends"))
    while not world.sender.requests:
        await world.advance(300)
    assert (await world.dead_letters(name), len(await world.attempted(name, MOST_LOST))) == ([], MOST_LOST)
    # Others that could not be had for a time are not counted.
    world.engine.fail("journal.original", 2 * MOST_LOST)
    await world.publish(ping("never"))
    for _ in range(MOST_LOST + 5):
        await world.advance(300)
    world.engine.fail("journal.original", 1_000, error=lambda: JobLost("it took longer than 10 s"))
    for _ in range(2 * MOST_LOST):
        await world.advance(300)
    [letter] = await world.dead_letters(name)
    assert (letter.reason, letter.attempts) == ("not_rendered", 1)
    assert "it took longer than 10 s" in letter.error
    assert 1_000 - world.engine.failures_left("journal.original") == MOST_LOST
    assert await owed(world) == ()


async def test_our_own_fault_is_not_counted_after_a_restart(either_world: World) -> None:
    world = either_world
    world.sender.script(URL, Fails(SendFailure.OURS, "no file handles"), Answers())
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
    assert [row.attempt for row in await owed(world)] == [1]
    await world.restart()
    await world.advance(1)
    assert [one.number for one in await world.attempted(world.name("hook"), 2)] == [1, 1]


async def test_a_receiver_that_does_not_answer_gets_fewer_requests_at_once(world: World) -> None:
    world.sender.script(URL, Fails(SendFailure.TIMEOUT))
    await world.create_webhook()
    held = Holds()
    await world.publish(*pings(9))
    await world.attempted(world.name("hook"), 9)
    await world.quiet()
    world.sender.script(URL, held)
    before = len(world.sender.requests)
    await world.publish(*pings(20, first=100))
    await world.quiet()
    assert len(world.sender.requests) - before == 1
    held.until.set()
    await world.sent(before + 20)


async def test_no_more_requests_are_under_way_than_the_webhook_allows_and_all_go_out(world: World) -> None:
    held = Holds()
    world.sender.script(URL, held)
    created = await world.create_webhook(max_in_flight=2)
    await world.publish(*pings(20))
    await world.quiet()
    assert len(world.sender.requests) == 2
    await world.restart()
    await world.quiet()
    assert len(world.sender.requests) == 4
    assert isinstance(created.delivery, WebhookDelivery)
    await world.update(created.name, delivery=replace(created.delivery, max_in_flight=3))
    await world.quiet()
    assert len(world.sender.requests) == 5
    held.until.set()
    await world.sent(22)


async def test_a_receiver_that_answers_gets_more_at_once_again_up_to_the_limit(world: World) -> None:
    await world.create_webhook()
    world.sender.script(URL, Fails(SendFailure.CONNECT))
    await world.publish(*pings(6))
    await world.attempted(world.name("hook"), 6)
    world.sender.script(URL, Answers())
    await world.publish(*pings(MAXIMUM_IN_FLIGHT + 10, first=100))
    await world.attempted(world.name("hook"), MAXIMUM_IN_FLIGHT + 16)
    held = Holds()
    world.sender.script(URL, held)
    before = len(world.sender.requests)
    await world.publish(*pings(100, first=1000))
    await world.quiet()
    assert len(world.sender.requests) - before == MAXIMUM_IN_FLIGHT
    held.until.set()


async def test_dozens_of_hanging_receivers_leave_a_place_for_another(world: World) -> None:
    hanging = SETTINGS.webhooks.in_flight // 8
    for number in range(hanging):
        url = f"https://hanging{number}.example.com/hooks"
        world.sender.script(url, Holds())
        await world.create_webhook(f"hanging{number}", url)
    await world.publish(*pings(100))
    await world.quiet()
    assert MAXIMUM_IN_FLIGHT * hanging > SETTINGS.webhooks.in_flight > len(world.sender.requests)
    await world.create_webhook("other", OTHER)
    await world.publish(*pings(100, first=1000))
    await world.attempted(world.name("other"), 100)


async def test_a_slow_receiver_does_not_delay_another(world: World) -> None:
    world.sender.script(URL, Holds())
    await world.create_webhook()
    await world.create_webhook("other", OTHER)
    await world.publish(*pings(200))
    await world.attempted(world.name("other"), 200)
    assert sum(request.url == URL for request in world.sender.requests) == MAXIMUM_IN_FLIGHT


async def test_the_message_id_is_the_same_over_all_attempts_and_restarts(either_world: World) -> None:
    world = either_world
    world.sender.script(URL, Answers(500), Answers(500), Answers())
    await world.create_webhook()
    [receipt] = await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
    await world.advance(10)
    await world.attempted(world.name("hook"), 2)
    await world.restart()
    await world.advance(600)
    await world.sent(3)
    name = world.broker.names.name(receipt.position)
    assert {request.headers["webhook-id"] for request in world.sender.requests} == {f"msg_{name.split('/')[1]}"}
    stamps = [request.headers["webhook-timestamp"] for request in world.sender.requests]
    assert len(set(stamps)) == 3


async def test_the_library_of_the_standard_accepts_the_signature(world: World) -> None:
    await world.create_webhook()
    await world.publish(push("p1"))
    await world.sent(1)
    [request] = world.sender.requests
    assert verified(request)
    assert not verified(replace(request, body=request.body + b" "))


async def test_while_a_secret_is_rotated_both_sign_and_the_old_one_stops_when_it_was_said(either_world: World) -> None:
    world = either_world
    await world.create_webhook()
    new, old = await world.broker.subscriptions.rotate_secret(world.name("hook"), 60.0)
    assert (old.secret, old.expire_time, new.expire_time) == (SECRET, world.clock.now() + 60_000_000, None)
    await world.restart()
    await world.publish(ping("p1"))
    await world.sent(1)
    assert verified(world.sender.requests[0], new.secret)
    assert verified(world.sender.requests[0], SECRET)
    await world.advance(60)
    await world.publish(ping("p2"))
    await world.sent(2)
    assert verified(world.sender.requests[1], new.secret)
    assert not verified(world.sender.requests[1], SECRET)
    assert world.broker.subscriptions.signing_secrets(world.name("hook")) == [new]


async def test_a_rotation_does_not_lengthen_the_life_of_a_secret_that_is_ending(world: World) -> None:
    await world.create_webhook()
    subscriptions = world.broker.subscriptions
    await subscriptions.rotate_secret(world.name("hook"), 60.0)
    await subscriptions.rotate_secret(world.name("hook"), 600.0)
    *_, oldest = subscriptions.signing_secrets(world.name("hook"))
    assert (oldest.secret, oldest.expire_time) == (SECRET, world.clock.now() + 60_000_000)


async def test_a_webhook_made_without_a_secret_gets_one(world: World) -> None:
    made = await world.create("hook", delivery=WebhookDelivery(URL, ()))
    [secret] = world.broker.subscriptions.signing_secrets(made.name)
    await world.publish(ping("p1"))
    await world.sent(1)
    assert verified(world.sender.requests[0], secret.secret)
    assert "whsec_" not in repr(made)


async def test_a_stream_subscription_has_no_secrets(world: World) -> None:
    await world.create()
    with pytest.raises(FailedPrecondition):
        world.broker.subscriptions.signing_secrets(world.name())
    with pytest.raises(FailedPrecondition):
        await world.broker.subscriptions.rotate_secret(world.name(), 1.0)


async def test_the_request_has_the_subscription_s_url_and_timeout(world: World) -> None:
    delivery = WebhookDelivery(OTHER, (StoredSecret(SECRET),), timeout=3.0)
    await world.create("hook", delivery=delivery)
    await world.publish(ping("p1"))
    await world.sent(1)
    [request] = world.sender.requests
    assert (request.url, request.timeout, request.connect_timeout) == (OTHER, 3.0, 5.0)


async def test_the_body_is_the_event_in_the_format_of_the_subscription(world: World) -> None:
    await world.create_webhook()
    await world.publish(push("p1"))
    await world.sent(1)
    [request] = world.sender.requests
    document = json.loads(request.body)
    assert (document["id"], document["data"]["repository"]["full_name"]) == ("p1", "meetly/meetly")
    assert request.headers["content-type"].startswith("application/cloudevents+json")


async def test_original_hands_on_what_came_also_on_a_retry_after_a_restart(either_world: World) -> None:
    world = either_world
    world.sender.script(URL, Answers(500), Answers())
    await world.create_webhook(form=Format.ORIGINAL)
    original = Original("application/json", (("x-github-event", "ping"),), b'{"zen": 1 }')
    read = world.broker.reader.read(ping("p1").SerializeToString(), world.clock.now(), original=original)
    await world.broker.publisher.publish([read])
    await world.attempted(world.name("hook"), 1)
    await world.restart()
    await world.advance(10)
    await world.sent(2)
    for request in world.sender.requests:
        assert (request.body, request.headers["x-github-event"]) == (b'{"zen": 1 }', "ping")
        assert request.headers["content-type"] == "application/json"
        assert verified(request)


async def test_an_original_that_storage_could_not_hand_out_is_sent_when_it_can(world: World) -> None:
    await world.create_webhook(form=Format.ORIGINAL)
    original = Original("application/json", (), b'{"zen": 1 }')
    read = world.broker.reader.read(ping("p1").SerializeToString(), world.clock.now(), original=original)
    world.engine.fail("journal.original", 1)
    await world.broker.publisher.publish([read])
    [attempt] = await world.attempted(world.name("hook"), 1)
    assert (attempt.failure, attempt.number) == (SendFailure.OURS.value, 1)
    await world.advance(1)
    await world.sent(1)
    assert world.sender.requests[0].body == b'{"zen": 1 }'
    assert await world.dead_letters(world.name("hook")) == []


async def test_a_drain_waits_for_requests_under_way_and_sends_no_more(either_world: World) -> None:
    world = either_world
    held = Holds()
    world.sender.script(URL, held)
    world.settings = replace(SETTINGS, webhooks=WebhookLimits(2))
    await world.restart()
    await world.create_webhook()
    await world.publish(*pings(5))
    await world.sent(2)
    async with asyncio.TaskGroup() as group:
        draining = group.create_task(world.broker.drain())
        await world.quiet()
        assert not draining.done()
        held.until.set()
    assert len(world.sender.requests) == 2
    await world.stop()
    await world.start()
    await world.sent(5)
    await world.attempted(world.name("hook"), 5)
    assert len(world.sender.requests) == 5


async def test_a_crash_with_requests_under_way_sends_them_again(either_world: World) -> None:
    world = either_world
    world.sender.script(URL, Holds(), Answers())
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.sent(1)
    await world.restart()
    await world.sent(2)


async def test_a_failing_settle_does_not_send_again_what_was_answered(world: World) -> None:
    await world.create_webhook()
    world.engine.fail("cursors.settle", 2)
    await world.publish(ping("p1"))
    await world.sent(1)
    for _ in range(3):
        await world.advance(1)
    assert len(world.sender.requests) == 1
    assert (await world.cursor(world.name("hook"))).state.floor == 1


async def test_a_test_request_is_signed_and_touches_no_delivery(world: World) -> None:
    world.sender.script(URL, Answers(418))
    await world.create_webhook()
    result = await world.broker.receivers.test(world.name("hook"))
    assert result.status == 418
    assert verified(world.sender.requests[0])
    assert json.loads(world.sender.requests[0].body)["type"].endswith("/_/1/_test")
    assert await world.attempts(world.name("hook")) == []


async def test_a_changed_url_is_where_the_next_attempt_goes(world: World) -> None:
    world.sender.script(URL, Answers(500))
    made = await world.create_webhook()
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
    assert isinstance(made.delivery, WebhookDelivery)
    await world.update(made.name, delivery=replace(made.delivery, url=OTHER))
    await world.advance(10)
    await world.sent(2)
    assert [request.url for request in world.sender.requests] == [URL, OTHER]


async def test_custom_headers_go_with_every_attempt_and_never_in_place_of_the_broker_s_own(world: World) -> None:
    headers = (CustomHeader("authorization", "Bearer t-1"), CustomHeader("x-team", "blue"))
    await world.create("hook", delivery=WebhookDelivery(URL, (StoredSecret(SECRET),), headers=headers))
    world.sender.script(URL, Answers(500), Answers())
    await world.publish(ping("p1"))
    await world.sent(1)
    await world.advance(60)
    await world.sent(2)
    await world.broker.receivers.test(world.name("hook"))
    for request in world.sender.requests:
        assert (request.headers["authorization"], request.headers["x-team"]) == ("Bearer t-1", "blue")
        assert verified(request, SECRET)


async def test_custom_headers_outlive_a_restart(either_world: World) -> None:
    world = either_world
    delivery = WebhookDelivery(URL, (StoredSecret(SECRET),), headers=(CustomHeader("x-team", "blue"),))
    made = await world.create("hook", delivery=delivery)
    await world.restart()
    assert world.broker.subscriptions.get(made.name) == made
