"""What whoever connects to the port of gRPC may use up."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from structlog.testing import capture_logs

from certes_broker.domain.access import Caller, Needs
from certes_broker.domain.errors import Reason, Unauthenticated
from certes_broker.gateway.callers import Credentials, Door
from certes_broker.gateway.grpc.core_server import GrpcBounds
from certes_broker.gateway.grpc.server import GrpcServer
from certes_broker.gateway.methods import Method, ServerStream, Unary
from tests import http2
from tests.contracts.grpc_callers import Refusal
from tests.http2 import frame, head

PATIENCE = 60.0
SERVICE = "certes.v1.EventService"
PUBLISH, SUBSCRIBE = f"/{SERVICE}/Publish", f"/{SERVICE}/Subscribe"
BOUNDS = GrpcBounds()


OPEN_TO_ALL = (
    b"/grpc.health.v1.Health/Check",
    b"/grpc.health.v1.Health/Watch",
    b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
"""The methods that ask nobody who they are."""
NO_WINDOW = struct.pack(">HI", 4, 0)
"""The setting by which a client lets nothing in."""


class NobodyKnown:
    """Lets nobody in."""

    async def caller(self, _credentials: Credentials) -> Caller:
        raise Unauthenticated(Reason.CREDENTIALS_MISSING, "Who are you?")

    def is_good(self, _caller: Caller) -> bool:
        return False


def ended(frames: list[http2.Frame]) -> set[int]:
    """The streams that the server has ended although their callers had not."""
    return {stream for kind, stream, _ in frames if kind == http2.RST_STREAM}


def headed(frames: list[http2.Frame]) -> set[int]:
    """The streams of which the server has said anything."""
    return {stream for kind, stream, _ in frames if kind == http2.HEADERS}


@asynccontextmanager
async def serving(bounds: GrpcBounds = BOUNDS, door: Door | None = None) -> AsyncIterator[str]:
    """A server of two methods that answer what they are sent; yields its address."""

    async def echo(request: bytes) -> bytes:
        return request

    async def repeat(request: bytes) -> AsyncIterator[bytes]:
        yield request

    methods = [
        Method(SERVICE, name, call, None, None, Needs(None))  # type: ignore[arg-type] # nobody asks for its messages
        for name, call in (("Publish", Unary(echo)), ("Subscribe", ServerStream(repeat)))
    ]
    server = GrpcServer(methods, "127.0.0.1:0", door, bounds=bounds)
    await server.start()
    try:
        async with asyncio.timeout(PATIENCE):
            yield f"127.0.0.1:{server.port}"
    finally:
        await server.drain(0)


@asynccontextmanager
async def channel_to(address: str) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        yield channel


async def never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def refusal_of(channel: aio.Channel, path: str, requests: AsyncIterator[bytes]) -> Refusal:
    """Calls a method that takes one request as if it took many, and says how it is refused."""
    call: Any = channel.stream_stream(path)(requests)
    with pytest.raises(aio.AioRpcError) as raised:
        await call.read()
    return Refusal(raised.value)


@pytest.mark.parametrize("path", [PUBLISH, SUBSCRIBE])
async def test_a_request_that_does_not_arrive_in_time_ends_its_rpc(path: str) -> None:
    async with serving(replace(BOUNDS, request_timeout=0.05)) as address, channel_to(address) as channel:
        refused = await refusal_of(channel, path, never())
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
        assert "did not arrive within 0.05 s" in refused.message
        assert await channel.unary_unary(PUBLISH)(b"whole") == b"whole"


@pytest.mark.parametrize("path", [PUBLISH, SUBSCRIBE])
async def test_an_rpc_without_a_request_is_refused(path: str) -> None:
    async with serving() as address, channel_to(address) as channel:
        refused = await refusal_of(channel, path, nothing())
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
        assert "without a request" in refused.message


@pytest.mark.parametrize("path", [PUBLISH, SUBSCRIBE])
async def test_who_is_not_let_in_is_told_so_before_a_request_is_waited_for(path: str) -> None:
    async with serving(door=Door(NobodyKnown())) as address, channel_to(address) as channel:
        refused = await refusal_of(channel, path, never())
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING")


async def test_a_method_that_there_is_not_is_refused_with_a_reason() -> None:
    async with serving() as address, channel_to(address) as channel:
        with pytest.raises(aio.AioRpcError) as raised:
            await channel.unary_unary(f"/{SERVICE}/Frobnicate")(b"")
    refused = Refusal(raised.value)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_FOUND")


async def test_more_rpcs_than_there_may_be_at_once_are_refused_and_those_under_way_go_on() -> None:
    def opening(stream: int) -> bytes:
        return frame(http2.HEADERS, http2.END_HEADERS, stream, head(PUBLISH.encode()))

    def request(stream: int) -> bytes:
        return frame(http2.DATA, http2.END_STREAM, stream, http2.EMPTY_MESSAGE)

    def answered(frames: list[http2.Frame]) -> set[int]:
        return {stream for kind, stream, _ in frames if kind == http2.DATA}

    async with (
        serving(replace(BOUNDS, rpcs=2, open_rpcs=0)) as address,
        channel_to(address) as channel,
        http2.connected(address) as connection,
    ):
        await connection.send([opening(1), opening(3)])
        # They count when they are taken, which takes a moment.
        with pytest.raises(aio.AioRpcError) as refused:
            while True:
                assert await channel.unary_unary(PUBLISH)(b"more") == b"more"
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await connection.send([request(1), request(3)])
        assert answered(await connection.until(lambda frames: answered(frames) == {1, 3})) == {1, 3}


@pytest.mark.parametrize("request_body", [b"", http2.EMPTY_MESSAGE])
@pytest.mark.parametrize("path", OPEN_TO_ALL)
async def test_rpcs_that_need_no_credential_take_nobody_s_place_however_many_there_are(
    path: bytes, request_body: bytes
) -> None:
    opened = (
        frame(http2.HEADERS, http2.END_HEADERS, 2 * number + 1, head(path))
        + (frame(http2.DATA, 0, 2 * number + 1, request_body) if request_body else b"")
        for number in range(100)
    )
    async with (
        serving(replace(BOUNDS, rpcs=8, open_rpcs=2)) as address,
        channel_to(address) as channel,
        http2.connected(address, NO_WINDOW) as stranger,
    ):
        await stranger.send(opened)
        assert len(ended(await stranger.until(lambda frames: len(ended(frames)) >= 98))) == 98
        for _ in range(20):
            assert await channel.unary_unary(PUBLISH)(b"served") == b"served"
        health: Any = HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        with pytest.raises(aio.AioRpcError) as refused:
            await health.Check(request)
        assert Refusal(refused.value).reason == "TOO_MANY_STREAMS"
        # Who hangs up holds nothing any more, once the server has heard of it.
        stranger.writer.transport.abort()
        answer = None
        while answer is None:
            with suppress(aio.AioRpcError):
                answer = await health.Check(request)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


class EverybodyKnown:
    """Lets everybody in, by the name that they say."""

    async def caller(self, credentials: Credentials) -> Caller:
        return Caller(credentials.authorization[0])

    def is_good(self, _caller: Caller) -> bool:
        return True


async def test_one_caller_can_take_half_of_all_rpcs_and_leaves_the_rest_to_others() -> None:
    def asking(stream: int) -> bytes:
        return frame(http2.HEADERS, http2.END_HEADERS, stream, head(PUBLISH.encode(), [(b"authorization", b"one")])) + (
            frame(http2.DATA, http2.END_STREAM, stream, http2.EMPTY_MESSAGE)
        )

    door = Door(EverybodyKnown())
    async with (
        serving(replace(BOUNDS, rpcs=8, rpcs_of_a_caller=4, open_rpcs=0), door) as address,
        channel_to(address) as channel,
        http2.connected(address, NO_WINDOW) as one,
    ):
        await one.send(asking(2 * number + 1) for number in range(100))
        # All have been taken, or refused: each gets a head.
        assert len(headed(await one.until(lambda frames: len(headed(frames)) == 100))) == 100
        call = channel.unary_unary(PUBLISH)
        for _ in range(20):
            assert await call(b"served", metadata=(("authorization", "another"),)) == b"served"
        with pytest.raises(aio.AioRpcError) as raised:
            await call(b"more", metadata=(("authorization", "one"),))
        assert Refusal(raised.value).reason == "TOO_MANY_STREAMS"


async def test_a_caller_that_reads_no_answers_holds_so_many_bytes_and_others_are_served() -> None:
    # Three of them are within the window that a connection begins with.
    large, small = bytes(20_000), b"small"
    message = struct.pack(">BI", 0, len(large)) + large

    def asking(stream: int) -> Iterator[bytes]:
        yield frame(http2.HEADERS, http2.END_HEADERS, stream, head(PUBLISH.encode(), [(b"authorization", b"one")]))
        yield frame(http2.DATA, 0, stream, message[:16_384])
        yield frame(http2.DATA, http2.END_STREAM, stream, message[16_384:])

    async with (
        serving(replace(BOUNDS, bytes_of_a_caller=6 * len(large)), Door(EverybodyKnown())) as address,
        channel_to(address) as channel,
        http2.connected(address, NO_WINDOW) as one,
    ):
        await one.send(piece for stream in (1, 3, 5) for piece in asking(stream))
        # Each is under way with its request and its answer.
        await one.until(lambda frames: len(headed(frames)) == 3)
        call = channel.unary_unary(PUBLISH)
        for _ in range(3):
            with pytest.raises(aio.AioRpcError) as raised:
                await call(large, metadata=(("authorization", "one"),))
            assert Refusal(raised.value).reason == "BUFFER_FULL"
            assert await call(small, metadata=(("authorization", "one"),)) == small
            assert await call(large, metadata=(("authorization", "another"),)) == large


async def test_who_watches_health_and_reads_nothing_keeps_neither_others_nor_the_end_waiting() -> None:
    server = GrpcServer([], "127.0.0.1:0")
    await server.start()
    address = f"127.0.0.1:{server.port}"
    watch = head(OPEN_TO_ALL[1])
    async with (
        asyncio.timeout(PATIENCE),
        channel_to(address) as channel,
        http2.connected(address, NO_WINDOW) as stranger,
    ):
        await stranger.send(
            [
                frame(http2.HEADERS, http2.END_HEADERS, 1, watch),
                frame(http2.DATA, http2.END_STREAM, 1, http2.EMPTY_MESSAGE),
            ]
        )
        health: Any = HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.SERVING
        await server.drain(5)


async def test_more_connections_than_there_may_be_are_refused_and_those_that_are_open_go_on() -> None:
    async with serving(replace(BOUNDS, connections=1)) as address, channel_to(address) as channel:
        assert await channel.unary_unary(PUBLISH)(b"first") == b"first"
        async with http2.connected(address) as second:
            await second.until(lambda _: False)
            assert second.has_ended
        assert await channel.unary_unary(PUBLISH)(b"still there") == b"still there"


@pytest.mark.parametrize("said", [b"", http2.PREFACE[:10], http2.PREFACE])
async def test_who_connects_and_does_not_say_in_time_that_it_speaks_http2_is_hung_up_on(said: bytes) -> None:
    async with serving(replace(BOUNDS, handshake_timeout=0.2)) as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(said)
        try:
            while await reader.read(1 << 16):
                pass
        except ConnectionError:
            pass
        writer.close()


async def test_a_connection_without_an_rpc_is_told_to_go_away_after_a_while() -> None:
    async with serving(replace(BOUNDS, idle_timeout=0.2)) as address, http2.connected(address) as connection:
        await connection.send([frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, head(b"/no/such"))])
        frames = await connection.until(lambda frames: any(kind == http2.GOAWAY for kind, _, _ in frames))
        assert any(kind == http2.GOAWAY for kind, _, _ in frames)


async def test_callers_that_go_away_before_their_request_is_there_are_no_fault_of_the_broker() -> None:
    with capture_logs() as logs:
        async with serving() as address:
            for _ in range(5):
                async with http2.connected(address) as connection:
                    await connection.send(
                        frame(http2.HEADERS, http2.END_HEADERS, 2 * number + 1, head(PUBLISH.encode()))
                        + (frame(http2.RST_STREAM, 0, 2 * number + 1, http2.CANCEL) if number % 2 else b"")
                        for number in range(200)
                    )
            async with channel_to(address) as channel:
                assert await channel.unary_unary(PUBLISH)(b"served") == b"served"
    assert logs == []
