"""DeliveryService and DeleteSubscriberData over the JSON API: what is asked, what is refused, and what is shown to whom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from certes_broker.broker.stream import StreamLimits
from certes_broker.domain.access import Role
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.settlement import Nack, NackAction, Settlement
from tests.contracts.http_gateway import GITHUB, Gateway, gateway, refusal
from tests.contracts.test_callers import OPERATOR, bearer, event, made

APP = "subscribers/org_1/subscriptions/app"


async def deliveries(served: Gateway, rpc: str, request: dict[str, Any], key: str = "") -> dict[str, Any]:
    headers = bearer(key) if key else None
    answer = await served.client.post(f"/api/certes.v1.DeliveryService/{rpc}", json=request, headers=headers)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def rejected(served: Gateway, *event_ids: str) -> None:
    """Makes a subscription whose stream will not have these events."""
    wanted = {"selectors": [{"pattern": f"{GITHUB}/*"}], "stream": {}}
    request = {"parent": "subscribers/org_1", "subscriptionId": "app", "subscription": wanted}
    created = await served.call("SubscriptionService/CreateSubscription", request)
    assert created.status_code == 200, created.text
    stream = await served.broker.streams.open(SubscriptionName("org_1", "app"), StreamLimits(100, 1 << 20))
    frames = stream.frames()
    await anext(frames)
    published = await served.call("Publish", {"events": [event(id=one) for one in event_ids]})
    assert published.status_code == 200, published.text
    await anext(frames)
    nack = Nack(1, len(event_ids), NackAction.DEAD_LETTER, None, "no")
    await served.broker.streams.acknowledge(stream.name, Settlement((), (nack,), ()))
    await stream.close()


async def test_dead_letters_are_listed_shown_replayed_and_purged() -> None:
    async with gateway() as served:
        await rejected(served, "a", "b", "c")
        page = await deliveries(served, "ListDeadLetters", {"parent": APP, "pageSize": 2})
        assert [one["eventId"] for one in page["deadLetters"]] == ["a", "b"]
        assert (page["totalSize"], "replayingSize" in page) == (3, False)
        first, second = page["deadLetters"]
        assert (first["reason"], first["error"], first["attempts"]) == ("REASON_REJECTED", "no", 1)
        rest = await deliveries(served, "ListDeadLetters", {"parent": APP, "pageToken": page["nextPageToken"]})
        assert [one["eventId"] for one in rest["deadLetters"]] == ["c"]

        shown = await deliveries(served, "GetDeadLetter", {"name": first["name"]})
        assert (shown["deadLetter"], shown["event"]) == (first, await served.kept(first["event"]))

        assert await deliveries(served, "ReplayDeadLetters", {"parent": APP, "names": [first["name"]]}) == {
            "replayedCount": 1
        }
        again = await deliveries(served, "ReplayDeadLetters", {"parent": APP, "filter": {"reason": "REASON_REJECTED"}})
        assert again == {"replayedCount": 2, "replayingCount": 1}
        page = await deliveries(served, "ListDeadLetters", {"parent": APP})
        assert (page["replayingSize"], [one["replaying"] for one in page["deadLetters"]]) == (3, [True] * 3)
        assert await deliveries(served, "PurgeDeadLetters", {"parent": APP, "names": [second["name"]]}) == {
            "replayingCount": 1
        }


async def test_a_purge_of_all_says_how_many_went() -> None:
    async with gateway() as served:
        await rejected(served, "a", "b")
        assert await deliveries(served, "PurgeDeadLetters", {"parent": APP, "filter": {}}) == {"purgedCount": 2}
        assert await deliveries(served, "ListDeadLetters", {"parent": APP}) == {}


@pytest.mark.parametrize(
    ("rpc", "request_", "reason", "said"),
    [
        ("ListDeadLetters", {}, "FIELD_REQUIRED", "parent"),
        ("ListDeadLetters", {"parent": "subscribers/org_1"}, "MALFORMED_NAME", "parent"),
        ("ListDeadLetters", {"parent": APP, "filter": {"pattern": "x"}}, "UNMATCHABLE_PATTERN", "filter.pattern"),
        ("ListDeadLetters", {"parent": APP, "pageToken": "x"}, "PAGE_TOKEN_INVALID", "page"),
        ("GetDeadLetter", {"name": APP}, "MALFORMED_NAME", "deadLetters"),
        ("ReplayDeadLetters", {"parent": APP}, "FIELD_REQUIRED", "filter"),
        ("PurgeDeadLetters", {"parent": APP}, "FIELD_REQUIRED", "filter"),
        ("PurgeDeadLetters", {"parent": APP, "names": ["x"], "filter": {}}, "FIELD_INVALID", "filter"),
        (
            "PurgeDeadLetters",
            {"parent": APP, "names": ["subscribers/org_1/subscriptions/b/deadLetters/1"]},
            "FIELD_INVALID",
            "names[0]",
        ),
        ("Redeliver", {"subscription": APP}, "FIELD_REQUIRED", "event"),
    ],
)
async def test_what_cannot_be_meant_is_refused_and_says_where(
    rpc: str, request_: dict[str, Any], reason: str, said: str
) -> None:
    async with gateway() as served:
        await rejected(served, "a")
        answer = await served.call(f"DeliveryService/{rpc}", request_)
        assert refusal(answer) == (400, reason)
        assert said in answer.json()["message"]


async def test_what_there_is_not_is_not_found() -> None:
    async with gateway() as served:
        await rejected(served, "a")
        for rpc, request in (
            ("GetDeadLetter", {"name": f"{APP}/deadLetters/{'0' * 32}"}),
            ("PurgeDeadLetters", {"parent": APP, "names": [f"{APP}/deadLetters/x"]}),
        ):
            assert refusal(await served.call(f"DeliveryService/{rpc}", request)) == (404, "DEAD_LETTER_NOT_FOUND")
        request = {"event": f"events/{'0' * 32}", "subscription": APP}
        assert refusal(await served.call("DeliveryService/Redeliver", request)) == (404, "EVENT_NOT_FOUND")
        request = {"parent": "subscribers/org_1/subscriptions/none"}
        answer = await served.call("DeliveryService/ListAttempts", request)
        assert refusal(answer) == (404, "SUBSCRIPTION_NOT_FOUND")


async def test_an_event_is_redelivered_to_those_only_whom_it_may_reach() -> None:
    async with gateway(operator_key=OPERATOR) as served:
        await rejected(served, "a")
        theirs = (await served.call("Publish", {"events": [event(id="z", subscriber="org_2")]})).json()["results"][0]
        answer = await served.call("DeliveryService/Redeliver", {"event": theirs["name"], "subscription": APP})
        assert refusal(answer) == (400, "FIELD_INVALID")
        key = await made(served, "tenant", Role.DELIVERIES_READ, Role.DELIVERIES_WRITE)
        answer = await served.client.post(
            "/api/certes.v1.DeliveryService/Redeliver",
            json={"event": theirs["name"], "subscription": APP},
            headers=bearer(key),
        )
        assert refusal(answer) == (404, "EVENT_NOT_FOUND")
        own = (await deliveries(served, "ListDeadLetters", {"parent": APP}, key))["deadLetters"][0]
        assert await deliveries(served, "Redeliver", {"event": own["event"], "subscription": APP}, key) == {}
        again = await deliveries(served, "Redeliver", {"event": own["event"], "subscription": APP}, key)
        assert again == {"alreadyDue": True}


async def test_who_is_bound_to_another_subscriber_sees_no_dead_letters_and_may_replay_none() -> None:
    async with gateway(operator_key=OPERATOR) as served:
        await rejected(served, "a")
        key = await made(served, "tenant", Role.DELIVERIES_READ, Role.DELIVERIES_WRITE)
        parent = "subscribers/org_2/subscriptions/app"
        for rpc, request in (
            ("ListDeadLetters", {"parent": parent}),
            ("GetDeadLetter", {"name": f"{parent}/deadLetters/{'0' * 32}"}),
            ("ReplayDeadLetters", {"parent": parent, "filter": {}}),
            ("PurgeDeadLetters", {"parent": parent, "filter": {}}),
            ("ListAttempts", {"parent": parent}),
        ):
            path = f"/api/certes.v1.DeliveryService/{rpc}"
            assert refusal(await served.client.post(path, json=request, headers=bearer(key))) == (403, "NOT_BOUND_TO")


async def test_an_operator_erases_a_subscriber_and_is_told_what_went_and_what_remains() -> None:
    async with gateway(operator_key=OPERATOR) as served:
        await rejected(served, "a", "b")
        async with asyncio.timeout(50):
            # It is told of its dead letters by an event, which goes as well.
            while served.broker.publisher.accepted < 3:  # noqa: ASYNC110  it waits for no time
                await asyncio.sleep(0)
        key = await made(served, "tenant", *Role)
        path = "/api/certes.v1.AdminService/DeleteSubscriberData"
        request = {"name": "subscribers/org_1"}
        assert refusal(await served.client.post(path, json=request, headers=bearer(key))) == (403, "NOT_BOUND_TO")
        answer = (await served.client.post(path, json=request)).json()
        assert (answer["subscriptions"], answer["events"]) == ("1", "3")
        assert any("dedupe.window" in sentence for sentence in answer["remains"])
        assert (await served.call("ListEvents", {"parent": "subscribers/-"})).json() == {}
        for name in ("", "org_1", "subscribers/-"):
            assert refusal(await served.client.post(path, json={"name": name}))[0] == 400
