"""Foreign webhooks in: what is taken, what is refused, and what is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest

from certes_broker.broker.system_clock import SystemClock
from certes_broker.domain.names import SubscriberName
from certes_broker.engines.memory import MemoryEngine
from tests.contracts.http_gateway import GITHUB, PUSH, Gateway, gateway, github_headers, github_source, refusal, sign
from tests.fakes.troubled_engine import TroubledEngine

BODY = json.dumps(PUSH).encode()


async def stored(served: Gateway) -> int:
    answer = await served.call("ListEvents", {"parent": "subscribers/-"})
    return len(answer.json().get("events", []))


async def test_a_signed_webhook_becomes_a_typed_event_for_the_audience_of_its_source():
    async with gateway(github_source(audience=SubscriberName("org_123"))) as served:
        answer = await served.webhook(delivery="72d3162e-cc78-11e3-81ab-4c9367dc0958")

        assert answer.status_code == 202
        told = answer.json()
        assert told == {
            "name": told["name"],
            "id": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
            "duplicate": False,
        }
        event = await served.kept(told["name"])
        assert event["type"] == f"{GITHUB}/push"
        assert event["source"] == "sources/github"
        assert event["subject"] == "meetly/meetly"
        assert event["subscriber"] == "org_123"
        assert "everyone" not in event
        assert event["data"]["repository"]["full_name"] == "meetly/meetly"
        assert event["data"]["forced"] is False
        assert event["data"]["commits"][0]["message"] == "Größe"


async def test_an_event_is_for_everyone_where_the_source_says_so():
    async with gateway() as served:
        answer = await served.webhook()
        assert (await served.kept(answer.json()["name"]))["everyone"] is True


async def test_the_subject_is_the_organization_where_there_is_no_repository():
    async with gateway() as served:
        payload = {"action": "added", "organization": {"login": "meetly"}}
        answer = await served.webhook(payload, event="membership")
        assert (await served.kept(answer.json()["name"]))["subject"] == "meetly"


async def test_a_ping_is_an_event_like_any_other():
    async with gateway() as served:
        answer = await served.webhook({"zen": "Keep it logically awesome.", "hook_id": 42}, event="ping")
        event = await served.kept(answer.json()["name"])
        assert event["type"] == f"{GITHUB}/ping"
        assert "subject" not in event


async def test_the_body_is_kept_as_it_came_with_the_headers_that_matter_and_no_signature():
    async with gateway() as served:
        answer = await served.webhook(body=BODY, x_hub_signature="sha1=…".encode().hex(), authorization="Basic eA==")
        original = await served.original(answer.json()["name"])
        assert original is not None
        assert original.body == BODY
        assert original.content_type == "application/json"
        assert dict(original.headers) == {
            "user-agent": "GitHub-Hookshot/0a1b2c3",
            "x-github-event": "push",
            "x-github-delivery": "d-1",
            "x-github-hook-id": "42",
        }


async def test_a_form_with_the_payload_in_it_is_taken_too():
    async with gateway() as served:
        body = urlencode({"payload": BODY.decode()}).encode()
        answer = await served.webhook(body=body, content_type="application/x-www-form-urlencoded")
        assert answer.status_code == 202
        event = await served.kept(answer.json()["name"])
        assert event["data"]["commits"][0]["message"] == "Größe"
        original = await served.original(answer.json()["name"])
        assert original is not None
        assert original.body == body


async def test_a_redelivery_is_answered_as_a_duplicate_under_the_first_name():
    async with gateway() as served:
        first, second = await served.webhook(), await served.webhook()
        assert second.status_code == 202
        assert second.json() == first.json() | {"duplicate": True}
        assert await stored(served) == 1


async def test_any_secret_of_the_source_verifies_while_it_is_rotated():
    async with gateway(github_source(secrets=(b"the new secret", b"the old secret"))) as served:
        for number, secret in enumerate((b"the new secret", b"the old secret")):
            answer = await served.webhook(body=BODY, delivery=str(number), x_hub_signature_256=sign(BODY, secret))
            assert answer.status_code == 202


@pytest.mark.parametrize(
    ("signature", "problem"),
    [
        (sign(BODY, b"another secret"), "NO_MATCH"),
        (sign(BODY)[:-1], "NO_MATCH"),
        ("sha1=" + sign(BODY)[7:], "HEADER_MALFORMED"),
        ("", "HEADER_MISSING"),
    ],
)
async def test_a_webhook_that_is_not_signed_with_the_secret_is_refused_and_not_stored(signature, problem):
    async with gateway() as served:
        answer = await served.webhook(body=BODY, x_hub_signature_256=signature)
        assert refusal(answer) == (401, "SIGNATURE_INVALID")
        assert answer.json()["error"]["metadata"] == {"problem": problem}
        assert await stored(served) == 0


async def test_a_webhook_without_a_signature_is_refused():
    async with gateway() as served:
        headers = github_headers(BODY)
        del headers["x-hub-signature-256"]
        assert refusal(await served.client.post("/events/github", content=BODY, headers=headers)) == (
            401,
            "SIGNATURE_INVALID",
        )


@pytest.mark.parametrize("position", [0, len(BODY) // 2, len(BODY) - 1])
async def test_a_body_with_one_byte_changed_is_refused_before_it_is_parsed(position):
    tampered = BODY[:position] + bytes([BODY[position] ^ 1]) + BODY[position + 1 :]
    async with gateway() as served:
        answer = await served.webhook(body=tampered, x_hub_signature_256=sign(BODY))
        assert refusal(answer) == (401, "SIGNATURE_INVALID")


@pytest.mark.parametrize("missing", ["x-github-event", "x-github-delivery"])
async def test_a_webhook_without_its_event_or_delivery_id_is_refused_naming_the_header(missing):
    async with gateway() as served:
        headers = github_headers(BODY)
        del headers[missing]
        answer = await served.client.post("/events/github", content=BODY, headers=headers)
        assert refusal(answer) == (400, "FIELD_REQUIRED")
        assert answer.json()["error"]["fieldViolations"] == [{"field": missing, "description": "the header is missing"}]


@pytest.mark.parametrize("event", ["no_such_event", "push/../ping", "*", "_version", "-version"])
async def test_an_event_that_no_schema_describes_is_refused_by_name(event):
    async with gateway() as served:
        answer = await served.webhook(event=event)
        assert refusal(answer) == (422, "PAYLOAD_UNMAPPABLE")
        assert answer.json()["error"]["metadata"]["event"] == event


async def test_a_payload_that_does_not_fit_its_schema_is_refused():
    async with gateway() as served:
        answer = await served.webhook({"ref": ["no", "string"]})
        assert refusal(answer) == (422, "PAYLOAD_UNMAPPABLE")
        assert "ref" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b"\xef\xbb\xbf{}"]
)
async def test_a_body_that_is_no_json_object_is_refused(body):
    async with gateway() as served:
        assert refusal(await served.webhook(body=body)) == (400, "PAYLOAD_MALFORMED")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"repository": {"name": "a", "name": "b"}}', "repository.name"),
        (b'{"commits": [{"id": NaN}]}', "commits[0].id"),
        (b'{"commits": [{"id": "\xff"}]}', "commits[0].id"),
        (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "a" + "[0]" * 99),
    ],
)
async def test_a_body_that_two_readers_might_read_differently_is_refused_with_the_place(body, field):
    async with gateway() as served:
        answer = await served.webhook(body=body)
        assert refusal(answer) == (400, "PAYLOAD_MALFORMED")
        assert answer.json()["error"]["fieldViolations"][0]["field"] == field


@pytest.mark.parametrize(
    "body", [b"", b"a=b", b"payload=%7B%7D&payload=%7B%7D", b"payload=%FF", b"payload=no", b"&" * 99]
)
async def test_a_form_without_one_payload_is_refused(body):
    async with gateway() as served:
        answer = await served.webhook(body=body, content_type="application/x-www-form-urlencoded")
        assert refusal(answer) == (400, "PAYLOAD_MALFORMED")


@pytest.mark.parametrize("kind", ["text/plain", "", "application/xml", "multipart/form-data; boundary=x"])
async def test_a_content_type_that_no_webhook_has_is_refused(kind):
    async with gateway() as served:
        assert refusal(await served.webhook(content_type=kind)) == (415, "CONTENT_TYPE_UNSUPPORTED")


async def test_a_charset_in_the_content_type_changes_nothing():
    async with gateway() as served:
        assert (await served.webhook(content_type="Application/JSON; charset=utf-8")).status_code == 202


async def test_a_source_that_is_not_configured_is_not_found():
    async with gateway() as served:
        assert refusal(await served.webhook(source="gitlab")) == (404, "SOURCE_NOT_FOUND")


async def test_sources_can_be_replaced_while_the_gateway_serves():
    async with gateway() as served:
        served.broker.sources.declare([github_source("new")])
        assert refusal(await served.webhook(source="github")) == (404, "SOURCE_NOT_FOUND")
        assert (await served.webhook(source="new")).status_code == 202


async def test_a_body_that_is_declared_too_large_is_refused_without_being_read():
    async with gateway(max_payload_bytes=1000) as served:
        reader, writer = await asyncio.open_connection("localhost", served.port)
        head = "".join(f"{name}: {value}\r\n" for name, value in github_headers(b"").items())
        writer.write(f"POST /events/github HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1001\r\n{head}\r\n".encode())
        assert (await reader.readline()).split()[1] == b"413"
        writer.close()


async def test_a_body_that_turns_out_too_large_is_refused_while_it_is_read():
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    async with gateway(max_payload_bytes=1000) as served:
        answer = await served.client.post("/events/github", content=chunks(), headers=github_headers(b""))
        assert refusal(answer) == (413, "PAYLOAD_TOO_LARGE")
        assert answer.json()["error"]["metadata"] == {"limit": "1000"}


async def test_a_body_of_just_the_limit_is_taken_in_chunks_too():
    async def chunks() -> AsyncIterator[bytes]:
        yield BODY[:100]
        yield BODY[100:]

    async with gateway(max_payload_bytes=len(BODY)) as served:
        answer = await served.client.post("/events/github", content=chunks(), headers=github_headers(BODY))
        assert answer.status_code == 202


async def test_another_body_under_the_same_delivery_id_is_refused():
    async with gateway() as served:
        await served.webhook()
        assert refusal(await served.webhook(PUSH | {"ref": "refs/heads/other"})) == (409, "EVENT_ID_REUSED")


async def test_a_draining_broker_takes_no_webhook_and_says_when_to_try_again():
    async with gateway() as served:
        await served.broker.drain()
        answer = await served.webhook()
        assert refusal(answer) == (503, "DRAINING")
        assert answer.headers["retry-after"] == "1"


async def test_a_webhook_is_answered_when_its_event_is_stored_and_not_before():
    engine = TroubledEngine(MemoryEngine(SystemClock()))
    async with gateway(engine=engine) as served, asyncio.TaskGroup() as tasks:
        may_be_stored = engine.hold("journal.append")
        answering = tasks.create_task(served.webhook())
        while not engine.calls["journal.append"]:  # noqa: ASYNC110  it waits for no time
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not answering.done()
        may_be_stored.set()
        assert (await answering).status_code == 202


async def test_a_webhook_whose_event_could_not_be_stored_is_not_taken():
    engine = TroubledEngine(MemoryEngine(SystemClock()))
    async with gateway(engine=engine) as served:
        engine.fail("journal.append", 1)
        assert (await served.webhook()).status_code == 503
        assert await stored(served) == 0


async def test_a_source_is_only_posted_to():
    async with gateway() as served:
        answer = await served.client.get("/events/github")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("event", ["issues", "membership", "ping", "pull_request", "push"])
async def test_every_real_payload_is_taken(event, shared_payloads):
    payloads = json.loads((shared_payloads / f"{event}.json").read_text())
    async with gateway() as served:
        for number, payload in enumerate(payloads):
            answer = await served.webhook(payload, event=event, delivery=str(number))
            assert answer.status_code == 202, answer.text
