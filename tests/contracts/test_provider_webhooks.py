"""Webhooks of every provider of the catalogue, signed as it signs them, on their way through the gateway.

What they hold is in `tests/payloads/<provider>/<event type>[-variant].json`. Adding a provider adds files there, and no code.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from certes_broker.broker.system_clock import SystemClock
from certes_broker.domain.names import SubscriberName
from certes_broker.domain.sources import Audience, Everyone, Provider, Source, SourceSecret
from certes_broker.domain.webhook_mapping import HeaderPlace
from certes_broker.engines.memory import MemoryEngine
from certes_broker.gateway.ingestion import Ingestion
from certes_broker.schemas.providers import shipped_providers
from tests.contracts.http_gateway import Gateway, gateway, refusal
from tests.fakes.webhook_signer import secret_for, signed_headers

PAYLOADS = Path(__file__).parents[1] / "payloads"
PROVIDERS = [provider for name, provider in shipped_providers().items() if (PAYLOADS / name).is_dir()]

of_every_provider = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)


class Example(NamedTuple):
    """One payload: the event type that it is of, with its variant, and its bytes."""

    stem: str
    body: bytes

    @property
    def type_name(self) -> str:
        return self.stem.partition("-")[0]


def examples(provider: Provider) -> list[Example]:
    return [Example(path.stem, path.read_bytes()) for path in sorted((PAYLOADS / provider.name).glob("*.json"))]


def source_of(provider: Provider, audience: Audience | None = None) -> Source:
    return Source(
        "own",
        provider.name,
        audience or Everyone(),
        (SourceSecret(secret_for(provider.signature)),),
        keep_rejected=True,
    )


def headers_of(provider: Provider, example: Example, body: bytes) -> dict[str, str]:
    """Returns what the provider sends beside the body: the signature, and what its mapping reads in headers."""
    headers = {"content-type": "application/json", **signed_headers(provider.signature, body, int(time.time()))}
    if isinstance(provider.mapping.event, HeaderPlace):
        headers[provider.mapping.event.header] = example.type_name
    if isinstance(provider.mapping.id, HeaderPlace):
        headers[provider.mapping.id.header] = example.stem
    return headers


async def post(served: Gateway, provider: Provider, example: Example, body: bytes | None = None) -> httpx.Response:
    headers = headers_of(provider, example, example.body)
    return await served.client.post("/events/own", content=example.body if body is None else body, headers=headers)


@of_every_provider
async def test_every_example_becomes_an_event_of_its_type_and_a_retry_a_duplicate(provider):
    async with gateway(source_of(provider)) as served:
        for example in examples(provider):
            answer = await post(served, provider, example)
            assert answer.status_code == 202, f"{example.stem}: {answer.text}"
            event = await served.kept(answer.json()["name"])
            assert event["type"] == f"community.certes.dev/{provider.name}/1/{example.type_name}"
            assert event["id"] == answer.json()["id"]
            original = await served.original(answer.json()["name"])
            assert original is not None
            assert original.body == example.body
            again = await post(served, provider, example)
            assert (again.status_code, again.json()) == (202, answer.json() | {"duplicate": True})


@of_every_provider
async def test_an_example_with_one_byte_more_is_refused_and_can_be_ingested_again_as_it_was(provider):
    async with gateway(source_of(provider)) as served:
        example = examples(provider)[0]
        answer = await post(served, provider, example, example.body + b" ")
        assert refusal(answer) == (401, "SIGNATURE_INVALID")
        (summary,) = (await served.broker.rejected.list("own", page_size=2, page_token="")).rejected
        rejected = await served.broker.rejected.get("own", summary.number)
        payload = replace(rejected.payload, body=example.body)
        receipt = await Ingestion(served.broker, shipped_providers()).take_again(
            served.broker.sources.get("own"), payload, verified=False, received=rejected.time
        )
        assert not receipt.duplicate


def with_another_count(body: bytes) -> bytes:
    """Returns a body as it is sent again."""
    changed = body.replace(b'"pending_webhooks": 1', b'"pending_webhooks": 0')
    assert changed != body
    return changed


of_providers_whose_retries_differ = pytest.mark.parametrize(
    "provider", [one for one in PROVIDERS if one.retries_differ], ids=lambda provider: provider.name
)


@of_providers_whose_retries_differ
async def test_what_is_sent_again_under_the_same_id_may_differ_where_the_definition_says_so(provider):
    async with gateway(source_of(provider)) as served:
        example = examples(provider)[0]
        first = await post(served, provider, example)
        changed = with_another_count(example.body)
        again = await served.client.post("/events/own", content=changed, headers=headers_of(provider, example, changed))
        assert again.json() == first.json() | {"duplicate": True}
        original = await served.original(again.json()["name"])
        assert original is not None
        assert original.body == example.body


@of_providers_whose_retries_differ
@pytest.mark.parametrize("gone", ["erased", "trimmed"])
async def test_what_is_sent_again_is_a_duplicate_also_of_an_event_that_is_kept_no_more(provider, gone):
    audience = SubscriberName("org_1")
    async with gateway(source_of(provider, audience), engine=(engine := MemoryEngine(SystemClock()))) as served:
        example = examples(provider)[0]
        first = await post(served, provider, example)
        if gone == "erased":
            await served.broker.erasure.erase(audience)
        else:
            await engine.journal.trim((await engine.journal.bounds()).last)
        for body in (example.body, with_another_count(example.body)):
            again = await served.client.post("/events/own", content=body, headers=headers_of(provider, example, body))
            assert (again.status_code, again.json()) == (202, first.json() | {"duplicate": True})
        assert refusal(await served.call("GetEvent", {"name": first.json()["name"]})) == (404, "EVENT_NOT_FOUND")
        assert await served.broker.rejected.count("own") == 0
