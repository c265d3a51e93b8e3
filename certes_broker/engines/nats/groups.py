"""Group commit: whatever waits when the last write is answered becomes the next one.

Rules
-----
* A lone request waits for nothing. While a write is under way, what comes gathers, up to a bound.
* Requests of a queue are written in the order in which they came.
* A request whose caller was cancelled may still be made.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from certes_broker.domain.errors import CertesError, Exhausted, Internal, Reason, Unavailable

R = TypeVar("R")
T = TypeVar("T")

GROUP_BYTES: Final = 4 << 20
GROUP_REQUESTS: Final = 4096
RETRY_SECONDS: Final = 0.25


class Bound(NamedTuple):
    """How much may wait: bytes and requests. With `refuses`, more is refused; else it waits for room."""

    bytes: int
    requests: int
    refuses: bool


class _Waiting(NamedTuple, Generic[R, T]):
    request: R
    size: int
    done: asyncio.Future[T]


class Groups(Generic[R, T]):
    """A queue of requests and what writes them, many together. `write` returns what became of each, in order."""

    def __init__(
        self,
        write: Callable[[Sequence[R]], Awaitable[Sequence[T | CertesError]]],
        bound: Bound,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._write = write
        self._bound = bound
        self._ready = ready
        self._waiting: deque[_Waiting[R, T]] = deque()
        self._bytes = 0
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._closing = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def submit(self, request: R, size: int) -> T:
        """Waits until a request is written and returns what came of it."""
        while self._is_full:
            if self._bound.refuses:
                raise self._refusal()
            self._room.clear()
            await self._room.wait()
        if self._closing:
            raise _closed()
        return await self._add(request, size)

    def post(self, request: R, size: int) -> None:
        """Adds a request without asking for room, or for what comes of it."""
        if not self._closing:
            self._add(request, size).add_done_callback(lambda done: done.cancelled() or done.exception())

    def _add(self, request: R, size: int) -> asyncio.Future[T]:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(request, size, done))
        self._bytes += size
        self._work.set()
        return done

    def wake(self) -> None:
        """Lets it look again at whether it may write."""
        self._work.set()

    def close(self) -> None:
        """Takes no more, and lets `run` write what waits, and end."""
        self._closing = True
        self._work.set()
        self._room.set()

    async def run(self) -> None:
        """Writes until `close` was called and nothing waits."""
        try:
            while self._waiting or not self._closing:
                if self._waiting and (self._ready() or self._closing):
                    await self._write_group(self._take())
                else:
                    self._work.clear()
                    await self._work.wait()
        finally:
            self.close()
            for waiting in self._waiting:
                _answer(waiting.done, _closed())
            self._waiting.clear()

    def _take(self) -> Sequence[_Waiting[R, T]]:
        taken: list[_Waiting[R, T]] = []
        size = 0
        while self._waiting and size < GROUP_BYTES and len(taken) < GROUP_REQUESTS:
            waiting = self._waiting.popleft()
            self._bytes -= waiting.size
            if not waiting.done.cancelled():
                taken.append(waiting)
                size += waiting.size
        self._room.set()
        return taken

    async def _write_group(self, group: Sequence[_Waiting[R, T]]) -> None:
        outcomes: Sequence[T | CertesError]
        try:
            outcomes = await self._write([waiting.request for waiting in group])
        except CertesError as error:
            outcomes = [_copy(error) for _ in group]
        except Exception as error:  # noqa: BLE001 - a fault of the engine's own fails its group, not the broker
            outcomes = [Internal(Reason.INTERNAL, f"The engine failed to write: {error!r}.") for _ in group]
        except BaseException:
            # The engine ends; nobody is to wait for what may be written or not.
            for waiting in group:
                _answer(waiting.done, _closed())
            raise
        for waiting, outcome in zip(group, outcomes, strict=True):
            _answer(waiting.done, outcome)

    @property
    def _is_full(self) -> bool:
        full = self._bytes >= self._bound.bytes or len(self._waiting) >= self._bound.requests
        return full and not self._closing

    def _refusal(self) -> Exhausted:
        return Exhausted(
            Reason.BUFFER_FULL,
            f"{len(self._waiting)} appends of {self._bytes} bytes wait to be stored already; the bounds are"
            f" {self._bound.requests} and {self._bound.bytes}.",
            hint="Send again after a while, or send less at once.",
            metadata={"limit": str(self._bound.requests), "limit_bytes": str(self._bound.bytes)},
            retry_after=RETRY_SECONDS,
        )


def _closed() -> Unavailable:
    return Unavailable(Reason.STORAGE_UNAVAILABLE, "The engine is closed.")


def _copy(error: CertesError) -> CertesError:
    """Returns an equal error: one exception raised in several tasks would gather all their tracebacks."""
    return type(error)(
        error.reason, error.message, metadata=error.metadata, hint=error.hint, retry_after=error.retry_after
    )


def _answer(done: asyncio.Future[T], outcome: T | CertesError) -> None:
    if done.done():
        return
    if isinstance(outcome, CertesError):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
