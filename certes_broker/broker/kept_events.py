"""The kept events: reading what the journal holds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from certes_broker.broker.names import EventNames, event_not_found
from certes_broker.broker.paging import make_token, read_token
from certes_broker.domain.errors import NotFound, OutOfRange, Reason
from certes_broker.domain.events import BEGINNING, Entry, Micros, Original, Position
from certes_broker.domain.seeking import SeekBeginning, SeekEnd, SeekEvent, SeekPoint, SeekTime
from certes_broker.domain.uris import TypePattern, parse_event_type
from certes_broker.ports.engine import Journal

_PAGE: Final = 1000
_PAGE_BYTES: Final = 2 * 1024 * 1024
LISTS_AT_ONCE: Final = 16
"""How many lists are read at once; others wait. What has been read for a page is in memory, and readers do not get faster by more."""
ANSWER_BYTES: Final = 3 * 1024 * 1024
"""How many bytes of events a page has at most: stock clients refuse an answer of 4 MiB."""
PAGES_SCANNED: Final = 20
"""How much of the journal one call looks through before it answers with what it has and a token."""
PAGES_SCANNED_FURTHER: Final = 100
"""The same for whoever sees some of the events only: a short page says that there are others in between."""


class KeptEvent(NamedTuple):
    """One kept event and its name."""

    name: str
    entry: Entry


_List = tuple[str | None, TypePattern | None, Micros | None]
"""Which list it is: whose, of which types, and from when."""


@dataclass(frozen=True, slots=True)
class KeptPage:
    """Some kept events. `next_page_token` is empty if there was nothing more."""

    events: Sequence[KeptEvent]
    next_page_token: str


class KeptEvents:
    """Reads kept events."""

    def __init__(self, journal: Journal, names: EventNames) -> None:
        self._journal = journal
        self._names = names
        self._listing = asyncio.Semaphore(LISTS_AT_ONCE)

    async def get(self, name: str) -> KeptEvent:
        """Returns an event by name. Raises `NotFound` (EVENT_NOT_FOUND)."""
        entry = await self._journal.get(self._names.position(name))
        if entry is None:
            raise event_not_found(name)
        return KeptEvent(name, entry)

    async def find(self, source: str, event_id: str) -> KeptEvent:
        """Returns an event by source and id, within the dedupe window. Raises `NotFound` (EVENT_NOT_FOUND)."""
        position = await self.position_of_id(source, event_id)
        entry = None if position is None else await self._journal.get(position)
        if entry is None:
            raise event_not_known(source, event_id)
        return KeptEvent(self._names.name(entry.position), entry)

    async def position_of_id(self, source: str, event_id: str) -> Position | None:
        """Returns where the event of a source and id is, or was if it is kept no more; None if the dedupe window has neither."""
        return await self._journal.find(source, event_id)

    async def original(self, event: KeptEvent) -> Original | None:
        """Returns the foreign webhook that an event was made of."""
        return await self._journal.original(event.entry.position)

    async def list(
        self,
        subscriber: str | None,
        pattern: TypePattern | None,
        start_time: Micros | None,
        page_size: int,
        page_token: str,
        pages_scanned: int = PAGES_SCANNED,
    ) -> KeptPage:
        """Returns events, oldest first: those of a subscriber (None: of all) and those for everyone.

        A page may be short although more follow: one call reads, and answers, only so many bytes. Where it is for the sake of
        the answer, the token depends on the events that are answered, and on no others.
        """
        async with self._listing:
            return await self._list((subscriber, pattern, start_time), page_size, page_token, pages_scanned)

    async def _list(self, of: _List, page_size: int, page_token: str, pages_scanned: int) -> KeptPage:
        subscriber, pattern, start_time = of
        token = read_token(page_token, *of)
        if token:
            after = self._names.position_of_place(token)
        else:
            after = BEGINNING if start_time is None else await self._journal.position_at(start_time)
        found: list[Entry] = []
        size = 0
        for _ in range(pages_scanned):
            page = await self._journal.read(after, _PAGE, _PAGE_BYTES)
            if not page.entries:
                return self._page(found, "")
            for entry in page.entries:
                if _concerns(entry, subscriber, pattern, start_time):
                    size += len(entry.event.body)
                    if found and size > ANSWER_BYTES:
                        return self._page(found, make_token(self._names.place(found[-1].position), *of))
                    found.append(entry)
                after = entry.position
                if len(found) == page_size:
                    return self._page(found, make_token(self._names.place(after), *of))
        return self._page(found, make_token(self._names.place(after), *of))

    async def position_of(self, point: SeekPoint) -> Position:
        """Returns the position after which `point` lies.

        Raises `OutOfRange` (CURSOR_EXPIRED, with the earliest kept event's name and time) if it is no longer kept.
        """
        bounds = await self._journal.bounds()
        match point:
            case SeekBeginning():
                return bounds.trimmed
            case SeekEnd():
                return bounds.last
            case SeekTime(time=time):
                position = await self._journal.position_at(time)
                if bounds.trimmed and position <= bounds.trimmed:
                    await self._check_reached(time, position)
                return position
            case SeekEvent(name=name):
                position = self._names.position(name)
                if position > bounds.last:
                    raise event_not_found(name)
                if position <= bounds.trimmed:
                    raise await self._expired(f"The event {name} is no longer kept.")
                return Position(position - 1)

    async def _check_reached(self, time: Micros, position: Position) -> None:
        """Refuses a time before the earliest kept event, where something was trimmed before that."""
        page = await self._journal.read(position, 1, 1)
        if page.entries and page.entries[0].event.accept_time > time:
            raise await self._expired("Events accepted at that time are no longer kept.")

    async def _expired(self, problem: str) -> OutOfRange:
        page = await self._journal.read(BEGINNING, 1, 1)
        metadata = {}
        if page.entries:
            earliest = page.entries[0]
            metadata["earliest"] = self._names.name(earliest.position)
            metadata["earliest_time"] = _rfc3339(earliest.event.accept_time)
        return OutOfRange(
            Reason.CURSOR_EXPIRED,
            problem,
            hint="Seek to the beginning, or to the earliest event that is kept.",
            metadata=metadata,
        )

    def _page(self, entries: Sequence[Entry], token: str) -> KeptPage:
        names = self._names.names([entry.position for entry in entries])
        return KeptPage([KeptEvent(name, entry) for name, entry in zip(names, entries, strict=True)], token)


def event_not_known(source: str, event_id: str) -> NotFound:
    """Returns the refusal of a source and an id that no event has."""
    return NotFound(
        Reason.EVENT_NOT_FOUND,
        f"No event {event_id!r} of source {source!r} is known.",
        hint="Ids are remembered for the dedupe window, and only those that publishers sent.",
        metadata={"source": source, "id": event_id},
    )


def _rfc3339(time: Micros) -> str:
    return datetime.fromtimestamp(time / 1_000_000, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _concerns(entry: Entry, subscriber: str | None, pattern: TypePattern | None, start_time: Micros | None) -> bool:
    event = entry.event
    if subscriber is not None and event.subscriber is not None and event.subscriber != subscriber:
        return False
    if start_time is not None and event.accept_time < start_time:
        return False
    event_type = parse_event_type(event.type)
    return not event_type.is_system if pattern is None else pattern.matches(event_type)
