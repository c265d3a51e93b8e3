"""Serves methods over gRPC, with health and reflection beside them.

Rules
-----
* Methods are functions over wire bytes, so nothing is (de)serialized here.
* An rpc is served for a caller whom the `Door` has let in, or not at all, and nothing is read of a request before. Health and
  reflection are open to all who connect (`open_methods`).
* A request arrives within `request_timeout`, or its rpc ends: whoever opens rpcs and sends nothing holds them for so long only.
  grpcio waits for ever, so to it every method is one that reads by itself.
* Whatever ends an rpc, its server stream is closed, and so gives back what it holds.
* Draining: health says `NOT_SERVING`, and what is under way has the grace to end. `PublishStream` is told; `Subscribe`
  streams end by the broker's own draining, which runs meanwhile, and by which what still comes is refused as `DRAINING`.
  The server stops listening only when it has become quiet, for what it has not handed over by then ends as `CANCELLED`,
  which no client takes for "try again".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Any, Final, NoReturn, assert_never

import grpc
from grpc import aio
from grpc_status import rpc_status

from certes_broker.domain.errors import Exhausted, Invalid, Reason
from certes_broker.gateway.callers import Credentials, Door, acting_as, current_caller
from certes_broker.gateway.certificates import Certificates
from certes_broker.gateway.errors import refusal, rich_status
from certes_broker.gateway.grpc.core_server import GrpcBounds, core_server
from certes_broker.gateway.grpc.open_methods import open_methods
from certes_broker.gateway.grpc.places import Load, Places
from certes_broker.gateway.guard import guarded
from certes_broker.gateway.methods import BidiStream, Method, Send, ServerStream, Unary

Context = aio.ServicerContext[bytes, bytes]

QUIET: Final = 0.05
"""Seconds without an rpc after which a draining server stops: longer than one takes from a socket to its handler."""

LAST_WORDS: Final = 0.5
"""Seconds for the last answers to go out. Who watches health or reflection would hold the server for ever, and is cut off."""


class GrpcServer:
    """A gRPC server around methods."""

    def __init__(
        self,
        methods: Sequence[Method],
        address: str,
        door: Door | None = None,
        certificates: Certificates | None = None,
        bounds: GrpcBounds | None = None,
    ) -> None:
        """`address` is `host:port`, with port 0 for any free one, or `unix:path`. TLS is spoken with `certificates` only."""
        self._bounds = GrpcBounds() if bounds is None else bounds
        self._door = Door() if door is None else door
        self._methods = tuple([guarded(method, self._door.streams) for method in methods])
        self._certificates = certificates
        self._address = address
        self._draining = asyncio.Event()
        self._rpcs = _Rpcs()
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

    @property
    def calls(self) -> int:
        """How many rpcs are under way, those left out whose request is still to come."""
        return self._rpcs.open

    async def start(self) -> None:
        """Listens and serves. Raises `OSError` if the address cannot be listened on."""
        server = core_server(self._bounds)
        bounds, timeout = self._bounds, self._bounds.request_timeout
        # Where nobody is asked who they are, all are one caller.
        places = Places(bounds.rpcs_of_a_caller if self._door.asks else bounds.rpcs, "of this caller")
        load = Load(bounds.bytes_of_a_caller)
        for service in self.services:
            handlers = {
                method.name: _handler(
                    _Entrance(method, self._door, self._rpcs, timeout, (places, load)), self._draining
                )
                for method in self._methods
                if method.service == service
            }
            server.add_registered_method_handlers(service, handlers)
        open_places = Places(bounds.open_rpcs, "that need no credential")
        for method in open_methods(self.services, self._draining):
            # Draining does not wait for these, so they are not counted with the others.
            entrance = _Entrance(method, Door(), _Rpcs(), timeout, (open_places, Load(bounds.bytes_of_a_caller)))
            server.add_registered_method_handlers(method.service, {method.name: _handler(entrance, self._draining)})
        try:
            self._port = (
                server.add_insecure_port(self._address)
                if self._certificates is None
                else server.add_secure_port(self._address, self._certificates.credentials())
            )
        except RuntimeError as error:
            # The core's own words name nothing but a variable for debugging.
            raise OSError(
                f"gRPC cannot listen on {self._address}; it may be taken. Choose another address with --grpc or grpc.listen."
            ) from error
        await server.start()
        self._server = server

    async def drain(self, grace: float) -> None:
        """Gives what is under way `grace` seconds to end, then takes no more and cancels it. Idempotent."""
        self._draining.set()
        if self._server is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._rpcs.quiet()
                await self._server.stop(LAST_WORDS)
        await self._server.stop(0)


class _Rpcs:
    """The rpcs under way: a context that each of them is served in."""

    def __init__(self) -> None:
        self.open = 0
        self._taken = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    def __enter__(self) -> None:
        self.open += 1
        self._taken += 1
        self._none_open.clear()

    def __exit__(self, *_: object) -> None:
        self.open -= 1
        if not self.open:
            self._none_open.set()

    @contextmanager
    def left(self) -> Iterator[None]:
        """Counts one that is not under way within: draining does not wait for requests that may never come."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    async def quiet(self) -> None:
        """Returns when none is open and none has come for a while."""
        taken = -1
        while taken != self._taken:
            await self._none_open.wait()
            taken = self._taken
            await asyncio.sleep(QUIET)


class _Entrance:
    """Where the rpcs of one method come in."""

    def __init__(
        self,
        method: Method,
        door: Door,
        rpcs: _Rpcs,
        timeout: float,
        bounds: tuple[Places, Load],
    ) -> None:
        self.call = method.call
        self._timeout = timeout
        self._needs = method.needs
        self._name = method.name
        self._path = method.path
        self._door = door
        self._rpcs = rpcs
        self._places, self._load = bounds

    @asynccontextmanager
    async def entered(self, context: Context) -> AsyncIterator[None]:
        """Serves an rpc within, for whoever calls; whatever it raises, the caller gets a status."""
        with self._rpcs:
            try:
                credentials = _credentials(context) if self._door.asks else _NONE
                caller = await self._door.admit(credentials, self._needs, self._name)
                self._places.take(caller.id, context)
                with acting_as(caller):
                    yield
            except Exception as error:
                if _has_gone(error):
                    # Nobody is left to be told anything, and it is no fault of ours.
                    raise asyncio.CancelledError from error
                await _abort(context, error, self._path)

    async def request(self, context: Context) -> bytes:
        """Reads the one request of an rpc. Raises `Invalid` (MALFORMED_REQUEST) if there is none, or if it does not come."""
        try:
            async with asyncio.timeout(self._timeout):
                with self._rpcs.left():
                    request = await context.read()
        except TimeoutError:
            raise Invalid(
                Reason.MALFORMED_REQUEST,
                f"The request of {self._name} did not arrive within {self._timeout:g} s.",
                hint="Send a whole request: gRPC's own clients do.",
            ) from None
        if not isinstance(request, bytes):
            raise Invalid(Reason.MALFORMED_REQUEST, f"{self._name} was called without a request.")
        try:
            self.carry(len(request), context)
        except Exhausted:
            # Or it would live as long as the error, whose frames lead to one another until garbage is collected.
            del request
            raise
        return request

    def carry(self, size: int, context: Context) -> None:
        """Counts what an rpc carries until it has ended. Raises `Exhausted` (BUFFER_FULL)."""
        self._load.take(current_caller().id, size, context)


class _CallerGone(Exception):
    """What was to be sent has nobody to go to any more."""


def _has_gone(error: Exception) -> bool:
    return isinstance(error, _CallerGone) or (
        isinstance(error, ExceptionGroup) and error.subgroup(_CallerGone) is not None
    )


def _sending(context: Context) -> Send:
    async def send(answer: bytes) -> None:
        try:
            await context.write(answer)
        except Exception as error:
            # cygrpc's `ExecuteBatchError`, which has no public name: the rpc was cancelled, or its connection lost.
            raise _CallerGone from error

    return send


_NONE: Final = Credentials()


def _credentials(context: Context) -> Credentials:
    metadata = context.invocation_metadata() or ()
    values = tuple(str(value) for key, value in metadata if key == "authorization")
    if values:
        return Credentials(values)
    return Credentials((), next(iter(context.auth_context().get(_CERTIFICATE, ())), None))


_CERTIFICATE: Final = "x509_pem_cert"


def _handler(entrance: _Entrance, draining: asyncio.Event) -> grpc.RpcMethodHandler[bytes, bytes]:
    match entrance.call:
        case Unary(call):
            return grpc.stream_unary_rpc_method_handler(_serve_unary(entrance, call))
        case ServerStream(stream):
            return grpc.stream_stream_rpc_method_handler(_serve_stream(entrance, stream))
        case BidiStream(exchange):
            return grpc.stream_stream_rpc_method_handler(_serve_bidi(entrance, exchange, draining))
        case _:
            assert_never(entrance.call)


def _serve_unary(entrance: _Entrance, call: Callable[[bytes], Awaitable[bytes]]) -> Any:
    async def serve(_requests: AsyncIterator[bytes], context: Context) -> bytes:
        async with entrance.entered(context):
            answer = await call(await entrance.request(context))
            try:
                # Its caller may not read it for long.
                entrance.carry(len(answer), context)
            except Exhausted:
                del answer  # As above.
                raise
            return answer

    return serve


def _serve_stream(entrance: _Entrance, call: Callable[[bytes], AsyncGenerator[bytes, None]]) -> Any:
    async def serve(_requests: AsyncIterator[bytes], context: Context) -> None:
        send = _sending(context)
        async with entrance.entered(context), aclosing(call(await entrance.request(context))) as answers:
            async for answer in answers:
                await send(answer)

    return serve


def _serve_bidi(
    entrance: _Entrance,
    call: Callable[[AsyncIterator[bytes], Send, asyncio.Event], Awaitable[None]],
    draining: asyncio.Event,
) -> Any:
    async def serve(requests: AsyncIterator[bytes], context: Context) -> None:
        async with entrance.entered(context):
            await call(requests, _sending(context), draining)

    return serve


async def _abort(context: Context, error: Exception, path: str) -> NoReturn:
    status = rpc_status.to_status(rich_status(refusal(error, path.removeprefix("/"))))
    try:
        await context.abort(status.code, status.details or "", status.trailing_metadata or ())
    except aio.AbortError:
        raise
    except Exception as gone:
        # As above: nobody is left to be told.
        raise asyncio.CancelledError from gone
