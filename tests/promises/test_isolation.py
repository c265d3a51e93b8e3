"""Isolation.

A slow, dead or hostile receiver costs the others nothing: it has a lane and limits of its own, and takes bounded memory of the broker.
What it did not take is kept for it, and it decides what it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from certes.v1 import subscription_pb2 as resources
from certes.v1.admin_service_pb2 import ListBackoffsRequest, SetBackoffRequest
from certes.v1.admin_service_pb2_grpc import AdminServiceStub
from certes.v1.backoff_pb2 import Backoff
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import PING, connected, event
from tests.acceptance.conftest import StartBroker
from tests.acceptance.receiver import Request, receiving
from tests.acceptance.retries import SOON_AND_OFTEN
from tests.promises.misbehaving import WELL, staged

PATIENCE = 120.0
"""Seconds. A busy machine takes long to start a broker twice; nobody waits for it otherwise."""
HANGING_FOR = 60
"""Seconds until the broker gives up on a request; whoever had to wait for that comes too late."""
SHORT_PAUSES = "[breaker]\npause = '1s'\n"
MEBIBYTE = 1 << 20
ROUNDS = 3
"""Of events for the one that is well, while the others misbehave, at least."""
GROWTH = 64 * MEBIBYTE
"""What the broker may hold more while they do. One answer that is kept whole would be 10 GB."""


async def test_receivers_that_hang_or_are_gone_delay_no_other(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as hanging, receiving() as gone, receiving() as prompt:
        hanging.status = None
        await gone.down()
        for number in range(2):
            await client.create_webhook(f"hanging{number}", hanging.url, timeout=Duration(seconds=HANGING_FOR))
        await client.create_webhook("gone", gone.url)
        await client.create_webhook("prompt", prompt.url)
        await client.publish([event(f"warm-up {number}") for number in range(100)])
        await hanging.until(lambda: len(hanging.requests) >= 2)
        await client.publish([event(f"{number}") for number in range(400)])
        await prompt.until(lambda: len(prompt.taken) == 500, timeout=HANGING_FOR - 5)
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


async def test_receivers_that_misbehave_stop_no_other_lose_nothing_and_take_no_memory(
    start_broker: StartBroker, report: Callable[[str], None]
) -> None:
    broker = start_broker(SHORT_PAUSES)
    async with staged(broker) as stage:
        for name in stage.receivers:
            await stage.publish(name)
        await stage.all_arrive(*stage.receivers)
        before = memory(broker)

        stage.server.misbehave()
        for name in stage.bad:
            stage.receivers[name].requests = 0
            await stage.publish(name)
        rounds = 0
        async with asyncio.timeout(PATIENCE):
            while rounds < ROUNDS or not all(stage.receivers[name].requests for name in stage.bad):
                await stage.publish(WELL)
                await stage.all_arrive(WELL)
                rounds += 1
        held = memory(broker)
        requests = {stage.receivers[name].misbehaviour: stage.receivers[name].requests for name in stage.bad}
        report(f"{(held - before) / MEBIBYTE:+.0f} MiB on {before / MEBIBYTE:.0f} while they misbehaved: {requests}")
        assert stage.missing(*stage.bad), "what is not taken is still to come"
        assert held - before < GROWTH

        stage.server.behave()
        await stage.all_arrive(*stage.receivers)


def memory(broker: BrokerProcess) -> int:
    """What the process holds in memory, in bytes."""
    status = Path(f"/proc/{broker.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


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


def is_post(request: Request) -> bool:
    return request.arrival.line.startswith("POST ")


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
