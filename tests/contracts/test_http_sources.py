"""Webhooks of any scheme and mapping: what a source says of them, and what the gateway makes of it."""

from __future__ import annotations

import gzip
import json
import time
from base64 import b64decode
from dataclasses import replace
from typing import Any, ClassVar

import httpx
import pytest

from certes_broker.domain.names import SubscriberName
from certes_broker.domain.signature_schemes import (
    BasicScheme,
    Encoding,
    HmacScheme,
    NoScheme,
    SignatureScheme,
    SlackScheme,
    StandardWebhooksScheme,
    StripeScheme,
    TokenScheme,
    needs_secret,
)
from certes_broker.domain.sources import Everyone, PayloadSubscriber, Source, SourceSecret
from certes_broker.domain.webhook_mapping import HeaderPlace, PathPlace, WebhookMapping
from tests.contracts.http_gateway import GITHUB, Gateway, gateway, github_source, refusal
from tests.fakes.webhook_signer import secret_for, signed_headers

SCHEMES: list[SignatureScheme] = [
    HmacScheme("x-signature"),
    HmacScheme("x-shopify-hmac-sha256", encoding=Encoding.BASE64),
    StripeScheme(),
    StripeScheme("calendly-webhook-signature"),
    SlackScheme(),
    StandardWebhooksScheme(),
    TokenScheme("x-gitlab-token"),
    BasicScheme(),
    NoScheme(),
]
MAPPING = WebhookMapping(
    f"{GITHUB}/{{event}}",
    event=HeaderPlace("x-topic"),
    id=PathPlace(("delivery", "id")),
    time=PathPlace(("at",)),
    subjects=(PathPlace(("zen",)),),
    subscriber=PathPlace(("account",)),
)
PAYLOAD = {"zen": "Keep it simple.", "delivery": {"id": 7}, "at": "2024-05-06T07:08:09.5Z", "account": "org_1"}


def custom(scheme: SignatureScheme, mapping: WebhookMapping = MAPPING, **settings: Any) -> Source:
    secrets = (SourceSecret(secret_for(scheme)),) if needs_secret(scheme) else ()
    source = Source("own", "custom", Everyone(), secrets, scheme, mapping)
    return replace(source, **settings)


async def post(
    served: Gateway, scheme: SignatureScheme, payload: Any = PAYLOAD, body: bytes | None = None, **headers: str
) -> httpx.Response:
    content = json.dumps(payload).encode() if body is None else body
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    signed = signed_headers(scheme, content, int(time.time()))
    return await served.client.post(
        "/events/own",
        content=content,
        headers={"content-type": "application/json", "x-topic": "ping", **signed, **more},
    )


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
async def test_a_webhook_of_any_scheme_becomes_the_event_that_the_mapping_says(scheme):
    async with gateway(custom(scheme)) as served:
        answer = await post(served, scheme)
        assert answer.status_code == 202, answer.text
        event = await served.kept(answer.json()["name"])
        assert event["type"] == f"{GITHUB}/ping"
        assert event["id"] == "7"
        assert event["time"] == "2024-05-06T07:08:09.500Z"
        assert event["subject"] == "Keep it simple."
        assert event["source"] == "sources/own"
        assert event["everyone"] is True
        assert event["data"]["zen"] == "Keep it simple."
        again = await post(served, scheme)
        assert again.json() == answer.json() | {"duplicate": True}


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if needs_secret(scheme)], ids=repr)
async def test_a_webhook_that_another_secret_signed_is_refused(scheme):
    async with gateway(custom(scheme)) as served:
        wrong = signed_headers(scheme, json.dumps(PAYLOAD).encode() + b" ", int(time.time()), "whsec_" + "A" * 43)
        answer = await post(served, scheme, **wrong)
        # A scheme that signs nothing but who sends does not mind the body.
        assert refusal(answer) == (401, "SIGNATURE_INVALID")
        assert answer.json()["error"]["metadata"] == {"problem": "NO_MATCH"}
        assert secret_for(scheme) not in answer.text


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
async def test_no_credential_is_kept_with_an_event_even_where_the_mapping_asks_for_every_header(scheme):
    asking = replace(MAPPING, subjects=(HeaderPlace("x-plain"), HeaderPlace("user-agent")))
    async with gateway(custom(scheme, asking)) as served:
        answer = await post(served, scheme, user_agent="Shop/1", x_plain="y", cookie="session=1", x_api_key="k")
        original = await served.original(answer.json()["name"])
        assert original is not None
        assert dict(original.headers) == {"x-topic": "ping", "user-agent": "Shop/1", "x-plain": "y"}


async def test_a_token_is_not_kept_even_where_the_provider_would_keep_it():
    source = github_source(secrets=(b"hush",))
    # GitHub's headers are kept by their beginning.
    async with gateway(replace(source, signature=TokenScheme("x-github-secret-word"))) as served:
        headers = {"content-type": "application/json", "x-github-event": "ping", "x-github-delivery": "1"}
        answer = await served.client.post(
            "/events/github", content=b"{}", headers=headers | {"x-github-secret-word": "hush", "x-github-token": "t"}
        )
        assert answer.status_code == 202, answer.text
        original = await served.original(answer.json()["name"])
        assert original is not None
        assert dict(original.headers).keys() == {"x-github-event", "x-github-delivery", "user-agent"}


async def test_the_audience_may_be_the_subscriber_that_the_webhook_names():
    scheme = TokenScheme("x-own")
    async with gateway(custom(scheme, audience=PayloadSubscriber())) as served:
        answer = await post(served, scheme)
        assert (await served.kept(answer.json()["name"]))["subscriber"] == "org_1"
        nobody = await post(served, scheme, PAYLOAD | {"account": None})
        assert refusal(nobody) == (422, "PAYLOAD_UNMAPPABLE")
        assert "account" in nobody.json()["error"]["message"]
        odd = await post(served, scheme, PAYLOAD | {"account": "a/b"})
        assert refusal(odd) == (422, "PAYLOAD_UNMAPPABLE")
        assert odd.json()["error"]["metadata"] == {"field": "account"}


async def test_the_audience_of_a_source_is_not_what_the_webhook_names():
    scheme = TokenScheme("x-own")
    async with gateway(custom(scheme, audience=SubscriberName("org_2"))) as served:
        answer = await post(served, scheme)
        assert (await served.kept(answer.json()["name"]))["subscriber"] == "org_2"


async def test_a_webhook_without_an_id_is_a_duplicate_of_one_with_the_same_body():
    scheme = StripeScheme()
    async with gateway(custom(scheme, replace(MAPPING, id=None))) as served:
        first, again = await post(served, scheme), await post(served, scheme)
        other = await post(served, scheme, PAYLOAD | {"zen": "Something else."})
        assert first.json()["id"].startswith("sha256-")
        assert again.json() == first.json() | {"duplicate": True}
        assert other.json()["duplicate"] is False


async def test_what_cannot_be_mapped_is_refused_with_the_place():
    scheme = TokenScheme("x-own")
    async with gateway(custom(scheme)) as served:
        answer = await post(served, scheme, PAYLOAD | {"delivery": {}})
        assert refusal(answer) == (422, "PAYLOAD_UNMAPPABLE")
        assert answer.json()["error"]["fieldViolations"][0]["field"] == "delivery.id"
        answer = await post(served, scheme, PAYLOAD | {"at": "yesterday"})
        assert refusal(answer) == (422, "PAYLOAD_UNMAPPABLE")
        assert answer.json()["error"]["fieldViolations"][0]["field"] == "at"


@pytest.mark.parametrize(
    "kind", ["application/vnd.shop+json", "Application/JSON ; charset=UTF-8", "application/problem+json"]
)
async def test_whatever_is_json_by_its_content_type_is_taken(kind):
    scheme = HmacScheme("x-signature")
    async with gateway(custom(scheme)) as served:
        answer = await post(served, scheme, content_type=kind)
        assert answer.status_code == 202
        original = await served.original(answer.json()["name"])
        assert original is not None
        assert original.content_type == kind


async def test_a_webhook_of_an_open_namespace_needs_no_schema():
    scheme = HmacScheme("x-signature")
    mapping = replace(MAPPING, type="events.meetly.com/shop/1/{event}")
    async with gateway(custom(scheme, mapping), open_namespaces=["events.meetly.com/shop"]) as served:
        body = b'{"delivery": {"id": "d-1"},  "price": 1.10}'
        answer = await post(served, scheme, body=body, x_topic="orders/paid", content_type="application/vnd.shop+json")
        assert answer.status_code == 202, answer.text
        event = await served.kept(answer.json()["name"])
        assert event["type"] == "events.meetly.com/shop/1/orders_paid"
        assert event["raw"]["contentType"] == "application/json"
        assert b64decode(event["raw"]["bytes"]) == body
        assert "data" not in event
    async with gateway(custom(scheme, mapping)) as served:
        assert refusal(await post(served, scheme)) == (422, "PAYLOAD_UNMAPPABLE")


GZIPPED = gzip.compress(b"{}", mtime=0)


class TestCompression:
    """A body in gzip is what it says once it is undone: that is what was signed, and what is kept."""

    SCHEME = HmacScheme("x-signature")

    async def compressed(self, served: Gateway, body: bytes, sent: bytes, encoding: str = "gzip") -> httpx.Response:
        headers = {"content-type": "application/json", "x-topic": "ping", "content-encoding": encoding}
        return await served.client.post(
            "/events/own", content=sent, headers=headers | signed_headers(self.SCHEME, body, 0)
        )

    @pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
    async def test_a_body_in_gzip_is_verified_and_kept_as_it_was_before(self, encoding):
        body = json.dumps(PAYLOAD).encode()
        async with gateway(custom(self.SCHEME)) as served:
            answer = await self.compressed(served, body, gzip.compress(body), encoding)
            assert answer.status_code == 202, answer.text
            original = await served.original(answer.json()["name"])
            assert original is not None
            assert original.body == body
            assert "content-encoding" not in dict(original.headers)

    async def test_more_than_the_limit_is_not_made_of_it(self):
        async with gateway(custom(self.SCHEME), max_payload_bytes=1000) as served:
            answer = await self.compressed(served, b"", gzip.compress(b" " * 1001))
            assert refusal(answer) == (413, "PAYLOAD_TOO_LARGE")
            answer = await self.compressed(served, b"", gzip.compress(b" " * 100_000_000))
            assert refusal(answer) == (413, "PAYLOAD_TOO_LARGE")

    async def test_just_the_limit_is_taken(self):
        body = json.dumps(PAYLOAD | {"filling": " " * 300_000}).encode()
        async with gateway(custom(self.SCHEME), max_payload_bytes=len(body)) as served:
            assert (await self.compressed(served, body, gzip.compress(body))).status_code == 202

    @pytest.mark.parametrize(
        "sent",
        [b"", b"{}", GZIPPED[:-1], GZIPPED[:-8], GZIPPED + b"x", GZIPPED * 2],
        ids=["nothing", "plain", "without-its-last-byte", "without-its-end", "with-more-behind-it", "twice"],
    )
    async def test_what_is_no_gzip_is_refused(self, sent):
        async with gateway(custom(self.SCHEME)) as served:
            assert refusal(await self.compressed(served, b"{}", sent)) == (400, "PAYLOAD_MALFORMED")

    @pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "x" * 1000])
    async def test_another_compression_is_refused(self, encoding):
        async with gateway(custom(self.SCHEME)) as served:
            answer = await self.compressed(served, b"{}", b"{}", encoding)
            assert refusal(answer) == (415, "CONTENT_TYPE_UNSUPPORTED")


class TestWithoutSignatures:
    """A source without signatures takes what comes from this machine, and from nowhere else."""

    @pytest.mark.parametrize("header", ["forwarded", "via", "x_forwarded_for", "x_forwarded_proto", "x_real_ip"])
    async def test_what_a_proxy_passed_on_is_refused(self, header):
        async with gateway(custom(NoScheme())) as served:
            answer = await post(served, NoScheme(), **{header: "for=192.0.2.1"})
            assert refusal(answer) == (401, "SIGNATURE_INVALID")
            assert answer.json()["error"]["metadata"] == {"problem": "FORWARDED"}

    async def test_a_form_is_refused_because_any_web_page_could_send_it(self):
        async with gateway(custom(NoScheme())) as served:
            answer = await post(
                served, NoScheme(), body=b"payload=%7B%7D", content_type="application/x-www-form-urlencoded"
            )
            assert refusal(answer) == (415, "CONTENT_TYPE_UNSUPPORTED")

    async def test_nothing_is_taken_where_other_machines_can_reach_the_gateway(self):
        async with gateway(custom(NoScheme()), allow_unsigned=False) as served:
            answer = await post(served, NoScheme())
            assert refusal(answer) == (403, "INSECURE_LISTENER")


class TestChallenge:
    """Slack asks whether the receiver is there; whoever asks must know the secret too."""

    SOURCE = Source("own", "slack", Everyone(), (SourceSecret(secret_for(SlackScheme())),))
    ASKED: ClassVar = {
        "token": "Jhj5dZrVaK7ZwHHjRyZWjbDl",
        "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY",
        "type": "url_verification",
    }

    async def test_a_signed_challenge_is_answered_and_becomes_no_event(self):
        async with gateway(self.SOURCE) as served:
            answer = await post(served, SlackScheme(), self.ASKED)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.text == "3eZbrw1aBm2rZgRNFdxV2595E9CY"
            listed = await served.call("ListEvents", {"parent": "subscribers/-"})
            assert "events" not in listed.json()

    async def test_a_challenge_that_is_not_signed_is_not_answered(self):
        async with gateway(self.SOURCE) as served:
            answer = await post(served, SlackScheme(), self.ASKED, x_slack_signature="v0=" + "0" * 64)
            assert refusal(answer) == (401, "SIGNATURE_INVALID")
            assert "3eZbrw1aBm2rZgRNFdxV2595E9CY" not in answer.text

    async def test_what_only_looks_like_a_challenge_to_another_provider_is_none(self):
        source = replace(github_source(secrets=(secret_for(SlackScheme()).encode(),)), name="own")
        async with gateway(source) as served:
            scheme = HmacScheme("x-hub-signature-256", prefix="sha256=")
            answer = await post(served, scheme, self.ASKED, x_github_event="ping", x_github_delivery="1")
            assert answer.status_code == 202
