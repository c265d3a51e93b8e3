"""The members and the post of the reference engine: several engines of one process on one store."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Final, TypeVar

from certes_broker.domain.errors import CertesError, Internal, Reason
from certes_broker.ports.cluster import Handler, Lost, MemberId, NoResponder

T = TypeVar("T")

WINDOW: Final = 16
"""How many frames of a stream may wait."""


class Brokers:
    """The members on one store, and those of them that answer."""

    def __init__(self) -> None:
        self.living: frozenset[MemberId] = frozenset()
        self.desks: dict[MemberId, _Desk] = {}
        self._changes: list[asyncio.Event] = []

    def join(self) -> MemberId:
        """Adds a member."""
        member = MemberId(secrets.token_hex(8))
        self._become(self.living | {member})
        return member

    def end(self, member: MemberId) -> None:
        """Ends a member, whether it knows or not."""
        self._become(self.living - {member})

    async def watch(self) -> AsyncIterator[frozenset[MemberId]]:
        """Yields the living, and again when they have changed."""
        changed = asyncio.Event()
        self._changes.append(changed)
        try:
            seen: frozenset[MemberId] | None = None
            while True:
                changed.clear()
                if seen != self.living:
                    seen = self.living
                    yield seen
                else:
                    await changed.wait()
        finally:
            self._changes.remove(changed)

    def _become(self, living: frozenset[MemberId]) -> None:
        self.living = living
        for changed in self._changes:
            changed.set()


class MemoryMembers:
    """The members as one of them sees them."""

    is_shared: Final = True

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._stands_still = False
        self.own: Final = brokers.join()

    @property
    def living(self) -> frozenset[MemberId]:
        return self._brokers.living

    def is_current(self) -> bool:
        return not self._stands_still and self.own in self._brokers.living

    async def has_ended(self, member: MemberId) -> bool:
        return member not in self._brokers.living

    def watch(self) -> AsyncIterator[frozenset[MemberId]]:
        return self._brokers.watch()

    def stand_still(self) -> None:
        """Makes this member not current, as one is that renews itself no more."""
        self._stands_still = True

    def go_on(self) -> None:
        """Makes it current again, unless it has ended."""
        self._stands_still = False

    def end(self) -> None:
        """Ends this member."""
        self._brokers.end(self.own)


class MemoryPost:
    """The post as calls."""

    def __init__(self, brokers: Brokers, own: MemberId) -> None:
        self._brokers = brokers
        self._own = own

    @asynccontextmanager
    async def serve(self, handler: Handler) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            desk = self._brokers.desks[self._own] = _Desk(handler, tasks)
            try:
                yield
            finally:
                del self._brokers.desks[self._own]
                desk.clear()

    async def ask(self, member: MemberId, name: str, body: bytes, within: float) -> bytes:
        desk = self._desk(member)
        task = desk.begin(_outcome(desk.handler.answer(name, body)))
        await asyncio.wait([task], timeout=within)
        if not task.done() or task.cancelled():
            raise Lost(f"{member} did not answer.")
        answer = task.result()
        if isinstance(answer, CertesError):
            raise answer
        return answer

    async def stream(self, member: MemberId, name: str, body: bytes) -> AsyncGenerator[bytes]:
        desk = self._desk(member)
        frames: asyncio.Queue[bytes] = asyncio.Queue(WINDOW)
        changed = asyncio.Event()
        task = desk.begin(_outcome(_pass_on(desk.handler.stream(name, body), frames, changed)))
        task.add_done_callback(lambda _: changed.set())
        try:
            while not (task.done() and frames.empty()):
                if frames.empty():
                    changed.clear()
                    await changed.wait()
                else:
                    yield frames.get_nowait()
        finally:
            task.cancel()
        if task.cancelled():
            raise Lost(f"{member} broke off.")
        if isinstance(failure := task.result(), CertesError):
            raise failure

    def _desk(self, member: MemberId) -> _Desk:
        desk = self._brokers.desks.get(member)
        if desk is None:
            raise NoResponder(f"{member} does not serve.")
        return desk


class _Desk:
    """Where a member answers."""

    def __init__(self, handler: Handler, tasks: asyncio.TaskGroup) -> None:
        self.handler = handler
        self._tasks = tasks
        self._under_way: set[asyncio.Task[object]] = set()

    def begin(self, call: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = self._tasks.create_task(call, name="post")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def clear(self) -> None:
        for task in self._under_way:
            task.cancel()


async def _pass_on(answer: AsyncGenerator[bytes], frames: asyncio.Queue[bytes], changed: asyncio.Event) -> None:
    async with aclosing(answer):
        async for frame in answer:
            await frames.put(frame)
            changed.set()


async def _outcome(call: Coroutine[None, None, T]) -> T | CertesError:
    """Returns what a call raises: it is to be raised where it was asked, and not here."""
    try:
        return await call
    except CertesError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a fault of the handler's fails what asked, not the broker
        return Internal(Reason.INTERNAL, f"Another broker failed to answer: {error!r}.")
