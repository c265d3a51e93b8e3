"""Privacy.

An event for a subscriber is seen by that subscriber only, and a forgotten audience never broadcasts. Nobody learns from errors, names,
counts or positions what others have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from certes.community.github.v1.ping_event_pb2 import PingEvent
from certes.v1 import event_service_pb2 as pb
from certes.v1.event_pb2 import Event
from certes.v1.system_events_pb2 import SchemaDrift
from tests.acceptance.client import ALL_OF_GITHUB, Frames, connected
from tests.promises.callers import Caller, asking_for_keys, caller, ping, refusal

PING = "community.certes.dev/github/1/ping"
UNKNOWN_FIELD = b"\xf8\x3e\x01"
PATTERN = {"selectors": [{"pattern": ALL_OF_GITHUB}]}
BUSY = 64
"""Events for the other subscriber between two for the first. That so many names are in order by chance does not happen."""

PARENT, SUBSCRIPTION = "subscribers/{subscriber}", "subscribers/{subscriber}/subscriptions/{subscription}"
QUESTIONS = {
    "EventService/GetEvent": {"name": "{event}"},
    "EventService/ListEvents": {"parent": PARENT},
    "SubscriptionService/ListSubscriptions": {"parent": PARENT},
    "SubscriptionService/GetSubscription": {"name": SUBSCRIPTION},
    "SubscriptionService/PauseSubscription": {"name": SUBSCRIPTION},
    "SubscriptionService/DeleteSubscription": {"name": SUBSCRIPTION},
    "DeliveryService/ListDeadLetters": {"parent": SUBSCRIPTION},
    "DeliveryService/ListAttempts": {"parent": SUBSCRIPTION},
    "DeliveryService/Redeliver": {"subscription": SUBSCRIPTION, "event": "{event}"},
}


@dataclass
class Tenants:
    """Two subscribers of one broker, each with a key that is bound to it, and the operator, who publishes for both."""

    operator: Caller
    ours: Caller
    theirs: Caller
    shop: Caller
    """One that publishes for the first."""

    def publish(self, *events: dict[str, Any]) -> list[str]:
        """Publishes; returns the names of the events."""
        answer = self.operator.publish(*events)
        assert answer.status_code == 200, answer.text
        return [one["name"] for one in answer.json()["results"]]


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with asking_for_keys(tmp_path_factory.mktemp("privacy")) as operator:
        ours, theirs = (
            caller(operator, who.replace("_", "-"), "subscriber", subscribers=[who]) for who in ("org_1", "org_2")
        )
        shop = caller(operator, "shop", "publisher", subscribers=["org_1"], sources=["//shop"])
        yield Tenants(operator, ours, theirs, shop)


def test_an_event_for_a_subscriber_is_seen_by_that_subscriber_only(tenants: Tenants) -> None:
    our, their, public = tenants.publish(
        ping("our", subscriber="org_1"), ping("their", subscriber="org_2"), ping("public", everyone=True)
    )
    for tenant, who, seen in ((tenants.ours, "org_1", {our, public}), (tenants.theirs, "org_2", {their, public})):
        listed = tenant.ask("EventService/ListEvents", parent=f"subscribers/{who}")["events"]
        assert {one["name"] for one in listed} == seen
    assert refusal(tenants.ours.call("EventService/GetEvent", name=their))[0] == 404


def test_an_event_whose_audience_was_forgotten_is_refused(tenants: Tenants) -> None:
    assert tenants.operator.publish(ping("for nobody")).status_code == 400


def test_what_is_anothers_is_answered_like_what_does_not_exist(tenants: Tenants) -> None:
    [event, other] = tenants.publish(*(ping(one, subscriber="org_2") for one in ("secret", "more")))
    tenants.theirs.ask(
        "SubscriptionService/CreateSubscription",
        parent="subscribers/org_2",
        subscriptionId="orders",
        subscription=PATTERN | {"stream": {}},
    )
    made_up = other.translate(str.maketrans("0123456789", "9876543210"))
    existing = {"subscriber": "org_2", "subscription": "orders", "event": event}
    absent = {"subscriber": "org_3", "subscription": "nothing", "event": made_up}
    for rpc, request in QUESTIONS.items():
        status, told = said(tenants.ours, rpc, request, existing)
        assert status >= 400, rpc
        assert (status, told) == said(tenants.ours, rpc, request, absent), rpc


async def test_names_counts_and_positions_tell_nothing_of_what_others_have(tenants: Tenants) -> None:
    [before] = tenants.publish(ping("before", subscriber="org_1"))
    subscription = tenants.ours.ask(
        "SubscriptionService/CreateSubscription",
        parent="subscribers/org_1",
        subscriptionId="watch",
        subscription=PATTERN | {"stream": {}},
    )["subscription"]
    theirs = tenants.publish(*(ping(f"busy {number}", subscriber="org_2") for number in range(BUSY)))
    assert sorted(theirs) != theirs, "names do not count"
    [first, second] = tenants.publish(*(ping(f"ours {number}", subscriber="org_1") for number in range(2)))
    async with connected(tenants.ours.broker) as client:
        request = pb.SubscribeRequest(subscription=subscription["name"])
        frames: Frames = client.events.Subscribe(request, metadata=tenants.ours.metadata)
        came: dict[int, str] = {}
        while len(came) < 2:
            batch = (await frames.read()).batch
            came |= {number: one.name for number, one in enumerate(batch.deliveries, batch.first_ordinal)}
        frames.cancel()
    assert came == {1: first, 2: second}, "ordinals are the stream's own"
    page = tenants.ours.ask("EventService/ListEvents", parent="subscribers/org_1", pageSize=100)
    names = [one["name"] for one in page["events"]]
    assert set(theirs).isdisjoint(names)
    assert {before, first, second} <= set(names)
    assert "nextPageToken" not in page
    after = tenants.ours.ask("SubscriptionService/GetSubscription", name=subscription["name"])["subscription"]
    assert after["etag"] == subscription["etag"], "an etag does not count what others do"
    assert refusal(tenants.ours.call("AdminService/GetStats")) == (403, "ROLE_MISSING")


async def test_what_a_schema_does_not_know_of_an_event_is_told_to_nobody_whom_the_event_is_not_for(
    tenants: Tenants,
) -> None:
    drift = {"pattern": "community.certes.dev/github/1/_drift"}
    value = PingEvent(zen="keep it simple").SerializeToString() + UNKNOWN_FIELD
    data = {"type_url": f"type.googleapis.com/{PingEvent.DESCRIPTOR.full_name}", "value": value}
    theirs = Event(id="their secret", type=PING, source="//theirs", subscriber="org_2", data=data)
    async with connected(tenants.operator.broker) as client:
        start = {"parent": "subscribers/org_2", "selectors": [drift]}
        frames: Frames = client.events.Subscribe(pb.SubscribeRequest(ephemeral=start), metadata=tenants.theirs.metadata)
        assert (await frames.read()).HasField("opened")
        # Whoever may not publish it makes nobody hear of it either.
        forged = Event()
        forged.CopyFrom(theirs)
        forged.id = "forged"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.events.Publish(pb.PublishRequest(events=[forged]), metadata=tenants.shop.metadata)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        # Of a type one event in sixteen is looked at.
        for number in range(16):
            theirs.id = f"their secret {number}"
            await client.events.Publish(pb.PublishRequest(events=[theirs]), metadata=tenants.operator.metadata)
        [delivery] = (await frames.read()).batch.deliveries
        frames.cancel()
    told = SchemaDrift.FromString(delivery.event.data.value)
    assert (told.source, told.event_id.startswith("their secret")) == ("//theirs", True)
    listed = tenants.ours.ask("EventService/ListEvents", parent="subscribers/org_1", pattern=drift["pattern"])
    assert listed == {}


def said(caller: Caller, rpc: str, request: dict[str, str], about: dict[str, str]) -> tuple[int, str]:
    """What a question is answered with, but for the names that were asked about."""
    answer = caller.call(rpc, **{field: text.format(**about) for field, text in request.items()})
    body = answer.json()
    # Encoded once more, for those who read protobuf.
    body["details"] = [detail["debug"] for detail in body.get("details", ())]
    told = json.dumps(body)
    for what, name in about.items():
        told = told.replace(name, what)
    return answer.status_code, told
