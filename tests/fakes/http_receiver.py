"""An HTTP/1.1 receiver on loopback, for senders: it reads a request properly and answers with whatever bytes a test wants."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""What a receiver does once it has read a request."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as it came in."""

    line: str
    headers: Mapping[str, str]
    body: bytes


class HttpReceiver:
    """Behaves by path. `connections` counts those that were opened, `broken_off` is set when a client went away without an answer."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.arrivals: list[Arrival] = []
        self.broken_off = asyncio.Event()
        self._behaviours: dict[str, Behaviour] = {}
        self._arrival = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()

    def behave(self, behaviour: Behaviour) -> str:
        """Returns a path of its own at which the receiver behaves so."""
        path = f"/{len(self._behaviours)}"
        self._behaviours[path] = behaviour
        return path

    async def arrived(self, count: int) -> list[Arrival]:
        """Waits until `count` requests have arrived in all."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.arrivals) >= count)
        return self.arrivals

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection until either side closes it."""
        self.connections += 1
        self._writers.add(writer)
        try:
            while not writer.is_closing():
                arrival = await _read(reader)
                async with self._arrival:
                    self.arrivals.append(arrival)
                    self._arrival.notify_all()
                await self._behaviours[arrival.line.split(" ")[1]](writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.broken_off.set()
        finally:
            self._writers.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        """Closes all connections at once."""
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def http_receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[HttpReceiver]:
    """Runs a receiver on a free port of 127.0.0.1."""
    receiver = HttpReceiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls, backlog=1024)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        receiver.hang_up()


def answer(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """Writes out a whole answer."""
    lines = [f"HTTP/1.1 {status} As Asked", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if status != 204:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if status == 204 else body)


def saying(raw: bytes, *, hang_up: bool = False) -> Behaviour:
    """Behaves by saying these bytes, and hanging up after them if asked to."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        if hang_up:
            await writer.drain()
            writer.close()

    return behave


async def _read(reader: asyncio.StreamReader) -> Arrival:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
    return Arrival(line, headers, await reader.readexactly(int(headers["content-length"])))
