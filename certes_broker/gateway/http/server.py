"""The HTTP server: uvicorn in the broker's own event loop, with the bounds that uvicorn leaves open.

It runs no loop, handles no signals and needs no task of its own: of uvicorn's server only `startup` is used. What its main
loop would do, keeping the `Date` header, a timer does here; `drain` ends as soon as what is under way has.

uvicorn's httptools protocol has no bound for the size of a request's headers, none for the time in which a request must
arrive, none for how many requests may wait for the answer to another, none for what all bodies take that are on their way in, and
none for connections without a request. `BoundedHttpProtocol` adds them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from email.utils import formatdate
from functools import partial
from typing import Any, Final, cast

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from certes_broker.gateway.http.exchange import CLIENT_CERTIFICATE, App
from certes_broker.gateway.http.handshakes import Handshakes
from certes_broker.gateway.http.settings import HttpSettings

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class HttpServer:
    """Serves an application over HTTP/1.1, with TLS where there are handshakes."""

    def __init__(self, app: App, settings: HttpSettings, handshakes: Handshakes | None = None) -> None:
        """TLS is spoken with `handshakes` only, which have to run."""
        self._settings = settings
        self._handshakes = handshakes
        self._server = uvicorn.Server(_config(app, settings))
        self._date_timer: asyncio.TimerHandle | None = None

    async def start(self) -> int:
        """Listens, and returns the port. Raises `OSError` if that is not possible."""
        settings = self._settings
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((settings.host.strip("[]"), settings.port))
            except OSError as error:
                raise OSError(
                    f"HTTP cannot listen on {settings.host}:{settings.port}: {error.strerror}. Choose another address with "
                    "--http or http.listen."
                ) from error
            listener.setblocking(False)
            config = self._server.config
            config.load()
            self._server.lifespan = config.lifespan_class(config)
            self._set_date()
            await self._server.startup(sockets=[listener] if self._handshakes is None else [])
            port = cast("int", listener.getsockname()[1])
            if self._handshakes is not None:
                listener.listen(settings.backlog)
                self._handshakes.listen(listener, self._make_protocol)
        except BaseException:
            self._stop_date()
            listener.close()
            raise
        return port

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._server.server_state.connections)

    async def drain(self, grace: float) -> None:
        """Takes no more connections, lets requests under way end within `grace` seconds, and ends the rest.

        Idempotent. A stream of answers is a request under way: end it first, by draining the broker.
        """
        if not self._server.started:
            return
        self._server.started = False
        state = self._server.server_state
        for listener in self._server.servers:
            listener.close()
        if self._handshakes is not None:
            self._handshakes.close()
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(grace):
                while state.tasks or state.connections:
                    # An answer whose task has ended may still be on its way out of a buffer.
                    await (asyncio.wait(state.tasks) if state.tasks else asyncio.sleep(_FLUSH_INTERVAL))
        except TimeoutError:
            log.warning("http_requests_cut_off", requests=len(state.tasks))
        finally:
            self._stop_date()
            for task in state.tasks:
                task.cancel()
            for connection in list(state.connections):
                connection.transport.abort()

    def _make_protocol(self) -> asyncio.Protocol:
        config, server = self._server.config, self._server
        make = cast("Any", config.http_protocol_class)
        return cast(
            "asyncio.Protocol",
            make(config=config, server_state=server.server_state, app_state=server.lifespan.state),
        )

    def _set_date(self) -> None:
        # "An origin server with a clock MUST generate a Date header field" (RFC 9110, 6.6.1), exact to the second.
        now = time.time()
        self._server.server_state.default_headers = [(b"date", formatdate(now, usegmt=True).encode())]
        self._date_timer = asyncio.get_running_loop().call_later(1.0 - now % 1.0, self._set_date)

    def _stop_date(self) -> None:
        if self._date_timer is not None:
            self._date_timer.cancel()
            self._date_timer = None


class Arriving:
    """What is on its way in, over all connections.

    `bytes` is what the bodies take that have begun to arrive. `waiting` has the connections that it is for their clients to go on
    with, by sending a request, or the rest of one, or by reading an answer; the one that has been so for the longest first.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.waiting: dict[BoundedHttpProtocol, None] = {}


class BoundedHttpProtocol(HttpToolsProtocol):
    """Ends connections whose request has too large a head (or trailers), does not arrive in time, or finds no room.

    A head is refused when a header takes it over the limit, or when a read leaves it unfinished and over the limit, so at
    most one read (256 KiB) above the limit is ever held. Each header counts 32 bytes more than it has, as in HTTP/2 (RFC 9113,
    6.5.2): thousands of empty ones cost as much as long ones. Where all bodies on their way take too much, those of more than
    64 KiB are answered 503: clients that send slowly hold up large bodies for a while, and never small ones. Where there are too
    many connections, a new one takes the place of the one that has been waited for the longest: whoever sends at once is served,
    however many do not. Who sends more requests than it waits for answers to is answered some of them, and then no more;
    who reads nothing of an answer for as long as a request may take is waited for no longer.
    """

    def __init__(self, settings: HttpSettings, arriving: Arriving, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._arriving = arriving
        self._max_arriving_bytes = settings.max_arriving_bytes
        self._max_connections = settings.max_connections
        self._body_bytes = 0
        self._is_dropped = False
        self._max_head_bytes = settings.max_header_bytes
        self._request_timeout = settings.request_timeout
        self._head_bytes = 0
        self._unfinished_bytes = 0
        self._is_in_head = True
        self._has_head_ended = False
        self._has_all_it_may = False
        self._arrival_timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._unread_timer: asyncio.TimerHandle | None = None
        self._certificate: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._certificate = _client_certificate(transport)
        self._begin_arrival()
        waiting = self._arriving.waiting
        longest = next(iter(waiting), None)
        if len(self.connections) > self._max_connections and longest is not None:
            del waiting[longest]
            # What it has been sent it may never read, so that is not waited for.
            longest.transport.abort()
            self.connections.discard(longest)
        waiting[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._arriving.waiting.pop(self, None)
        self._end_arrival()
        self._end_unread()
        self._end_body()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._has_all_it_may:
            return
        was_in_head, self._has_head_ended = self._is_in_head, False
        super().data_received(data)
        # Where a head ended in this read, what follows it is a body, or less of the next head than one read.
        if was_in_head and not self._has_head_ended and not self.transport.is_closing():
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > self._max_head_bytes:
                self.send_400_response("")

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= _PIPELINED:
            self._has_all_it_may = True
            raise _TooManyRequests  # the parser ends in an error, and that in `send_400_response`
        super().on_message_begin()
        if self._certificate is not None:
            cast("dict[str, Any]", self.scope)[CLIENT_CERTIFICATE] = self._certificate
        self._head_bytes = 0
        if self._arrival_timer is None:
            self._begin_arrival()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:
            # What follows a body must not become a header (RFC 9110, 6.5.1), and nobody here asks for trailers.
            super().on_header(name, value)
        self._head_bytes += len(name) + len(value) + _HEADER_OVERHEAD
        if self._head_bytes > self._max_head_bytes:
            raise _HeadTooLarge  # the parser ends in an error, and that in `send_400_response`

    def on_headers_complete(self) -> None:
        self._is_in_head, self._has_head_ended = False, True
        self._unfinished_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._is_dropped:
            return
        size = len(body)
        self._body_bytes += size
        self._arriving.bytes += size
        if self._arriving.bytes <= self._max_arriving_bytes or self._body_bytes <= _SMALL_BODY:
            super().on_body(body)
        else:
            self._drop()

    def on_message_complete(self) -> None:
        self._is_in_head = True
        self._end_arrival()
        self._end_body()
        if not self.cycle.response_complete:
            # Whoever has sent a request is owed an answer. After that, it is waited for again.
            self._arriving.waiting.pop(self, None)
        super().on_message_complete()
        if self._is_dropped:
            self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:
            # Also where the connection is to be closed: that ends only when the client has read what is left.
            self._arriving.waiting[self] = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._arriving.waiting[self] = None
        self._await_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_unread()
        if not self.cycle.response_complete and self._arrival_timer is None:
            self._arriving.waiting.pop(self, None)

    def send_400_response(self, msg: str) -> None:
        if self._has_all_it_may:
            # Those that it has sent before are answered, and the last answer says that it is the last.
            self.cycle.keep_alive = False
            return
        if max(self._head_bytes, self._unfinished_bytes) <= self._max_head_bytes:
            super().send_400_response(msg)
            return
        self.transport.write(_HEAD_TOO_LARGE)
        self.transport.close()

    def _begin_arrival(self) -> None:
        self._arrival_timer = self.loop.call_later(self._request_timeout, self._time_out)

    def _end_arrival(self) -> None:
        if self._arrival_timer is not None:
            self._arrival_timer.cancel()
            self._arrival_timer = None

    def _await_reading(self) -> None:
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._unread_timer = self.loop.call_later(self._request_timeout, self._look_whether_it_reads)

    def _look_whether_it_reads(self) -> None:
        if self.transport.get_write_buffer_size() >= self._unread_bytes:
            self.transport.abort()
        else:
            self._await_reading()

    def _end_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _drop(self) -> None:
        """Lets go of a request whose body finds no room. The rest of it is read, or the client would not get the answer."""
        self._is_dropped = True
        self._end_body()
        if not self.cycle.response_started:
            self.transport.write(_NO_ROOM)
        # What uvicorn does where a connection is lost, for whoever waits for the body.
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self.flow.resume_reading()

    def _end_body(self) -> None:
        self._arriving.bytes -= self._body_bytes
        self._body_bytes = 0

    def _time_out(self) -> None:
        self._arrival_timer = None
        self.transport.close()


def _client_certificate(transport: asyncio.BaseTransport) -> bytes | None:
    """Returns the certificate that TLS has verified, in PEM; None without one."""
    connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    shown = None if connection is None else connection.getpeercert(binary_form=True)
    return None if shown is None else ssl.DER_cert_to_PEM_cert(shown).encode()


class _HeadTooLarge(Exception):
    pass


class _TooManyRequests(Exception):
    pass


_FLUSH_INTERVAL: Final = 0.005
_HEADER_OVERHEAD: Final = 32
_SMALL_BODY: Final = 64 * 1024
_PIPELINED: Final = 16
"""Requests of a connection that may wait for the answer to the one before. Each takes fifty times as much as it has bytes."""
_HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


_NO_ROOM: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


def _config(app: App, settings: HttpSettings) -> uvicorn.Config:
    return uvicorn.Config(
        cast("Any", app),
        http=cast("type[asyncio.Protocol]", partial(BoundedHttpProtocol, settings, Arriving())),
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        # What a proxy says of a client is for nobody here to believe.
        proxy_headers=False,
        server_header=False,
        date_header=False,
        # One above the limit is there where all others have a request under way, and is answered 503.
        limit_concurrency=settings.max_connections + 1,
        backlog=settings.backlog,
        timeout_keep_alive=cast("int", settings.keep_alive_timeout),
    )
