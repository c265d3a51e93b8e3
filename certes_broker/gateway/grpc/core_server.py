"""grpcio's server, with the bounds that it leaves open, and so that no name of a method can end it.

Theory of operation
-------------------
grpcio reads the name of a method that nobody has registered as UTF-8, in the one loop that takes all calls, and lets whatever that
raises end the loop and the server with it: sixty bytes from anybody who connects. So all methods are registered, whose names
the core compares as bytes, and calls of others are taken here, by `_Calls`, which needs no name to refuse them.

A test sends such names to the real process (`tests/acceptance/test_floods.py`), so a grpcio in which this no longer holds is
not taken unseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from grpc import aio
from grpc._cython import cygrpc
from grpc.aio._server import Server

from certes_broker.domain.errors import Reason, Unimplemented
from certes_broker.gateway.errors import rich_status
from certes_broker.gateway.limits import MAXIMUM_REQUEST_BYTES


@dataclass(frozen=True, slots=True)
class GrpcBounds:
    """What callers may use up. Times are seconds."""

    connections: int = 2_048
    rpcs: int = 16_384
    """Rpcs under way on all connections, beside the next ones: with the largest metadata they take 400 MiB."""
    rpcs_of_a_caller: int = 8_192
    """How many of those one caller may have who has shown a credential."""
    bytes_of_a_caller: int = 256 * 1024 * 1024
    """How many bytes its large requests and answers may have together, while they are under way."""
    open_rpcs: int = 1_024
    """Rpcs under way of health and reflection, which need no credential: they take no place of others."""
    request_timeout: float = 30.0
    """How long the request of an rpc may take to arrive, where it takes one."""
    handshake_timeout: float = 10.0
    """How long who connects may take to say that it speaks HTTP/2, with TLS to have shaken hands."""
    idle_timeout: float = 300.0
    """How long a connection without an rpc is kept. A client connects again when it has one."""


_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # A port that is taken is an error, not shared with whoever has it.
    ("grpc.so_reuseport", 0),
    # Above the contract's limit, so that a request a little over it gets the contract's own refusal.
    ("grpc.max_receive_message_length", MAXIMUM_REQUEST_BYTES + 1024 * 1024),
    # What is sent is bounded where it is made: batches to 3 MiB, single events by the limit on them.
    ("grpc.max_send_message_length", -1),
    # More metadata than this is refused; between the two limits the core would refuse some at random.
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    # Rpcs open on one connection; streams are long, so this is what one client can hold.
    ("grpc.max_concurrent_streams", 1_000),
    # Calls of one method that wait to be taken; beyond the first some are refused by chance, beyond the second all are.
    ("grpc.server.max_pending_requests", 4_000),
    ("grpc.server.max_pending_requests_hard_limit", 8_000),
    # The server asks whether a silent client is still there, so that a dead one's deliveries go back within a minute.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A client that pings more often than every 10 s, twice, is disconnected (ENHANCE_YOUR_CALM).
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
)


def core_server(bounds: GrpcBounds) -> aio.Server:
    """Makes a server that is to be given its methods by `add_registered_method_handlers`. Must be called in a running loop."""
    options = (
        *_OPTIONS,
        ("grpc.max_allowed_incoming_connections", bounds.connections),
        ("grpc.server_handshake_timeout_ms", round(bounds.handshake_timeout * 1_000)),
        ("grpc.max_connection_idle_ms", round(bounds.idle_timeout * 1_000)),
    )
    # grpcio's types do not show that `aio.Server` is what it derives from.
    return cast("aio.Server", _Server(options, bounds.rpcs + bounds.open_rpcs))


class _Server(Server):
    """As `aio.server` makes it, but for who takes the calls."""

    def __init__(self, options: tuple[tuple[str, int], ...], max_rpcs: int) -> None:
        self._loop = asyncio.get_running_loop()
        arguments = (self._loop, None, (), None, options, max_rpcs)
        try:
            self._server = _Calls(*arguments)
        except TypeError:
            self._server = _Calls(*arguments, False)


class _Calls(cygrpc.AioServer):  # type: ignore[misc] # has no types
    """Takes calls. Those of methods that nobody has registered are refused, whatever their names."""

    def _make_request_call_future(self, method: bytes | None) -> Any:
        """Returns what ends with the next call of a method. For other methods (None) it ends with the server only.

        The loop that asks for it, of grpcio, cancels and awaits it in the end.
        """
        if method is not None:
            return super()._make_request_call_future(method)
        take: Callable[[], Any] = super()._request_call
        return asyncio.get_running_loop().create_task(self._refuse_others(take))

    async def _refuse_others(self, take: Callable[[], Any]) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as refusing:
            ended: Exception | None = None
            while ended is None:
                try:
                    rpc = await take()
                except Exception as error:  # noqa: BLE001 - it ends with the server, and is grpcio's to judge, in no group
                    ended = error
                    continue
                context = cygrpc._ServicerContext(rpc, None, None, loop)
                refusing.create_task(_refuse(context))
        raise ended


_NO_SUCH_METHOD: Final = rich_status(
    Unimplemented(
        Reason.METHOD_NOT_FOUND,
        "The broker has no rpc of that name.",
        hint="It may be older than your client: `certes ping` tells its version.",
    )
)
_DETAILS: Final = (("grpc-status-details-bin", _NO_SUCH_METHOD.SerializeToString()),)


async def _refuse(context: Any) -> None:
    with suppress(Exception):  # It was refused, which raises, or its caller has gone.
        await context.abort(cygrpc.StatusCode.unimplemented, _NO_SUCH_METHOD.message, _DETAILS)
