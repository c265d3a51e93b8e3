"""Who may call, over both transports: what is refused, how, and what stays open."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import aio
from grpc_status import rpc_status

from certes.v1 import event_service_pb2 as pb
from certes_broker.domain.access import Bindings, Role
from certes_broker.domain.api_keys import ApiKey, KeyId, digest_of, spell_key
from certes_broker.domain.uris import parse_pattern
from certes_broker.gateway.grpc.server import GrpcServer
from tests.contracts.http_gateway import GITHUB, Gateway, gateway, refusal
from tests.contracts.test_http_connect import Frames, envelope

OPERATOR = spell_key(KeyId("operator"), b"o" * 32)
SUBSCRIBE = "/certes.v1.EventService/Subscribe"
ORG_1 = Bindings(subscribers=frozenset({"org_1"}))


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def made(served: Gateway, key_id: str, *roles: Role, bindings: Bindings = ORG_1) -> str:
    """Makes a key and returns it."""
    text = spell_key(KeyId(key_id), key_id.encode().ljust(32, b"."))
    await served.broker.keys.create(ApiKey(KeyId(key_id), digest_of(text), frozenset(roles), bindings))
    return text


def event(**changes: Any) -> dict[str, Any]:
    told = {"id": "a-1", "type": f"{GITHUB}/ping", "source": "//shop", "subscriber": "org_1", "data": {"hookId": 1}}
    return {name: value for name, value in (told | changes).items() if value is not None}


async def publish(served: Gateway, key: str | None, **changes: Any):
    headers = {"authorization": ""} if key is None else bearer(key)
    request = {"events": [event(**changes)]}
    return await served.client.post("/api/certes.v1.EventService/Publish", json=request, headers=headers)


@asynccontextmanager
async def grpc_channel(served: Gateway) -> AsyncIterator[aio.Channel]:
    server = GrpcServer(served.methods, "127.0.0.1:0", served.door)
    await server.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield channel
    finally:
        await server.drain(0)


def told(error: aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    status: Any = rpc_status.from_call(error)
    info = ErrorInfo()
    status.details[0].Unpack(info)
    return error.code(), info.reason


async def test_without_a_credential_http_answers_401_and_says_what_it_wants():
    async with gateway(operator_key=OPERATOR) as served:
        del served.client.headers["authorization"]
        missing = await served.call("ListEvents", {"parent": "subscribers/-"})
        cloud = await served.cloud_event({})
        assert refusal(missing) == refusal(cloud) == (401, "CREDENTIALS_MISSING")
        assert missing.headers["www-authenticate"] == cloud.headers["www-authenticate"] == 'Bearer realm="certes"'
        wrong = await served.client.post("/events", headers=bearer("certes_operator_" + "x" * 40))
        assert refusal(wrong) == (401, "CREDENTIALS_INVALID")
        assert wrong.headers["www-authenticate"] == 'Bearer realm="certes", error="invalid_token"'


async def test_without_a_credential_grpc_answers_unauthenticated():
    async with gateway(operator_key=OPERATOR) as served, grpc_channel(served) as channel:
        for metadata, reason in (
            ((), "CREDENTIALS_MISSING"),
            ((("authorization", "Bearer x"),), "CREDENTIALS_INVALID"),
        ):
            with pytest.raises(aio.AioRpcError) as raised:
                await channel.unary_unary("/certes.v1.EventService/ListEvents")(b"", metadata=metadata)
            assert told(raised.value) == (grpc.StatusCode.UNAUTHENTICATED, reason)
        metadata = (("authorization", f"Bearer {OPERATOR}"),)
        request = pb.ListEventsRequest(parent="subscribers/-").SerializeToString()
        assert await channel.unary_unary("/certes.v1.EventService/ListEvents")(request, metadata=metadata) == b""


async def test_liveness_discovery_and_signed_webhooks_need_no_credential():
    async with gateway(operator_key=OPERATOR) as served:
        del served.client.headers["authorization"]
        for path in ("/", "/healthz", "/readyz", "/.well-known/certes"):
            assert (await served.client.get(path)).status_code == 200
        assert (await served.webhook()).status_code == 202


async def test_a_key_does_what_its_roles_say_and_no_more():
    async with gateway(operator_key=OPERATOR) as served:
        bindings = Bindings(frozenset({"org_1"}), frozenset({"//shop"}))
        key = await made(served, "shop", Role.EVENTS_WRITE, bindings=bindings)
        assert (await publish(served, key)).status_code == 200
        read = await served.client.post("/api/certes.v1.EventService/ListEvents", json={}, headers=bearer(key))
        assert refusal(read) == (403, "ROLE_MISSING")
        assert "events:read" in read.text
        sources = await served.client.post("/api/certes.v1.SourceService/ListSources", json={}, headers=bearer(key))
        assert refusal(sources) == (403, "ROLE_MISSING")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"subscriber": "org_2"}, "NOT_BOUND_TO"),
        ({"subscriber": None, "everyone": True}, "ROLE_MISSING"),
        ({"source": "//other"}, "SOURCE_NOT_GRANTED"),
        ({"source": "sources/github"}, "SOURCE_NOT_GRANTED"),
        ({"type": f"{GITHUB}/push", "data": {}}, "TYPE_NOT_GRANTED"),
    ],
)
async def test_a_bound_key_publishes_only_what_is_granted_by_either_way_in(changes, reason):
    types = frozenset({parse_pattern(f"{GITHUB}/ping")})
    bindings = Bindings(frozenset({"org_1"}), frozenset({"//shop", "sources/*"}), types)
    async with gateway(operator_key=OPERATOR) as served:
        key = await made(served, "shop", Role.EVENTS_WRITE, bindings=bindings)
        assert refusal(await publish(served, key, **changes)) == (403, reason)
        document = {"specversion": "1.0", **event(**changes)}
        if document.pop("everyone", None) is None:
            cloud = await served.client.post(
                "/events",
                content=json.dumps(document),
                headers={"content-type": "application/cloudevents+json", **bearer(key)},
            )
            assert refusal(cloud) == (403, reason)
        assert (await publish(served, key)).status_code == 200
        assert len((await served.call("ListEvents", {"parent": "subscribers/-"})).json()["events"]) == 1


async def test_rotating_a_secret_shows_none_to_those_who_may_not_read_them():
    webhook = {"selectors": [{"pattern": f"{GITHUB}/*"}], "webhook": {"url": "https://a.example.com/"}}
    async with gateway(operator_key=OPERATOR) as served:
        changing = {Role.SUBSCRIPTIONS_READ, Role.SUBSCRIPTIONS_WRITE}
        key, other = (
            await made(served, "one", *changing),
            await made(served, "two", *changing, Role.SUBSCRIPTIONS_SECRETS),
        )

        async def ask(rpc: str, key: str, request: dict[str, Any]) -> dict[str, Any]:
            path = f"/api/certes.v1.SubscriptionService/{rpc}"
            answer = await served.client.post(path, json=request, headers=bearer(key))
            assert answer.status_code == 200, answer.text
            told: dict[str, Any] = answer.json()
            return told

        created = {"parent": "subscribers/org_1", "subscriptionId": "hook", "subscription": webhook}
        name = {"name": (await ask("CreateSubscription", key, created))["subscription"]["name"]}
        assert [list(one) for one in (await ask("RotateSecret", key, name))["secrets"]] == [[], ["expireTime"]]
        shown = [one["secret"] for one in (await ask("RotateSecret", other, name))["secrets"]]
        assert len(shown) == 3
        assert shown == [one["secret"] for one in (await ask("GetSigningSecrets", other, name))["secrets"]]
        [pair, *_] = (await ask("RotateSecret", key, {**name, "kind": "KIND_KEY_PAIR"}))["secrets"]
        assert pair["secret"].startswith("whpk_")


async def test_nobody_publishes_under_the_sources_of_the_ingress_not_even_an_operator():
    async with gateway(operator_key=OPERATOR) as served:
        assert refusal(await publish(served, OPERATOR, source="sources/github")) == (403, "SOURCE_NOT_GRANTED")
    async with gateway() as served:
        assert refusal(await served.call("Publish", {"events": [event(source="sources/x")]})) == (
            403,
            "SOURCE_NOT_GRANTED",
        )


async def test_a_connect_stream_whose_key_is_revoked_ends_as_unauthenticated():
    async with gateway(operator_key=OPERATOR) as served:
        key = await made(served, "reader", Role.EVENTS_READ)
        request = {"ephemeral": {"parent": "subscribers/org_1", "selectors": [{"pattern": f"{GITHUB}/*"}]}}
        headers = {"content-type": "application/connect+json", **bearer(key)}
        async with served.client.stream(
            "POST", "/api/certes.v1.EventService/Subscribe", content=envelope(request), headers=headers
        ) as answer:
            frames = Frames(answer.aiter_bytes())
            assert "opened" in (await frames.next())[1]
            await served.broker.keys.delete(KeyId("reader"))
            flags, end = await frames.next()
        assert flags == 2
        assert (end["error"]["code"], end["error"]["details"][0]["debug"]["reason"]) == (
            "unauthenticated",
            "CREDENTIALS_INVALID",
        )
        again = await served.client.post("/api/certes.v1.EventService/ListEvents", json={}, headers=bearer(key))
        assert refusal(again) == (401, "CREDENTIALS_INVALID")
        assert len(served.broker.streams) == 0


async def test_a_grpc_stream_whose_key_is_revoked_ends_as_unauthenticated():
    async with gateway(operator_key=OPERATOR) as served, grpc_channel(served) as channel:
        metadata = (("authorization", f"Bearer {await made(served, 'reader', Role.EVENTS_READ)}"),)
        selectors = [{"pattern": f"{GITHUB}/*"}]
        request = pb.SubscribeRequest(ephemeral={"parent": "subscribers/org_1", "selectors": selectors})
        stream = channel.unary_stream(SUBSCRIBE)(request.SerializeToString(), metadata=metadata)
        assert pb.SubscribeResponse.FromString(await stream.read()).WhichOneof("frame") == "opened"
        await served.broker.keys.delete(KeyId("reader"))
        with pytest.raises(aio.AioRpcError) as raised:
            await stream.read()
        assert told(raised.value) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID")
