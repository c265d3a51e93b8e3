"""Moves all that one engine keeps to another, empty one: events, cursors, dead letters, attempts, rejected payloads, settings.

Theory of operation
-------------------
Positions are the engine's own, so each event gets a new one, and whatever names a position is rewritten. The order stays, hence a
cursor that stood after an event stands after the same event. Events are appended in the order of the source and nothing else
writes to the target, so what has been copied is a prefix of what is to be copied: a migration that was ended at any moment reads
what the target has, holds it against the source event by event, and goes on behind it. The rest is kept by the same rule, or
written whole, so that writing it again is harmless.

Rules
-----
* The source is only read. Nobody serves it meanwhile: opening it holds it.
* The target is empty, or has the begun migration of this very source, as it still is. A document says so, and a broker does not
  start on a target that has it as unfinished (`check_complete`).
* Settings come last, and of them the document that says that all is there.
* What was settled stays settled, and what is owed stays owed; a level cursor becomes a plain one, which it is until its lane wakes.
* An event that retention has trimmed, and of which dead letters have a copy, comes first, before everything that is still kept:
  below every cursor, so that nobody is given it.
* Names of events do not live on: they are enciphered positions, and the target makes a key of its own, so that an old name names
  nothing instead of something else. `webhook-id`, which is made of it, changes for what is tried again afterwards.
* Numbers of gaps are those of the old journal: what they name is gone from both.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from certes_broker.broker import notice_documents
from certes_broker.broker.names import NAME_KEY
from certes_broker.broker.subscription_documents import PREFIX, read_document, write_document
from certes_broker.domain.cursor_state import CursorChange, CursorState, DeadLetter, Gap, Owed, Ranges, StoredCursor
from certes_broker.domain.errors import FailedPrecondition, Internal, Reason
from certes_broker.domain.events import BEGINNING, AcceptedEvent, Entry, Position
from certes_broker.domain.subscriptions import Subscription
from certes_broker.ports.engine import Attempt, Document, Engine, Rejected

MARKER: Final = "broker/migration"
"""The document that says which source is being moved here, and whether all of it is there."""

PAGE: Final = 4_096
PAGE_BYTES: Final = 8 << 20
CALL_EVENTS: Final = 256
CALL_BYTES: Final = 256 << 10
"""One append has at most so much: a message of a NATS server with its defaults takes 1 MiB."""
ALL: Final = 1 << 40


class Source(Protocol):
    """What a source can do beside being an engine."""

    async def entries(self, after: Position, limit: int, max_bytes: int) -> Sequence[Entry]:
        """Returns entries as `Journal.read`, with their originals, and with their digests where they are deduplicated still."""

    async def rejecting(self) -> Sequence[str]:
        """Returns the sources that have rejected payloads, by name."""


@dataclass
class Counts:
    """How much was moved, or is there."""

    events: int = 0
    subscriptions: int = 0
    owed: int = 0
    dead_letters: int = 0
    gaps: int = 0
    attempts: int = 0
    rejected: int = 0
    documents: int = 0


Progress = Callable[[str, int, int], None]
"""Hears what is being moved, how many of it are there, and how many there will be."""


@dataclass
class Places:
    """Where each event of the source went: positions of the source and of the target, both ascending."""

    old: array[int] = field(default_factory=lambda: array("q"))
    new: array[int] = field(default_factory=lambda: array("q"))
    prelude: Position = BEGINNING
    """The target's position of the last event that only dead letters have."""

    def add(self, old: Position, new: Position) -> None:
        """Notes one event, later than all before it."""
        if self.new and new <= self.new[-1]:
            raise Internal(Reason.INTERNAL, f"The target gave position {new} after {self.new[-1]}.")
        self.old.append(old)
        self.new.append(new)

    def of(self, old: Position) -> Position | None:
        """Returns where an event went; None if it was not kept any more."""
        at = bisect_left(self.old, old)
        return Position(self.new[at]) if at < len(self.old) and self.old[at] == old else None

    def through(self, old: Position) -> Position:
        """Returns the target's position through which all is done of which the source says so through `old`."""
        at = bisect_right(self.old, old)
        return max(self.prelude, Position(self.new[at - 1]) if at else BEGINNING)

    def ranges(self, settled: Ranges, floor: Position) -> Ranges:
        """Returns the ranges of the target that have the same events as those of the source."""
        moved: list[tuple[Position, Position]] = []
        for first, last in settled:
            start, stop = bisect_left(self.old, first), bisect_right(self.old, last)
            if start < stop and self.new[start] > floor:
                moved.append((Position(self.new[start]), Position(self.new[stop - 1])))
        return tuple(moved)


async def check_complete(engine: Engine) -> None:
    """Raises `FailedPrecondition` (MIGRATION_UNFINISHED) if a migration to this engine was begun and not finished."""
    document = await engine.settings.get(MARKER)
    if document is not None and not json.loads(document.body)["complete"]:
        raise FailedPrecondition(
            Reason.MIGRATION_UNFINISHED,
            "This storage has half of a migration.",
            hint="Run `certes migrate` again, as before: it goes on where it ended.",
        )


class Migration:
    """One run of a migration. `source` is the engine behind `old`."""

    def __init__(self, old: Engine, source: Source, new: Engine, progress: Progress) -> None:
        self._old = old
        self._source = source
        self._new = new
        self._progress = progress
        self._places = Places()
        self._trimmed = BEGINNING
        self._letters: dict[str, Sequence[DeadLetter]] = {}

    async def run(self) -> Counts:
        """Moves everything that is not there yet, and returns what is there, as counted in the target.

        Raises `FailedPrecondition` (MIGRATION_REFUSED) where the target is not empty, nor has this migration, and `Internal`
        if in the end the target does not have what the source has.
        """
        fingerprint = await self._fingerprint()
        await self._begin(fingerprint)
        self._trimmed = (await self._old.journal.bounds()).trimmed
        subscriptions = [read_document(document) for document in await self._old.settings.list(PREFIX)]
        for subscription in subscriptions:
            name = subscription.name.text
            self._letters[name] = await self._old.cursors.dead_letters(name, BEGINNING, ALL)
        moved = Counts(events=await self._move_events(), subscriptions=len(subscriptions))
        for done, subscription in enumerate(subscriptions, 1):
            await self._move_cursor(subscription, moved)
            await self._move_attempts(subscription.name.text, moved)
            self._progress("subscriptions", done, len(subscriptions))
        await self._move_rejected(moved)
        await self._move_documents(moved)
        found = await self._count(subscriptions)
        if found != moved:
            raise Internal(
                Reason.INTERNAL, f"The target has {found}, and it should have {moved}. It is left as unfinished."
            )
        await self._new.settings.put(MARKER, _marker(fingerprint, complete=True))
        return found

    async def _fingerprint(self) -> str:
        """Names the source as it is now: another one, or what became of this one since, has another name."""
        bounds = await self._old.journal.bounds()
        key = await self._old.settings.get(NAME_KEY)
        told = repr((None if key is None else key.body, bounds.trimmed, bounds.last))
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    async def _begin(self, fingerprint: str) -> None:
        marker = await self._new.settings.get(MARKER)
        if marker is None:
            if await self._new.settings.list("") or (await self._new.journal.bounds()).last != BEGINNING:
                raise _refused(
                    "It holds events or settings already", "Choose another nats.prefix, or an empty cluster."
                )
            await self._new.settings.put(MARKER, _marker(fingerprint, complete=False), 0)
            return
        begun = json.loads(marker.body)
        if begun["complete"]:
            raise _refused("A migration to it was finished", "Start brokers on it.")
        if begun["source"] != fingerprint:
            raise _refused(
                "The migration that was begun to it is of another source, or a broker has served this one since",
                "Choose another nats.prefix, and begin anew.",
            )

    async def _move_events(self) -> int:
        there: _Reader | None = _Reader(self._new)
        bounds = await self._old.journal.bounds()
        total = bounds.last - bounds.trimmed
        async for page in self._pages():
            known = 0
            for entry in page:
                copied = None if there is None else await there.next()
                if copied is None:
                    there = None  # From here on it is to be written.
                    break
                _check_same(entry.event, copied.event)
                self._places.add(entry.position, copied.position)
                known += 1
            for call in _calls(page[known:]):
                appended = await self._new.journal.append([entry.event for entry in call])
                for entry, (position, is_duplicate) in zip(call, appended, strict=True):
                    if is_duplicate:
                        raise Internal(Reason.INTERNAL, f"The target took event {entry.event.id!r} for a duplicate.")
                    self._places.add(entry.position, position)
            if page[-1].position <= self._trimmed:
                self._places.prelude = Position(self._places.new[-1])
            self._progress("events", min(total, page[-1].position - bounds.trimmed), total)
        if there is not None and await there.next() is not None:
            raise Internal(Reason.INTERNAL, "The target has more events than the source.")
        return len(self._places.old)

    async def _pages(self) -> AsyncIterator[Sequence[Entry]]:
        gone = {
            letter.position: letter.event
            for letters in self._letters.values()
            for letter in letters
            if letter.position <= self._trimmed
        }
        if gone:
            yield [Entry(position, event._replace(digest=None)) for position, event in sorted(gone.items())]
        after = self._trimmed
        while page := await self._source.entries(after, PAGE, PAGE_BYTES):
            yield page
            after = page[-1].position

    async def _move_cursor(self, subscription: Subscription, moved: Counts) -> None:
        name = subscription.name.text
        (stored,) = await self._old.cursors.load([name])
        letters, gaps = self._letters[name], await self._old.cursors.gaps(name)
        if stored is None and not letters and not gaps and subscription.start >= self._trimmed:
            return  # It begins where it was made.
        change = self._change(name, stored or StoredCursor(CursorState(subscription.start, subscription.start), ()))
        lost = [
            Gap(first, last, "retention", subscription.update_time) for first, last in self._lost(stored, subscription)
        ]
        change = replace(
            change,
            dead=[replace(letter, position=self._place_of(letter)) for letter in letters],
            gaps=[*gaps, *lost],
        )
        (epoch,) = await self._new.leases.lease([name])
        if epoch is None or await self._new.cursors.settle([replace(change, epoch=epoch)]):
            raise _refused("Another process writes to it", "Let nothing else use its prefix meanwhile.")
        await self._new.leases.release([name])
        moved.owed += len(change.put)
        moved.dead_letters += len(change.dead)
        moved.gaps += len(change.gaps)

    def _change(self, name: str, stored: StoredCursor) -> CursorChange:
        floor = self._places.through(stored.state.floor)
        mark = max(floor, self._places.through(stored.state.read_mark))
        rows: list[Owed] = []
        for row in stored.owed:
            place = self._places.of(row.position)
            if place is not None and row.position > self._trimmed:
                rows.append(row._replace(position=place))
        state = CursorState(floor, mark, self._places.ranges(stored.state.settled, floor))
        return CursorChange(name, 0, state, put=rows, reset=True)

    def _lost(self, stored: StoredCursor | None, subscription: Subscription) -> Iterator[tuple[Position, Position]]:
        """What retention trimmed before it was read, and the source had not noticed yet."""
        floor = subscription.start if stored is None else stored.state.read_mark
        if floor < self._trimmed:
            yield Position(floor + 1), self._trimmed
        for row in () if stored is None else stored.owed:
            if row.position <= min(floor, self._trimmed):
                yield row.position, row.position

    def _place_of(self, letter: DeadLetter) -> Position:
        place = self._places.of(letter.position)
        assert place is not None  # Those that are not kept any more were appended first.
        return place

    async def _move_attempts(self, name: str, moved: Counts) -> None:
        kept: list[Attempt] = []
        for attempt in reversed(await self._old.attempts.list(name, None, ALL)):
            place = self._places.of(attempt.position)
            if place is not None:
                kept.append(replace(attempt, position=place))
        there = len(await self._new.attempts.list(name, None, ALL))
        for start in range(there, len(kept), CALL_EVENTS):
            await self._new.attempts.record(kept[start : start + CALL_EVENTS])
        moved.attempts += len(kept)

    async def _move_rejected(self, moved: Counts) -> None:
        for source in await self._source.rejecting():
            numbers = [one.number for one in reversed(await self._old.rejections.list(source, None, ALL))]
            there = len(await self._new.rejections.list(source, None, ALL))
            for number in numbers[there:]:
                rejected = await self._old.rejections.get(source, number)
                assert isinstance(rejected, Rejected)  # Nobody else uses the source.
                await self._new.rejections.keep(rejected)
            moved.rejected += len(numbers)

    async def _move_documents(self, moved: Counts) -> None:
        there = {document.key: document.body for document in await self._new.settings.list("")}
        wanted = await self._documents()
        for done, (key, body) in enumerate(wanted.items(), 1):
            if there.get(key) != body:
                await self._new.settings.put(key, body)
            self._progress("settings", done, len(wanted))
        moved.documents = len(wanted)

    async def _documents(self) -> Mapping[str, bytes]:
        """Returns the settings as the target should have them."""
        return {
            document.key: self._document(document)
            for document in await self._old.settings.list("")
            if document.key not in (NAME_KEY, MARKER)
        }

    def _document(self, document: Document) -> bytes:
        if document.key.startswith(notice_documents.PREFIX):
            return notice_documents.move_batches(document, self._places.of)
        if not document.key.startswith(PREFIX):
            return document.body
        subscription = read_document(document)
        return write_document(replace(subscription, start=self._places.through(subscription.start)))

    async def _count(self, subscriptions: Sequence[Subscription]) -> Counts:
        """Counts what is in the target."""
        found, cursors = Counts(subscriptions=len(subscriptions)), self._new.cursors
        reader = _Reader(self._new)
        while await reader.next() is not None:
            found.events += 1
        for subscription in subscriptions:
            name = subscription.name.text
            (stored,) = await cursors.load([name])
            found.owed += 0 if stored is None else len(stored.owed)
            found.dead_letters += len(await cursors.dead_letters(name, BEGINNING, ALL))
            found.gaps += len(await cursors.gaps(name))
            found.attempts += len(await self._new.attempts.list(name, None, ALL))
        for source in await self._source.rejecting():
            found.rejected += len(await self._new.rejections.list(source, None, ALL))
        there = {document.key: document.body for document in await self._new.settings.list("")}
        found.documents = sum(there.get(key) == body for key, body in (await self._documents()).items())
        return found


class _Reader:
    """Reads a journal from its beginning, one entry at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._page: Sequence[Entry] = ()
        self._at = 0
        self._after = BEGINNING

    async def next(self) -> Entry | None:
        """Returns the next entry; None at the end."""
        if self._at == len(self._page):
            page = await self._engine.journal.read(self._after, PAGE, PAGE_BYTES)
            self._page, self._at, self._after = page.entries, 0, page.through
            if not self._page:
                return None
        self._at += 1
        return self._page[self._at - 1]


def _calls(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    call: list[Entry] = []
    size = 0
    for entry in entries:
        original = entry.event.original
        more = len(entry.event.body) + (0 if original is None else len(original.body))
        if call and (len(call) == CALL_EVENTS or size + more > CALL_BYTES):
            yield call
            call, size = [], 0
        call.append(entry)
        size += more
    if call:
        yield call


def _check_same(wanted: AcceptedEvent, copied: AcceptedEvent) -> None:
    if wanted._replace(digest=None, original=None) != copied:
        raise Internal(
            Reason.INTERNAL,
            f"The target has event {copied.id!r} where the source has {wanted.id!r}, or has it otherwise.",
        )


def _marker(fingerprint: str, *, complete: bool) -> bytes:
    return json.dumps({"source": fingerprint, "complete": complete}).encode()


def _refused(what: str, hint: str) -> FailedPrecondition:
    return FailedPrecondition(Reason.MIGRATION_REFUSED, f"Nothing can be moved to this storage. {what}.", hint=hint)
