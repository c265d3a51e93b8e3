"""The journal: a stream of blocks.

Reading asks any replica for the blocks that the writer knows to be there. The newest block is never trimmed, so that what
the journal has come to can always be read from it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import AcceptedEvent, Entry, Micros, Original, Position
from certes_broker.engines.feed import Feed, Feeds
from certes_broker.engines.kept import event_size
from certes_broker.engines.nats.appends import EVENT_BYTES, Appends, Call
from certes_broker.engines.nats.block_messages import (
    MAXIMUM_EVENTS,
    StoredBlock,
    last_below,
    sequence_of,
)
from certes_broker.engines.nats.carried_ids import CarriedIds
from certes_broker.engines.nats.connection import Connection
from certes_broker.engines.nats.groups import Groups
from certes_broker.engines.nats.ids import Ids
from certes_broker.engines.nats.journal_blocks import JournalBlocks
from certes_broker.engines.nats.reading import StreamState
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.engine import Appended, Bounds, Page

REMEMBERED_BYTES: Final = 8 << 20
"""Bytes of blocks that are kept in memory after they were read: retries come back to the same ones."""
PAGE_BLOCKS: Final = 64


class NatsJournal:
    """The journal. Appends go through the queue."""

    def __init__(
        self,
        connection: Connection,
        blocks: JournalBlocks,
        names: Names,
        ids: Ids,
        carried: CarriedIds,
        tail: Feeds[Sequence[Entry]],
        appends: Appends,
        queue: Groups[Call, Sequence[Appended]],
    ) -> None:
        self._connection = connection
        self._stored = blocks
        self._names = names
        self._ids = ids
        self._carried = carried
        self._tail = tail
        self._appends = appends
        self._queue = queue
        self._first = 1
        self._remembered: OrderedDict[int, StoredBlock] = OrderedDict()
        self._remembered_bytes = 0
        self._deleted = 0

    async def open(self) -> None:
        """Reads what the journal has come to, and the ids of the dedupe window."""
        state = await self._stored.state()
        self._first = state.first
        self._deleted = state.deleted
        if state.last == 0:
            return
        await self._carried.load(self._ids)
        newest = await self._stored.at(state.last)
        if newest is None:
            raise self._connection.unavailable(f"{self._names.journal} has lost its newest message, {state.last}")
        self._appends.begin(newest)
        earliest = self._ids.earliest(newest.stored)
        first = await self._search(state.first, state.last, lambda block: block.stored >= earliest)
        async for block in self._stored.headers(first, state.last):
            self._ids.remember(block.fingerprints, block.first, block.stored)

    async def append(self, events: Sequence[AcceptedEvent]) -> Sequence[Appended]:
        if not events:
            return []
        if len(events) > MAXIMUM_EVENTS:
            raise Invalid(
                Reason.TOO_MANY_EVENTS, f"{len(events)} events are more than the {MAXIMUM_EVENTS} of one append."
            )
        return await self._queue.submit(events, sum(map(event_size, events)) + EVENT_BYTES * len(events))

    def tail(self) -> Feed[Sequence[Entry]]:
        return self._tail.open()

    async def read(self, after: Position, limit: int, max_bytes: int) -> Page:
        entries: list[Entry] = []
        size = 0
        known = self._appends.last_sequence
        sequence = max(sequence_of(Position(after + 1)), self._first)
        while sequence <= known:
            blocks = await self._blocks(sequence, known, limit, max_bytes)
            if not blocks:
                break
            for block in blocks:
                header = block.header
                start = max(after + 1 - block.first, 0)
                while start < block.count:
                    # A part that was erased fills no page: what follows it is read as well.
                    stop = min(start + limit - len(entries), block.count)
                    for index in range(start, stop):
                        if size + header.ends[index] - header.begin(start) >= max_bytes:
                            stop = index + 1
                            break
                    entries += block.entries(start, stop)
                    size += header.begin(stop) - header.begin(start)
                    if entries and (len(entries) >= limit or size >= max_bytes):
                        return Page(entries, Position(block.first + stop - 1))
                    start = stop
            sequence = blocks[-1].sequence + 1
        return Page(entries, entries[-1].position if entries else max(self._appends.last, after))

    async def get(self, position: Position) -> Entry | None:
        block = await self._block(sequence_of(position))
        index = 0 if block is None else position - block.first
        entries = block.entries(index, index + 1) if block is not None and index < block.count else ()
        return entries[0] if entries else None

    async def original(self, position: Position) -> Original | None:
        block = await self._block(sequence_of(position))
        return None if block is None else block.original(position - block.first)

    async def find(self, source: str, event_id: str) -> Position | None:
        return self._ids.find(source, event_id)

    async def position_at(self, time: Micros) -> Position:
        known = self._appends.last_sequence
        sequence = await self._search(self._first, known, lambda block: block.latest >= time)
        while sequence <= known:
            # All is in the first block, unless what made its time was an event that has been trimmed since.
            block = await self._block(sequence)
            if block is not None:
                for index, accepted in enumerate(block.header.times):
                    if accepted >= time:
                        return Position(block.first + index - 1)
            sequence += 1
        return self._appends.last

    async def surplus(self, size: int) -> Position:
        bounds = await self.bounds()
        if bounds.bytes <= size:
            return bounds.trimmed
        total = self._appends.total
        last = self._appends.last_sequence
        sequence = await self._search(self._first, last, lambda block: total - block.total <= size)
        return last_below(sequence + 1)

    async def trim(self, through: Position) -> Bounds:
        first = min(sequence_of(Position(through + 1)), self._appends.last_sequence)
        if first > self._first:
            horizon = self._ids.horizon
            begin = await self._search(self._first, first - 1, lambda block: block.stored >= horizon)
            await self._carried.carry(self._stored.headers(begin, first - 1))
            await self._connection.api(f"STREAM.PURGE.{self._names.journal}", {"seq": first})
            for sequence in sorted(await self._stored.trimmed(first)):
                await self._connection.api(f"STREAM.PURGE.{self._names.lanes}", {"filter": self._names.anew(sequence)})
        return await self.bounds()

    async def bounds(self) -> Bounds:
        state = await self._stored.state()
        has_changed = self._refresh(state)
        hears = self._appends.follows and not has_changed
        if state.last > self._appends.last_sequence and not hears and not len(self._queue):
            # A block whose answer was lost, or that was deleted, and stands elsewhere, before this member heard of it.
            self._appends.doubt()
            self._queue.post((), 0)
        if not self._appends.last_sequence:
            return Bounds(Position(0), Position(0), 0)
        trimmed = last_below(self._first) if self._first > 1 else Position(0)
        return Bounds(trimmed, self._appends.last, state.bytes, self._appends.latest)

    async def forget_ids(self, before: Micros) -> None:
        self._ids.forget(before)
        await self._carried.forget(self._ids.horizon)

    def _refresh(self, state: StreamState) -> bool:
        """Forgets what is remembered of blocks that are not there any more; says whether some were written anew, perhaps."""
        has_changed = state.first != self._first or state.deleted != self._deleted
        self._first, self._deleted = state.first, state.deleted
        if has_changed:
            self.forget()
        return has_changed

    def forget(self) -> None:
        """Lets the next one who reads a block ask the servers."""
        self._remembered.clear()
        self._remembered_bytes = 0

    async def _search(self, first: int, last: int, is_beyond: Callable[[StoredBlock], bool]) -> int:
        """Returns the first sequence whose block is beyond something, as all after it are; `last + 1` if none is."""
        while first <= last:
            middle = (first + last) // 2
            block = await self._block(middle)
            if block is None or not is_beyond(block):
                first = middle + 1
            else:
                last = middle - 1
        return first

    async def _block(self, sequence: int) -> StoredBlock | None:
        if sequence < self._first:
            return None
        block = self._remembered.get(sequence)
        if block is not None:
            self._remembered.move_to_end(sequence)
            return block
        # One that is newer than what has been heard of, another member may have stored.
        block = await self._stored.at(sequence)
        if block is not None:
            self._remember(block)
        return block

    async def room(self) -> int | None:
        account = await self._connection.api("INFO")
        most = int(account["limits"]["max_storage"])
        return None if most < 0 else max(0, most - int(account["storage"]))

    async def _blocks(self, first: int, last: int, limit: int, max_bytes: int) -> Sequence[StoredBlock]:
        """Reads some blocks from a sequence on: at least one, if there is one."""
        if first in self._remembered:
            return [self._remembered[first]]
        through = min(first + min(limit, PAGE_BLOCKS) - 1, last)
        blocks: list[StoredBlock] = []
        size = 0
        async for block in self._stored.between(first, through, page=PAGE_BLOCKS, page_bytes=2 * max_bytes):
            blocks.append(block)
            size += block.size
            if size >= max_bytes:
                break
        if blocks:
            self._remember(blocks[-1])  # A page that ends within it goes on there.
        return blocks

    def _remember(self, block: StoredBlock) -> None:
        self._remembered[block.sequence] = block
        self._remembered_bytes += block.size
        while self._remembered_bytes > REMEMBERED_BYTES and len(self._remembered) > 1:
            self._remembered_bytes -= self._remembered.popitem(last=False)[1].size
