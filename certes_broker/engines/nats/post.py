"""The post between members: requests and streams on NATS core, of which nothing is kept.

How it works
------------
* A request is one message to the subject of a member, or several where it is long; it names where the answer goes. NATS says
  when nobody has that subject.
* An answer is numbered frames, each one message or, where it is long, several. What is missing is noticed by the number that
  follows, and ends the stream: nothing is sent again.
* Every second a member tells each other one, in one message, which streams it still reads and how far, and how far it has
  written which. So what has lost its last frame, its writer or its reader is noticed, too.
* A writer is ahead of its reader by `WINDOW` messages at most, and waits until it hears that some have been read.
* What one member says to another arrives in the order in which it was said, as far as it arrives.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog
from nats import errors
from nats.aio.msg import Msg

from certes_broker.domain.errors import CertesError, Exhausted, Internal, Reason
from certes_broker.engines.nats import post_messages
from certes_broker.engines.nats.connection import AGAIN, Connection
from certes_broker.engines.nats.mailbox import NO_RESPONDERS, STATUS
from certes_broker.engines.nats.post_messages import Call, Kind, Notice
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.cluster import Handler, Lost, MemberId, NoResponder

PART: Final = 256 << 10
"""Bytes of the longest message, if the servers take so much."""
RESERVE: Final = 4 << 10
"""What a message needs beside its payload."""
WINDOW: Final = 64
"""How many messages a writer may be ahead of its reader."""
BEAT: Final = 1.0
"""Seconds between notices."""
SILENCE: Final = 5.0
"""Seconds without a notice after which the other is gone."""
SPREADING: Final = 0.5
"""Seconds for which nobody's serving may mean that not every server of the cluster has heard of it yet."""
AT_ONCE: Final = 4_096
"""How many requests may be under way, and how many long ones may have come in part."""
COMING_BYTES: Final = 64 << 20
"""Bytes that may have come of requests that are not there as a whole yet."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Reading:
    """A stream that this member reads. `arrived` messages have come, of which it has taken `taken`."""

    writer: MemberId
    heard: float
    came: deque[Msg] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: int = 0
    taken: int = 0
    sent: int = 0
    """As many had been sent when the last notice was written."""
    is_lost: bool = False

    def lose(self) -> None:
        """Lets its reader know that nothing more comes."""
        self.is_lost = True
        self.news.set()


@dataclass(slots=True)
class _Writing:
    """A stream that this member writes: how many messages were sent, and how many of them the reader has taken."""

    reader: MemberId
    heard: float
    is_bounded: bool
    sent: int = 0
    taken: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class NatsPost:
    """The post of one member."""

    def __init__(self, connection: Connection, names: Names, own: MemberId) -> None:
        self._connection = connection
        self._names = names
        self._own = own
        self._reading: dict[str, _Reading] = {}
        self._writing: dict[str, _Writing] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._coming: dict[str, tuple[float, list[bytes]]] = {}

    async def run(self) -> None:
        """Tells others how streams fare, and ends those whose other side is gone, for ever."""
        await self._connection.client.subscribe(self._names.notices(self._own), cb=self._take_notice)
        while True:
            await asyncio.sleep(BEAT)
            now = asyncio.get_running_loop().time()
            self._look(now)
            for member, notice in self._notices().items():
                await self._tell(member, notice)

    # Asking.

    async def ask(self, member: MemberId, name: str, body: bytes, within: float) -> bytes:
        try:
            async with asyncio.timeout(within), aclosing(self._frames(member, Kind.ASK, name, body)) as frames:
                async for frame in frames:
                    return frame
        except TimeoutError:
            raise Lost(f"{member} has not answered {name} within {within:g} s.") from None
        raise Lost(f"{member} has broken off its answer to {name}.")

    def stream(self, member: MemberId, name: str, body: bytes) -> AsyncGenerator[bytes]:
        return self._frames(member, Kind.STREAM, name, body)

    async def _frames(self, member: MemberId, kind: Kind, name: str, body: bytes) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        end = loop.time() + SPREADING
        while True:
            try:
                async with aclosing(self._try(member, kind, name, body)) as frames:
                    async for frame in frames:
                        yield frame
            except NoResponder:
                if loop.time() >= end:
                    raise
                await asyncio.sleep(AGAIN)
            else:
                return

    async def _try(self, member: MemberId, kind: Kind, name: str, body: bytes) -> AsyncGenerator[bytes]:
        call = secrets.token_hex(8)
        loop = asyncio.get_running_loop()
        reading = _Reading(member, loop.time())
        if kind is Kind.STREAM:
            self._reading[call] = reading

        def take(message: Msg) -> None:
            reading.heard = loop.time()
            reading.arrived += 1
            reading.came.append(message)
            reading.news.set()

        is_over = False
        try:
            with self._connection.mailbox.box(take) as reply:
                await self._send(member, Call(call, kind, name, self._own), body, reply)
                parts: list[bytes] = []
                while not is_over:
                    message = await self._next(reading)
                    if (message.headers or {}).get(STATUS) == NO_RESPONDERS:
                        is_over = True
                        raise NoResponder(f"{member} does not serve.")
                    number, outcome = post_messages.frame_of(message.headers)
                    if number != reading.taken:
                        raise Lost(f"A part of what {member} answered to {name} is missing.")
                    reading.taken += 1
                    if reading.taken % (WINDOW // 2) == 0:
                        await self._tell(member, Notice(self._own, taken={call: reading.taken}))
                    is_over = outcome in {Kind.END, Kind.BROKEN, Kind.ERROR}
                    if outcome is Kind.BROKEN:
                        raise Lost(f"{member} has broken off its answer to {name}.")
                    if outcome is Kind.ERROR:
                        raise post_messages.decode_error(b"".join((*parts, message.data)))
                    if outcome is not Kind.END:
                        parts.append(message.data)
                    if outcome is Kind.DATA:
                        frame, parts = b"".join(parts), []
                        yield frame
        finally:
            self._reading.pop(call, None)
            if not is_over and kind is Kind.STREAM:
                await self._tell(member, Notice(self._own, closed=[call]))

    async def _next(self, reading: _Reading) -> Msg:
        while not reading.came:
            if reading.is_lost:
                raise Lost(f"{reading.writer} has broken off.")
            reading.news.clear()
            await reading.news.wait()
        return reading.came.popleft()

    async def _send(self, member: MemberId, call: Call, body: bytes, reply: str) -> None:
        parts = list(self._parts(body))
        for index, part in enumerate(parts):
            headers = call.headers(index, len(parts))
            try:
                await self._connection.client.publish(self._names.post(member), part, reply=reply, headers=headers)
            except errors.Error as error:
                raise Lost(f"The NATS servers cannot be used now: {error}.") from error

    def _parts(self, body: bytes) -> Iterator[bytes]:
        size = min(PART, self._connection.max_payload - RESERVE)
        for start in range(0, max(len(body), 1), size):
            yield body[start : start + size]

    # Answering.

    @asynccontextmanager
    async def serve(self, handler: Handler) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:

            async def take(message: Msg) -> None:
                await self._take(message, handler, tasks)

            requests = await self._connection.client.subscribe(
                self._names.post(self._own), cb=take, pending_msgs_limit=-1, pending_bytes_limit=-1
            )
            try:
                # The server is to know of it before anybody hears that this member serves.
                with suppress(errors.Error, TimeoutError):
                    await self._connection.client.flush()
                yield
            finally:
                with suppress(errors.Error):
                    await requests.unsubscribe()
                for task in self._under_way:
                    task.cancel()

    async def _take(self, message: Msg, handler: Handler, tasks: asyncio.TaskGroup) -> None:
        try:
            call, index, count = post_messages.call_of(message.headers)
        except ValueError as error:
            log.warning("post_message_unreadable", error=str(error))
            return
        body = self._whole(call.id, index, count, message.data)
        if body is None:
            return
        loop = asyncio.get_running_loop()
        writing = _Writing(call.asker, loop.time(), call.kind is Kind.STREAM)
        if len(self._under_way) >= AT_ONCE:
            await self._refuse(writing, message.reply)
            return
        task = tasks.create_task(self._answer(writing, call, body, handler, message.reply), name="post")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        if call.kind is Kind.STREAM:
            writing.task = task
            self._writing[call.id] = writing
            task.add_done_callback(lambda _: self._writing.pop(call.id, None))

    def _whole(self, call: str, index: int, count: int, part: bytes) -> bytes | None:
        """Returns a request, when its last part has come."""
        if count == 1:
            return part
        loop = asyncio.get_running_loop()
        _, parts = self._coming.pop(call, (0.0, []))
        waiting = sum(len(one) for _, others in self._coming.values() for one in others)
        if index != len(parts) or waiting > COMING_BYTES or len(self._coming) >= AT_ONCE:
            log.warning("post_request_incomplete", call=call, part=index, of=count)
            return None
        parts.append(part)
        if len(parts) == count:
            return b"".join(parts)
        self._coming[call] = (loop.time(), parts)
        return None

    async def _answer(self, writing: _Writing, call: Call, body: bytes, handler: Handler, reply: str) -> None:
        try:
            if call.kind is Kind.ASK:
                await self._write(writing, reply, Kind.DATA, await handler.answer(call.name, body))
            else:
                async with aclosing(handler.stream(call.name, body)) as frames:
                    async for frame in frames:
                        await self._write(writing, reply, Kind.DATA, frame)
            await self._write(writing, reply, Kind.END, b"")
        except asyncio.CancelledError:
            # To whoever has gone already it says nothing.
            await self._write(writing, reply, Kind.BROKEN, b"")
            raise
        except CertesError as error:
            await self._write(writing, reply, Kind.ERROR, post_messages.encode_error(error))
        except Exception as error:
            log.exception("post_answer_failed", name=call.name)
            fault = Internal(Reason.INTERNAL, f"Another broker failed to answer {call.name}: {error!r}.")
            await self._write(writing, reply, Kind.ERROR, post_messages.encode_error(fault))

    async def _refuse(self, writing: _Writing, reply: str) -> None:
        refusal = Exhausted(
            Reason.BUFFER_FULL, f"{AT_ONCE} requests of other brokers are under way already.", retry_after=1.0
        )
        await self._write(writing, reply, Kind.ERROR, post_messages.encode_error(refusal))

    async def _write(self, writing: _Writing, reply: str, kind: Kind, frame: bytes) -> None:
        """Sends a frame. Where that fails, the number of the next tells the reader."""
        parts = list(self._parts(frame))
        for index, part in enumerate(parts, 1):
            while kind is Kind.DATA and writing.is_bounded and writing.sent - writing.taken >= WINDOW:
                writing.news.clear()
                await writing.news.wait()
            headers = post_messages.frame_headers(writing.sent, kind if index == len(parts) else Kind.MORE)
            writing.sent += 1
            with suppress(errors.Error):
                await self._connection.client.publish(reply, part, headers=headers)

    # Notices.

    def _look(self, now: float) -> None:
        for reading in self._reading.values():
            if now - reading.heard > SILENCE:
                reading.lose()
        for writing in self._writing.values():
            if now - writing.heard > SILENCE and writing.task is not None:
                writing.task.cancel()
        self._coming = {call: (since, parts) for call, (since, parts) in self._coming.items() if now - since < SILENCE}

    def _notices(self) -> Mapping[MemberId, Notice]:
        notices: dict[MemberId, Notice] = {}
        for call, reading in self._reading.items():
            notices.setdefault(reading.writer, Notice(self._own)).taken[call] = reading.taken
        for call, writing in self._writing.items():
            notices.setdefault(writing.reader, Notice(self._own)).sent[call] = writing.sent
        return notices

    async def _tell(self, member: MemberId, notice: Notice) -> None:
        with suppress(errors.Error):  # What it says is said again in a second, or silence says it.
            await self._connection.client.publish(self._names.notices(member), notice.encode())

    async def _take_notice(self, message: Msg) -> None:
        now = asyncio.get_running_loop().time()
        if message.reply:
            # Somebody wants to know whether this member is connected.
            with suppress(errors.Error):
                await message.respond(b"")
        try:
            notice = post_messages.decode_notice(message.data)
        except ValueError as error:
            log.warning("post_message_unreadable", error=str(error))
            return
        for call, taken in notice.taken.items():
            writing = self._writing.get(call)
            if writing is not None:
                writing.heard, writing.taken = now, max(writing.taken, taken)
                writing.news.set()
        for call, sent in notice.sent.items():
            reading = self._reading.get(call)
            if reading is not None:
                reading.heard = now
                if reading.arrived < reading.sent:
                    reading.lose()
                reading.sent = sent
        for call in notice.closed:
            closed = self._writing.get(call)
            if closed is not None and closed.task is not None:
                closed.task.cancel()
