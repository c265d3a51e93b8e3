"""One gateway finds out what another one serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from certes.v1 import event_pb2, schema_pb2
from certes.v1 import schema_service_pb2 as pb
from scripts.broker_process import BrokerProcess
from tests.acceptance.booking import BOOKED, register
from tests.acceptance.client import connected, refusal
from tests.acceptance.conftest import StartBroker


def uri(broker: BrokerProcess, namespace: str = "") -> str:
    return f"events://{broker.http}{namespace}"


async def discover(client: Any, **fields: Any) -> pb.DiscoverSchemasResponse:
    return await client.schemas.DiscoverSchemas(pb.DiscoverSchemasRequest(**fields))


async def test_foreign_schemas_are_shown_with_their_descriptors_and_served_by_nobody_but_their_gateway(
    start_broker: StartBroker,
) -> None:
    theirs, ours = start_broker("", "theirs"), start_broker("", "ours")
    async with connected(theirs) as producer, connected(ours) as client:
        await register(producer)
        found = await discover(client, uri=uri(theirs, "/rooms"), view=pb.SCHEMA_VIEW_FULL)
        (schema,) = found.schemas
        assert (schema.type, schema.origin, schema.gateway) == (
            BOOKED,
            schema_pb2.Schema.ORIGIN_FOREIGN,
            uri(theirs),
        )
        (version,) = found.versions
        assert "meetly/rooms/v1/booked.proto" in [file.name for file in version.descriptor_set.file]
        assert found.expire_time.seconds > found.fetch_time.seconds

        listed = await client.schemas.ListSchemas(pb.ListSchemasRequest(namespace="rooms"))
        assert not listed.schemas
        event = event_pb2.Event(id="e1", type=BOOKED, source="//meetly", everyone=True)
        event.data.type_url = "type.googleapis.com/meetly.rooms.v1.Booked"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.publish([event])
        assert refusal(refused.value)[1] == "UNKNOWN_EVENT_TYPE"


async def test_the_whole_of_a_gateway_comes_in_pages_and_over_json(start_broker: StartBroker) -> None:
    theirs, ours = start_broker("", "theirs"), start_broker("", "ours")
    types: list[str] = []
    token = ""
    async with httpx.AsyncClient(base_url=f"http://{ours.http}", trust_env=False) as http:
        while not types or token:
            request = {"uri": uri(theirs), "pageSize": 7, "pageToken": token}
            answer = await http.post("/api/certes.v1.SchemaService/DiscoverSchemas", json=request)
            page = answer.raise_for_status().json()
            types += [schema["type"] for schema in page["schemas"]]
            token = page.get("nextPageToken", "")
    assert types == sorted(set(types))
    assert "community.certes.dev/github/1/push" in types
    assert "community.certes.dev/stripe/1/invoice" in types


async def test_a_gateway_that_is_not_there_is_unreachable(start_broker: StartBroker) -> None:
    theirs, ours = start_broker("", "theirs"), start_broker("", "ours")
    gone = uri(theirs)
    theirs.terminate()
    async with connected(ours) as client:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await discover(client, uri=gone)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert refusal(refused.value)[1] == "GATEWAY_UNREACHABLE"


async def test_a_gateway_at_an_address_that_is_nobodys_business_is_not_asked(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    with BrokerProcess(tmp_path / "strict", dev=False) as strict:
        strict.start()
        async with connected(strict) as client:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await discover(client, uri=uri(broker))
    assert refusal(refused.value) == (grpc.StatusCode.PERMISSION_DENIED, "ADDRESS_NOT_ALLOWED")
