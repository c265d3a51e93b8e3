"""TLS with whoever connects to the port of HTTP: so many handshakes at once, and each in its time.

A loop that listens by itself begins a handshake with all who connect, gives each a minute, and tells nobody of a connection before its
handshake is over: whoever connects and says nothing could hold every socket that the system lets the broker have. So connections are
accepted here. Who comes when there are too many takes the place of the one that has been at it for the longest: whoever shakes hands
at once is served, however many do not.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Self

import structlog

HANDSHAKE_TIMEOUT: Final = 10.0
_ACCEPT_AGAIN: Final = 1.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

MakeProtocol = Callable[[], asyncio.Protocol]

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Handshakes:
    """Accepts connections and shakes hands with them, with `most` at a time. `timeout` is seconds."""

    def __init__(self, context: ssl.SSLContext, most: int, *, timeout: float = HANDSHAKE_TIMEOUT) -> None:
        self._context = context
        self._most = most
        self._timeout = timeout
        self._under_way: dict[asyncio.Task[None], None] = {}
        self._listening: asyncio.Task[None] | None = None
        self._tasks = asyncio.TaskGroup()

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Shakes hands within. Leaving ends what is under way; connections whose handshake is over go on."""
        async with self._tasks:
            try:
                yield self
            finally:
                self.close()

    def listen(self, listener: socket.socket, make_protocol: MakeProtocol) -> None:
        """Takes whoever connects to a socket that listens. Each connection gets a protocol once its handshake is over."""
        self._listening = self._tasks.create_task(self._accept(listener, make_protocol))

    def close(self) -> None:
        """Takes no more connections, and ends the handshakes that are under way. Idempotent."""
        for task in (*self._under_way, *([] if self._listening is None else [self._listening])):
            task.cancel()

    async def _accept(self, listener: socket.socket, make_protocol: MakeProtocol) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:
                    # A client that has gone already is none of ours; file handles may come back.
                    if error.errno in _EXHAUSTED:
                        log.warning("connection_not_accepted", error=error.strerror)
                        await asyncio.sleep(_ACCEPT_AGAIN)
                    continue
                self._begin(connection, make_protocol)
                # A loop may accept at once what is there already: others have their turn, however many connect.
                await asyncio.sleep(0)

    def _begin(self, connection: socket.socket, make_protocol: MakeProtocol) -> None:
        if len(self._under_way) >= self._most:
            longest = next(iter(self._under_way))
            del self._under_way[longest]
            longest.cancel()
        task = self._tasks.create_task(self._shake(connection, make_protocol))
        self._under_way[task] = None
        task.add_done_callback(partial(self._end, connection))

    async def _shake(self, connection: socket.socket, make_protocol: MakeProtocol) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(
                make_protocol, connection, ssl=self._context, ssl_handshake_timeout=self._timeout
            )
        except OSError:
            # `ssl.SSLError` is one, too; whose handshake fails has been told so by TLS.
            return
        except Exception as error:  # noqa: BLE001 - whatever one connection brings about, the others are served
            log.warning("handshake_failed", error=repr(error))
            connection.close()

    def _end(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if task.cancelled():
            # It may not even have begun, so that nobody else has the socket.
            connection.close()
