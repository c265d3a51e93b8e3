"""What a source refuses, and what is kept of it."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from certes_broker.broker.system_clock import SystemClock
from certes_broker.domain.errors import Invalid, Reason, Unauthenticated
from certes_broker.domain.events import Micros, Original
from certes_broker.domain.signature_schemes import BasicScheme, NoScheme, StripeScheme, TokenScheme
from certes_broker.domain.sources import Everyone, Source, SourceSecret
from certes_broker.domain.webhook_headers import MAXIMUM_KEPT_BYTES
from certes_broker.domain.webhook_mapping import HeaderPlace, WebhookMapping
from certes_broker.engines.memory import MemoryEngine
from certes_broker.gateway.http.ingress import MAXIMUM_BYTES_KEPT_AT_ONCE, MAXIMUM_KEPT_AT_ONCE
from certes_broker.gateway.ingestion import Ingestion
from certes_broker.ports.engine import Rejected
from certes_broker.schemas.providers import shipped_providers
from tests.contracts.http_gateway import GITHUB, PUSH, Gateway, gateway, github_source, refusal, sign
from tests.fakes.troubled_engine import TroubledEngine
from tests.fakes.webhook_signer import secret_for, signed_headers

BODY = json.dumps(PUSH).encode()
KEEPING = replace(github_source(), keep_rejected=True)


async def kept(served: Gateway, source: str = "github") -> list[Rejected]:
    """Returns what is kept of a source, newest first."""
    page = await served.broker.rejected.list(source, page_size=100, page_token="")
    return [await served.broker.rejected.get(source, one.number) for one in page.rejected]


@pytest.mark.parametrize(
    ("headers", "body", "reason", "verified"),
    [
        ({"x_hub_signature_256": "sha256=00"}, BODY, "SIGNATURE_INVALID", False),
        ({"x_hub_signature_256": ""}, BODY, "SIGNATURE_INVALID", False),
        ({}, b"{", "PAYLOAD_MALFORMED", True),
        ({}, b"[]", "PAYLOAD_MALFORMED", True),
        ({"event": "no_such_event"}, BODY, "PAYLOAD_UNMAPPABLE", True),
        ({"event": ""}, BODY, "FIELD_REQUIRED", True),
        ({}, b'{"ref": ["no", "string"]}', "PAYLOAD_UNMAPPABLE", True),
        ({"content_type": "text/plain"}, BODY, "CONTENT_TYPE_UNSUPPORTED", True),
        ({"delivery": "x" * 300}, BODY, "FIELD_INVALID", True),
    ],
)
async def test_what_is_refused_is_kept_with_its_reason_and_whether_it_was_proven(headers, body, reason, verified):
    async with gateway(KEEPING) as served:
        answer = await served.webhook(body=body, **headers)
        assert refusal(answer)[1] == reason
        (rejected,) = await kept(served)
        assert rejected.reason == reason
        assert rejected.verified is verified
        assert rejected.payload.body == body
        assert rejected.payload.content_type == headers.get("content_type", "application/json")
        assert rejected.message


async def test_nothing_proves_what_a_source_without_signatures_refuses_and_nothing_need_when_it_is_taken_again():
    mapping = WebhookMapping(f"{GITHUB}/{{event}}", HeaderPlace("x-topic"))
    source = Source("own", "custom", Everyone(), (), NoScheme(), mapping, keep_rejected=True)
    async with gateway(source) as served:
        headers = {"content-type": "application/json", "x-topic": "no_such_event"}
        await served.client.post("/events/own", content=b"{}", headers=headers)
        (rejected,) = await kept(served, "own")
        assert not rejected.verified
        mended = replace(source, mapping=WebhookMapping(f"{GITHUB}/ping"))
        ingestion = Ingestion(served.broker, shipped_providers())
        receipt = await ingestion.take_again(mended, rejected.payload, verified=False, received=rejected.time)
        assert not receipt.duplicate


async def test_another_body_under_the_same_delivery_id_is_kept():
    async with gateway(KEEPING) as served:
        await served.webhook()
        assert refusal(await served.webhook(PUSH | {"ref": "refs/heads/other"})) == (409, "EVENT_ID_REUSED")
        assert [rejected.reason for rejected in await kept(served)] == ["EVENT_ID_REUSED"]


async def test_a_source_that_does_not_ask_for_it_keeps_nothing():
    async with gateway() as served:
        await served.webhook(x_hub_signature_256="sha256=00")
        assert await kept(served) == []


async def test_what_is_too_large_or_cannot_be_taken_now_is_not_kept():
    async with gateway(KEEPING, max_payload_bytes=100) as served:
        assert refusal(await served.webhook(body=b"x" * 101)) == (413, "PAYLOAD_TOO_LARGE")
        assert refusal(await served.webhook(source="none")) == (404, "SOURCE_NOT_FOUND")
        await served.broker.drain()
        assert refusal(await served.webhook({})) == (503, "DRAINING")
        assert await kept(served) == []


async def test_all_headers_are_kept_but_credentials():
    async with gateway(KEEPING) as served:
        await served.webhook({}, event="no_such_event", authorization="Basic eA==", cookie="a=b", x_own="1")
        (rejected,) = await kept(served)
        headers = dict(rejected.payload.headers)
        assert headers["x-own"] == "1"
        assert headers["x-hub-signature-256"] == sign(b"{}")
        assert not {"authorization", "cookie", "content-length"} & headers.keys()


@pytest.mark.parametrize("scheme", [TokenScheme("x-plain"), BasicScheme()], ids=repr)
async def test_the_credential_of_a_scheme_is_not_kept_whether_right_or_wrong(scheme):
    mapping = WebhookMapping(f"{GITHUB}/{{event}}", HeaderPlace("x-topic"))
    secrets = (SourceSecret(secret_for(scheme)),)
    source = Source("own", "custom", Everyone(), secrets, scheme, mapping, keep_rejected=True)
    async with gateway(source) as served:
        for secret in (secret_for(scheme).removeprefix("user:"), "another secret"):
            headers = {"content-type": "application/json", **signed_headers(scheme, b"{}", 0, secret)}
            await served.client.post("/events/own", content=b"{}", headers=headers)
        assert [rejected.verified for rejected in await kept(served, "own")] == [False, True]
        for rejected in await kept(served, "own"):
            assert not {"x-plain", "authorization"} & dict(rejected.payload.headers).keys()


async def test_headers_are_kept_within_their_bound_those_first_that_it_takes_to_try_again():
    async with gateway(KEEPING) as served:
        filling = {f"a_{number}": "v" * 1000 for number in range(20)}
        await served.webhook(x_hub_signature_256="sha256=00", **filling)
        (rejected,) = await kept(served)
        assert sum(len(name) + len(value) for name, value in rejected.payload.headers) <= MAXIMUM_KEPT_BYTES
        assert {"x-hub-signature-256", "x-github-event", "x-github-delivery"} <= dict(rejected.payload.headers).keys()


@pytest.mark.parametrize(
    ("body", "most"), [(b"[]", MAXIMUM_KEPT_AT_ONCE), (b"x" * (1 << 20), MAXIMUM_BYTES_KEPT_AT_ONCE >> 20)]
)
async def test_a_refusal_is_answered_while_storage_hangs_and_only_so_many_payloads_wait_for_it(body, most):
    engine = TroubledEngine(MemoryEngine(SystemClock()))
    async with gateway(KEEPING, engine=engine) as served:
        gate = engine.hold("rejections.keep")
        for _ in range(most + 5):
            answer = await served.webhook(body=body, content_type="text/plain", connection="close")
            assert refusal(answer) == (415, "CONTENT_TYPE_UNSUPPORTED")
        assert engine.calls["rejections.keep"] == most
        gate.set()


async def test_a_refusal_is_answered_the_same_where_storage_fails():
    engine = TroubledEngine(MemoryEngine(SystemClock()))
    async with gateway(KEEPING, engine=engine) as served:
        engine.fail("rejections.keep", 2)
        for _ in range(2):
            assert refusal(await served.webhook(x_hub_signature_256="sha256=00")) == (401, "SIGNATURE_INVALID")
        assert await kept(served) == []


class TestTakingAgain:
    """A payload that was refused takes the same way a second time."""

    NOW = Micros(int(time.time()) * 1_000_000)

    def again(self, served: Gateway) -> Ingestion:
        return Ingestion(served.broker, shipped_providers())

    async def test_what_was_proven_need_not_be_again(self):
        async with gateway(KEEPING) as served:
            await served.webhook(event="no_such_event", delivery="d-9")
            (rejected,) = await kept(served)
            payload = replace(
                rejected.payload,
                headers=tuple(
                    (name, "push" if name == "x-github-event" else value) for name, value in rejected.payload.headers
                ),
            )
            source = replace(KEEPING, secrets=(SourceSecret("a new one"),))
            receipt = await self.again(served).take_again(source, payload, verified=True, received=rejected.time)
            event = await served.kept(served.broker.names.name(receipt.position))
            assert event["id"] == "d-9"
            assert event["data"]["ref"] == "refs/heads/main"

    async def test_what_was_not_proven_must_be_by_the_secrets_of_now(self):
        async with gateway(replace(KEEPING, secrets=(SourceSecret("forgotten"),))) as served:
            await served.webhook()
            (rejected,) = await kept(served)
            assert rejected.reason == "SIGNATURE_INVALID"
            ingestion = self.again(served)
            with pytest.raises(Unauthenticated):
                await ingestion.take_again(
                    served.broker.sources.get("github"), rejected.payload, verified=False, received=rejected.time
                )
            receipt = await ingestion.take_again(KEEPING, rejected.payload, verified=False, received=rejected.time)
            again = await ingestion.take_again(KEEPING, rejected.payload, verified=False, received=rejected.time)
            assert (again.position, again.duplicate) == (receipt.position, True)

    async def test_the_time_of_a_signature_is_judged_by_when_the_payload_came(self):
        scheme = StripeScheme()
        mapping = WebhookMapping(f"{GITHUB}/ping")
        source = Source("own", "custom", Everyone(), (SourceSecret(secret_for(scheme)),), scheme, mapping)
        payload = Original("application/json", tuple(signed_headers(scheme, b"{}", 1_000_000).items()), b"{}")
        async with gateway(source) as served:
            received = Micros(1_000_100_000_000)
            receipt = await self.again(served).take_again(source, payload, verified=False, received=received)
            assert not receipt.duplicate
            with pytest.raises(Unauthenticated):
                await self.again(served).take_again(source, payload, verified=False, received=self.NOW)

    async def test_a_credential_was_not_kept_so_it_cannot_be_proven_again(self):
        scheme = TokenScheme("x-own")
        mapping = WebhookMapping(f"{GITHUB}/{{event}}", HeaderPlace("x-topic"))
        secrets = (SourceSecret(secret_for(scheme)),)
        source = Source("own", "custom", Everyone(), secrets, scheme, mapping, keep_rejected=True)
        async with gateway(source) as served:
            headers = {"content-type": "application/json", "x-own": "wrong", "x-topic": "ping"}
            await served.client.post("/events/own", content=b"{}", headers=headers)
            (rejected,) = await kept(served, "own")
            with pytest.raises(Unauthenticated):
                await self.again(served).take_again(source, rejected.payload, verified=False, received=self.NOW)
            receipt = await self.again(served).take_again(source, rejected.payload, verified=True, received=self.NOW)
            assert not receipt.duplicate

    async def test_a_challenge_is_no_event(self):
        source = Source("own", "slack", Everyone(), (SourceSecret("hush"),))
        body = b'{"type": "url_verification", "challenge": "c"}'
        async with gateway(source) as served:
            with pytest.raises(Invalid) as caught:
                await self.again(served).take_again(
                    source, Original("application/json", (), body), verified=True, received=self.NOW
                )
            assert caught.value.reason is Reason.PAYLOAD_UNMAPPABLE
