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
from collections.abc import Awaitable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any, Final, Protocol

from certes_sdk import tracing
from certes_sdk.background import Background
from certes_sdk.errors import CertesError, failed_precondition
from certes_sdk.handlers import Handlers, Registered
from certes_sdk.raw_event import RawEvent

FAIR_SHARE: Final = 64
"""Events that a worker handles before others of the event loop have their turn."""

_log: Final = logging.getLogger("certes")


class Job(Protocol):
    """An event that is to be handled, and where its outcome is told."""

    raw: RawEvent

    def done(self) -> None:
        """Notes that its handlers have returned."""

    def failed(self, error: CertesError) -> None:
        """Notes that one has not, or that there is none."""

    def dropped(self) -> None:
        """Notes that it will not be begun, for the client is closed."""

    def belongs_to(self, owner: object) -> bool:
        """Says whether it is of no use once its owner has gone."""


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

    def put(self, jobs: Sequence[Job]) -> None:
        """Queues events. The caller bounds how many."""
        if not self._closing:
            self._queue.extend(jobs)
            self._wake()

    def drop(self, owner: object) -> None:
        """Takes those out of the queue whose owner has gone."""
        kept = [job for job in self._queue if not job.belongs_to(owner)]
        self._queue.clear()
        self._queue.extend(kept)

    def handles(self, event_type: str) -> bool:
        """Says whether anybody handles an event type."""
        return bool(self._handlers.of(event_type))

    async def run(self, raw: RawEvent) -> None:
        """Handles one event in its turn. Raises `NO_HANDLER`, `HANDLER_FAILED`, `CLIENT_CLOSED`."""
        job = _AwaitedJob(raw)
        if self._closing:
            job.dropped()
        self.put([job])
        # If whoever waits goes away, the handler runs on.
        await asyncio.shield(job.outcome)

    async def drain(self) -> None:
        """Begins nothing more, and returns when what runs has ended."""
        self._closing = True
        while self._queue:
            self._queue.popleft().dropped()
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
            self._background.add(self._work(), "handler")

    async def _work(self) -> None:
        queue = self._queue
        loop = asyncio.get_running_loop()
        share = 0
        while True:
            while queue:
                await self._handle(queue.popleft())
                share += 1
                if share >= FAIR_SHARE:
                    share = 0
                    await asyncio.sleep(0)
            parked = loop.create_future()
            self._parked.append(parked)
            await parked

    async def _handle(self, job: Job) -> None:
        raw = job.raw
        context = Context()
        try:
            registered = self._handlers.of(raw.type)
            if not registered:
                raise no_handler(raw)
            if raw.traceparent:
                tracing.continue_in(context, raw.traceparent, raw.tracestate)
            for handler in registered:
                if handler.is_async:
                    coroutine: Any = handler.call(raw)
                    try:
                        waits_for = context.run(coroutine.send, None)
                    except StopIteration:
                        continue
                    await self._beside_others(_Rest(coroutine, context, waits_for))
                else:
                    await self._beside_others(self._in_thread(handler, raw, context))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises
            job.failed(failure(raw, error))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            job.failed(failure(raw, RuntimeError("the handler was cancelled")))
        else:
            job.done()

    async def _beside_others(self, rest: Awaitable[None]) -> None:
        """Waits for what is left of a handler, while other workers go on with the queue."""
        self._running += 1
        self._idle.clear()
        self._wake()
        try:
            await rest
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _in_thread(self, handler: Registered, raw: RawEvent, context: Context) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._concurrency, "certes")
        loop = asyncio.get_running_loop()
        outcome = await loop.run_in_executor(self._threads, context.run, handler.call, raw)
        if inspect.isawaitable(outcome):
            # A function that returns a coroutine, which nobody can tell from one that does not.
            await outcome


def no_handler(raw: RawEvent) -> CertesError:
    """Makes the error of an event that nobody handles."""
    return CertesError(
        "UNIMPLEMENTED",
        "NO_HANDLER",
        f"Nobody handles events of {raw.type}.",
        hint=f"Register a handler with on({raw.type!r}), or do not subscribe to it.",
        metadata={"type": raw.type},
    )


def failure(raw: RawEvent, error: Exception) -> CertesError:
    """Makes the error of an event whose handler raised, and says so in the log, once."""
    if isinstance(error, CertesError) and error.reason == "NO_HANDLER":
        _log.warning("Event %s: %s", raw.id, error)
        return error
    text = str(error) if isinstance(error, CertesError) else "".join(traceback.format_exception_only(error)).strip()
    _log.warning("A handler of event %s of %s failed: %s", raw.id, raw.type, text, exc_info=error)
    return CertesError("INTERNAL", "HANDLER_FAILED", text, metadata={"type": raw.type})


class _AwaitedJob:
    """An event whose outcome somebody waits for."""

    __slots__ = ("outcome", "raw")

    def __init__(self, raw: RawEvent) -> None:
        self.raw = raw
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(self) -> None:
        if not self.outcome.done():
            self.outcome.set_result(None)

    def failed(self, error: CertesError) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
            # Nobody may be there any more to ask.
            self.outcome.exception()

    def dropped(self) -> None:
        self.failed(failed_precondition("CLIENT_CLOSED", "The client was closed."))

    def belongs_to(self, owner: object) -> bool:
        return False


class _Rest:
    """What is left of a coroutine that was driven up to where it waits for the first time."""

    __slots__ = ("_context", "_coroutine", "_waits_for")

    def __init__(self, coroutine: Any, context: Context, waits_for: Any) -> None:
        self._coroutine = coroutine
        self._context = context
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for, coroutine, run = self._waits_for, self._coroutine, self._context.run
        try:
            while True:
                try:
                    answer = yield waits_for
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - among them its cancellation, which is the coroutine's to see
                    waits_for = run(coroutine.throw, error)
                else:
                    waits_for = run(coroutine.send, answer)
        except StopIteration:
            return
