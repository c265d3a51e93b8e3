"""A webhook receiver that can be taken down and brought up again, at the same address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from standardwebhooks import Webhook

from scripts.broker_process import look_for_secrets
from tests.fakes.http_receiver import Arrival, HttpReceiver, answer


@dataclass(frozen=True, slots=True)
class Request:
    """One webhook as it came, and the status it was answered with; None where it was left hanging."""

    arrival: Arrival
    status: int | None

    @property
    def event_id(self) -> str:
        """The id in a body of CloudEvents JSON."""
        event_id: str = json.loads(self.arrival.body)["id"]
        return event_id

    def verify(self, secrets: list[str]) -> None:
        """Raises unless one of the secrets signed it. There is one unless they were rotated."""
        Webhook(secrets[0]).verify(self.arrival.body, dict(self.arrival.headers))


class Receiver:
    """Answers with `status`, `headers` and `body`, or hangs while the status is None. What it is sent is searched for secrets."""

    def __init__(self) -> None:
        self.status: int | None = 204
        self.headers: dict[str, str] = {}
        self.body = b""
        self.requests: list[Request] = []
        self.on_answered: Callable[[], None] = lambda: None
        """Called in the step in which an answer was handed to the system."""
        self._server: asyncio.Server | None = None
        self._http = HttpReceiver()
        self._path = self._http.behave(self._take)
        self._changed = asyncio.Condition()
        self._moved = asyncio.Event()
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.port}{self._path}"

    @property
    def taken(self) -> list[Request]:
        """The requests that were answered 2xx."""
        return [request for request in self.requests if request.status is not None and request.status < 300]

    async def up(self) -> None:
        """Listens: at a free port the first time, at the same one later."""
        self._moved.clear()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._http.port, backlog=1024)
        self._http.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Listens no more and breaks off what is open."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._moved.set()
        self._http.hang_up()
        async with self._changed:
            await self._changed.wait_for(lambda: not self._connections)

    def answer_all(self) -> None:
        """Answers what hangs, with what `status` is by now."""
        self._moved.set()

    async def until(self, holds: Callable[[], bool], timeout: float = 100) -> None:
        """Waits until something is true of what has come."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(holds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            await self._http.serve(reader, writer)
        finally:
            async with self._changed:
                self._connections.discard(writer)
                self._changed.notify_all()

    async def _take(self, writer: asyncio.StreamWriter) -> None:
        # What was read last on any connection is this connection's: nothing has waited since.
        arrival, status = self._http.arrivals[-1], self.status
        look_for_secrets(f"{arrival.line}\n{arrival.headers}", "a webhook's headers")
        look_for_secrets(arrival.body, "a webhook")
        async with self._changed:
            self.requests.append(Request(arrival, status))
            self._changed.notify_all()
        if status is None:
            await self._moved.wait()
            status = self.status
        if status is not None:
            writer.write(answer(status, self.headers, self.body))
            self.on_answered()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.up()
    try:
        yield receiver
    finally:
        await receiver.down()
