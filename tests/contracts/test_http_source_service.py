"""SourceService over the JSON API, and what it does to webhooks that come in meanwhile."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contracts.http_gateway import GITHUB, PUSH, Gateway, gateway, github_headers, refusal, sign

BODY = json.dumps(PUSH).encode()
PATIENCE = 50.0
"""Seconds until a wait for what never comes fails its test."""
UNKNOWN = "nobody_knows_this"
HMAC = {"hmac": {"header": "x-hub-signature-256", "prefix": "sha256="}}
MAPPING = {"event": {"header": "x-github-event"}, "type": GITHUB + "/{event}"}


class Sources:
    """Calls the service as JSON, and sends webhooks to the source `made`. `answers` has what the service said."""

    def __init__(self, served: Gateway) -> None:
        self.served = served
        self.answers: list[str] = []

    async def ask(self, rpc: str, request: dict[str, Any]) -> dict[str, Any]:
        answer = await self.served.call(f"SourceService/{rpc}", request)
        assert answer.status_code == 200, answer.text
        self.answers.append(answer.text)
        document: dict[str, Any] = answer.json()
        return document

    async def create(self, name: str = "made", **fields: Any) -> dict[str, Any]:
        source = {"provider": "github", "everyone": True, "keepRejected": True, **fields}
        return await self.ask("CreateSource", {"sourceId": name, "source": source})

    async def deliver(self, secret: str, **headers: str) -> Any:
        given = {**github_headers(BODY, **headers), "x-hub-signature-256": sign(BODY, secret.encode())}
        return await self.served.client.post("/events/made", content=BODY, headers=given)

    async def rejected(self, source: str = "made", count: int | None = None) -> list[dict[str, Any]]:
        """Lists what a source refused; with `count`, once there are as many."""
        async with asyncio.timeout(PATIENCE):
            while True:
                listed = await self.ask("ListRejected", {"parent": f"sources/{source}"})
                found: list[dict[str, Any]] = listed.get("rejected", [])
                if count is None or len(found) == count:
                    return found

    async def reingest(self, *names: str, **fields: Any) -> list[dict[str, Any]]:
        answer = await self.ask("Reingest", {"names": names, **fields})
        results: list[dict[str, Any]] = answer["results"]
        return results


@pytest.fixture
async def sources() -> AsyncIterator[Sources]:
    async with gateway() as served:
        yield Sources(served)


async def test_a_created_source_takes_webhooks_at_once(sources: Sources) -> None:
    made = await sources.create()
    answer = await sources.deliver(made["secret"])
    assert answer.status_code == 202, answer.text
    event = await sources.served.kept(answer.json()["name"])
    assert (event["type"], event["source"], event["everyone"]) == (f"{GITHUB}/push", "sources/made", True)


async def test_an_audience_that_was_changed_is_that_of_the_next_webhook(sources: Sources) -> None:
    made = await sources.create()
    changed = {"name": "sources/made", "subscriber": "org_1"}
    await sources.ask("UpdateSource", {"source": changed, "updateMask": "subscriber"})
    answer = await sources.deliver(made["secret"])
    assert (await sources.served.kept(answer.json()["name"]))["subscriber"] == "org_1"


async def test_a_deleted_source_takes_nothing(sources: Sources) -> None:
    made = await sources.create()
    await sources.ask("DeleteSource", {"name": "sources/made"})
    assert refusal(await sources.deliver(made["secret"])) == (404, "SOURCE_NOT_FOUND")


async def test_both_secrets_verify_during_a_rotation_and_one_without_an_overlap(sources: Sources) -> None:
    old = (await sources.create())["secret"]
    new = (await sources.ask("RotateSourceSecret", {"name": "sources/made"}))["secret"]
    for number, secret in enumerate((old, new)):
        assert (await sources.deliver(secret, delivery=f"both-{number}")).status_code == 202
    newest = (await sources.ask("RotateSourceSecret", {"name": "sources/made", "overlap": "0s"}))["secret"]
    assert (await sources.deliver(newest, delivery="newest")).status_code == 202
    for secret in (old, new):
        assert refusal(await sources.deliver(secret, delivery="late")) == (401, "SIGNATURE_INVALID")


async def test_secrets_are_in_no_answer_but_the_one_that_made_them(sources: Sources) -> None:
    made = await sources.create(labels={"a": "b"})
    brought = await sources.ask("RotateSourceSecret", {"name": "sources/made", "secret": "brought-hush"})
    rotated = await sources.ask("RotateSourceSecret", {"name": "sources/made"})
    del sources.answers[:]
    await sources.deliver(made["secret"][::-1])
    await sources.ask("GetSource", {"name": "sources/made"})
    await sources.ask("ListSources", {})
    await sources.ask("UpdateSource", {"source": {"name": "sources/made", "labels": {"c": "d"}}})
    for one in await sources.rejected(count=1):
        await sources.ask("GetRejected", {"name": one["name"]})
    said = "".join(sources.answers) + json.dumps(brought)
    for secret in (made["secret"], rotated["secret"], "brought-hush"):
        assert secret not in said


async def test_an_unmappable_payload_is_kept_and_taken_once_it_can_be_mapped(sources: Sources) -> None:
    nowhere = MAPPING | {"type": "events.example.com/nothing/1/{event}"}
    made = await sources.create(provider="custom", signature=HMAC, mapping=nowhere)
    assert refusal(await sources.deliver(made["secret"])) == (422, "PAYLOAD_UNMAPPABLE")
    (kept,) = await sources.rejected(count=1)
    assert (kept["reason"], kept["verified"], kept["bodyBytes"]) == ("PAYLOAD_UNMAPPABLE", True, str(len(BODY)))
    assert "body" not in kept
    shown = (await sources.ask("GetRejected", {"name": kept["name"]}))["rejected"]
    assert base64.b64decode(shown["body"]) == BODY
    assert shown["headers"]["x-github-event"] == "push"

    (again,) = await sources.reingest(kept["name"])
    assert (again["reason"], "event" in again) == ("PAYLOAD_UNMAPPABLE", False)
    await sources.ask("UpdateSource", {"source": {"name": "sources/made", "mapping": MAPPING}})
    (taken,) = await sources.reingest(kept["name"])
    assert (await sources.served.kept(taken["event"]))["type"] == f"{GITHUB}/push"
    assert await sources.rejected() == []


async def test_a_wrong_signature_is_kept_and_taken_once_the_secret_is_right(sources: Sources) -> None:
    await sources.create(secrets=["mistaken"])
    assert refusal(await sources.deliver("right")) == (401, "SIGNATURE_INVALID")
    (kept,) = await sources.rejected(count=1)
    assert not kept.get("verified", False)
    (again,) = await sources.reingest(kept["name"])
    assert again["reason"] == "SIGNATURE_INVALID"
    await sources.ask("RotateSourceSecret", {"name": "sources/made", "secret": "right"})
    (taken,) = await sources.reingest(kept["name"])
    assert taken["event"].startswith("events/")
    assert await sources.rejected() == []


async def test_whoever_knows_better_vouches_for_a_payload(sources: Sources) -> None:
    await sources.create()
    await sources.deliver("wrong")
    (kept,) = await sources.rejected(count=1)
    (taken,) = await sources.reingest(kept["name"], trustUnverified=True)
    assert taken["event"].startswith("events/")


async def test_what_was_taken_before_is_a_duplicate(sources: Sources) -> None:
    made = await sources.create()
    await sources.deliver("wrong", delivery="same")
    taken = await sources.deliver(made["secret"], delivery="same")
    (kept,) = await sources.rejected(count=1)
    (again,) = await sources.reingest(kept["name"], trustUnverified=True)
    assert (again["event"], again["duplicate"]) == (taken.json()["name"], True)
    assert await sources.rejected() == []


async def test_each_payload_has_its_own_outcome_in_the_order_of_the_request(sources: Sources) -> None:
    made = await sources.create()
    await sources.deliver("wrong", delivery="bad")
    (bad,) = await sources.rejected(count=1)
    await sources.deliver(made["secret"], delivery="odd", event=UNKNOWN)
    odd, _ = await sources.rejected(count=2)
    results = await sources.reingest(odd["name"], "sources/made/rejected/999", bad["name"])
    assert [(one["rejected"], one["reason"]) for one in results] == [
        (odd["name"], "PAYLOAD_UNMAPPABLE"),
        ("sources/made/rejected/999", "REJECTED_NOT_FOUND"),
        (bad["name"], "SIGNATURE_INVALID"),
    ]
    assert len(await sources.rejected()) == 2


@pytest.mark.parametrize("signature", [{"token": {"header": "x-gitlab-token"}}, {"basic": {}}])
async def test_a_credential_is_never_kept_so_its_payload_must_be_vouched_for(
    sources: Sources, signature: dict[str, Any]
) -> None:
    await sources.create(provider="custom", signature=signature, mapping=MAPPING, secrets=["user:hush"])
    credentials = {
        "x-gitlab-token": "user:wrong-hush",
        "authorization": "Basic " + base64.b64encode(b"user:wrong-hush").decode(),
        "cookie": "session=wrong-hush",
    }
    headers = {**github_headers(BODY), **credentials}
    answer = await sources.served.client.post("/events/made", content=BODY, headers=headers)
    assert refusal(answer) == (401, "SIGNATURE_INVALID")
    (kept,) = await sources.rejected(count=1)
    shown = await sources.ask("GetRejected", {"name": kept["name"]})
    assert not credentials.keys() & shown["rejected"]["headers"].keys()
    assert "wrong-hush" not in json.dumps(shown)
    assert credentials["authorization"].partition(" ")[2] not in json.dumps(shown)
    (again,) = await sources.reingest(kept["name"])
    assert again["reason"] == "SIGNATURE_INVALID"
    (taken,) = await sources.reingest(kept["name"], trustUnverified=True)
    assert taken["event"]


async def test_nothing_is_kept_unless_the_source_asks_for_it(sources: Sources) -> None:
    made = await sources.create(keepRejected=False)
    await sources.deliver("wrong")
    await sources.deliver(made["secret"], event=UNKNOWN)
    assert await sources.rejected() == []


async def test_rejected_payloads_are_listed_newest_first_in_pages(sources: Sources) -> None:
    await sources.create()
    for number in range(5):
        await sources.deliver("wrong", delivery=str(number))
        await sources.rejected(count=number + 1)
    seen: list[str] = []
    token = ""
    while True:
        page = await sources.ask("ListRejected", {"parent": "sources/made", "pageSize": 2, "pageToken": token})
        seen += [one["headers"]["x-github-delivery"] for one in page["rejected"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert seen == ["4", "3", "2", "1", "0"]


async def test_what_a_deleted_source_refused_is_gone(sources: Sources) -> None:
    await sources.create()
    await sources.deliver("wrong")
    (kept,) = await sources.rejected(count=1)
    await sources.ask("DeleteSource", {"name": "sources/made"})
    calls: list[tuple[str, dict[str, Any]]] = [
        ("ListRejected", {"parent": "sources/made"}),
        ("GetRejected", {"name": kept["name"]}),
        ("Reingest", {"names": [kept["name"]]}),
    ]
    for rpc, request in calls:
        assert refusal(await sources.served.call(f"SourceService/{rpc}", request)) == (404, "SOURCE_NOT_FOUND")
    await sources.create()
    assert await sources.rejected() == []


async def test_a_source_sees_nothing_of_what_another_refused(sources: Sources) -> None:
    await sources.create()
    await sources.create("other")
    await sources.deliver("wrong")
    (kept,) = await sources.rejected(count=1)
    assert await sources.rejected("other") == []
    name = kept["name"].replace("made", "other")
    answer = await sources.served.call("SourceService/GetRejected", {"name": name})
    assert refusal(answer) == (404, "REJECTED_NOT_FOUND")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "FIELD_REQUIRED"),
        (["sources/a/rejected/1"] * 101, "FIELD_INVALID"),
        (["sources/a/rejected/1", "sources/b/rejected/1"], "FIELD_INVALID"),
        (["sources/a/rejected/0"], "MALFORMED_NAME"),
        (["sources/a/rejected/1x"], "MALFORMED_NAME"),
        (["sources/a/rejected/" + "9" * 30], "MALFORMED_NAME"),
        (["sources/A/rejected/1"], "MALFORMED_NAME"),
        (["a/1"], "MALFORMED_NAME"),
        ([""], "FIELD_REQUIRED"),
    ],
)
async def test_a_request_that_names_nothing_to_ingest_is_refused(
    sources: Sources, names: list[str], reason: str
) -> None:
    answer = await sources.served.call("SourceService/Reingest", {"names": names})
    assert refusal(answer) == (400, reason)


async def test_an_unsigned_source_is_refused_where_other_machines_could_reach_it() -> None:
    source = {"provider": "custom", "everyone": True, "signature": {"none": {}}, "mapping": MAPPING}
    for allowed, status in ((True, 200), (False, 400)):
        async with gateway(allow_unsigned=allowed) as served:
            answer = await served.call("SourceService/CreateSource", {"sourceId": "open", "source": source})
            assert answer.status_code == status
