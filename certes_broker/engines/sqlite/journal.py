"""The journal as blocks in a table.

Appends of a group become blocks together, whoever made them. Positions follow one another without holes. The newest
block is never trimmed, so what the journal has come to can always be read from it.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from certes_broker.domain.errors import CertesError
from certes_broker.domain.events import BEGINNING, AcceptedEvent, Entry, Micros, Original, Position
from certes_broker.engines.blocks import Header, cut, decode, decode_header, encode, entry_at, erase
from certes_broker.engines.feed import Feed, Feeds
from certes_broker.engines.kept import event_size, tail_weight
from certes_broker.engines.sqlite.connection import PAGE_SIZE, Readers
from certes_broker.engines.sqlite.ids import Ids
from certes_broker.engines.sqlite.queries import named_queries, write_rows
from certes_broker.engines.sqlite.writer import WriteQueue
from certes_broker.ports.engine import Appended, Bounds, Page

QUERIES: Final = named_queries("journal")

TRIM_BYTES: Final = 8 << 20
"""What one slice of a trim deletes, at most, but at least one block."""
ID_BYTES: Final = PAGE_SIZE
"""An id goes to a page of its own in the log, as random ids in a large table do."""

Call = Sequence[AcceptedEvent]

_make_entry: Final = partial(tuple.__new__, Entry)


class Appends:
    """A kind of write: appends."""

    def __init__(self, ids: Ids, feeds: Feeds[Sequence[Entry]]) -> None:
        self._ids = ids
        self._feeds = feeds
        self._last = BEGINNING
        self._latest_accept = Micros(0)
        self._total = 0
        self._committed: Sequence[Entry] = ()
        self._weight = 0

    @property
    def ready(self) -> bool:
        return self._feeds.has_room

    def load(self, db: sqlite3.Connection) -> None:
        self._ids.load(db)
        newest = db.execute(QUERIES["newest"]).fetchone()
        self._last, self._latest_accept, self._total = newest or (BEGINNING, Micros(0), 0)

    def apply(self, db: sqlite3.Connection, requests: Sequence[Call]) -> Sequence[Sequence[Appended] | CertesError]:
        fresh, outcomes = self._ids.admit(db, requests, self._last)
        first, total = self._last + 1, self._total
        sizes = list(map(event_size, fresh))
        has_originals = False
        for part in cut(sizes):
            has_originals |= self._add_block(db, fresh[part], sum(sizes[part]))
        if has_originals:  # They are large, and whoever reads the tail can ask for them.
            fresh = [event._replace(original=None) if event.original else event for event in fresh]
        self._committed = list(map(_make_entry, zip(range(first, first + len(fresh)), fresh, strict=True)))
        self._weight = tail_weight(len(fresh), self._total - total)
        return outcomes

    def announce(self) -> None:
        committed, self._committed = self._committed, ()
        if committed:
            self._feeds.publish(committed, self._weight)

    def _add_block(self, db: sqlite3.Connection, events: Sequence[AcceptedEvent], events_size: int) -> bool:
        """Writes a block; says whether originals belong to it."""
        first = self._last + 1
        last = self._last + len(events)
        header, body = encode(events)
        size = len(header) + events_size
        self._latest_accept = max(self._latest_accept, *[event.accept_time for event in events])
        self._total += size
        self._last = Position(last)
        write_rows(db, QUERIES["add_blocks"], 7, (first, last, self._latest_accept, size, self._total, header, body))
        originals = [(position, event.original) for position, event in enumerate(events, first) if event.original]
        for position, original in originals:
            headers = json.dumps(original.headers, separators=(",", ":"))
            write_rows(db, QUERIES["add_originals"], 4, (position, original.content_type, headers, original.body))
        return bool(originals)


class Trims:
    """A kind of write: slices of a trim, of events or of ids. A request is what to run; it says whether there is more."""

    ready = True

    def load(self, db: sqlite3.Connection) -> None:
        """Keeps nothing in mind."""

    def apply(self, db: sqlite3.Connection, requests: Sequence[Any]) -> Sequence[bool]:
        return [request(db) for request in requests]

    def announce(self) -> None:
        """Has nothing to hand on."""


class SqliteJournal:
    """The journal: writes go through the writer, reads through connections of their own."""

    def __init__(
        self,
        ids: Ids,
        feeds: Feeds[Sequence[Entry]],
        readers: Readers,
        appends: WriteQueue[Call, Sequence[Appended]],
        trims: WriteQueue[Any, bool],
        log_bytes: Callable[[], int],
    ) -> None:
        """`log_bytes` says what the write-ahead log holds that is not in the database file yet."""
        self._ids = ids
        self._feeds = feeds
        self._readers = readers
        self._appends = appends
        self._trims = trims
        self._log_bytes = log_bytes

    async def append(self, events: Sequence[AcceptedEvent]) -> Sequence[Appended]:
        if not events:
            return []
        size = sum(map(event_size, events)) + ID_BYTES * sum([event.digest is not None for event in events])
        return await self._appends.submit(events, size)

    def tail(self) -> Feed[Sequence[Entry]]:
        return self._feeds.open()

    async def read(self, after: Position, limit: int, max_bytes: int) -> Page:
        return await self._readers.run(partial(read_page, after=after, limit=limit, max_bytes=max_bytes))

    async def get(self, position: Position) -> Entry | None:
        return await self._readers.run(partial(_get, position=position))

    async def original(self, position: Position) -> Original | None:
        return await self._readers.run(partial(_original, position=position))

    async def find(self, source: str, event_id: str) -> Position | None:
        return await self._readers.run(partial(self._ids.find, source=source, event_id=event_id))

    async def position_at(self, time: Micros) -> Position:
        return await self._readers.run(partial(_position_at, time=time))

    async def surplus(self, size: int) -> Position:
        return await self._readers.run(partial(_surplus, size=size))

    async def trim(self, through: Position) -> Bounds:
        slice_through = partial(_trim_slice, through=through)
        while await self._trims.submit(slice_through, TRIM_BYTES // 256):
            pass
        return await self.bounds()

    async def bounds(self) -> Bounds:
        return await self._readers.run(_bounds)

    async def room(self) -> int:
        # The log's content goes into the file as well, and the log keeps its size.
        return max(0, await self._readers.run(_room) - self._log_bytes())

    async def forget_ids(self, before: Micros) -> None:
        slice_before = partial(self._ids.forget, before=before)
        while await self._trims.submit(slice_before, TRIM_BYTES // 256):
            pass


def read_page(db: sqlite3.Connection, after: Position, limit: int, max_bytes: int) -> Page:
    """Reads entries as `Journal.read` says."""
    entries: list[Entry] = []
    size = 0
    for first, last, text, body in db.execute(QUERIES["blocks_from"], (after + 1,)):
        if last <= after:
            continue
        header = decode_header(text)
        start, end = max(after + 1 - first, 0), last - first + 1
        while start < end:
            # A part that was erased fills no page: what follows it is read as well.
            stop = _stop(header, start, min(limit - len(entries), end - start), max_bytes - size)
            entries += decode(first, header, body, start, stop)
            size += header.begin(stop) - header.begin(start)
            if len(entries) >= limit or size >= max_bytes:
                return Page(entries, Position(first + stop - 1))
            start = stop
    return Page(entries, entries[-1].position if entries else max(_bounds(db).last, after))


def _stop(header: Header, start: int, count: int, room: int) -> int:
    """Returns the index before which to stop: at most `count` events on, and with the one that fills the room."""
    before = header.begin(start)
    for index in range(start, start + count):
        if header.ends[index] - before >= room:
            return index + 1
    return start + count


def _get(db: sqlite3.Connection, position: Position) -> Entry | None:
    row = db.execute(QUERIES["block_at"], (position,)).fetchone()
    if row is None or row[1] < position:
        return None
    first, _, _, text = row
    header, index = decode_header(text), position - first
    with db.blobopen("blocks", "body", first, readonly=True) as blob:  # Without the bytes of the others.
        begin = header.begin(index)
        blob.seek(begin)
        return entry_at(first, header, index, blob.read(header.ends[index] - begin))


def erase_events(db: sqlite3.Connection, blocks: Sequence[Position], subscriber: str) -> int:
    """Writes blocks anew without the events for a subscriber; returns how many those were."""
    erased = 0
    for first in blocks:
        row = db.execute(QUERIES["block"], (first,)).fetchone()
        if row is not None:
            block, gone = erase(first, decode_header(row[0]), row[1], subscriber)
            db.execute(QUERIES["rewrite_block"], (*block, first))
            db.executemany(QUERIES["forget_original"], [(position,) for position in gone])
            erased += len(gone)
    return erased


def _original(db: sqlite3.Connection, position: Position) -> Original | None:
    row = db.execute(QUERIES["original"], (position,)).fetchone()
    if row is None:
        return None
    content_type, headers, body = row
    return Original(content_type, tuple((name, value) for name, value in json.loads(headers)), body)


def _position_at(db: sqlite3.Connection, time: Micros) -> Position:
    """Searches the first block by which an event of that time or later had come, and then the event.

    It is in that very block, but for one case: the first block's highest time may be that of an event that was trimmed.
    """
    bounds = _bounds(db)
    below, end = bounds.trimmed, bounds.last
    # No event at or below `below` is of that time or later; if there is one, the block that ends at `end` is not before it.
    while below < end:
        first, last, latest = db.execute(QUERIES["block_at"], ((below + end + 1) // 2,)).fetchone()[:3]
        if latest < time:
            below = last
        elif last < end:
            end = last
        elif first - 1 > below and db.execute(QUERIES["block_at"], (first - 1,)).fetchone()[2] >= time:
            end = first - 1
        else:
            below = first - 1
            break
    for first, text in db.execute(QUERIES["headers_from"], (below + 1,)):
        for position, accepted in enumerate(decode_header(text).times, first):
            if accepted >= time:
                return Position(position - 1)
    return bounds.last


def _bounds(db: sqlite3.Connection) -> Bounds:
    newest = db.execute(QUERIES["newest"]).fetchone()
    if newest is None:
        return Bounds(BEGINNING, BEGINNING, 0)
    first, trimmed_bytes = db.execute(QUERIES["oldest"]).fetchone()
    return Bounds(Position(first - 1), newest[0], newest[2] - trimmed_bytes, newest[1])


def _room(db: sqlite3.Connection) -> int:
    # What was trimmed leaves pages behind in the file, which are written again before the file grows.
    free = int(db.execute("PRAGMA freelist_count").fetchone()[0]) * PAGE_SIZE
    disk = os.statvfs(db.execute("PRAGMA database_list").fetchone()[2])
    return free + disk.f_bavail * disk.f_frsize


def _surplus(db: sqlite3.Connection, size: int) -> Position:
    bounds = _bounds(db)
    if bounds.bytes <= size:
        return bounds.trimmed
    total = db.execute(QUERIES["newest"]).fetchone()[2]
    return Position(db.execute(QUERIES["surplus"], (total - size,)).fetchone()[0])


def _trim_slice(db: sqlite3.Connection, through: Position) -> bool:
    blocks = db.execute(QUERIES["trimmable"], (through,)).fetchall()
    if not blocks:
        return False
    end, size = blocks[0]
    for last, more in blocks[1:]:
        if size + more > TRIM_BYTES:
            break
        end, size = last, size + more
    db.execute(QUERIES["trim_blocks"], (end,))
    db.execute(QUERIES["trim_originals"], (end,))
    return end < blocks[-1][0] or len(blocks) == 64
