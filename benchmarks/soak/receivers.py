"""Receivers of webhooks on one loopback port, by path: well-behaved ones, and ones that misbehave while they are told to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

LARGEST_REQUEST: Final = 1024 * 1024
_TAKEN: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_REFUSED: Final = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
_ENDLESS: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n"
_HALF: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
_CHUNK: Final = bytes(64 * 1024)

MISBEHAVIOURS: Final = ("never answers", "a byte a second", "answers 10 GB", "closes in mid-answer", "500 and 200")


class Receiver:
    """One receiver: what it has taken, and when. Times are seconds of the monotonic clock."""

    def __init__(self, misbehaviour: str = "") -> None:
        self.misbehaviour = misbehaviour
        self.arrived: dict[str, float] = {}
        """When each event arrived first."""
        self.requests = 0


class Receivers:
    """The server of all receivers."""

    def __init__(self, receivers: dict[str, Receiver]) -> None:
        self._receivers = receivers
        self._behaving = asyncio.Event()
        self._behaving.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._left = asyncio.Event()
        self.on_arrival: Callable[[], None] = lambda: None
        self.on_request: Callable[[bytes], None] = lambda _: None

    @property
    def misbehaving(self) -> bool:
        """Whether those that can misbehave do."""
        return not self._behaving.is_set()

    def misbehave(self) -> None:
        """Lets those that can misbehave do so from now on."""
        self._behaving.clear()

    def behave(self) -> None:
        """Lets all be well again; what was held up is let go of."""
        self._behaving.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection until either side ends it."""
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                path, event_id, length = _read(head)
                self.on_request(head + await reader.readexactly(min(length, LARGEST_REQUEST)))
                receiver = self._receivers[path]
                receiver.requests += 1
                await self._answer(receiver, event_id, writer)
        writer.close()
        self._writers.discard(writer)
        self._left.set()

    async def hang_up(self) -> None:
        """Ends all connections, and returns when they have ended."""
        for writer in self._writers:
            writer.transport.abort()
        while self._writers:
            self._left.clear()
            await self._left.wait()

    async def _answer(self, receiver: Receiver, event_id: str, writer: asyncio.StreamWriter) -> None:
        if not (self.misbehaving and receiver.misbehaviour):
            self._take(receiver, event_id)
            writer.write(_TAKEN)
            return
        match receiver.misbehaviour:
            case "never answers":
                await self._behaving.wait()
                writer.close()
            case "a byte a second":
                for byte in _TAKEN:
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(1)
                    if writer.is_closing() or not self.misbehaving:
                        break
                writer.close()
            case "answers 10 GB":
                # Its status is a success, so that the event counts as delivered.
                self._take(receiver, event_id)
                writer.write(_ENDLESS)
                while not writer.is_closing() and self.misbehaving:
                    writer.write(_CHUNK)
                    await writer.drain()
                writer.close()
            case "closes in mid-answer":
                writer.write(_HALF)
                await writer.drain()
                writer.close()
            case "500 and 200":
                refused = receiver.requests % 2
                if not refused:
                    self._take(receiver, event_id)
                writer.write(_REFUSED if refused else _TAKEN)
            case other:
                raise ValueError(other)

    def _take(self, receiver: Receiver, event_id: str) -> None:
        if event_id not in receiver.arrived:
            receiver.arrived[event_id] = time.perf_counter()
            self.on_arrival()


def _read(head: bytes) -> tuple[str, str, int]:
    """Returns the path, the event's id and the length of the body."""
    line, *lines = head.decode("latin-1").split("\r\n")
    event_id, length = "", 0
    for one in lines:
        name, _, value = one.partition(":")
        match name.lower():
            case "ce-id":
                event_id = value.strip()
            case "content-length":
                length = int(value)
            case _:
                pass
    return line.split(" ")[1], event_id, length
