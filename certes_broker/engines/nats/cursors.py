"""The subscriptions' durable positions, and the leases of who may move them: two faces of the lanes' stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from certes_broker.domain.events import Micros, Position
from certes_broker.engines.nats.groups import Groups
from certes_broker.engines.nats.keepsakes import dead_positions, past, read_dead_letter, read_dead_letters, read_gaps
from certes_broker.engines.nats.lanes import Bury, Forget, Lanes, LeaseRequest, Request, Settle
from certes_broker.engines.nats.reading import Reader
from certes_broker.engines.nats.subjects import Names
from certes_broker.engines.nats.watermarks import Watermarks
from certes_broker.ports.cluster import MemberId
from certes_broker.ports.engine import CursorChange, DeadLetter, Gap, StoredCursor

CURSOR_BYTES: Final = 256
ROW_BYTES: Final = 128
"""What a cursor and a row of one need in a message, roughly."""


class NatsCursors:
    """The cursors: writes go through the queue."""

    def __init__(
        self, lanes: Lanes, watermarks: Watermarks, reader: Reader, names: Names, queue: Groups[Request, object]
    ) -> None:
        self._watermarks = watermarks
        self._lanes = lanes
        self._reader = reader
        self._names = names
        self._queue = queue

    async def load(self, subscriptions: Sequence[str]) -> Sequence[StoredCursor | None]:
        by_name = await self._lanes.records(subscriptions)
        records = [by_name[name] for name in subscriptions]
        return [
            None
            if state is None
            else StoredCursor(state, tuple(record.owed[position] for position in sorted(record.owed)))
            for record, state in zip(records, await self._lanes.states(records), strict=True)
        ]

    async def settle(self, changes: Sequence[CursorChange], watermark: Position | None = None) -> Sequence[str]:
        size = sum(CURSOR_BYTES + ROW_BYTES * len(change.put) for change in changes)
        size += sum(len(dead.event.body) for change in changes for dead in change.dead)
        return cast(Sequence[str], await self._queue.submit(Settle(changes, watermark), size))

    async def watermark(self) -> Position:
        return await self._watermarks.highest()

    async def dead_letters(
        self, subscription: str, after: Position, limit: int, max_bytes: int | None = None
    ) -> Sequence[DeadLetter]:
        return await read_dead_letters(self._reader, self._names, subscription, after, (limit, max_bytes))

    async def dead_letter(self, subscription: str, position: Position) -> DeadLetter | None:
        return await read_dead_letter(self._reader, self._names, subscription, position)

    async def count_dead_letters(self, subscription: str) -> int:
        return len(await dead_positions(self._reader, self._names, subscription))

    async def bury(self, subscription: str, positions: Sequence[Position]) -> int:
        return cast(int, await self._queue.submit(Bury(subscription, positions), ROW_BYTES * len(positions)))

    async def expire(self, before: Micros) -> None:
        found: dict[str, list[Position]] = {}
        for subscription, position in await past(self._reader, self._names, before):
            found.setdefault(subscription, []).append(position)
        for subscription, positions in found.items():
            await self.bury(subscription, positions)

    async def gaps(self, subscription: str) -> Sequence[Gap]:
        return await read_gaps(self._reader, self._names, subscription)

    async def forget(self, subscription: str) -> None:
        await self._queue.submit(Forget(subscription), CURSOR_BYTES)


class NatsLeases:
    """The leases: every change goes through the queue."""

    def __init__(self, lanes: Lanes, queue: Groups[Request, object]) -> None:
        self._lanes = lanes
        self._queue = queue

    async def lease(self, subscriptions: Sequence[str]) -> Sequence[int | None]:
        request = LeaseRequest(subscriptions)
        return cast(Sequence[int | None], await self._queue.submit(request, CURSOR_BYTES * len(subscriptions)))

    async def holders(self, subscriptions: Sequence[str]) -> Sequence[MemberId | None]:
        records = await self._lanes.records(subscriptions)
        return await self._lanes.holders([records[name] for name in subscriptions])

    async def release(self, subscriptions: Sequence[str]) -> None:
        await self._queue.submit(LeaseRequest(subscriptions, release=True), CURSOR_BYTES * len(subscriptions))
