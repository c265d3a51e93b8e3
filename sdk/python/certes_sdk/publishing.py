"""Publishing: one stream carries all calls.

Two tasks work while a stream is open. One writes: whatever has queued up while the last request was written goes out as the next. The
other reads answers, which come in the order of the requests. When the stream breaks, what was under way goes back to its place
in the queue and is sent again on the next one, with the same ids; so the broker tells what it had stored already.

Rules
-----
* A call waits for room, for its answer, or for its time to be over; nothing is dropped.
* What is decided is decided by `PublishQueue`.
* A refusal that is for good concerns one event: a refused request of several is told again one by one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from copy import copy
from typing import Any, Final

from google.protobuf.message import DecodeError
from grpc import aio

from certes.v1.event_service_pb2 import PublishStreamResponse
from certes_sdk.clock import Clock
from certes_sdk.coalescing import Entry, PublishQueue, Receipt
from certes_sdk.connection import Connection, is_cancelled, is_passing
from certes_sdk.errors import CertesError, failed_precondition, from_problem, invalid, unavailable
from certes_sdk.outgoing import RETURN_RESULTS
from certes_sdk.reconnecting import wait_before

PATIENCE: Final = 60.0
"""Seconds after which a call gives up."""
WAITING_EVENTS: Final = 10_000
WAITING_BYTES: Final = 32 << 20

MAXIMUM_EVENT_BYTES: Final = (4 << 20) - 1024
"""What a request can carry; the broker's own limit is lower."""

_METHOD: Final = "/certes.v1.EventService/PublishStream"
_SWEEP: Final = 1.0

_log: Final = logging.getLogger("certes")


class Publisher:
    """Publishes the events of one client in one loop. `run` is its task."""

    def __init__(self, connection: Connection, clock: Clock, waiting_events: int = WAITING_EVENTS) -> None:
        self._connection = connection
        self._clock = clock
        self._waiting_events = waiting_events
        self._queue = PublishQueue()
        self._under_way: deque[list[Entry]] = deque()
        self._later: list[list[Entry]] = []
        self._wanting_room: deque[tuple[Entry, asyncio.Future[None]]] = deque()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._closed = False
        self.trouble: CertesError | None = None
        """What stood in the way the last time."""
        self._loop = asyncio.get_running_loop()

    def begin(self, entry: Entry) -> bool:
        """Takes an event if there is room for it. Its outcome is told by its `answer`. Raises `CertesError`.

        If there is none, `begin_later` waits for it.
        """
        if entry.size > MAXIMUM_EVENT_BYTES:
            raise _too_large(entry)
        entry.answer = self._loop.create_future()
        if self._wanting_room or not self._has_room_for(entry):
            return False
        self._queue.add(entry)
        if not self._work.is_set():
            self._work.set()
        return True

    async def begin_later(self, entry: Entry) -> None:
        """Takes an event when there is room for it, in the order of calls."""
        await self._until_room(entry)
        self._work.set()

    def give_up(self, entry: Entry) -> None:
        """Notes that nobody waits for an event any more. Whether it will be stored is not known."""
        self._queue.give_up(entry)
        self._note_progress()

    async def run(self) -> None:
        """Carries events to the broker, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep())
            tries = 0
            while True:
                while not self._queue.waiting_events:
                    self._work.clear()
                    await self._work.wait()
                error, answers = await self._converse()
                self._return_what_is_under_way()
                if not is_passing(error):
                    self._fail(error)
                    continue
                self.trouble = error
                self._connection.doubt()
                tries = 1 if answers else tries + 1
                wait = error.retry_after or wait_before(tries, self._clock.chance())
                _log.debug("Publishing goes on in %.2f s: %s", wait, error)
                await self._clock.sleep(wait)

    async def close(self) -> None:
        """Takes no more events, and returns when those that it has were answered or given up."""
        self._closed = True
        self._note_progress()
        await self._idle.wait()

    def abandon(self) -> None:
        """Ends all calls: nobody carries events to the broker any more."""
        self._closed = True
        self._return_what_is_under_way()
        for _, room in self._wanting_room:
            if not room.done():
                room.set_exception(closed())
        self._fail(closed())
        self._idle.set()

    async def _converse(self) -> tuple[CertesError, int]:
        """Opens a stream and publishes on it until it ends. Returns why, and how many answers there were."""
        try:
            channel = await self._connection.channel()
        except CertesError as error:
            return error, 0
        stream: Any = channel.stream_stream(_METHOD)
        call = stream(metadata=self._connection.metadata)
        try:
            async with asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(self._write(call))
                try:
                    return await self._read(call)
                finally:
                    writing.cancel()
        finally:
            call.cancel()

    async def _read(self, call: Any) -> tuple[CertesError, int]:
        answers = 0
        try:
            while (wire := await call.read()) is not aio.EOF:
                self._take_answer(PublishStreamResponse.FromString(wire))
                answers += 1
        except aio.AioRpcError as error:
            return self._connection.refusal(error), answers
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return unavailable("UNAVAILABLE", "The connection was closed."), answers
        except (DecodeError, IndexError):
            # No message, or an answer to nothing.
            return unavailable("UNAVAILABLE", "The broker's answer to what was published makes no sense."), answers
        return unavailable("UNAVAILABLE", "The broker has ended the stream."), answers

    async def _write(self, call: Any) -> None:
        queue, work = self._queue, self._work
        while True:
            entries = queue.take()
            if not entries:
                work.clear()
                await work.wait()
                continue
            self._under_way.append(entries)
            wire = b"".join([entry.wire for entry in entries])
            if True in [entry.id_given for entry in entries]:
                wire += RETURN_RESULTS
            if self._wanting_room:
                self._let_in()
            try:
                await call.write(wire)
            except (aio.AioRpcError, aio.UsageError, asyncio.InvalidStateError) as error:
                # The stream has ended, and its reader is told why. Should it not have, it has now.
                _log.debug("A request was not written: %r", error)
                call.cancel()
                return

    def _take_answer(self, answer: PublishStreamResponse) -> None:
        """Tells the calls of the oldest request what became of it. Raises `IndexError` if there is none."""
        entries = self._under_way.popleft()
        if answer.HasField("accepted"):
            self._queue.answered(entries)
            results = answer.accepted.results
            if results:
                told = [(result.duplicate, result.name) for result in results]
                for entry, about in zip(entries, told, strict=False):
                    if not entry.answer.done():
                        entry.answer.set_result(Receipt(entry.id, *about) if entry.id_given else Receipt(entry.id))
            else:
                for entry in entries:
                    if not entry.answer.done():
                        entry.answer.set_result(Receipt(entry.id))
        else:
            self._take_refusal(entries, from_problem(answer.rejected))
        self._note_progress()

    def _take_refusal(self, entries: list[Entry], error: CertesError) -> None:
        if error.retryable:
            self.trouble = error
            for entry in entries:
                entry.tries += 1
            tries = max(entry.tries for entry in entries)
            wait = error.retry_after or wait_before(tries, self._clock.chance())
            self._later.append(entries)
            self._clock.call_later(wait, lambda: self._send_again(entries))
        elif len(entries) > 1:
            for entry in entries:
                entry.alone = True
            self._queue.put_back(entries)
        else:
            self._queue.answered(entries)
            _tell(entries, error)

    def _send_again(self, entries: list[Entry]) -> None:
        # Unless all was failed meanwhile.
        if entries in self._later:
            self._later.remove(entries)
            self._queue.put_back(entries)
            self._note_progress()

    def _return_what_is_under_way(self) -> None:
        """Puts back what a stream that has ended leaves unanswered."""
        while self._under_way:
            self._queue.put_back(self._under_way.pop())
        self._note_progress()

    def _fail(self, error: CertesError) -> None:
        """Tells all calls of an error that would be the same for each."""
        waiting = list(self._queue.waiting())
        for entries in self._later:
            self._queue.answered(entries)
            waiting += entries
        self._later.clear()
        for entry in waiting:
            self._queue.give_up(entry)
        _tell(waiting, error)
        self._note_progress()

    def _note_progress(self) -> None:
        """Wakes whoever waits for room, for work, or for the end."""
        self._work.set()
        if self._wanting_room:
            self._let_in()
        if self._closed and not (self._queue.waiting_events or self._queue.under_way_events or self._wanting_room):
            self._idle.set()

    def _has_room_for(self, entry: Entry) -> bool:
        queue = self._queue
        return queue.waiting_events < self._waiting_events and (
            queue.waiting_bytes + entry.size <= WAITING_BYTES or not queue.waiting_events
        )

    async def _until_room(self, entry: Entry) -> None:
        """Waits, in the order of calls, until the queue has room. What is let in counts at once."""
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (entry, room)
        self._wanting_room.append(waiting)
        try:
            await room
        except BaseException:
            if waiting in self._wanting_room:
                self._wanting_room.remove(waiting)
            else:
                self._queue.give_up(entry)
            self._note_progress()
            raise

    def _let_in(self) -> None:
        while self._wanting_room and self._has_room_for(self._wanting_room[0][0]):
            entry, room = self._wanting_room.popleft()
            if not room.done():
                self._queue.add(entry)
                room.set_result(None)

    async def _sweep(self) -> None:
        """Gives up what has waited for too long."""
        while True:
            await self._clock.sleep(_SWEEP)
            now = self._clock.now()
            self._queue.purge()
            under_way = [entry for entries in (*self._under_way, *self._later) for entry in entries]
            for entry in (*self._queue.waiting(), *under_way):
                if _is_overdue(entry, now) and not entry.answer.done():
                    self._queue.give_up(entry)
                    entry.answer.set_exception(self._timed_out(entry))
            for entry, room in self._wanting_room:
                if _is_overdue(entry, now) and not room.done():
                    room.set_exception(self._timed_out(entry))
            self._note_progress()

    def _timed_out(self, entry: Entry) -> CertesError:
        return timed_out(f"Event {entry.id!r}", self.trouble)


def timed_out(what: str, trouble: CertesError | None) -> CertesError:
    """Makes the error of something that was not answered in time, with what stood in its way the last time."""
    last = f" The last trouble was: {trouble}" if trouble else ""
    return CertesError(
        "DEADLINE_EXCEEDED",
        "TIMED_OUT",
        f"{what} was not answered in time. Whether it was stored is not known.{last}",
        hint="Publish it again with the same id.",
        metadata={"last_reason": trouble.reason} if trouble else None,
    )


def closed() -> CertesError:
    """Makes the error of what is called after `close`."""
    return failed_precondition("CLIENT_CLOSED", "The client was closed.")


def _too_large(entry: Entry) -> CertesError:
    return invalid(
        "EVENT_TOO_LARGE",
        f"Event {entry.id!r} has {entry.size} bytes; a request has at most {MAXIMUM_EVENT_BYTES}.",
        limit=str(MAXIMUM_EVENT_BYTES),
    )


def _is_overdue(entry: Entry, now: float) -> bool:
    """Says whether a call has waited for too long. Its time is counted from when it is first seen here, a second late at most."""
    entry.deadline = entry.deadline or now + PATIENCE
    return entry.deadline <= now


def _tell(entries: list[Entry], error: CertesError) -> None:
    for entry in entries:
        if not entry.answer.done():
            # An error of its own for each: it is raised with the way of its caller.
            entry.answer.set_exception(copy(error))
