"""The definitions of docs/guide/sources.md, as they stand there, with what their providers send."""

from __future__ import annotations

import re
import time
import tomllib
from pathlib import Path

import pytest

from certes_broker.domain.sources import Everyone, PayloadSubscriber, Source, SourceSecret
from certes_broker.schemas.webhook_tables import Table, read_mapping, read_signature
from tests.contracts.http_gateway import gateway
from tests.fakes.webhook_signer import secret_for, signed_headers

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "sources.md"
DEFINITIONS = [tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)]
WEBHOOKS = {
    "shop": (
        {"X-Shop-Topic": "order/placed"},
        b'{"delivery": {"id": 7}, "created_at": 1700000000, "order": {"number": "#1"}, "account": {"id": "a-1"}}',
        {"type": "events.meetly.com/shop/1/order_placed", "id": "7", "subject": "#1", "subscriber": "a-1"},
    ),
    "shopify": (
        {
            "X-Shopify-Topic": "orders/create",
            "X-Shopify-Webhook-Id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
            "X-Shopify-Triggered-At": "2023-03-29T18:00:27.877041743Z",
            "X-Shopify-Shop-Domain": "meetly.myshopify.com",
        },
        b'{"id": 820982911946154508, "admin_graphql_api_id": "gid://shopify/Order/820982911946154508"}',
        {
            "type": "events.meetly.com/shopify/1/orders_create",
            "id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
            "time": "2023-03-29T18:00:27.877041Z",
            "subject": "gid://shopify/Order/820982911946154508",
            "subscriber": "meetly.myshopify.com",
        },
    ),
    "gitlab": (
        {"X-Gitlab-Event": "Merge Request Hook", "Idempotency-Key": "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"},
        b'{"object_kind": "merge_request", "project": {"path_with_namespace": "meetly/app"}}',
        {
            "type": "events.meetly.com/gitlab/1/merge_request",
            "id": "f5e5f430-f57b-4e6e-9fac-d9128cd7232f",
            "subject": "meetly/app",
        },
    ),
}


def namespace_of(definition) -> str:
    return definition["mapping"]["type"].split("/")[1]


def test_every_definition_has_a_webhook_here():
    assert {namespace_of(definition) for definition in DEFINITIONS} == set(WEBHOOKS)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=namespace_of)
async def test_a_definition_of_the_guide_takes_what_its_provider_sends(definition):
    scheme, mapping = read_signature(Table(definition["signature"])), read_mapping(Table(definition["mapping"]))
    headers, body, event = WEBHOOKS[namespace_of(definition)]
    audience = PayloadSubscriber() if mapping.subscriber else Everyone()
    source = Source("own", "custom", audience, (SourceSecret(secret_for(scheme)),), scheme, mapping)
    async with gateway(source, open_namespaces=[f"events.meetly.com/{namespace_of(definition)}"]) as served:
        sent = {"content-type": "application/json", **headers, **signed_headers(scheme, body, int(time.time()))}
        answer = await served.client.post("/events/own", content=body, headers=sent)
        assert answer.status_code == 202, answer.text
        kept = await served.kept(answer.json()["name"])
        assert {key: kept[key] for key in event} == event
