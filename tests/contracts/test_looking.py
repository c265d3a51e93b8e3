"""What a broker says of itself: Ping, GetStats and the metrics."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from certes_broker.broker.stream import StreamLimits
from certes_broker.broker.system_clock import SystemClock
from certes_broker.domain.access import Bindings, Role
from certes_broker.domain.names import SubscriptionName
from certes_broker.engines.memory import MemoryEngine
from tests.contracts.http_gateway import GITHUB, Gateway, gateway, github_source
from tests.contracts.test_callers import OPERATOR, bearer, made
from tests.fakes.troubled_engine import TroubledEngine

PING = "/api/certes.v1.AdminService/Ping"
STATS = "/api/certes.v1.AdminService/GetStats"

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"

EVERY_TYPE = f"{GITHUB}/*"


async def asked(served: Gateway, path: str) -> dict[str, Any]:
    answer = await served.client.post(path, json={})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def metrics(served: Gateway) -> dict[str, float]:
    """The samples by their names and labels."""
    answer = await served.client.get("/metrics")
    assert answer.status_code == 200, answer.text
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def deliver_three_and_repeat_one(served: Gateway) -> None:
    """Publishes three events and one again, of which a stream gets the three."""
    created = await served.client.post(
        "/api/certes.v1.SubscriptionService/CreateSubscription",
        json={
            "parent": "subscribers/org_1",
            "subscriptionId": "app",
            "subscription": {"selectors": [{"pattern": EVERY_TYPE}], "stream": {}},
        },
    )
    assert created.status_code == 200, created.text
    event = {"type": f"{GITHUB}/ping", "source": "//shop", "subscriber": "org_1", "data": {"hookId": 1}}
    events = [{**event, "id": name} for name in ("a", "b", "c")]
    stream = await served.broker.streams.open(SubscriptionName("org_1", "app"), StreamLimits(100, 1 << 20))
    frames = stream.frames()
    await anext(frames)
    for sent in (events, events[:1]):
        answer = await served.client.post("/api/certes.v1.EventService/Publish", json={"events": sent})
        assert answer.status_code == 200, answer.text
    await anext(frames)
    await stream.close()


async def test_a_ready_broker_says_so() -> None:
    async with gateway() as served:
        told = await asked(served, PING)
    assert set(told) == {"version"}


async def test_what_does_not_work_is_named() -> None:
    engine = TroubledEngine(MemoryEngine(SystemClock()))
    async with gateway(engine=engine) as served:
        engine.fail("journal.bounds", 3)  # Figures ask for them twice.
        assert (await asked(served, PING))["unavailable"] == ["storage"]
        assert (await metrics(served))["certes_unavailable storage"] == 1
        assert (await metrics(served))["certes_unavailable storage"] == 0


async def test_guarantees_that_the_storage_weakens_are_told() -> None:
    engine = TroubledEngine(MemoryEngine(SystemClock()))
    engine.weaker = ["The servers sync every two minutes only."]
    async with gateway(engine=engine) as served:
        assert (await asked(served, PING))["weakerGuarantees"] == ["The servers sync every two minutes only."]
        assert (await metrics(served))["certes_weaker_guarantees"] == 1


async def test_what_was_done_is_counted_alike_in_stats_and_metrics() -> None:
    async with gateway() as served:
        await deliver_three_and_repeat_one(served)
        stats, samples = await asked(served, STATS), await metrics(served)
    assert (stats["acceptedEvents"], stats["duplicateEvents"], stats["firstAttempts"]) == ("3", "1", "3")
    assert samples["certes_events_accepted_total"] == 3
    assert samples["certes_events_duplicate_total"] == 1
    assert samples["certes_delivery_latency_seconds_count"] == 3
    assert samples["certes_delivery_latency_seconds_bucket +Inf"] == 3
    assert samples["certes_subscriptions active"] == 1
    assert stats["subscriptions"] == {"active": "1"}
    assert samples["certes_journal_bytes"] == int(stats["journalBytes"]) > 0


@pytest.mark.parametrize("keeps", [False, True])
async def test_webhooks_are_counted_by_source_and_those_refused_by_reason(keeps: bool) -> None:
    async with gateway(replace(github_source(), keep_rejected=keeps)) as served:
        for delivery in ("a", "a", "b"):
            assert (await served.webhook(delivery=delivery)).status_code == 202
        assert (await served.webhook(x_hub_signature_256="sha256=" + "0" * 64)).status_code == 401
        assert (await served.webhook(body=b"{")).status_code == 400
        assert (await served.webhook(source="nobody")).status_code == 404
        stats, samples = await asked(served, STATS), await metrics(served)
    assert stats["acceptedWebhooks"] == {"github": "3"}
    assert stats["rejectedWebhooks"] == {"SIGNATURE_INVALID": "1", "PAYLOAD_MALFORMED": "1", "SOURCE_NOT_FOUND": "1"}
    assert samples["certes_webhooks_accepted_total github"] == 3
    assert samples["certes_webhooks_rejected_total SIGNATURE_INVALID"] == 1


async def test_requests_to_publish_that_are_refused_are_counted_by_reason_whichever_way_they_came() -> None:
    nobody_s: dict[str, Any] = {"id": "a", "type": f"{GITHUB}/ping", "source": "//shop", "data": {}}
    async with gateway() as served:
        assert (await served.call("Publish", {"events": [nobody_s]})).status_code == 400
        assert (await served.call("Publish", {"events": []})).status_code == 400
        assert (await served.cloud_event({"specversion": "1.0", **nobody_s})).status_code == 400
        assert (await served.cloud_event({"specversion": "2.0", **nobody_s})).status_code == 400
        stats, samples = await asked(served, STATS), await metrics(served)
    assert stats["refusedPublishes"] == {"AUDIENCE_MISSING": "2", "FIELD_REQUIRED": "1", "FIELD_INVALID": "1"}
    assert samples["certes_publish_refused_total AUDIENCE_MISSING"] == 2


async def test_calls_that_are_not_let_in_are_counted_by_reason() -> None:
    async with gateway(operator_key=OPERATOR) as served:
        publisher = await made(served, "publisher", Role.EVENTS_WRITE)
        for headers in (
            {"authorization": ""},
            bearer("certes_nobody_" + "x" * 43),
            bearer(publisher),
            bearer(publisher),
        ):
            assert (await served.client.post(STATS, json={}, headers=headers)).status_code in (401, 403)
        stats, samples = await asked(served, STATS), await metrics(served)
    assert stats["refusedCalls"] == {"CREDENTIALS_INVALID": "2", "ROLE_MISSING": "2"}
    assert samples["certes_calls_refused_total ROLE_MISSING"] == 2


async def test_webhooks_that_wait_for_consent_are_counted_alike_in_stats_and_metrics() -> None:
    webhook = {"url": "https://hooks.example.com/", "requireConsent": True}
    request = {
        "parent": "subscribers/org_1",
        "subscriptionId": "hook",
        "subscription": {"selectors": [{"pattern": f"{GITHUB}/*"}], "webhook": webhook},
    }
    async with gateway() as served:
        made = await served.client.post("/api/certes.v1.SubscriptionService/CreateSubscription", json=request)
        assert made.status_code == 200, made.text
        stats, samples = await asked(served, STATS), await metrics(served)
    assert stats["webhooksAwaitingConsent"] == "1"
    assert samples["certes_webhooks_awaiting_consent"] == 1


async def test_the_reference_has_each_metric_with_its_kind_and_labels() -> None:
    listed = {
        name: (kind, labels)
        for name, kind, labels in re.findall(
            r"^\| `(certes_\w+)` \| (\w+) \| (?:`(\w+)`)? ?\|", REFERENCE.read_text(), re.MULTILINE
        )
    }
    async with gateway() as served:
        await deliver_three_and_repeat_one(served)
        families = list(text_string_to_metric_families((await served.client.get("/metrics")).text))
    assert {family.name for family in families} <= listed.keys()
    # Absent where nothing bounds the storage, as here.
    assert listed.keys() - {family.name for family in families} == {"certes_storage_left_bytes"}
    for family in families:
        kind, label = listed[family.name]
        assert family.type == kind, family.name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == {label} - {""}, sample


async def test_metrics_name_no_subscriber() -> None:
    async with gateway() as served:
        await deliver_three_and_repeat_one(served)
        text = (await served.client.get("/metrics")).text
    assert "org_1" not in text


async def test_who_prefers_openmetrics_gets_it() -> None:
    async with gateway() as served:
        answer = await served.client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize("path", [STATS, "/metrics"])
async def test_figures_are_for_operators_and_a_ping_for_everybody_who_is_known(path: str) -> None:
    async with gateway(operator_key=OPERATOR) as served:

        async def read(headers: dict[str, str] | None = None) -> int:
            if path == "/metrics":
                return (await served.client.get(path, headers=headers)).status_code
            return (await served.client.post(path, json={}, headers=headers)).status_code

        tenant = await made(served, "tenant", Role.CONFIG_READ)
        publisher = await made(served, "publisher", Role.EVENTS_WRITE, bindings=Bindings())
        assert await read() == 200
        assert await read({"authorization": ""}) == 401
        for key in (tenant, publisher):
            assert await read(bearer(key)) == 403
            assert (await served.client.post(PING, json={}, headers=bearer(key))).status_code == 200
