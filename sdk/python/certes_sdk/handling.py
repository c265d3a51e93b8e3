"""Runs handlers: a bounded number at once, each in a context of its own.

Theory of operation
-------------------
A task for each event costs more than most handlers do. So there are workers, each a task that handles one event after another
from a queue. Most handlers of most events never wait for anything; a worker drives the handler's coroutine itself, and only when
that waits for the first time does it wake another worker to go on with the queue. A handler that does not wait costs one
call and no turn of the event loop; handlers that wait run beside each other, up to `concurrency`.

Each event has a copy of an empty context, in which every step of its handlers runs: what one sets, no other sees. A plain function runs in
a thread, where it may block.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any, Final, Protocol

from certes.v1.delivery_pb2 import Delivery
from certes_sdk import tracing
from certes_sdk.background import Background
from certes_sdk.connection import is_cancelled
from certes_sdk.errors import CertesError, failed_precondition
from certes_sdk.handlers import Handlers, Registered
from certes_sdk.raw_event import RawEvent

FAIR_SHARE: Final = 64
"""Events that a worker handles before others of the event loop have their turn."""

_NO_DELIVERY: Final = Delivery()
_log: Final = logging.getLogger("certes")


class Origin(Protocol):
    """Where deliveries come from, and where their outcome is told."""

    def event(self, delivery: Delivery) -> RawEvent:
        """Returns a delivery's event, as handlers get it."""

    def done(self, ordinal: int, raw: RawEvent) -> None:
        """Notes that the handlers of a delivery have returned."""

    def failed(self, ordinal: int, error: CertesError) -> None:
        """Notes that one has not, or that there is none."""

    def dropped(self, ordinal: int) -> None:
        """Notes that a delivery will not be begun, for the client is closed."""


Job = tuple[Origin, int, Delivery]
"""A delivery that is to be handled, and its ordinal."""


class Handling:
    """The workers of one client in one loop."""

    def __init__(self, handlers: Handlers, concurrency: int, background: Background) -> None:
        self._handlers = handlers
        self._concurrency = concurrency
        self._background = background
        self._threads: ThreadPoolExecutor | None = None
        self._queue: deque[Job] = deque()
        self._workers = 0
        self._parked: list[asyncio.Future[None]] = []
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    def put(self, jobs: Iterable[Job]) -> None:
        """Queues events. The caller bounds how many."""
        if not self._closing:
            self._queue.extend(jobs)
            self._wake()

    def drop(self, origin: Origin) -> None:
        """Takes out of the queue what came from where nobody wants to hear of it any more."""
        kept = [job for job in self._queue if job[0] is not origin]
        self._queue.clear()
        self._queue.extend(kept)

    def handles(self, event_type: str) -> bool:
        """Says whether anybody handles an event type."""
        return bool(self._handlers.of(event_type))

    async def run(self, raw: RawEvent) -> None:
        """Handles one event in its turn. Raises `NO_HANDLER`, `HANDLER_FAILED`, `CLIENT_CLOSED`."""
        caller = _Caller(raw)
        if self._closing:
            caller.dropped(0)
        self.put([(caller, 0, _NO_DELIVERY)])
        # If whoever waits goes away, the handler runs on.
        await asyncio.shield(caller.outcome)

    async def drain(self) -> None:
        """Begins nothing more, and returns when what runs has ended."""
        self._closing = True
        while self._queue:
            origin, ordinal, _ = self._queue.popleft()
            origin.dropped(ordinal)
        await self._idle.wait()

    def close(self) -> None:
        """Lets go of the threads. What runs in one runs on."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _wake(self) -> None:
        if not self._queue:
            return
        while self._parked:
            parked = self._parked.pop()
            if not parked.done():
                parked.set_result(None)
                return
        if self._workers < self._concurrency:
            self._workers += 1
            self._background.add(self._work, "handler")

    async def _work(self) -> None:
        queue = self._queue
        loop = asyncio.get_running_loop()
        share = 0
        while True:
            while queue:
                rest = self._handle(queue.popleft())
                if rest is not None:
                    await rest
                share += 1
                if share >= FAIR_SHARE:
                    share = 0
                    await asyncio.sleep(0)
            parked = loop.create_future()
            self._parked.append(parked)
            await parked

    def _handle(self, job: Job) -> Coroutine[Any, Any, None] | None:
        """Handles an event as far as that goes without waiting; returns what is left."""
        origin, ordinal, delivery = job
        raw = origin.event(delivery)
        context = Context()
        try:
            registered = self._handlers.of(raw.type)
            if not registered:
                raise _no_handler(raw)
            if tracing.is_present() and raw.traceparent:
                tracing.continue_in(context, raw.traceparent, raw.tracestate)
            for index, handler in enumerate(registered):
                if not handler.is_async:
                    return self._finish(
                        job, raw, context, self._in_thread(handler, raw, context), registered[index + 1 :]
                    )
                coroutine: Any = handler.call(raw)
                try:
                    waits_for = context.run(coroutine.send, None)
                except StopIteration:
                    continue
                rest = _Rest(coroutine, context, waits_for)
                return self._finish(job, raw, context, rest, registered[index + 1 :])
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever a handler raises
            origin.failed(ordinal, _failure(raw, error))
            return None
        origin.done(ordinal, raw)
        return None

    async def _finish(
        self, job: Job, raw: RawEvent, context: Context, rest: Awaitable[None], others: Sequence[Registered]
    ) -> None:
        """Handles what is left of an event: a handler that waits, and those after it."""
        origin, ordinal, _ = job
        self._running += 1
        self._idle.clear()
        # Another worker goes on with the queue.
        self._wake()
        try:
            await rest
            for handler in others:
                if handler.is_async:
                    await _Rest(handler.call(raw), context, None, begun=False)
                else:
                    await self._in_thread(handler, raw, context)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises
            origin.failed(ordinal, _failure(raw, error))
        except asyncio.CancelledError as error:
            if is_cancelled():
                origin.dropped(ordinal)
                raise
            origin.failed(ordinal, _failure(raw, error))
        else:
            origin.done(ordinal, raw)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _in_thread(self, handler: Registered, raw: RawEvent, context: Context) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._concurrency, "certes")
        loop = asyncio.get_running_loop()
        outcome, error = await loop.run_in_executor(self._threads, context.run, _called, handler.call, raw)
        if error is not None:
            raise error if isinstance(error, Exception) and not isinstance(error, StopIteration) else _escaped(error)
        if inspect.iscoroutine(outcome):
            # A function that returns a coroutine, which nobody can tell from one that does not.
            await _Rest(outcome, context, None, begun=False)


def _called(call: Callable[[RawEvent], object], raw: RawEvent) -> tuple[object, BaseException | None]:
    """Calls a plain function, and returns what it returns or raises: not everything that is raised can be told by a future."""
    try:
        return call(raw), None
    except BaseException as error:  # noqa: BLE001 - also what would end the program, which is not this thread's to end
        return None, error


def _escaped(error: BaseException) -> RuntimeError:
    escaped = RuntimeError("".join(traceback.format_exception_only(error)).strip())
    escaped.__cause__ = error
    return escaped


def _no_handler(raw: RawEvent) -> CertesError:
    """Makes the error of an event that nobody handles."""
    return CertesError(
        "UNIMPLEMENTED",
        "NO_HANDLER",
        f"Nobody handles events of {raw.type}.",
        hint=f"Register a handler with on({raw.type!r}), or do not subscribe to it.",
        metadata={"type": raw.type},
    )


def _failure(raw: RawEvent, error: BaseException) -> CertesError:
    """Makes the error of an event whose handler raised, and says so in the log, once."""
    if isinstance(error, CertesError) and error.reason == "NO_HANDLER":
        _log.warning("Event %s: %s", raw.id, error)
        return error
    text = str(error) if isinstance(error, CertesError) else "".join(traceback.format_exception_only(error)).strip()
    _log.warning("A handler of event %s of %s failed: %s", raw.id, raw.type, text, exc_info=error)
    return CertesError("INTERNAL", "HANDLER_FAILED", text, metadata={"type": raw.type})


class _Caller:
    """Somebody who waits for the outcome of one event."""

    __slots__ = ("_raw", "outcome")

    def __init__(self, raw: RawEvent) -> None:
        self._raw = raw
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def event(self, delivery: Delivery) -> RawEvent:
        return self._raw

    def done(self, ordinal: int, raw: RawEvent) -> None:
        if not self.outcome.done():
            self.outcome.set_result(None)

    def failed(self, ordinal: int, error: CertesError) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
            # Nobody may be there any more to ask.
            self.outcome.exception()

    def dropped(self, ordinal: int) -> None:
        self.failed(ordinal, failed_precondition("CLIENT_CLOSED", "The client was closed."))


class _Rest:
    """What is left of a coroutine that was driven up to where it waits for the first time, or that was not begun."""

    __slots__ = ("_begun", "_context", "_coroutine", "_waits_for")

    def __init__(self, coroutine: Any, context: Context, waits_for: Any, *, begun: bool = True) -> None:
        self._coroutine = coroutine
        self._context = context
        self._waits_for = waits_for
        self._begun = begun

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, run = self._coroutine, self._context.run
        try:
            waits_for = self._waits_for if self._begun else run(coroutine.send, None)
            while True:
                try:
                    answer = yield waits_for
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - its cancellation too, which is the coroutine's to see
                    waits_for = run(coroutine.throw, error)
                else:
                    waits_for = run(coroutine.send, answer)
        except StopIteration:
            return
