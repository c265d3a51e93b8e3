"""A provider of its own process: POSTs signed GitHub webhooks over connections that stay open.

    python -m benchmarks.ingress_load '{"address": "127.0.0.1:9600", "path": "/events/github", "payload": "push.json",
                                        "secret": "...", "connections": 32}'

The payload is signed once, since GitHub's signature covers the body alone; every request has a delivery id of its own.
A connection has one request under way.

Commands: `{"seconds": S}` or `{"events": N}` posts for so long or so many, and answers when all are answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from pathlib import Path
from typing import Any, Final, cast

from benchmarks.conversation import Commands, converse, say
from benchmarks.wire import new_id

_ACCEPTED: Final = b"HTTP/1.1 202 "
_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


class Load:
    """What all connections share: the request, and how much is to be sent."""

    def __init__(self, settings: dict[str, Any]) -> None:
        body = Path(settings["payload"]).read_bytes()
        signature = hmac.digest(settings["secret"].encode(), body, hashlib.sha256).hex()
        head = (
            f"POST {settings['path']} HTTP/1.1\r\nhost: {settings['address']}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nuser-agent: GitHub-Hookshot/0000000\r\nx-github-event: push\r\n"
            f"x-hub-signature-256: sha256={signature}\r\nx-github-delivery: "
        )
        self._head = head.encode()
        self._tail = _END_OF_HEAD + body
        self._until = 0.0
        self._left = 0
        self._under_way = 0
        self._idle = asyncio.Event()
        self.sent = 0
        self.connections: list[Connection] = []

    async def post(self, seconds: float, events: int) -> None:
        """Posts for a time or a number of events, and returns when all are answered."""
        self._until, self._left = time.monotonic() + seconds, events
        self._idle.clear()
        for connection in self.connections:
            connection.send_next()
        await self._idle.wait()
        for connection in self.connections:
            if connection.fault:
                raise RuntimeError(connection.fault)

    def request(self) -> bytes | None:
        """Returns the next request; None if nothing more is to be sent."""
        if self._left <= 0 or time.monotonic() >= self._until:
            return None
        self._left -= 1
        self._under_way += 1
        self.sent += 1
        return self._head + new_id().encode() + self._tail

    def answered(self) -> None:
        """Notes that a request was answered."""
        self._under_way -= 1

    def rest(self) -> None:
        """Notes that a connection has nothing more to send."""
        if not self._under_way:
            self._idle.set()

    def stop(self) -> None:
        """Sends nothing more: something is wrong."""
        self._left = 0
        self._idle.set()


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.fault = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, but does not say so

    def data_received(self, data: bytes) -> None:
        received = self._received + data
        end = received.find(_END_OF_HEAD)
        if end < 0:
            self._received = received
            return
        start = received.lower().find(_LENGTH, 0, end) + len(_LENGTH)
        length = int(received[start : received.find(b"\r", start)])
        if len(received) < end + len(_END_OF_HEAD) + length:
            self._received = received
            return
        self._received = b""
        if not received.startswith(_ACCEPTED) or b'"duplicate":false' not in received:
            self.fault = received.decode("latin-1")
            self._load.stop()
            return
        self._load.answered()
        self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fault = self.fault or f"a connection was lost: {exc}"
        self._load.stop()

    def send_next(self) -> None:
        """Sends the next request, if there is one."""
        request = self._load.request()
        if request is None:
            self._load.rest()
        else:
            assert self._transport is not None
            self._transport.write(request)


async def _main(settings: dict[str, Any], commands: Commands) -> None:
    load = Load(settings)
    host, _, port = settings["address"].rpartition(":")
    loop = asyncio.get_running_loop()
    for _ in range(settings["connections"]):
        _, connection = await loop.create_connection(lambda: Connection(load), host, int(port))
        load.connections.append(connection)
    say(ready=True)
    async for command in commands:
        before, began = load.sent, time.monotonic_ns()
        await load.post(command.get("seconds", 3600.0), command.get("events", 1 << 62))
        say(published=load.sent - before, began=began, ended=time.monotonic_ns())


if __name__ == "__main__":
    converse(_main)
