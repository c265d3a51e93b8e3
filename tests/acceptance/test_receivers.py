"""Webhook receivers that are away, come back, or hang."""

from __future__ import annotations

import asyncio
from collections import Counter

from google.protobuf.duration_pb2 import Duration

from certes.v1 import subscription_pb2 as resources
from certes.v1.admin_service_pb2 import ListBackoffsRequest, SetBackoffRequest
from certes.v1.admin_service_pb2_grpc import AdminServiceStub
from certes.v1.backoff_pb2 import Backoff
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import PING, connected, event
from tests.acceptance.conftest import StartBroker
from tests.acceptance.github import CONFIG
from tests.acceptance.receiver import Receiver, Request, receiving

KEYS = 4
PATIENCE = 100.0
"""Seconds. A busy machine takes long to start a broker twice; nobody waits for it otherwise."""
EVENTS = 20
"""Of each key, and before and after the receiver goes away."""

SOON_AND_OFTEN = resources.RetryPolicy(
    # With the most attempts there can be, that lasts for longer than a broker needs to start again. A schedule would end it early:
    # it has as many attempts as it lists.
    linear=resources.LinearBackoff(
        initial=Duration(nanos=50_000_000), increment=Duration(nanos=175_000_000), maximum=Duration(nanos=400_000_000)
    ),
    max_attempts=100,
    jitter=0,
)

SHORT_PAUSES = f"{CONFIG}\n[breaker]\npause = '1s'\n"


def events_of(first: int, last: int) -> list:
    return [event(f"k{key}:{number}", key=f"k{key}") for number in range(first, last + 1) for key in range(KEYS)]


def taken_by_key(receiver: Receiver) -> dict[str, list[int]]:
    taken: dict[str, list[int]] = {}
    for request in receiver.taken:
        key, _, number = request.event_id.partition(":")
        taken.setdefault(key, []).append(int(number))
    return taken


def refused_keys(receiver: Receiver) -> Counter[str]:
    return Counter(one.event_id.partition(":")[0] for one in receiver.requests if one.status == 503)


async def test_a_receiver_that_was_down_gets_everything_once_and_in_each_keys_order(start_broker: StartBroker) -> None:
    broker = start_broker(SHORT_PAUSES)
    async with connected(broker) as client, receiving() as receiver:
        name = await client.create_webhook("hook", receiver.url, retry_policy=SOON_AND_OFTEN)
        secrets = await client.signing_secrets(name)
        receiver.status = 503
        await client.publish(events_of(1, EVENTS))
        # The first of each key is tried again and again, and nothing behind it is tried.
        await receiver.until(lambda: len(refused_keys(receiver)) == KEYS and min(refused_keys(receiver).values()) >= 3)
        assert {one.event_id for one in receiver.requests} == {f"k{key}:1" for key in range(KEYS)}
        await receiver.down()
        await client.publish(events_of(EVENTS + 1, 2 * EVENTS))
        receiver.status = 204
        await receiver.up()
        await receiver.until(lambda: len(receiver.taken) >= 2 * EVENTS * KEYS)
    assert taken_by_key(receiver) == {f"k{key}": list(range(1, 2 * EVENTS + 1)) for key in range(KEYS)}
    message_ids: dict[str, set[str]] = {}
    for request in receiver.requests:
        request.verify(secrets)
        message_ids.setdefault(request.event_id, set()).add(request.arrival.headers["webhook-id"])
    assert {len(ids) for ids in message_ids.values()} == {1}, "webhook-id is the same over all attempts"
    assert len(set.union(*message_ids.values())) == 2 * EVENTS * KEYS


async def test_what_waits_for_its_retry_survives_a_crash_and_still_goes_first(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as receiver:
        await client.create_webhook("hook", receiver.url, retry_policy=SOON_AND_OFTEN)
        receiver.status = 503
        await client.publish(events_of(1, EVENTS))
        await receiver.until(lambda: len(refused_keys(receiver)) == KEYS and min(refused_keys(receiver).values()) >= 2)
        await receiver.down()
        broker.kill9()
        await asyncio.to_thread(broker.start)
        receiver.status = 204
        await receiver.up()
        await receiver.until(lambda: len({one.event_id for one in receiver.taken}) == EVENTS * KEYS)
    assert taken_by_key(receiver) == {f"k{key}": list(range(1, EVENTS + 1)) for key in range(KEYS)}


async def test_a_receiver_that_answers_410_gets_nothing_more(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as gone, receiving() as other:
        name = await client.create_webhook("gone", gone.url, retry_policy=SOON_AND_OFTEN)
        await client.create_webhook("other", other.url)
        gone.status = 410
        await client.publish([event("first")])
        await gone.until(lambda: len(gone.requests) == 1)
        await client.until_state(name, resources.Subscription.STATE_DISABLED)
        await client.publish([event("second")])
        await other.until(lambda: len(other.taken) == 2)
    assert [request.event_id for request in gone.requests] == ["first"]


def is_post(request: Request) -> bool:
    return request.arrival.line.startswith("POST ")


async def test_a_receiver_is_sent_nothing_until_it_consents_also_over_a_crash(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as receiver:
        name = await client.create_webhook("hook", receiver.url, require_consent=True)
        secrets = await client.signing_secrets(name)
        await receiver.until(lambda: len(receiver.requests) >= 1, timeout=PATIENCE)
        sent = {"0", "1", "2"}
        await client.publish([event(event_id) for event_id in sent])
        broker.kill9()
        receiver.headers = {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "60000"}
        await asyncio.to_thread(broker.start)
        await receiver.until(
            lambda: {one.event_id for one in filter(is_post, receiver.requests)} == sent, timeout=PATIENCE
        )
    # How often it was asked before the crash, nobody knows.
    methods = [one.arrival.line.partition(" ")[0] for one in receiver.requests]
    questions = methods.index("POST")
    assert set(methods[:questions]) == {"OPTIONS"}
    assert set(methods[questions:]) == {"POST"}
    for request in receiver.requests[questions:]:
        request.verify(secrets)
    assert len({one.arrival.headers["webhook-request-origin"] for one in receiver.requests}) == 1


async def test_receivers_that_hang_delay_no_other(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as hanging, receiving() as prompt:
        hanging.status = None
        for number in range(2):
            await client.create_webhook(f"hanging{number}", hanging.url)
        await client.create_webhook("prompt", prompt.url)
        await client.publish([event(f"warm-up {number}") for number in range(100)])
        await hanging.until(lambda: len(hanging.requests) >= 2)
        await client.publish([event(f"{number}") for number in range(400)])
        await prompt.until(lambda: len(prompt.taken) == 500, timeout=HANGING_FOR / 2)
        assert hanging.taken == []
        assert len(hanging.requests) < 500, "a receiver that does not answer has a few requests under way, not all"


async def test_a_receiver_that_fails_is_left_alone_for_a_while_and_then_gets_everything(
    start_broker: StartBroker,
) -> None:
    broker = start_broker(SHORT_PAUSES)
    async with connected(broker) as client, receiving() as receiver:
        await client.create_webhook("hook", receiver.url, retry_policy=SOON_AND_OFTEN)
        receiver.status = 500
        await client.publish([event(f"{number}") for number in range(20)])
        await receiver.until(lambda: len(receiver.requests) >= 10)
        # Twenty deliveries that are due again every 400 ms would be hundreds of requests by the third probe.
        soon = len(receiver.requests)
        await receiver.until(lambda: len(receiver.requests) >= soon + 3)
        assert len(receiver.requests) < 60
        receiver.status = 204
        await receiver.until(lambda: len({one.event_id for one in receiver.taken}) == 20)


async def test_a_receiver_refuses_one_delivery_for_good_and_then_all(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as receiver:
        name = await client.create_webhook("hook", receiver.url, retry_policy=SOON_AND_OFTEN)
        receiver.status, receiver.headers = 422, {"Webhook-Delivery": "abort"}
        await client.publish([event("refused")])
        await receiver.until(lambda: len(receiver.requests) == 1)
        receiver.status, receiver.headers = 204, {}
        await client.publish([event("taken")])
        await receiver.until(lambda: len(receiver.taken) == 1)
        receiver.headers = {"Webhook-Delivery": "disable"}
        await client.publish([event("last")])
        await client.until_state(name, resources.Subscription.STATE_DISABLED)
        await client.publish([event("never")])
        # Long enough for what was refused to have come again, if it were to.
        broker.kill9()
        await asyncio.to_thread(broker.start)
        await client.until_state(name, resources.Subscription.STATE_DISABLED)
    assert [request.event_id for request in receiver.requests] == ["refused", "taken", "last"]


async def test_a_default_retry_policy_holds_at_once_and_over_a_crash(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as receiver:
        admin = AdminServiceStub(client.channel)
        soon = resources.LinearBackoff(initial=Duration(nanos=100_000_000), increment=Duration())
        policy = resources.RetryPolicy(linear=soon, max_attempts=100, jitter=0)
        backoff = Backoff(name=f"backoffs/types/{PING}", retry_policy=policy)
        await client.create_webhook("hook", receiver.url)
        receiver.status = 503
        await admin.SetBackoff(SetBackoffRequest(backoff=backoff))
        await client.publish([event("first")])
        # By the policy that is built in there would be two in five minutes.
        await receiver.until(lambda: len(receiver.requests) >= 3)
        broker.kill9()
        await asyncio.to_thread(broker.start)
        before = len(receiver.requests)
        await receiver.until(lambda: len(receiver.requests) >= before + 3)
        receiver.status = 204
        [kept] = (await admin.ListBackoffs(ListBackoffsRequest(), wait_for_ready=True)).backoffs
        assert (kept.name, kept.retry_policy.linear.initial) == (backoff.name, soon.initial)
        await receiver.until(lambda: len(receiver.taken) == 1)


HANGING_FOR = 15
"""Seconds until the broker gives up on a request; whoever had to wait for that comes too late."""
