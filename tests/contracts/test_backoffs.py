"""Default retry policies over the API: set, listed, deleted, and asked for where they hold."""

from __future__ import annotations

from typing import Any

import pytest

from certes_broker.domain.access import Role
from tests.contracts.http_gateway import Gateway, gateway, refusal
from tests.contracts.test_callers import OPERATOR, bearer, made

PUSH = "community.certes.dev/github/1/push"
GLOBAL, TYPE, SOURCE = "backoffs/global", f"backoffs/types/{PUSH}", "backoffs/sources/sources/github"
HOOK = "subscribers/org_1/subscriptions/hook"


def policy(seconds: int) -> dict[str, Any]:
    return {"exponential": {"initial": f"{seconds}s"}}


async def put(served: Gateway, name: str, seconds: int = 1, **fields: Any) -> Any:
    backoff = {"name": name, "retryPolicy": policy(seconds), **fields}
    return await served.call("AdminService/SetBackoff", {"backoff": backoff})


async def subscribed(served: Gateway, **fields: Any) -> None:
    wanted = {"selectors": [{"pattern": PUSH}], "webhook": {"url": "https://example.com/hook"}, **fields}
    request = {"parent": "subscribers/org_1", "subscriptionId": "hook", "subscription": wanted}
    assert (await served.call("SubscriptionService/CreateSubscription", request)).status_code == 200


async def effective(served: Gateway, **fields: Any) -> list[tuple[str, str, str, str]]:
    answer = await served.call("SubscriptionService/GetEffectiveRetryPolicy", {"name": HOOK, **fields})
    return [
        (
            one["origin"].removeprefix("ORIGIN_"),
            one.get("eventType", ""),
            one.get("source", ""),
            one["retryPolicy"].get("exponential", {}).get("initial", ""),
        )
        for one in answer.json()["policies"]
    ]


async def test_what_is_set_reads_back_with_every_default_spelled_out_and_is_listed_by_name():
    async with gateway() as served:
        told = (await put(served, GLOBAL)).json()["backoff"]
        assert told["retryPolicy"] == {
            "exponential": {"initial": "1s", "multiplier": 2, "maximum": "3600s"},
            "jitter": 0.2,
        }
        for name in (TYPE, SOURCE):
            await put(served, name)
        assert (await served.call("AdminService/GetBackoff", {"name": GLOBAL})).json()["backoff"] == told
        page = (await served.call("AdminService/ListBackoffs", {"pageSize": 2})).json()
        rest = (await served.call("AdminService/ListBackoffs", {"pageToken": page["nextPageToken"]})).json()
        assert [one["name"] for one in page["backoffs"] + rest["backoffs"]] == [GLOBAL, SOURCE, TYPE]


async def test_what_is_deleted_is_gone():
    async with gateway() as served:
        etag = (await put(served, GLOBAL)).json()["backoff"]["etag"]
        await put(served, GLOBAL, 2)
        delete = "AdminService/DeleteBackoff"
        assert refusal(await served.call(delete, {"name": GLOBAL, "etag": etag})) == (409, "ETAG_MISMATCH")
        assert (await served.call(delete, {"name": GLOBAL})).status_code == 200
        assert refusal(await served.call(delete, {"name": GLOBAL})) == (404, "BACKOFF_NOT_FOUND")
        assert (await served.call(delete, {"name": GLOBAL, "allowMissing": True})).status_code == 200
        assert refusal(await served.call("AdminService/GetBackoff", {"name": GLOBAL})) == (404, "BACKOFF_NOT_FOUND")


@pytest.mark.parametrize(
    ("backoff", "field"),
    [
        ({"retryPolicy": policy(1)}, "backoff.name"),
        ({"name": "backoffs/other", "retryPolicy": policy(1)}, "backoff.name"),
        ({"name": "backoffs/types/push", "retryPolicy": policy(1)}, "backoff.name"),
        ({"name": GLOBAL}, "backoff.retry_policy"),
        ({"name": GLOBAL, "retryPolicy": {}}, "backoff.retry_policy"),
        ({"name": GLOBAL, "retryPolicy": policy(0)}, "backoff.retry_policy.exponential.initial"),
    ],
)
async def test_what_makes_no_policy_is_refused_by_its_field(backoff: dict[str, Any], field: str):
    async with gateway() as served:
        answer = await served.call("AdminService/SetBackoff", {"backoff": backoff})
        assert answer.status_code == 400
        violations = answer.json()["details"][1]["debug"]["fieldViolations"]
        assert [violation["field"] for violation in violations] == [field]
        assert (await served.call("AdminService/ListBackoffs", {})).json() == {}


async def test_a_subscription_says_by_which_policies_its_deliveries_are_tried_again_and_where_each_comes_from():
    async with gateway() as served:
        await subscribed(served)
        assert await effective(served) == [("BUILT_IN", "", "", "")]
        await put(served, GLOBAL, 1)
        await put(served, SOURCE, 2)
        await put(served, TYPE, 3)
        await put(served, "backoffs/types/community.certes.dev/github/1/ping", 4)
        ranked = [("EVENT_TYPE", PUSH, "", "3s"), ("SOURCE", "", "sources/github", "2s"), ("GLOBAL", "", "", "1s")]
        assert await effective(served) == ranked
        assert await effective(served, source="//shop") == [ranked[0], ranked[2]]
        assert await effective(served, eventType="community.certes.dev/github/1/ping") == ranked[1:]


async def test_a_subscription_s_own_policy_is_the_only_one_that_holds():
    async with gateway() as served:
        await put(served, TYPE, 3)
        await subscribed(served, retryPolicy=policy(7))
        assert await effective(served) == [("SUBSCRIPTION", "", "", "7s")]


async def test_who_is_bound_to_a_subscriber_is_not_told_which_sources_there_are():
    async with gateway(operator_key=OPERATOR) as served:
        await put(served, SOURCE, 2)
        await subscribed(served)
        key = await made(served, "org", Role.SUBSCRIPTIONS_READ, Role.BACKOFFS_READ)
        path = "/api/certes.v1.SubscriptionService/GetEffectiveRetryPolicy"
        answer = await served.client.post(path, json={"name": HOOK}, headers=bearer(key))
        assert [one["origin"] for one in answer.json()["policies"]] == ["ORIGIN_BUILT_IN"]
        listed = await served.client.post("/api/certes.v1.AdminService/ListBackoffs", json={}, headers=bearer(key))
        assert refusal(listed) == (403, "NOT_BOUND_TO")
