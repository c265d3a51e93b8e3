"""Serves methods over gRPC, with health and reflection beside them.

Rules
-----
* Methods are functions over wire bytes, so nothing is (de)serialized here.
* Whatever ends an rpc, its server stream is closed, and so gives back what it holds.
* Draining: health says `NOT_SERVING`, no new rpc is taken, and what is under way has the grace to end. `PublishStream`
  is told; `Subscribe` streams end by the broker's own draining, which runs meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final, NoReturn, assert_never

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from certes_broker.gateway.errors import refusal, rich_status
from certes_broker.gateway.limits import MAXIMUM_REQUEST_BYTES
from certes_broker.gateway.methods import BidiStream, Method, Send, ServerStream, Unary

Context = aio.ServicerContext[bytes, bytes]

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # A port that is taken is an error, not shared with whoever has it.
    ("grpc.so_reuseport", 0),
    # Above the contract's limit, so that a request a little over it gets the contract's own refusal.
    ("grpc.max_receive_message_length", MAXIMUM_REQUEST_BYTES + 1024 * 1024),
    # What is sent is bounded where it is made: batches to 3 MiB, single events by the limit on them.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 16 * 1024),
    # Rpcs open on one connection; streams are long, so this is what one client can hold.
    ("grpc.max_concurrent_streams", 1_000),
    # The server asks whether a silent client is still there, so that a dead one's deliveries go back within a minute.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A client that pings more often than every 10 s, twice, is disconnected (ENHANCE_YOUR_CALM).
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
)


class GrpcServer:
    """A gRPC server around methods."""

    def __init__(self, methods: Sequence[Method], address: str) -> None:
        """`address` is `host:port`, with port 0 for any free one, or `unix:path`. TLS comes with authentication."""
        self._methods = tuple(methods)
        self._address = address
        self._draining = asyncio.Event()
        self._health = health.aio.HealthServicer()
        self._server: aio.Server | None = None
        self._port = 0

    @property
    def services(self) -> tuple[str, ...]:
        """The full names of the services served, without health and reflection."""
        return tuple(dict.fromkeys(method.service for method in self._methods))

    @property
    def port(self) -> int:
        """The port that is listened on, once started; 1 for a unix socket."""
        return self._port

    async def start(self) -> None:
        """Listens and serves. Raises `OSError` if the address cannot be listened on."""
        server = aio.server(options=OPTIONS)
        for service in self.services:
            handlers = {
                method.name: _handler(method, self._draining) for method in self._methods if method.service == service
            }
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*self.services, _HEALTH, reflection.SERVICE_NAME), server)
        try:
            self._port = server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {self._address}: {error}") from error
        await server.start()
        self._server = server
        for service in ("", *self.services):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self, grace: float) -> None:
        """Takes no more, gives what is under way `grace` seconds to end, then cancels it. Idempotent."""
        self._draining.set()
        await self._health.enter_graceful_shutdown()
        if self._server is not None:
            await self._server.stop(grace)


_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


def _handler(method: Method, draining: asyncio.Event) -> grpc.RpcMethodHandler[bytes, bytes]:
    match method.call:
        case Unary(call):
            return grpc.unary_unary_rpc_method_handler(_serve_unary(method.path, call))
        case ServerStream(stream):
            return grpc.unary_stream_rpc_method_handler(_serve_stream(method.path, stream))
        case BidiStream(exchange):
            return grpc.stream_stream_rpc_method_handler(_serve_bidi(method.path, exchange, draining))
        case _:
            assert_never(method.call)


def _serve_unary(path: str, call: Callable[[bytes], Awaitable[bytes]]) -> Any:
    async def serve(request: bytes, context: Context) -> bytes:
        try:
            return await call(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
            await _abort(context, error, path)

    return serve


def _serve_stream(path: str, call: Callable[[bytes], AsyncGenerator[bytes, None]]) -> Any:
    async def serve(request: bytes, context: Context) -> None:
        try:
            async with aclosing(call(request)) as answers:
                async for answer in answers:
                    await context.write(answer)
        except Exception as error:  # noqa: BLE001 - the same
            await _abort(context, error, path)

    return serve


def _serve_bidi(
    path: str, call: Callable[[AsyncIterator[bytes], Send, asyncio.Event], Awaitable[None]], draining: asyncio.Event
) -> Any:
    async def serve(requests: AsyncIterator[bytes], context: Context) -> None:
        try:
            await call(requests, context.write, draining)
        except Exception as error:  # noqa: BLE001 - the same
            await _abort(context, error, path)

    return serve


async def _abort(context: Context, error: Exception, path: str) -> NoReturn:
    status = rpc_status.to_status(rich_status(refusal(error, path.removeprefix("/"))))
    await context.abort(status.code, status.details or "", status.trailing_metadata or ())
