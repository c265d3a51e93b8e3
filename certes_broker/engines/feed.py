"""Feeds: what was committed, handed on to readers as it comes.

Rules
-----
* A feed is opened synchronously: it yields everything published after `Feeds.open` returned, in order, once.
* Feeds are bounded by weight. Nothing is dropped: while a feed is full, `has_room` is false and the engine starts no
  write that would add to it. So a feed goes over its bound by one publication at most.
* A feed that is closed, or let go of without closing, holds nothing back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Feeds(Generic[T]):
    """The readers of one kind of publication.

    `limit` bounds the weight that may wait in each feed. `freed` is called when a feed that was full has room again.
    """

    def __init__(self, limit: int, freed: Callable[[], None] = lambda: None) -> None:
        self._limit = limit
        self._freed = freed
        self._outlets: list[_Outlet[T]] = []
        self._room = asyncio.Event()
        self._closed = False

    def open(self, wants: Callable[[T], bool] = lambda _: True) -> Feed[T]:
        """Opens a feed of the publications that it `wants`."""
        outlet = _Outlet(wants, self._note_change)
        outlet.closed = self._closed
        if not self._closed:
            self._outlets.append(outlet)
        return Feed(outlet)

    def publish(self, item: T, weight: int = 1) -> None:
        """Hands an item to every feed that wants it."""
        for outlet in self._outlets:
            if outlet.wants(item):
                outlet.put(item, weight)

    @property
    def has_room(self) -> bool:
        """Whether no feed is full."""
        return all(outlet.weight < self._limit for outlet in self._outlets)

    async def room(self) -> None:
        """Waits until no feed is full."""
        while not self.has_room:
            self._room.clear()
            await self._room.wait()

    def close(self) -> None:
        """Ends every feed after what waits in it, and holds nothing back any more."""
        self._closed = True
        for outlet in list(self._outlets):
            outlet.close()

    def _note_change(self, outlet: _Outlet[T]) -> None:
        if outlet.closed and outlet in self._outlets:
            self._outlets.remove(outlet)
        if self.has_room:
            self._room.set()
            self._freed()


class Feed(AsyncIterator[T]):
    """One reader's end. An asynchronous iterator that may also be closed."""

    def __init__(self, outlet: _Outlet[T]) -> None:
        self._outlet = outlet

    async def __anext__(self) -> T:
        return await self._outlet.get()

    async def aclose(self) -> None:
        """Ends the feed at once."""
        self._outlet.items.clear()
        self._outlet.close()

    def __del__(self) -> None:
        self._outlet.close()


class _Outlet(Generic[T]):
    def __init__(self, wants: Callable[[T], bool], changed: Callable[[_Outlet[T]], None]) -> None:
        self.wants = wants
        self.items: deque[tuple[T, int]] = deque()
        self.weight = 0
        self.closed = False
        self._changed = changed
        self._filled = asyncio.Event()

    def put(self, item: T, weight: int) -> None:
        self.items.append((item, weight))
        self.weight += weight
        self._filled.set()

    async def get(self) -> T:
        while not self.items:
            if self.closed:
                raise StopAsyncIteration
            self._filled.clear()
            await self._filled.wait()
        item, weight = self.items.popleft()
        self.weight -= weight
        self._changed(self)
        return item

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._filled.set()
            self._changed(self)
