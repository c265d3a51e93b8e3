"""Two brokers on one NATS server: what is asked of one of them concerns what the other has, and what it had left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode
from grpc.aio import AioRpcError

from certes.v1 import admin_service_pb2 as admin_pb
from certes.v1 import admin_service_pb2_grpc as admin_rpc
from certes.v1 import event_pb2
from certes.v1 import event_service_pb2 as pb
from certes.v1 import subscription_pb2 as resources
from certes.v1 import subscription_service_pb2 as subscriptions_pb
from certes.v1.operational_events_pb2 import DeliveryExhausted, SubscriptionDisabled
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import SUBSCRIBER, Client, connected, event, ordinals, receive_all
from tests.acceptance.receiver import Receiver, receiving
from tests.acceptance.test_nats import settings
from tests.fakes.nats_servers import NatsServer, running

DOMAIN = "events.example.com"
EXHAUSTED, DISABLED = f"{DOMAIN}/_/1/_delivery_exhausted", f"{DOMAIN}/_/1/_subscription_disabled"
ONCE = resources.RetryPolicy(schedule=resources.ScheduleBackoff(delays=[Duration()]), max_attempts=1)
PATIENCE = 120.0
ORG, OTHER = "subscribers/org_1", "subscribers/org_2"
THEIRS = "the name of somebody who wants to be forgotten"
OTHERS = "the name of another"
HOOKS = 4
"""So many webhooks of each sort: they are at both brokers, as a rule."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[NatsServer]:
    with running(directory / "nats") as cluster:
        yield cluster.servers[0]


@pytest.fixture(scope="module")
def brokers(directory: Path, server: NatsServer) -> Iterator[Sequence[BrokerProcess]]:
    """The two, for each test to start. It may leave them in any state."""
    config = directory / "broker.toml"
    config.write_text(f'domain = "{DOMAIN}"\n{settings(server)}')
    with ExitStack() as stack:
        yield [stack.enter_context(BrokerProcess(directory / name, config=config)) for name in ("one", "other")]


async def start(*brokers: BrokerProcess) -> None:
    for broker in brokers:
        if not broker.is_running:
            await asyncio.to_thread(broker.start, PATIENCE)


async def kept_events(client: Client, subscriber: str, pattern: str = "") -> list[event_pb2.Event]:
    """The events for a subscriber alone."""
    request = pb.ListEventsRequest(parent=subscriber, pattern=pattern, page_size=1000)
    found = [one.event for one in (await client.events.ListEvents(request)).events]
    return [one for one in found if not one.everyone]


async def told(client: Client, count: int) -> tuple[list[DeliveryExhausted], list[SubscriptionDisabled]]:
    """Waits until so many notices of each sort are there, at the least, and returns all that there are."""
    async with asyncio.timeout(PATIENCE):
        while True:
            dead, disabled = [await kept_events(client, SUBSCRIBER, one) for one in (EXHAUSTED, DISABLED)]
            if len(dead) >= count <= len(disabled):
                return (
                    [DeliveryExhausted.FromString(one.data.value) for one in dead],
                    [SubscriptionDisabled.FromString(one.data.value) for one in disabled],
                )


async def give_up(client: Client, name: str, event_id: str) -> None:
    """Lets a delivery become a dead letter."""
    stream = client.subscribe(name)
    opened = await stream.read()
    assert [one.event.id for one in (await stream.read()).batch.deliveries] == [event_id]
    nack = pb.AcknowledgeRequest.Nack(range=ordinals(1, 1), action=pb.AcknowledgeRequest.ACTION_DEAD_LETTER)
    await client.events.Acknowledge(pb.AcknowledgeRequest(stream=opened.opened.stream, nacked=[nack]))
    stream.cancel()


async def test_what_a_killed_broker_had_not_told_the_other_tells_once(brokers: Sequence[BrokerProcess]) -> None:
    one, other = brokers
    # It is alone, so that everything comes about at it.
    await start(one)
    async with receiving() as receiver:
        receiver.status = 410
        async with connected(one) as client:
            hook = await client.create_webhook("hook", receiver.url)
            app = await client.create_stream("app")
            await client.publish([event("e1")])
            await give_up(client, app, "e1")
            await told(client, 1)
            # It tells the next of these when a minute is over.
            await client.resume(hook)
            await client.until_state(hook, resources.Subscription.STATE_DISABLED)
            await client.publish([event("e2")])
            await give_up(client, app, "e2")
            await start(other)
            one.kill9()
    async with connected(other) as client:
        dead, disabled = await told(client, 2)
        await start(one)
        assert await told(client, 2) == (dead, disabled)
    assert [[letter.id for letter in notice.deliveries] for notice in dead] == [["e1"], ["e2"]]
    assert [(notice.subscription, notice.count) for notice in disabled] == [(hook, 1), (hook, 1)]


async def test_a_subscriber_is_erased_at_one_broker_whichever_has_what_is_its(
    brokers: Sequence[BrokerProcess], server: NatsServer, directory: Path
) -> None:
    await start(*brokers)
    async with connected(brokers[0]) as first, connected(brokers[1]) as second:
        async with receiving() as failing, receiving() as hanging:
            await hook(first, failing, hanging)
            app, others = [await first.create_stream("app", parent=parent) for parent in (ORG, OTHER)]
            await second.publish([event("theirs", text=THEIRS, subscriber="org_1")])
            await second.publish([event("other", text=OTHERS, subscriber="org_2")])
            await give_up(first, app, "theirs")
            await hanging.until(lambda: len(hanging.requests) == HOOKS)
            for number in range(HOOKS):
                await second.attempts(f"{ORG}/subscriptions/failing{number}", 1)
            held = first.subscribe(others)
            assert [(await held.read()).WhichOneof("frame") for _ in range(2)] == ["opened", "batch"]
            assert kept(directory, THEIRS)

            request = admin_pb.DeleteSubscriberDataRequest(name=ORG)
            report = await admin_rpc.AdminServiceStub(second.channel).DeleteSubscriberData(request)
            assert (report.subscriptions, report.attempts) == (2 * HOOKS + 1, HOOKS)
            await without(first, ORG)
            await again(first)
            # What was under way at either broker ends, and nothing of it is kept.
            hanging.status, hanging.body = 500, THEIRS.encode()
            hanging.answer_all()
            for client in (first, second):
                await idle(client)
            held.cancel()
        await goes_on(first, second, others)
        server.kill()
        assert not kept(directory, THEIRS)
        assert kept(directory, OTHERS)
        await asyncio.to_thread(server.restart)
        assert await receive_all(second, others, {"after"}) == ["after"]


async def hook(client: Client, failing: Receiver, hanging: Receiver) -> None:
    """Makes webhooks whose receivers answer with what is to be forgotten, at once or later."""
    failing.status, failing.body = 500, THEIRS.encode()
    hanging.status = None
    for number in range(HOOKS):
        for name, receiver in (("failing", failing), ("hanging", hanging)):
            await client.create_webhook(f"{name}{number}", receiver.url, parent=ORG, retry_policy=ONCE)


async def without(client: Client, parent: str) -> None:
    """Returns when a broker has heard that a subscriber has no subscriptions any more."""
    request = subscriptions_pb.ListSubscriptionsRequest(parent=parent, show_deleted=True)
    async with asyncio.timeout(PATIENCE):
        while (await client.subscriptions.ListSubscriptions(request)).subscriptions:
            """It is being told."""


async def again(client: Client) -> None:
    """Publishes what was erased once more, as one who has not had the answer: it is a duplicate, and brings nothing back."""
    [result] = await client.publish([event("theirs", text=THEIRS, subscriber="org_1")])
    assert result.duplicate
    with pytest.raises(AioRpcError) as refused:
        await client.publish([event("theirs", text="other", subscriber="org_1")])
    assert refused.value.code() is StatusCode.ALREADY_EXISTS


async def idle(client: Client) -> None:
    """Returns when no webhook is under way at a broker."""
    stub = admin_rpc.AdminServiceStub(client.channel)
    async with asyncio.timeout(PATIENCE):
        while (await stub.GetStats(admin_pb.GetStatsRequest())).webhooks_in_flight:
            """They are being answered."""


async def goes_on(first: Client, second: Client, others: str) -> None:
    """What others have is whole, and whoever publishes for the subscriber begins anew."""
    [other] = await kept_events(first, OTHER)
    assert (other.id, OTHERS.encode() in other.data.value) == ("other", True)
    assert await kept_events(first, ORG) == []
    assert await receive_all(second, others, {"other"}) == ["other"]
    app = await second.create_stream("app", parent=ORG)
    await first.publish([event("new", subscriber="org_1"), event("after", subscriber="org_2")])
    assert await receive_all(first, app, {"new"}) == ["new"]


def kept(directory: Path, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in directory.rglob("*") if path.is_file())
