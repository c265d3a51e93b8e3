"""The gRPC server itself: what it serves, how it ends, and what it says beside the contract."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from structlog.testing import capture_logs

from certes.v1 import (
    admin_service_pb2,
    delivery_service_pb2,
    event_service_pb2,
    schema_service_pb2,
    source_service_pb2,
    subscription_service_pb2,
)
from certes_broker.domain.access import Needs
from certes_broker.domain.errors import Exhausted, Reason, Unavailable
from certes_broker.gateway.grpc.server import GrpcServer
from certes_broker.gateway.methods import BidiStream, Call, Method, Send, ServerStream, Unary
from tests.contracts.grpc_callers import Caller, Refusal, refused

TIMEOUT = 20.0
SERVICES = [
    *delivery_service_pb2.DESCRIPTOR.services_by_name.values(),
    *event_service_pb2.DESCRIPTOR.services_by_name.values(),
    *schema_service_pb2.DESCRIPTOR.services_by_name.values(),
    *source_service_pb2.DESCRIPTOR.services_by_name.values(),
    *subscription_service_pb2.DESCRIPTOR.services_by_name.values(),
    *admin_service_pb2.DESCRIPTOR.services_by_name.values(),
]
PUBLISH_STREAM = "/certes.v1.EventService/PublishStream"
"""Answers bytes that are no message by a rejection, and is served by other tests enough."""
RPCS = [f"/{service.full_name}/{rpc.name}" for service in SERVICES for rpc in service.methods]


@pytest.mark.parametrize("path", [path for path in RPCS if path != PUBLISH_STREAM])
def test_every_rpc_of_the_contract_is_served(grpc_channel: Any, caller: Caller, path: str) -> None:
    """Bytes that are no message reach the method, which says so."""
    call = grpc_channel.stream_stream(path)
    assert refused(lambda: call(iter([b"\xff\xff"]), timeout=TIMEOUT)).reason == "MALFORMED_REQUEST"


def test_health_is_told_of_the_server_and_of_each_service(grpc_channel: grpc.Channel, caller: Caller) -> None:
    health: Any = HealthStub(grpc_channel)
    for service in ("", *(service.full_name for service in SERVICES)):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services_and_their_files(grpc_channel: grpc.Channel, caller: Caller) -> None:
    ask = reflection_pb2.ServerReflectionRequest
    requests = [ask(list_services=""), ask(file_containing_symbol="certes.v1.EventService")]
    stub: Any = ServerReflectionStub(grpc_channel)
    listed, file = stub.ServerReflectionInfo(iter(requests), timeout=TIMEOUT)
    names = {service.name for service in listed.list_services_response.service}
    assert {service.full_name for service in SERVICES} | {"grpc.health.v1.Health"} <= names
    assert file.file_descriptor_response.file_descriptor_proto


def test_a_request_far_over_the_limit_is_refused_before_it_is_read(caller: Caller) -> None:
    events = [caller.event(attributes={"a": "x" * 900_000}) for _ in range(8)]
    with pytest.raises(grpc.RpcError) as raised:
        caller.publish(*events)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


# Below: servers around methods made for the test.


@asynccontextmanager
async def serving(name: str, call: Call) -> AsyncIterator[tuple[GrpcServer, Any]]:
    publish = event_service_pb2.PublishRequest, event_service_pb2.PublishResponse
    server = GrpcServer([Method("certes.v1.EventService", name, call, *publish, Needs(None))], "127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield server, channel
    await server.drain(0)


async def test_a_refusal_says_when_to_try_again() -> None:
    async def full(_: bytes) -> bytes:
        raise Exhausted(Reason.BUFFER_FULL, "Full.", retry_after=1.5)

    async with serving("Publish", Unary(full)) as (_, channel):
        with pytest.raises(aio.AioRpcError) as raised:
            await channel.unary_unary("/certes.v1.EventService/Publish")(b"")
    refusal = Refusal(raised.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUFFER_FULL")
    assert refusal.retry.retry_delay.ToTimedelta().total_seconds() == 1.5


async def test_a_fault_of_the_broker_tells_the_caller_a_correlation_id_and_nothing_else() -> None:
    async def fail(_: bytes) -> bytes:
        raise ZeroDivisionError("secret detail")

    with capture_logs() as logs:
        async with serving("Publish", Unary(fail)) as (_, channel):
            with pytest.raises(aio.AioRpcError) as raised:
                await channel.unary_unary("/certes.v1.EventService/Publish")(b"")
    refusal = Refusal(raised.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret detail" not in refusal.message + str(refusal.metadata)
    assert [entry["correlation_id"] for entry in logs] == [refusal.metadata["correlation_id"]]


async def test_an_answer_that_a_caller_goes_away_from_is_no_fault_of_the_broker() -> None:
    has_begun = asyncio.Event()

    async def answer_until_it_fails(send: Send) -> None:
        while True:
            has_begun.set()
            await send(bytes(1_000_000))

    async def call(_requests: AsyncIterator[bytes], send: Send, _draining: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(answer_until_it_fails(send))
            try:
                await asyncio.shield(answering)
            except asyncio.CancelledError:
                await asyncio.wait([answering])

    with capture_logs() as logs:
        async with serving("PublishStream", BidiStream(call)) as (server, channel):
            rpc = channel.stream_stream(PUBLISH_STREAM)()
            await has_begun.wait()
            rpc.cancel()
            await server.drain(TIMEOUT)
    assert logs == []


@pytest.mark.parametrize("ending", ["cancelled", "failed", "left unread"])
async def test_a_stream_is_closed_whatever_ends_its_rpc(ending: str) -> None:
    closed = asyncio.Event()
    reached = asyncio.Event()

    async def endless(_: bytes) -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            if ending == "failed":
                raise Unavailable(Reason.STORAGE_UNAVAILABLE, "gone")
            while ending == "left unread":
                yield bytes(1 << 20)
                reached.set()
            reached.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with serving("Subscribe", ServerStream(endless)) as (_, channel):
        call = channel.unary_stream("/certes.v1.EventService/Subscribe")(b"")
        assert await call.read() == b"first"
        if ending != "failed":
            await reached.wait()
            call.cancel()
        await closed.wait()


async def test_draining_says_so_by_health_and_to_open_exchanges_and_waits_for_what_is_under_way() -> None:
    finish = asyncio.Event()

    async def exchange(_: AsyncIterator[bytes], send: Send, draining: asyncio.Event) -> None:
        await send(b"open")
        await draining.wait()
        await send(b"draining")
        await finish.wait()
        await send(b"done")

    async with serving("PublishStream", BidiStream(exchange)) as (server, channel):
        health: Any = HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest(service="certes.v1.EventService"))
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.SERVING
        call = channel.stream_stream("/certes.v1.EventService/PublishStream")()
        assert await call.read() == b"open"
        async with asyncio.TaskGroup() as group:
            group.create_task(server.drain(TIMEOUT))
            assert (await watched.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            watched.cancel()
            assert await call.read() == b"draining"
            finish.set()
            assert await call.read() == b"done"


async def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=address):
            await GrpcServer([], address).start()


async def test_draining_again_with_less_grace_cuts_off_what_is_still_under_way() -> None:
    async def stuck(_: AsyncIterator[bytes], send: Send, draining: asyncio.Event) -> None:
        await send(b"open")
        await draining.wait()
        await send(b"draining")
        await asyncio.Event().wait()

    async with serving("PublishStream", BidiStream(stuck)) as (server, channel):
        call = channel.stream_stream("/certes.v1.EventService/PublishStream")()
        assert await call.read() == b"open"
        async with asyncio.TaskGroup() as group:
            patient = group.create_task(server.drain(TIMEOUT))
            assert await call.read() == b"draining"
            patient.cancel()
        await server.drain(0)
        assert await call.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
