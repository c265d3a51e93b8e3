"""A publisher of its own process.

    python -m benchmarks.publisher '{"address": "127.0.0.1:9601", "batch": 64, "window": 1024}'

It keeps `window` events under way, in requests of `PublishStream`. With `batch` each request has exactly so many events;
with `coalesce` a request takes what has queued up while the last was being written, at most so many. With `unary` each
event is a `Publish` of its own, `window` of them under way at once.

Commands: `{"seconds": S}` publishes for so long and answers when the last event is acknowledged; `{"events": N}`
publishes so many; either with `"rate": R` sends one event every 1/R s. With `"credit": true` it publishes no further than
`{"allowed": N}` says, counted from its start.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from grpc import aio

from benchmarks.conversation import Commands, converse, say
from benchmarks.wire import SERVICE, EventBytes, new_id, timed_id
from certes.v1.event_service_pb2 import PublishStreamResponse

_NEVER: Final = 1 << 62


class StreamPublisher:
    """Publishes on one `PublishStream`, pipelined."""

    def __init__(self, channel: Any, window: int, batch: int, *, coalesce: bool) -> None:
        self._events = EventBytes()
        self._call = channel.stream_stream(f"{SERVICE}/PublishStream")()
        self._window = window
        self._batch = batch
        self._least = 1 if coalesce else batch
        self._sizes: deque[int] = deque()
        self._room = asyncio.Event()
        self.sent = 0
        self.answered = 0
        self.allowed = _NEVER

    @property
    def under_way(self) -> int:
        """How many events are sent and not acknowledged."""
        return self.sent - self.answered

    async def publish(self, seconds: float, events: int) -> None:
        """Publishes for a time or a number of events, and returns when all are acknowledged."""
        end = self.sent + events
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.sent < end:
            size = min(self._batch, self._window - self.under_way, self.allowed - self.sent, end - self.sent)
            if size < min(self._least, end - self.sent):
                await self._wait()
                continue
            await self._send([new_id() for _ in range(size)])
        await self.all_answered()

    async def publish_paced(self, seconds: float, rate: float) -> None:
        """Sends one event every 1/`rate` s; its id says when it was due."""
        due: deque[str] = deque()
        pacer = _Pacer(due, self._room, rate, int(seconds * rate))
        pacer.start()
        while pacer.is_alive() or due:
            if due:
                await self._send([due.popleft() for _ in range(min(len(due), self._batch))])
            else:
                await self._wait()
        await self.all_answered()

    async def read_answers(self) -> None:
        """Takes answers for ever."""
        async for wire in self._call:
            answer = PublishStreamResponse.FromString(wire)
            if answer.accepted.count != self._sizes.popleft():
                raise RuntimeError(f"not accepted: {answer}")
            self.answered += answer.accepted.count
            self._room.set()
        raise RuntimeError("The broker has ended the stream.")

    def allow(self, events: int) -> None:
        """Lets it publish so many in all."""
        self.allowed = events
        self._room.set()

    async def all_answered(self) -> None:
        """Returns when nothing is under way."""
        while self.under_way:
            await self._wait()

    async def _send(self, ids: list[str]) -> None:
        self.sent += len(ids)
        self._sizes.append(len(ids))
        await self._call.write(self._events.stream_request(ids))

    async def _wait(self) -> None:
        self._room.clear()
        await self._room.wait()


class UnaryPublisher:
    """Publishes by `Publish`, one event a call, `window` callers at once."""

    def __init__(self, channel: Any, window: int) -> None:
        self._events = EventBytes()
        self._call = channel.unary_unary(f"{SERVICE}/Publish")
        self._window = window
        self.sent = 0

    async def publish(self, seconds: float, events: int) -> None:
        """Publishes for a time or a number of events, and returns when all are acknowledged."""
        end, until = self.sent + events, time.monotonic() + seconds

        async def caller() -> None:
            while time.monotonic() < until and self.sent < end:
                self.sent += 1
                await self._call(self._events.unary_request(new_id()))

        async with asyncio.TaskGroup() as callers:
            for _ in range(self._window):
                callers.create_task(caller())


class _Pacer(threading.Thread):
    """Makes an event due every 1/`rate` s. A thread, because event loops round their timers to milliseconds."""

    def __init__(self, due: deque[str], wake: asyncio.Event, rate: float, events: int) -> None:
        super().__init__(daemon=True)
        self._due = due
        self._wake = wake
        self._interval = int(1_000_000_000 / rate)
        self._events = events
        self._loop = asyncio.get_running_loop()

    def run(self) -> None:
        start = time.monotonic_ns()
        for number in range(self._events):
            at = start + number * self._interval
            wait = at - time.monotonic_ns()
            if wait > 0:
                time.sleep(wait / 1_000_000_000)
            # Its time is when it was due, not when it was sent: what holds up the sender is no gain.
            self._due.append(timed_id(at, number))
            self._loop.call_soon_threadsafe(self._wake.set)
        self._loop.call_soon_threadsafe(self._wake.set)


@asynccontextmanager
async def _publisher(settings: dict[str, Any]) -> AsyncIterator[StreamPublisher | UnaryPublisher]:
    window = settings["window"]
    async with aio.insecure_channel(settings["address"]) as channel:
        await channel.channel_ready()
        if settings.get("unary"):
            yield UnaryPublisher(channel, window)
            return
        coalesce = settings.get("coalesce")
        publisher = StreamPublisher(channel, window, coalesce or settings["batch"], coalesce=coalesce is not None)
        async with asyncio.TaskGroup() as tasks:
            answers = tasks.create_task(publisher.read_answers())
            yield publisher
            answers.cancel()


async def _main(settings: dict[str, Any], commands: Commands) -> None:
    async with _publisher(settings) as publisher, asyncio.TaskGroup() as tasks:
        if settings.get("credit") and isinstance(publisher, StreamPublisher):
            publisher.allowed = 0
        say(ready=True)
        async for command in commands:
            if "allowed" in command and isinstance(publisher, StreamPublisher):
                publisher.allow(command["allowed"])
            else:
                tasks.create_task(_obey(publisher, command))


async def _obey(publisher: StreamPublisher | UnaryPublisher, command: dict[str, Any]) -> None:
    before, began = publisher.sent, time.monotonic_ns()
    seconds = command.get("seconds", 3600.0)
    if "rate" in command and isinstance(publisher, StreamPublisher):
        await publisher.publish_paced(seconds, command["rate"])
    else:
        await publisher.publish(seconds, command.get("events", _NEVER))
    say(published=publisher.sent - before, began=began, ended=time.monotonic_ns())


if __name__ == "__main__":
    converse(_main)
