"""The one writer: everything that waits is written in one transaction, and then what has come to wait meanwhile.

Rules
-----
* A group is whatever waits when the writer is free, up to a bound. A lone write waits for nothing.
* A group is one transaction and one hop to the connection's thread. It is durable before any of its writes is answered.
* Writes are of kinds. A kind gets all its waiting requests at once, so that it can write them together. It finds out
  which requests are at fault by reading, before it writes for them, so a refused request leaves the others alone.
* If the transaction fails, every write of the group is answered `Unavailable`, the connection is replaced, and the kinds
  read again what they know.
* A write whose caller was cancelled may still be made.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from certes_broker.domain.errors import CertesError, Exhausted, Internal, Reason, Unavailable
from certes_broker.engines.sqlite.connection import Connection

R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

GROUP_BYTES: Final = 8 << 20
"""A group takes no more writes of a kind once it has this many bytes of them."""
COMMIT_BYTES: Final = 16 * 4096
"""What a commit adds to the write-ahead log beside its writes' own bytes, as an estimate."""
RETRY_SECONDS: Final = 0.25
"""When to try again after a refusal: the buffer is worth a few commits."""


class Kind(Protocol[R_contra, T_co]):
    """A kind of write. `load` and `apply` run in the writer's thread, the rest in the loop; never both at once."""

    def load(self, db: sqlite3.Connection) -> None:
        """Reads what the kind keeps in mind between groups. Called at the start and after a failure."""

    def apply(self, db: sqlite3.Connection, requests: Sequence[R_contra]) -> Sequence[T_co | CertesError]:
        """Makes writes, inside the group's transaction, and returns what became of each, in order."""

    def announce(self) -> None:
        """Hands on what was committed."""

    @property
    def ready(self) -> bool:
        """Whether writes of this kind may be made now."""


class Bound(NamedTuple):
    """How much may wait: bytes and writes. With `refuses`, more is refused; else it waits for room."""

    bytes: int
    writes: int
    refuses: bool


class _Write(NamedTuple):
    request: Any
    size: int
    done: asyncio.Future[Any]


_Group = Sequence[tuple[Kind[Any, Any], Sequence[_Write]]]
_Parts = Sequence[tuple[Kind[Any, Any], Sequence[Any]]]


class WriteQueue(Generic[R, T]):
    """The writes of one kind that wait for the writer."""

    def __init__(self, kind: Kind[R, T], bound: Bound, wake: Callable[[], None]) -> None:
        self.kind = kind
        self._bound = bound
        self._wake = wake
        self._writes: deque[_Write] = deque()
        self._bytes = 0
        self._room = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._writes)

    @property
    def ready(self) -> bool:
        """Whether something waits that may be written now."""
        return bool(self._writes) and self.kind.ready

    async def submit(self, request: R, size: int) -> T:
        """Waits until a request is committed and returns what came of it. `size` is its bytes in the log, roughly."""
        while self._is_full:
            if self._bound.refuses:
                raise self._refusal()
            self._room.clear()
            await self._room.wait()
        if self._closed:
            raise _closed()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._writes.append(_Write(request, size, done))
        self._bytes += size
        self._wake()
        return await done

    def take(self) -> list[_Write]:
        """Takes what the next group writes."""
        taken: list[_Write] = []
        size = 0
        while self._writes and size < GROUP_BYTES:
            write = self._writes.popleft()
            self._bytes -= write.size
            if not write.done.cancelled():
                taken.append(write)
                size += write.size
        self._room.set()
        return taken

    def close(self) -> None:
        """Takes no more requests."""
        self._closed = True
        self._room.set()

    def abandon(self) -> None:
        """Answers what waits that it will not be written."""
        for write in self._writes:
            _answer(write.done, _closed())
        self._writes.clear()

    @property
    def _is_full(self) -> bool:
        full = self._bytes >= self._bound.bytes or len(self._writes) >= self._bound.writes
        return full and not self._closed

    def _refusal(self) -> Exhausted:
        return Exhausted(
            Reason.BUFFER_FULL,
            f"{len(self._writes)} appends of {self._bytes} bytes wait for the disk already; the bounds are"
            f" {self._bound.writes} and {self._bound.bytes}.",
            hint="Send again after a while, or send less at once.",
            metadata={"limit": str(self._bound.writes), "limit_bytes": str(self._bound.bytes)},
            retry_after=RETRY_SECONDS,
        )


class Writer:
    """Commits what waits in its queues. `connect` opens a connection; `log_limit` bounds the write-ahead log, in bytes."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], log_limit: int) -> None:
        self._connect = connect
        self._log_limit = log_limit
        self._queues: list[WriteQueue[Any, Any]] = []
        self._connection: Connection | None = None
        self._work = asyncio.Event()
        self._turn = asyncio.Lock()
        self._closing = False
        self.log_bytes = 0
        """An estimate of what the write-ahead log holds; the checkpointer corrects it."""
        self.log_filled = asyncio.Event()
        """Set when the log has reached a quarter of its limit."""

    def queue(self, kind: Kind[R, T], bound: Bound) -> WriteQueue[R, T]:
        """Adds a queue for a kind of write. Groups write the kinds in the order in which they were added."""
        queue = WriteQueue(kind, bound, self.wake)
        self._queues.append(queue)
        return queue

    @property
    def waiting(self) -> int:
        """How many writes wait for a group."""
        return sum(map(len, self._queues))

    def wake(self) -> None:
        """Lets the writer look again at what is ready."""
        self._work.set()

    async def open(self) -> None:
        """Opens the connection and lets the kinds read what they keep in mind."""
        connection = await self._connect()
        self._connection = connection
        await connection.run(self._load)

    async def run(self) -> None:
        """Commits groups until `close` was called and nothing waits."""
        try:
            while True:
                ready = [queue for queue in self._queues if queue.ready]
                if ready and (self.log_bytes < self._log_limit or self._closing):
                    async with self._turn:
                        await self._commit([(queue.kind, queue.take()) for queue in ready])
                elif self._closing and not ready:
                    return
                else:
                    self._work.clear()
                    await self._work.wait()
        finally:
            self.close()
            for queue in self._queues:
                queue.abandon()

    def close(self) -> None:
        """Lets `run` commit what waits, and end."""
        self._closing = True
        for queue in self._queues:
            queue.close()
        self.wake()

    async def disconnect(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Lets no group begin while the block runs."""
        async with self._turn:
            yield

    async def _commit(self, group: _Group) -> None:
        outcomes = await self._written([(kind, [write.request for write in writes]) for kind, writes in group])
        if isinstance(outcomes, CertesError):
            with suppress(CertesError, sqlite3.Error):  # The connection is given up either way, with the transaction.
                await self.disconnect()
            for _, writes in group:
                for write in writes:
                    _answer(write.done, _copy(outcomes))
            return
        self.log_bytes += COMMIT_BYTES + sum(write.size for _, writes in group for write in writes)
        if self.log_bytes >= self._log_limit // 4:
            self.log_filled.set()
        for (kind, writes), results in zip(group, outcomes, strict=True):
            kind.announce()
            for write, result in zip(writes, results, strict=True):
                _answer(write.done, result)

    async def _written(self, parts: _Parts) -> Sequence[Sequence[Any]] | CertesError:
        """Writes a group and returns what became of each write, or why none was written."""
        try:
            if self._connection is None:
                await self.open()
            assert self._connection is not None  # `open` has set it
            return await self._connection.run(lambda db: _commit(db, parts))
        except CertesError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a fault of the engine's own fails its group, not the broker
            return Internal(Reason.INTERNAL, f"The engine failed to write: {error!r}.")

    def _load(self, db: sqlite3.Connection) -> None:
        for queue in self._queues:
            queue.kind.load(db)


def _commit(db: sqlite3.Connection, parts: _Parts) -> Sequence[Sequence[Any]]:
    db.execute("BEGIN IMMEDIATE")
    outcomes = [kind.apply(db, requests) for kind, requests in parts]
    db.execute("COMMIT")
    return outcomes


def _closed() -> Unavailable:
    return Unavailable(Reason.STORAGE_UNAVAILABLE, "The engine is closed.")


def _copy(error: CertesError) -> CertesError:
    """Returns an equal error: one exception raised in several tasks would gather all their tracebacks."""
    return type(error)(
        error.reason, error.message, metadata=error.metadata, hint=error.hint, retry_after=error.retry_after
    )


def _answer(done: asyncio.Future[Any], result: Any) -> None:
    if done.done():
        return
    if isinstance(result, CertesError):
        done.set_exception(result)
    else:
        done.set_result(result)
