"""The engine port: what keeps events, cursors and settings.

Rules
-----
* An engine only keeps things. What they mean is decided in `domain/`; when to do what, in `broker/`. An engine can be a
  file on this machine or a cluster, so a port method promises atomicity, order and durability, and no transaction spans
  two calls.
* Durable means: when the call returns, what it wrote survives `kill -9` and power loss.
* Every call may raise `Unavailable` (STORAGE_UNAVAILABLE), after which the caller does not know whether the write
  happened. A write may also raise `Internal`, for a fault of the engine's own, which another write of the same commit may
  have brought about; whoever repeats a write after the one does so after the other.
* Writes are made so that doing them again is harmless: appends deduplicate by `(source, id)`, settles carry whole
  states, settings carry the expected revision.
* Engines know nothing of protobuf: an event's body is bytes.
* An engine may be shared by several brokers, the members of a cluster (`ports/cluster.py`). What one writes is there for all;
  what follows changes, `tail` and `watch`, has those of all members.

`tests/contracts/engine_contract.py` is this text as tests; every engine passes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from certes_broker.domain.cursor_state import (
    CursorChange,
    CursorState,
    DeadLetter,
    Gap,
    Owed,
    OwedKind,
    Ranges,
    StoredCursor,
)
from certes_broker.domain.events import AcceptedEvent, Entry, Micros, Original, Position
from certes_broker.ports.cluster import MemberId, Members, Post
from certes_broker.ports.erasure import Erasure

__all__ = [
    "Appended",
    "Attempt",
    "Attempts",
    "Bounds",
    "CursorChange",
    "CursorState",
    "Cursors",
    "DeadLetter",
    "Document",
    "DocumentChange",
    "Engine",
    "Gap",
    "Journal",
    "Leases",
    "Owed",
    "OwedKind",
    "Page",
    "Ranges",
    "Rejected",
    "RejectedSummary",
    "Rejections",
    "Settings",
    "StoredCursor",
]


class Appended(NamedTuple):
    """What became of one appended event: its position, and whether it had been stored before (then the first one's)."""

    position: Position
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Entries read, and how far the reading got: nothing at or below `through` is left to read."""

    entries: Sequence[Entry]
    through: Position


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the journal holds, `bytes` about. What follows is 0 for none: everything at or below `trimmed` was trimmed, `last` is the
    position of the newest event ever appended, `latest` the latest accept time of any, also where a clock went back since.
    """

    trimmed: Position
    last: Position
    bytes: int
    latest: Micros = Micros(0)


class Journal(Protocol):
    """The events, in the order in which they were accepted."""

    async def append(self, events: Sequence[AcceptedEvent]) -> Sequence[Appended]:
        """Appends events as a whole, durably, and returns what became of each, in order.

        Positions grow in the order of the calls' commits and within a call in the order of `events`. An event with a
        digest whose `(source, id)` was appended within the dedupe window (also earlier in the same call) is not stored
        again; with another digest the whole call raises `AlreadyExists` (EVENT_ID_REUSED; metadata `source`, `id`,
        `index`) and nothing of it is stored. Concurrent calls are committed together. Raises `Exhausted` (BUFFER_FULL)
        when more is waiting than the engine's bound.
        """

    def tail(self) -> AsyncIterator[Sequence[Entry]]:
        """Yields every batch committed after this call, whoever appended it, in order of position, duplicates left out.

        One reader at a time. Bounded: a reader that does not keep up holds the appends back.
        """

    async def read(self, after: Position, limit: int, max_bytes: int) -> Page:
        """Reads entries above `after` in order: at most `limit`, and no more once `max_bytes` of bodies are reached.

        At least one entry, if there is one. `through` is the last entry's position, or, with no entry left, the last
        committed position or `after`, whichever is higher.
        """

    async def get(self, position: Position) -> Entry | None:
        """Returns one entry; None if there is none there, or no longer."""

    async def original(self, position: Position) -> Original | None:
        """Returns the foreign webhook that the event at `position` was made of; None if none is kept."""

    async def find(self, source: str, event_id: str) -> Position | None:
        """Returns where the event of this source and id is, if the dedupe window holds it."""

    async def position_at(self, time: Micros) -> Position:
        """Returns the highest position such that every event accepted at `time` or later is above it."""

    async def surplus(self, size: int) -> Position:
        """Returns the position through which events must go for at most `size` bytes to be left, or a little fewer must.

        That is the end of what was trimmed, or 0, where there is no more than that.
        """

    async def trim(self, through: Position) -> Bounds:
        """Forgets the events at or below `through`, or a little fewer: an engine may keep whole pages. Idempotent."""

    async def bounds(self) -> Bounds:
        """Returns what the journal holds."""

    async def room(self) -> int | None:
        """Returns how many bytes can still be stored, roughly; None where nothing that the engine can see bounds it."""

    async def forget_ids(self, before: Micros) -> None:
        """Lets go of dedupe entries of events accepted before `before`, or a little fewer."""


class Cursors(Protocol):
    """The subscriptions' durable positions.

    Each member has a watermark of its own. It speaks for the cursors that this member wrote as level, also when the member
    has ended, and for no others.
    """

    async def load(self, subscriptions: Sequence[str]) -> Sequence[StoredCursor | None]:
        """Returns the cursors of subscriptions, in order; None where there is none."""

    async def settle(self, changes: Sequence[CursorChange], watermark: Position | None = None) -> Sequence[str]:
        """Writes changes durably, each subscription's atomically; many calls share one commit.

        A change whose epoch is not that of the subscription's newest lease (0 where it has none) is left out, and its subscription
        is returned: it was leased again, or forgotten. If `watermark` is given it is this member's from now on, written in the
        same commit as the changes or after them; it never goes back.
        """

    async def watermark(self) -> Position:
        """Returns the highest watermark of all members, also of those that have ended; 0 if none was written."""

    async def dead_letters(
        self, subscription: str, after: Position, limit: int, max_bytes: int | None = None
    ) -> Sequence[DeadLetter]:
        """Returns dead letters of a subscription above a position, by position: at most `limit`, one at least if there is one.

        No more follow once `max_bytes` of their events' bodies are reached.
        """

    async def dead_letter(self, subscription: str, position: Position) -> DeadLetter | None:
        """Returns one dead letter; None if there is none of that position."""

    async def count_dead_letters(self, subscription: str) -> int:
        """Returns how many dead letters a subscription has."""

    async def bury(self, subscription: str, positions: Sequence[Position]) -> int:
        """Forgets dead letters, but those that a row speaks for, and returns how many went. Idempotent."""

    async def expire(self, before: Micros) -> None:
        """Forgets dead letters of before a time, or a little fewer, but those that a row speaks for."""

    async def gaps(self, subscription: str) -> Sequence[Gap]:
        """Returns the gaps of a subscription, oldest first."""

    async def forget(self, subscription: str) -> None:
        """Forgets all about a subscription: cursor, rows, dead letters, gaps and lease. Idempotent."""


class Leases(Protocol):
    """Which member runs which lane. An epoch grows with each lease, so that a settle of a former holder is refused."""

    async def lease(self, subscriptions: Sequence[str]) -> Sequence[int | None]:
        """Takes leases for this member, durably, and returns their epochs in order.

        None where a member that has not ended holds it. A lease that this member holds already keeps its epoch; any other
        gets a higher one than every one before. A cursor that another member wrote as level is level no more then: it
        stands where that one's watermark had brought it.
        """

    async def holders(self, subscriptions: Sequence[str]) -> Sequence[MemberId | None]:
        """Returns who holds the leases, in order; None where nobody does who has not ended."""

    async def release(self, subscriptions: Sequence[str]) -> None:
        """Gives up those of these leases that this member holds."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a webhook delivery.

    `number` counts from 1. `status` is the HTTP status, None without an answer, when `failure` is a stable word. `answer`
    is at most the first 1,024 bytes. `duration` is seconds. `next_try` is None when none follows.
    """

    subscription: str
    position: Position
    number: int
    time: Micros
    duration: float
    status: int | None
    failure: str
    error: str
    answer: bytes
    next_try: Micros | None


class Attempts(Protocol):
    """The log of webhook attempts."""

    async def record(self, attempts: Sequence[Attempt]) -> None:
        """Appends attempts to the log, durably; they share a commit with what else is waiting."""

    async def list(self, subscription: str, position: Position | None, limit: int) -> Sequence[Attempt]:
        """Returns attempts of a subscription, newest first; with `position` only those at that event."""

    async def trim(self, before: Micros) -> None:
        """Forgets attempts made before a time, or a little fewer."""


@dataclass(frozen=True, slots=True)
class RejectedSummary:
    """What is said of a rejected payload in a list: everything but its body, of which `body_bytes` is the length."""

    number: int
    source: str
    time: Micros
    reason: str
    message: str
    verified: bool
    content_type: str
    headers: tuple[tuple[str, str], ...]
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A payload that a source did not take.

    `number` is given by the log, growing and positive; 0 before. `verified` says whether its signature had been accepted.
    """

    source: str
    time: Micros
    reason: str
    message: str
    verified: bool
    payload: Original
    number: int = 0

    @property
    def summary(self) -> RejectedSummary:
        """Returns it without its body."""
        payload = self.payload
        return RejectedSummary(
            self.number,
            self.source,
            self.time,
            self.reason,
            self.message,
            self.verified,
            payload.content_type,
            payload.headers,
            len(payload.body),
        )


class Rejections(Protocol):
    """The log of rejected payloads. A number is never given twice."""

    async def keep(self, rejected: Rejected) -> int:
        """Adds a payload durably and returns its number; its own is ignored. Many calls share one commit."""

    async def list(self, source: str, before: int | None, limit: int) -> Sequence[RejectedSummary]:
        """Returns payloads of a source, newest first: those with numbers below `before`, or all for None."""

    async def get(self, source: str, number: int) -> Rejected | None:
        """Returns a payload; None if it is not kept, or is another source's."""

    async def forget(self, source: str, number: int | None) -> None:
        """Forgets a payload, or all of a source for None. Idempotent."""

    async def trim(self, before: Micros, max_bytes: int, max_unverified: int) -> None:
        """Forgets payloads that came before a time, or a little fewer, and the oldest until the rest fits.

        What is left has at most `max_bytes` of bodies and headers, and each source at most `max_unverified` payloads
        that are not verified. Those go before any that is: anybody can send them.
        """


class Document(NamedTuple):
    """A settings document. Revisions grow over all documents, from 1."""

    key: str
    body: bytes
    revision: int


class DocumentChange(NamedTuple):
    """A change of a document; `body` is None if it was deleted."""

    key: str
    body: bytes | None
    revision: int


class Settings(Protocol):
    """Documents with revisions: subscriptions, schemas, sources, keys."""

    async def get(self, key: str) -> Document | None:
        """Returns a document; None if there is none."""

    async def list(self, prefix: str) -> Sequence[Document]:
        """Returns the documents whose keys begin with `prefix`, by key."""

    async def refresh(self) -> None:
        """Returns when `get` and `list` have all that any member had written before. They are behind others by a moment."""

    async def put(self, key: str, body: bytes, expected: int | None = None) -> int:
        """Writes a document durably and returns its new revision.

        With `expected`, only if its present revision is that (0: there is none), else raises `Aborted`
        (REVISION_CONFLICT; metadata `revision`).
        """

    async def delete(self, key: str, expected: int | None = None) -> None:
        """Deletes a document durably; `expected` as in `put`. Idempotent without `expected`."""

    def watch(self, prefix: str) -> AsyncIterator[DocumentChange]:
        """Yields every change committed after this call, in order of revision. Bounded; a slow reader holds writes back."""


class Engine(Protocol):
    """What keeps events, cursors and settings."""

    @property
    def journal(self) -> Journal: ...

    @property
    def cursors(self) -> Cursors: ...

    @property
    def leases(self) -> Leases: ...

    @property
    def attempts(self) -> Attempts: ...

    @property
    def rejections(self) -> Rejections: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def members(self) -> Members: ...

    @property
    def post(self) -> Post: ...

    @property
    def erasure(self) -> Erasure: ...

    @property
    def weaker(self) -> Sequence[str]:
        """Says which of the promises above this storage does not keep as it is set up, each in a sentence; mostly none."""

    @property
    def waiting(self) -> int:
        """How many writes wait for a commit."""
