"""An address that passes everything on to a NATS server, until a certain message is stored: then nothing passes any more.

So a process can be killed exactly while it waits for an answer, however fast it and the machine are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Moment:
    """The `number`-th message to subjects that begin with `subject`: when it is sent, or when it is stored."""

    subject: str
    number: int
    is_stored: bool


class Wire:
    """One connection after the other to one server. Made by `wire`."""

    def __init__(self, port: int, moment: Moment) -> None:
        self.url = ""
        self.reached = asyncio.Event()
        self._port = port
        self._moment = moment
        self._left = moment.number
        self._answer = b""
        """To which subject the server will answer the message of the moment."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes on what a client and the server say, until either ends."""
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.TaskGroup() as tasks:
                ways = [
                    tasks.create_task(self._to_server(reader, to_server)),
                    tasks.create_task(self._to_client(from_server, writer)),
                ]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
        finally:
            writer.close()
            to_server.close()

    async def _to_server(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                verb, _, rest = line.partition(b" ")
                payload = b""
                if verb in (b"PUB", b"HPUB"):
                    words = rest.split()
                    payload = await reader.readexactly(int(words[-1]) + 2)
                    if words[0].decode().startswith(self._moment.subject):
                        await self._count(words[1])
                writer.write(line + payload)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return  # The client was killed.

    async def _count(self, answer: bytes) -> None:
        self._left -= 1
        if self._left == 0:
            self._answer = answer
            if not self._moment.is_stored:
                await self._stop()

    async def _to_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                # An answer may arrive in two pieces: then its second half is held.
                if self._answer and self._answer in data:
                    await self._stop()
                writer.write(data)
                await writer.drain()
        except OSError:
            return  # The client was killed.

    async def _stop(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()


@asynccontextmanager
async def wire(port: int, moment: Moment) -> AsyncIterator[Wire]:
    """Opens a wire to the server at a port of this machine."""
    made = Wire(port, moment)
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made
