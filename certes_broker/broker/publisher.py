"""The publisher: takes validated events into the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from certes_broker.broker.space import Space
from certes_broker.domain.errors import Exhausted, Reason, Unavailable
from certes_broker.domain.events import AcceptedEvent, Position
from certes_broker.ports.engine import Appended, Journal


class Receipt(NamedTuple):
    """What became of one event. `duplicate` says that it had been stored before, at `position`."""

    position: Position
    id: str
    duplicate: bool


class Receipts:
    """What became of the events of one request, in their order. A receipt is made when it is asked for: most who publish only count."""

    __slots__ = ("_appended", "_ids")

    def __init__(self, events: Sequence[AcceptedEvent], appended: Sequence[Appended]) -> None:
        # Not the events: they would stay in memory until the answer is read.
        self._ids = [event.id for event in events]
        self._appended = appended

    def __len__(self) -> int:
        return len(self._appended)

    def __iter__(self) -> Iterator[Receipt]:
        for event_id, at in zip(self._ids, self._appended, strict=True):
            yield Receipt(at.position, event_id, at.duplicate)

    @property
    def positions(self) -> list[Position]:
        """Where the events are stored."""
        return [at.position for at in self._appended]

    @property
    def duplicates(self) -> int:
        """How many of them had been stored before."""
        return sum([at.duplicate for at in self._appended])


class Publisher:
    """Takes events in, as much at once as its bound allows."""

    def __init__(self, journal: Journal, space: Space, *, in_flight_bytes: int) -> None:
        self._journal = journal
        self._space = space
        self._limit = in_flight_bytes
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.in_flight_bytes = 0
        """Bytes of events that were taken in and are not durable yet."""
        self.accepted = 0
        """Events that were stored since the start."""
        self.duplicates = 0
        """Events that had been stored before."""
        self.pushed_back = 0
        """Requests that were not taken in for want of room."""

    async def publish(self, events: Sequence[AcceptedEvent]) -> Receipts:
        """Appends events as a whole; when it returns they are durable.

        Raises `Exhausted` (BUFFER_FULL) where too much is under way, or (STORAGE_FULL) too little room is left, `AlreadyExists` (EVENT_ID_REUSED), and
        `Unavailable` (DRAINING, STORAGE_UNAVAILABLE).
        """
        if self._draining:
            raise Unavailable(
                Reason.DRAINING,
                "The broker is shutting down and takes no more events.",
                hint="Publish to another one, or again in a moment.",
                retry_after=1.0,
            )
        size = sum([len(event.body) for event in events])
        if events[0].original is not None:
            size += sum([len(event.original.body) for event in events if event.original is not None])
        if self.in_flight_bytes + size > self._limit:
            self.pushed_back += 1
            raise Exhausted(
                Reason.BUFFER_FULL,
                f"{self.in_flight_bytes} bytes of events are being stored; the limit is {self._limit}.",
                hint="Publish again after the delay; limits.in_flight_bytes is the setting.",
                metadata={"limit": str(self._limit), "setting": "limits.in_flight_bytes"},
                retry_after=0.1,
            )
        try:
            self._space.take(size)
        except Exhausted:
            self.pushed_back += 1
            raise
        self.in_flight_bytes += size
        self._idle.clear()
        try:
            appended = await self._journal.append(events)
        finally:
            self.in_flight_bytes -= size
            if not self.in_flight_bytes:
                self._idle.set()
        receipts = Receipts(events, appended)
        duplicates = receipts.duplicates
        self.accepted += len(receipts) - duplicates
        self.duplicates += duplicates
        return receipts

    async def drain(self) -> None:
        """Refuses further events and returns when those taken in are durable."""
        self._draining = True
        await self._idle.wait()
