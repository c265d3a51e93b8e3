"""The Python SDK with a broker that asks for certificates. All else that it does, other tests ask of it."""

from __future__ import annotations

import asyncio

import pytest

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes_sdk import CertesError, Client, RawEvent
from certes_sdk.clock import SystemClock
from certes_sdk.connection import Connection
from tests.integration.conftest import Asking

PUSH = "community.certes.dev/github/1/push"


async def test_with_its_certificate_it_publishes_and_takes_and_without_one_it_is_told(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in asking.environ.items():
        monkeypatch.setenv(name, value)
    certificate, key = map(str, asking.application)
    come: asyncio.Queue[RawEvent] = asyncio.Queue()
    shown = Client(asking.uri, app="app", certificate=certificate, certificate_key=key)
    async with asyncio.timeout(50), shown as client:
        client.on(PUSH)(come.put_nowait)
        await client.ensure_subscriptions(PUSH)
        receipt = await client.send_outgoing_event("org_1", PushEvent(ref="refs/heads/main"))
        assert (await come.get()).id == receipt.id

    without = Connection(Client(asking.uri).settings, SystemClock())
    with pytest.raises(CertesError) as caught:
        await without.channel()
    assert caught.value.reason == "GATEWAY_UNREACHABLE"
    assert "name one by certificate and certificate_key" in caught.value.hint
