"""Selector changes.

New selectors apply from what the subscription has not read yet. What it has read and not settled stays owed, whatever the new selectors
say, also across a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from certes.community.github.v1 import push_event_pb2
from certes.v1 import event_pb2
from certes.v1 import subscription_pb2 as resources
from certes.v1 import subscription_service_pb2 as subscriptions_pb
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import PING, Client, connected, event, ordinals, receive_all
from tests.promises.readers import open_reader

PUSH = "community.certes.dev/github/1/push"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One for all: each test has a subscriber of its own."""
    with BrokerProcess(tmp_path_factory.mktemp("selectors") / "broker") as process:
        yield process.start()


def ping(event_id: str, subscriber: str) -> event_pb2.Event:
    return event(event_id, subscriber=subscriber, source=subscriber)


def push(event_id: str, subscriber: str) -> event_pb2.Event:
    made = ping(event_id, subscriber)
    made.type = PUSH
    made.data.Pack(push_event_pb2.PushEvent())
    return made


async def select(client: Client, name: str, pattern: str) -> None:
    """Gives a subscription another selector instead of what it had."""
    wanted = resources.Subscription(name=name, selectors=[resources.Selector(pattern=pattern)])
    mask = FieldMask(paths=["selectors"])
    await client.subscriptions.UpdateSubscription(
        subscriptions_pb.UpdateSubscriptionRequest(subscription=wanted, update_mask=mask)
    )


async def test_new_selectors_apply_from_what_the_subscription_has_not_read_yet(broker: BrokerProcess) -> None:
    async with connected(broker) as client:
        name = await client.create_stream("app", PING, parent="subscribers/unread")
        await client.publish([ping("ping 1", "unread"), push("push 1", "unread")])
        await select(client, name, PUSH)
        await client.publish([ping("ping 2", "unread"), push("push 2", "unread")])
        assert await receive_all(client, name, {"push 2"}) == ["push 1", "push 2"]


async def test_what_was_read_and_not_settled_stays_owed_whatever_the_new_selectors_say_also_over_a_kill(
    broker: BrokerProcess,
) -> None:
    async with connected(broker) as client:
        name = await client.create_stream("app", PING, parent="subscribers/read")
        reader = await open_reader(client, name, 10)
        await client.publish([ping("settled", "read"), ping("owed", "read"), push("not wanted then", "read")])
        await reader.has({"settled", "owed"})
        await client.acknowledge(reader.stream, ordinals(1, 1))
        await select(client, name, PUSH)
        broker.kill9()
        reader.cancel()
        await asyncio.to_thread(broker.start)
        await client.channel.channel_ready()
        await client.publish([ping("not wanted any more", "read"), push("wanted now", "read")])
        came = await receive_all(client, name, {"owed", "wanted now"})
        assert sorted(came) == ["owed", "wanted now"]
