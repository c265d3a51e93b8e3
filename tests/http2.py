"""HTTP/2 by hand (RFC 9113), for what no client sends: frames, and connections that send any of them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress

from scripts.broker_process import look_for_secrets

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CANCEL = struct.pack(">I", 8)
SUBSCRIBE = b"/certes.v1.EventService/Subscribe"
PING_RPC = b"/certes.v1.AdminService/Ping"
EMPTY_MESSAGE = bytes(5)
"""An empty message as gRPC frames it."""

Frame = tuple[int, int, bytes]
"""Its type, its stream, and its content."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """A frame, which may lie about its length."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def field(name: bytes, value: bytes) -> bytes:
    """A header field without compression: a literal that is not indexed (RFC 7541, 6.2.2)."""
    return b"\0" + _string(name) + _string(value)


def head(path: bytes = PING_RPC, more: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The header block of an rpc."""
    usual = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    return b"".join(field(name, value) for name, value in (*usual, *more))


class Connection:
    """A connection that speaks HTTP/2, and has said so."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._received = bytearray()
        self._news = asyncio.Event()
        self.has_ended = False

    async def send(self, frames: Iterable[bytes]) -> int:
        """Sends frames until the broker hangs up, and returns how many; reads what comes meanwhile."""
        sent = 0
        with suppress(OSError):
            for one in frames:
                self.writer.write(one)
                sent += 1
                if sent % 100 == 0:
                    await self.writer.drain()
                    if self.has_ended:
                        break
            await self.writer.drain()
        return sent

    async def read(self) -> None:
        """Reads until the broker hangs up."""
        with suppress(OSError):
            while piece := await self._reader.read(65_536):
                self._received += piece
                self._news.set()
        look_for_secrets(bytes(self._received), "what came over HTTP/2")
        self.has_ended = True
        self._news.set()

    async def until(self, is_there: Callable[[list[Frame]], bool]) -> list[Frame]:
        """Waits until what has come is enough, or the broker has hung up; returns it."""
        while not is_there(frames := list(self.frames())) and not self.has_ended:
            self._news.clear()
            await self._news.wait()
        return frames

    def frames(self) -> Iterator[Frame]:
        """The frames that have come."""
        at = 0
        while at + 9 <= len(self._received):
            end = at + 9 + int.from_bytes(self._received[at : at + 3], "big")
            if end > len(self._received):
                return
            stream = int.from_bytes(self._received[at + 5 : at + 9], "big")
            yield self._received[at + 3], stream, bytes(self._received[at + 9 : end])
            at = end


@asynccontextmanager
async def connected(address: str, settings: bytes = b"") -> AsyncIterator[Connection]:
    """Connects, sends the preface and these settings, and reads all the while."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = Connection(reader, writer)
    writer.write(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK, 0))
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(connection.read())
        try:
            yield connection
        finally:
            writer.transport.abort()
            reading.cancel()


def _string(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes((len(text),)) + text
    rest, length = len(text) - 127, bytearray((127,))
    while rest >= 128:
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes((*length, rest)) + text
