"""Every real payload of GitHub's comes in through the gateway, goes out typed, and goes on as it came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import symbol_database

from certes.v1 import event_pb2
from certes.v1 import event_service_pb2 as pb
from certes.v1 import subscription_pb2 as resources
from scripts.broker_process import BrokerProcess
from tests.acceptance import github
from tests.acceptance.client import Client, connected, ordinals
from tests.acceptance.receiver import Receiver, receiving

EVENTS, PAYLOADS = 58, 181
TYPES = "community.certes.dev/github/1/"


def bodies(folder: Path) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """Event, payload, and its bytes: written in as many ways as there are, for they must stay as they are."""
    styles: list[dict[str, Any]] = [
        {"separators": (",", ":")},
        {"indent": 1, "ensure_ascii": False},
        {"indent": "\t", "sort_keys": True},
    ]
    for path in sorted(folder.glob("[a-z]*.json")):
        event = path.stem
        for index, payload in enumerate(json.loads(path.read_text())):
            yield event, payload, json.dumps(payload, **styles[index % len(styles)]).encode()


async def test_every_payload_is_accepted_delivered_typed_and_handed_on_byte_for_byte(
    broker: BrokerProcess, shared_payloads: Path
) -> None:
    posted: dict[str, tuple[str, dict[str, Any], bytes]] = {}
    async with connected(broker) as client, github.http() as http, receiving() as receiver:
        stream = await client.create_stream("typed")
        hook = await client.create_webhook("original", receiver.url, format=resources.Webhook.FORMAT_ORIGINAL)
        secrets = await client.signing_secrets(hook)
        for event, payload, body in bodies(shared_payloads):
            answer = await http.post(github.url(broker), content=body, headers=github.signed(event, body))
            assert answer.status_code == 202, (event, answer.text)
            assert answer.json()["duplicate"] is False
            posted[answer.json()["name"]] = (event, payload, body)
        assert len(posted) == PAYLOADS
        assert len({event for event, _, _ in posted.values()}) == EVENTS
        delivered = await read(client, stream, len(posted))
        assert delivered.keys() == posted.keys()
        for name, (event, payload, body) in posted.items():
            assert delivered[name].type == TYPES + event
            check_typed(delivered[name], payload)
            kept = await client.events.GetEvent(pb.GetEventRequest(name=name))
            assert kept.event.event == delivered[name]
            assert kept.original.body == body
        await receiver.until(lambda: len(receiver.taken) == len(posted))
    check_handed_on(receiver, secrets, sorted((event, body) for event, _, body in posted.values()))


async def read(client: Client, stream: str, count: int) -> dict[str, event_pb2.Event]:
    delivered: dict[str, event_pb2.Event] = {}
    call = client.subscribe(stream)
    async with asyncio.timeout(60):
        opened = (await call.read()).opened.stream
        while len(delivered) < count:
            batch = (await call.read()).batch
            delivered.update((one.name, one.event) for one in batch.deliveries)
            await client.acknowledge(
                opened, ordinals(batch.first_ordinal, batch.first_ordinal + len(batch.deliveries) - 1)
            )
    call.cancel()
    return delivered


def check_typed(event: event_pb2.Event, payload: dict[str, Any]) -> None:
    """The event's data is the message that its type URL names, and holds what identifies the payload."""
    import_module(f"certes.community.github.v1.{event.type.rpartition('/')[2]}_event_pb2")  # makes the type known
    name = event.data.type_url.rpartition("/")[2]
    message: Any = symbol_database.Default().GetSymbol(name)()
    assert event.data.Unpack(message)
    assert message.ByteSize() > 0
    for field in ("action", "ref", "zen", "after"):
        if isinstance(payload.get(field), str):
            assert getattr(message, field) == payload[field]
    if "repository" in payload:
        assert message.repository.full_name == payload["repository"]["full_name"] == event.subject
    elif "organization" in payload:
        assert message.organization.login == payload["organization"]["login"] == event.subject
    assert message.sender.login == payload.get("sender", {}).get("login", "")


def check_handed_on(receiver: Receiver, secrets: list[str], expected: list[tuple[str, bytes]]) -> None:
    for request in receiver.taken:
        request.verify(secrets)
        assert request.arrival.headers["content-type"] == "application/json"
    got = sorted((one.arrival.headers["x-github-event"], one.arrival.body) for one in receiver.taken)
    assert got == expected


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"x-hub-signature-256": "sha256=" + 64 * "0"}, "SIGNATURE_INVALID"),
        ({"x-hub-signature-256": ""}, "SIGNATURE_INVALID"),
        (github.signed("push", b"{}", secret="another"), "SIGNATURE_INVALID"),
    ],
)
async def test_a_bad_signature_is_401_with_a_reason(
    broker: BrokerProcess, headers: dict[str, str], reason: str
) -> None:
    async with github.http() as http:
        sent = github.signed("push", b"{}") | headers
        answer = await http.post(github.url(broker), content=b"{}", headers=sent)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (401, reason)
