"""The reference engine: keeps everything in this process, and forgets it with the process.

Rules
-----
* Every method does what the port says in the simplest way that is right. Other engines are compared with this one.
* A write happens between two awaits, so it is atomic and committed as soon as it is made.
* Several engines of one process may share a store, as several brokers share a cluster: `another` makes one.
* Ids are remembered by period: a period is one dedupe window long, and the present one and the one before it are known.
  So an id is remembered for at least one window and less than two.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import Final

from certes_broker.domain.errors import Exhausted, Reason
from certes_broker.domain.events import BEGINNING, AcceptedEvent, Entry, Micros, Original, Position
from certes_broker.engines.feed import Feed, Feeds
from certes_broker.engines.kept import event_size, id_reused, revision_conflict, tail_weight
from certes_broker.engines.memory_cluster import Brokers, MemoryMembers, MemoryPost
from certes_broker.engines.memory_cursors import LaneStore, MemoryCursors, MemoryLeases
from certes_broker.engines.memory_logs import MemoryAttempts, MemoryRejections
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Appended, Bounds, Document, DocumentChange, Page

MICROS_PER_SECOND: Final = 1_000_000


class MemoryEngine:
    """Keeps events, cursors and settings in memory.

    `tail_limit` bounds the weight of what waits for the journal's tail (`tail_weight`), `watch_limit` the changes that wait for each watch
    of the settings, `waiting_limit` the appends that wait for the tail's reader.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        dedupe_window_seconds: float = 86400,
        tail_limit: int = 16_384,
        watch_limit: int = 1_024,
        waiting_limit: int = 10_000,
    ) -> None:
        self._brokers = Brokers()
        self._lanes = LaneStore()
        self._attempts = MemoryAttempts()
        self._rejections = MemoryRejections()
        self._settings = MemorySettings(watch_limit)
        self._journal = MemoryJournal(
            clock, round(dedupe_window_seconds * MICROS_PER_SECOND), tail_limit, waiting_limit
        )
        self._join()

    def _join(self) -> None:
        self._members = MemoryMembers(self._brokers)
        self._post = MemoryPost(self._brokers, self._members.own)
        self._cursors = MemoryCursors(self._lanes, self._members)
        self._leases = MemoryLeases(self._lanes, self._members)
        self._erasure = MemoryErasure(self._journal, self._lanes, self._attempts)

    def another(self) -> MemoryEngine:
        """Returns an engine on the same store, as another broker has it. Who is done with one ends its member."""
        other = copy(self)
        other._join()
        return other

    @property
    def journal(self) -> MemoryJournal:
        return self._journal

    @property
    def cursors(self) -> MemoryCursors:
        return self._cursors

    @property
    def leases(self) -> MemoryLeases:
        return self._leases

    @property
    def attempts(self) -> MemoryAttempts:
        return self._attempts

    @property
    def rejections(self) -> MemoryRejections:
        return self._rejections

    @property
    def settings(self) -> MemorySettings:
        return self._settings

    @property
    def members(self) -> MemoryMembers:
        return self._members

    @property
    def post(self) -> MemoryPost:
        return self._post

    @property
    def weaker(self) -> Sequence[str]:
        return ()

    @property
    def erasure(self) -> MemoryErasure:
        return self._erasure

    @property
    def waiting(self) -> int:
        return self._journal.waiting + self._settings.waiting


class MemoryJournal:
    """The journal as a list."""

    def __init__(self, clock: Clock, window: int, tail_limit: int, waiting_limit: int) -> None:
        self.waiting = 0
        self._clock = clock
        self._window = window
        self._waiting_limit = waiting_limit
        self._feeds: Feeds[Sequence[Entry]] = Feeds(tail_limit)
        self._entries: list[Entry] = []
        self._originals: dict[Position, Original] = {}
        self._ids: dict[int, dict[tuple[str, str], tuple[Position, bytes]]] = {}
        self._trimmed = BEGINNING
        self._last = BEGINNING
        self._latest = Micros(0)
        self._bytes = 0

    async def room(self) -> None:
        return None

    async def append(self, events: Sequence[AcceptedEvent]) -> Sequence[Appended]:
        if self.waiting >= self._waiting_limit:
            raise Exhausted(
                Reason.BUFFER_FULL,
                f"{self.waiting} appends are waiting already, which is the bound.",
                metadata={"limit": str(self._waiting_limit)},
                retry_after=1.0,
            )
        self.waiting += 1
        try:
            await self._feeds.room()
        finally:
            self.waiting -= 1
        return self._append(events)

    def _append(self, events: Sequence[AcceptedEvent]) -> Sequence[Appended]:
        period = self._present()
        added: dict[tuple[str, str], tuple[Position, bytes]] = {}
        outcome: list[Appended] = []
        entries: list[Entry] = []
        for index, event in enumerate(events):
            position = Position(self._last + len(entries) + 1)
            if event.digest is not None:
                key = (event.source, event.id)
                first = added.get(key) or self._first(key, period)
                if first is not None:
                    if first[1] != event.digest:
                        raise id_reused(event, index)
                    outcome.append(Appended(first[0], duplicate=True))
                    continue
                added[key] = (position, event.digest)
            entries.append(Entry(position, event))
            outcome.append(Appended(position, duplicate=False))
        if added:
            self._ids.setdefault(period, {}).update(added)
        for entry in entries:
            self._keep(entry)
        if entries:
            size = sum(event_size(entry.event) for entry in entries)
            self._feeds.publish(entries, tail_weight(len(entries), size))
        return outcome

    def _keep(self, entry: Entry) -> None:
        event = entry.event
        self._last = entry.position
        self._latest = max(self._latest, event.accept_time)
        self._entries.append(Entry(entry.position, event._replace(digest=None, original=None)))
        if event.original is not None:
            self._originals[entry.position] = event.original
        self._bytes += event_size(event)

    def tail(self) -> Feed[Sequence[Entry]]:
        return self._feeds.open()

    async def read(self, after: Position, limit: int, max_bytes: int) -> Page:
        entries: list[Entry] = []
        size = 0
        for entry in self._entries[self._index_above(after) :][:limit]:
            entries.append(entry)
            size += len(entry.event.body)
            if size >= max_bytes:
                break
        return Page(entries, entries[-1].position if entries else max(self._last, after))

    async def get(self, position: Position) -> Entry | None:
        index = self._index_above(Position(position - 1))
        if index < len(self._entries) and self._entries[index].position == position:
            return self._entries[index]
        return None

    async def original(self, position: Position) -> Original | None:
        return self._originals.get(position)

    async def find(self, source: str, event_id: str) -> Position | None:
        first = self._first((source, event_id), self._present())
        return None if first is None else first[0]

    async def position_at(self, time: Micros) -> Position:
        later = (entry.position for entry in self._entries if entry.event.accept_time >= time)
        return Position(next(later, self._last + 1) - 1)

    async def surplus(self, size: int) -> Position:
        through, left = self._trimmed, self._bytes
        for entry in self._entries:
            if left <= size:
                break
            original = self._originals.get(entry.position)
            left -= event_size(entry.event) + (0 if original is None else len(original.body))
            through = entry.position
        return through

    async def trim(self, through: Position) -> Bounds:
        count = self._index_above(through)
        for entry in self._entries[:count]:
            self._bytes -= event_size(entry.event)
            original = self._originals.pop(entry.position, None)
            self._bytes -= 0 if original is None else len(original.body)
        del self._entries[:count]
        self._trimmed = max(self._trimmed, min(through, self._last))
        return await self.bounds()

    def erase(self, subscriber: str) -> int:
        """Forgets the events for a subscriber, and returns how many there were."""
        gone = [entry for entry in self._entries if entry.event.subscriber == subscriber]
        self._entries = [entry for entry in self._entries if entry.event.subscriber != subscriber]
        for position, event in gone:
            original = self._originals.pop(position, None)
            self._bytes -= event_size(event) + (0 if original is None else len(original.body))
        return len(gone)

    async def bounds(self) -> Bounds:
        return Bounds(self._trimmed, self._last, self._bytes, self._latest)

    async def forget_ids(self, before: Micros) -> None:
        for period in list(self._ids):
            if (period + 1) * self._window <= before:
                del self._ids[period]

    def _index_above(self, position: Position) -> int:
        return bisect_right(self._entries, position, key=lambda entry: entry.position)

    def _present(self) -> int:
        """The clock's period, or a later one that has ids: where a clock goes back, they are not to be parted from new ones."""
        return max(self._clock.now() // self._window, *self._ids, 0)

    def _first(self, key: tuple[str, str], period: int) -> tuple[Position, bytes] | None:
        present, previous = (self._ids.get(one, {}) for one in (period, period - 1))
        return present.get(key) or previous.get(key)


class MemoryErasure:
    """Erases by forgetting: what this process has let go of is nowhere."""

    def __init__(self, journal: MemoryJournal, lanes: LaneStore, attempts: MemoryAttempts) -> None:
        self._journal = journal
        self._lanes = lanes
        self._attempts = attempts

    @property
    def remains(self) -> tuple[str, ...]:
        return ()

    @asynccontextmanager
    async def wiping(self) -> AsyncIterator[None]:
        yield

    async def events(self, subscriber: str) -> int:
        return self._journal.erase(subscriber)

    async def dead_letters(self, subscriber: str) -> int:
        return self._lanes.erase(subscriber)

    async def attempts(self, subscriber: str) -> int:
        return self._attempts.erase(subscriber)


class MemorySettings:
    """The documents as a dictionary."""

    def __init__(self, watch_limit: int) -> None:
        self.waiting = 0
        self._documents: dict[str, Document] = {}
        self._revision = 0
        self._feeds: Feeds[DocumentChange] = Feeds(watch_limit)

    async def get(self, key: str) -> Document | None:
        return self._documents.get(key)

    async def list(self, prefix: str) -> Sequence[Document]:
        return [self._documents[key] for key in sorted(self._documents) if key.startswith(prefix)]

    async def refresh(self) -> None:
        """Does nothing: there is one copy."""

    async def put(self, key: str, body: bytes, expected: int | None = None) -> int:
        await self._room()
        self._expect(key, expected)
        self._revision += 1
        self._documents[key] = Document(key, body, self._revision)
        self._feeds.publish(DocumentChange(key, body, self._revision))
        return self._revision

    async def delete(self, key: str, expected: int | None = None) -> None:
        await self._room()
        self._expect(key, expected)
        if self._documents.pop(key, None) is not None:
            self._revision += 1
            self._feeds.publish(DocumentChange(key, None, self._revision))

    def watch(self, prefix: str) -> Feed[DocumentChange]:
        return self._feeds.open(lambda change: change.key.startswith(prefix))

    async def _room(self) -> None:
        self.waiting += 1
        try:
            await self._feeds.room()
        finally:
            self.waiting -= 1

    def _expect(self, key: str, expected: int | None) -> None:
        document = self._documents.get(key)
        present = 0 if document is None else document.revision
        if expected is not None and expected != present:
            raise revision_conflict(key, expected, present)
