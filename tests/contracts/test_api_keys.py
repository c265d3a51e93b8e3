"""API keys over the API: made, shown once, listed, and revoked."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from certes_broker.domain.access import ROLE_SETS, Bindings, Role
from tests.contracts.http_gateway import Gateway, gateway, refusal
from tests.contracts.test_callers import OPERATOR, bearer, made

ADMIN = "AdminService"
BINDINGS = {
    "subscribers": {"values": ["org_1"]},
    "sources": {"values": ["//shop/*"]},
    "types": {"values": ["community.certes.dev/github/1/*"]},
}


async def create(served: Gateway, key_id: str = "shop", headers: Any = None, **fields: Any) -> httpx.Response:
    request = {"apiKeyId": key_id, "apiKey": {"roles": ["publisher"], **fields}}
    return await served.client.post(f"/api/certes.v1.{ADMIN}/CreateApiKey", json=request, headers=headers)


async def test_a_key_is_told_once_and_lets_its_bearer_in():
    async with gateway(operator_key=OPERATOR) as served:
        told = (await create(served, title="The shop", bindings=BINDINGS, expireTime="2100-01-01T00:00:00Z")).json()
        assert told["key"].startswith("certes_shop_")
        assert told["apiKey"]["name"] == "apiKeys/shop"
        assert told["apiKey"]["roles"] == sorted(role.value for role in ROLE_SETS["publisher"])
        assert told["apiKey"]["bindings"] == BINDINGS
        listed = await served.client.post(
            "/api/certes.v1.SchemaService/ListSchemas", json={}, headers=bearer(told["key"])
        )
        assert listed.status_code == 200
        for answer in (
            await served.call(f"{ADMIN}/GetApiKey", {"name": "apiKeys/shop"}),
            await served.call(f"{ADMIN}/ListApiKeys", {}),
        ):
            shown = answer.json().get("apiKey") or answer.json()["apiKeys"][0]
            assert shown == told["apiKey"]
            assert told["key"].rpartition("_")[2] not in answer.text


async def test_a_key_without_an_id_gets_one():
    async with gateway(operator_key=OPERATOR) as served:
        ids = {(await create(served, "")).json()["apiKey"]["name"] for _ in range(2)}
        assert len(ids) == 2


async def test_a_deleted_key_lets_nobody_in_from_then_on():
    async with gateway(operator_key=OPERATOR) as served:
        key = (await create(served)).json()["key"]
        assert (await served.call(f"{ADMIN}/DeleteApiKey", {"name": "apiKeys/shop"})).status_code == 200
        refused = await served.client.post("/api/certes.v1.SchemaService/ListSchemas", json={}, headers=bearer(key))
        assert refusal(refused) == (401, "CREDENTIALS_INVALID")
        again = await served.call(f"{ADMIN}/DeleteApiKey", {"name": "apiKeys/shop"})
        assert refusal(again) == (404, "API_KEY_NOT_FOUND")
        missing = {"name": "apiKeys/shop", "allowMissing": True}
        assert (await served.call(f"{ADMIN}/DeleteApiKey", missing)).status_code == 200


async def test_an_id_is_taken_once():
    async with gateway(operator_key=OPERATOR) as served:
        await create(served)
        assert refusal(await create(served)) == (409, "API_KEY_EXISTS")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"roles": []}, "api_key.roles"),
        ({"roles": ["events:eat"]}, "api_key.roles"),
        ({"title": "x" * 201}, "api_key.title"),
        ({"name": "apiKeys/other"}, "api_key.name"),
        ({"bindings": {"subscribers": {"values": ["a", "b/c"]}}}, "api_key.bindings.subscribers.values[1]"),
        ({"bindings": {"sources": {"values": ["//*/a"]}}}, "api_key.bindings.sources.values[0]"),
        ({"bindings": {"types": {"values": ["*"]}}}, "api_key.bindings.types.values[0]"),
    ],
)
async def test_what_makes_no_key_is_refused_by_its_field(fields, field):
    async with gateway(operator_key=OPERATOR) as served:
        answer = await create(served, **fields)
        assert answer.status_code == 400
        violations = answer.json()["details"][1]["debug"]["fieldViolations"]
        assert [violation["field"] for violation in violations] == [field]
        assert (await served.call(f"{ADMIN}/ListApiKeys", {})).json() == {}


async def test_a_list_without_values_binds_to_nothing_at_all():
    async with gateway(operator_key=OPERATOR) as served:
        told = (await create(served, bindings={"subscribers": {}})).json()
        assert told["apiKey"]["bindings"] == {"subscribers": {}}
        names = {"name": "subscribers/org_1/subscriptions/a"}
        answer = await served.client.post(
            "/api/certes.v1.SubscriptionService/GetSubscription", json=names, headers=bearer(told["key"])
        )
        assert answer.status_code == 403


async def test_nobody_makes_a_key_that_may_do_more_than_they_may():
    async with gateway(operator_key=OPERATOR) as served:
        bindings = Bindings(sources=frozenset({"//shop/*"}))
        maker = await made(served, "maker", Role.CONFIG_WRITE, Role.EVENTS_WRITE, bindings=bindings)
        more = await create(served, headers=bearer(maker), bindings={"sources": {"values": ["//shop/1"]}})
        assert refusal(more) == (403, "ROLE_MISSING")
        wider = await create(served, headers=bearer(maker), roles=["events:write"])
        assert refusal(wider) == (403, "NOT_BOUND_TO")
        fits = {"roles": ["events:write"], "bindings": {"sources": {"values": ["//shop/1"]}}}
        assert (await create(served, headers=bearer(maker), **fits)).status_code == 200


async def test_who_is_bound_to_subscribers_has_nothing_to_do_with_keys():
    async with gateway(operator_key=OPERATOR) as served:
        bound = bearer(await made(served, "bound", *Role))
        for method in ("CreateApiKey", "GetApiKey", "ListApiKeys", "DeleteApiKey"):
            answer = await served.client.post(f"/api/certes.v1.{ADMIN}/{method}", json={}, headers=bound)
            assert refusal(answer) == (403, "NOT_BOUND_TO")
