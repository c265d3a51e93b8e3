"""A key that is revoked at one broker is revoked at all of them, whatever it is being used for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from grpc import StatusCode, aio

from certes.v1 import event_service_pb2 as pb
from certes_broker.broker.system_clock import SystemClock
from certes_broker.domain.access import Needs, Role
from certes_broker.domain.api_keys import KeyId
from certes_broker.domain.errors import Reason, Unauthenticated
from certes_broker.engines.memory import MemoryEngine
from certes_broker.gateway.callers import Credentials
from tests.contracts.http_gateway import GITHUB, Gateway, gateway, refusal
from tests.contracts.test_callers import OPERATOR, SUBSCRIBE, bearer, grpc_channel, made, told
from tests.contracts.test_http_connect import Frames, envelope

EPHEMERAL = {"ephemeral": {"parent": "subscribers/org_1", "selectors": [{"pattern": f"{GITHUB}/*"}]}}
LIST = "/api/certes.v1.EventService/ListEvents"
PATIENCE = 60.0


@pytest.fixture
async def two() -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two brokers on one store."""
    engine = MemoryEngine(SystemClock())
    async with (
        gateway(engine=engine, operator_key=OPERATOR) as one,
        gateway(engine=engine.another(), operator_key=OPERATOR) as other,
    ):
        yield one, other


async def known(broker: Gateway, key_id: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while broker.broker.keys.find(KeyId(key_id)) is None:  # noqa: ASYNC110  it waits for no time
            await asyncio.sleep(0)


async def test_a_key_revoked_at_one_broker_is_refused_at_another_and_what_it_had_opened_there_ends(two):
    one, other = two
    key = await made(one, "reader", Role.EVENTS_READ)
    await known(other, "reader")
    request = {"parent": "subscribers/org_1"}
    assert (await other.client.post(LIST, json=request, headers=bearer(key))).status_code == 200
    headers = {"content-type": "application/connect+json", **bearer(key)}
    async with (
        asyncio.timeout(PATIENCE),
        grpc_channel(other) as channel,
        other.client.stream(
            "POST", "/api/certes.v1.EventService/Subscribe", content=envelope(EPHEMERAL), headers=headers
        ) as answer,
    ):
        frames = Frames(answer.aiter_bytes())
        assert "opened" in (await frames.next())[1]
        asked = pb.SubscribeRequest(**EPHEMERAL).SerializeToString()
        stream = channel.unary_stream(SUBSCRIBE)(asked, metadata=(("authorization", f"Bearer {key}"),))
        await stream.read()

        revoked = await one.call("AdminService/DeleteApiKey", {"name": "apiKeys/reader"})
        assert revoked.status_code == 200

        _, end = await frames.next()
        assert end["error"]["details"][0]["debug"]["reason"] == "CREDENTIALS_INVALID"
        with pytest.raises(aio.AioRpcError) as raised:
            await stream.read()
        assert told(raised.value) == (StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID")
    refused = await other.client.post(LIST, json=request, headers=bearer(key))
    assert refusal(refused) == (401, "CREDENTIALS_INVALID")
    assert len(other.broker.streams) == 0


async def test_a_stream_whose_request_was_still_arriving_when_its_key_was_revoked_is_not_opened(two):
    one, other = two
    key = await made(one, "reader", Role.EVENTS_READ)
    await known(other, "reader")
    caller = await other.door.admit(Credentials((f"Bearer {key}",)), Needs(Role.EVENTS_READ), "Subscribe")
    with other.door.streams.opened(caller):
        pass
    await other.broker.keys.delete(KeyId("reader"))
    with pytest.raises(Unauthenticated) as raised, other.door.streams.opened(caller):
        pass
    assert raised.value.reason is Reason.CREDENTIALS_INVALID
    operator = await other.door.admit(Credentials((f"Bearer {OPERATOR}",)), Needs(None), "Subscribe")
    with other.door.streams.opened(operator):
        assert other.door.streams.count(operator.id) == 1
