"""Blocks that are under way together: whatever becomes of each, nothing is stored twice, out of its place, or misjudged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import count
from typing import Final, cast

from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import CertesError, Invalid, Reason, Unavailable
from certes_broker.domain.events import AcceptedEvent, Entry, Micros
from certes_broker.engines.feed import Feeds
from certes_broker.engines.nats.appends import Appends, Outcome
from certes_broker.engines.nats.block_messages import About, StoredBlock, first_position, headers_of, payload_of
from certes_broker.engines.nats.connection import Refusal
from certes_broker.engines.nats.ids import Ids
from certes_broker.engines.nats.journal_blocks import JournalBlocks
from certes_broker.engines.nats.publishing import Message, Publisher, Stored
from certes_broker.engines.nats.reading import Kept, StreamState
from certes_broker.engines.nats.subjects import Names
from certes_broker.engines.nats.turns import Turns
from tests.contracts.engine_harness import as_read, event
from tests.fakes.manual_clock import ManualClock

WINDOW: Final = 86_400_000_000
KEY: Final = b"k" * 16
STORED, LOST, GONE, REFUSED, TOO_LARGE = "stored", "answer lost", "never arrived", "refused", "too large"
SENT_AGAIN = "stored, and known when it was sent again"
IDS: Final = st.sampled_from(["", "", "a", "b", "c", "d"])
FATES: Final = st.tuples(
    st.sampled_from([STORED, STORED, STORED, LOST, GONE, REFUSED, TOO_LARGE, SENT_AGAIN]), st.booleans()
)
WRITES: Final = st.lists(st.lists(st.lists(IDS, min_size=1, max_size=3), min_size=1, max_size=5), max_size=4)


class Stream(Publisher):
    """A stream as the servers keep it, and what becomes of each message or batch that one writer sends.

    A fate is what happens, and whether another writer, who knows all that is stored, comes first.
    """

    def __init__(self, fates: Sequence[tuple[str, bool]]) -> None:
        self._fates = list(fates)
        self._numbers = count(1)
        self.kept: list[Kept] = []
        self.sent: list[int] = []
        """How many blocks were sent at once, each time."""
        self._fitting: list[Message] = []

    def identified(self, message: Message) -> Message:
        return message._replace(headers={**message.headers, "Nats-Msg-Id": str(next(self._numbers))})

    async def store(self, message: Message, reserve: int = 0) -> Stored:
        fate = self._next(1, reserve)
        if fate == TOO_LARGE and message in self._fitting:
            fate = STORED
        known = self._known(message)
        if known is not None and fate in (STORED, SENT_AGAIN):
            return Stored(known, duplicate=True)
        is_taken = fate in (STORED, LOST, SENT_AGAIN) and known is None and self._take([message])
        await asyncio.sleep(0)
        if fate in (LOST, GONE):
            raise Unavailable(Reason.STORAGE_UNAVAILABLE, fate)
        if fate == TOO_LARGE:
            raise Invalid(Reason.REQUEST_TOO_LARGE, fate)
        if fate == REFUSED:
            raise Refusal({"err_code": 10_023, "description": "insufficient resources"})
        if not is_taken:
            raise Refusal({"err_code": 10_071})
        return Stored(len(self.kept), duplicate=fate == SENT_AGAIN)

    async def store_together(self, messages: Sequence[Message], reserve: int = 0) -> Sequence[Stored] | None:
        fate = self._next(len(messages), reserve)
        assert not any("Nats-Expected-Last-Sequence" in message.headers for message in messages[1:])
        is_taken = fate in (STORED, LOST, SENT_AGAIN) and self._take(messages)
        await asyncio.sleep(0)
        if fate == TOO_LARGE:
            raise Invalid(Reason.REQUEST_TOO_LARGE, fate)
        self._fitting += messages
        if fate != STORED or not is_taken:
            return None
        first = len(self.kept) - len(messages) + 1
        return [Stored(first + index, duplicate=False) for index in range(len(messages))]

    def _next(self, number: int, reserve: int) -> str:
        assert reserve
        self.sent.append(number)
        fate, is_overtaken = self._fates.pop(0) if self._fates else (STORED, False)
        if is_overtaken:
            self._come_first(len(self._fates))
        return fate

    def _known(self, message: Message) -> int | None:
        ids = [kept.headers["Nats-Msg-Id"] for kept in self.kept]
        return ids.index(message.headers["Nats-Msg-Id"]) + 1 if message.headers["Nats-Msg-Id"] in ids else None

    def _take(self, messages: Sequence[Message]) -> bool:
        if messages[0].headers["Nats-Expected-Last-Sequence"] != str(len(self.kept)):
            return False
        for message in messages:
            self.kept.append(Kept(len(self.kept) + 1, message.subject, message.headers, message.payload))
        return True

    def _come_first(self, number: int) -> None:
        """Stores a block of another writer, unless it would know what is in it."""
        ids = Ids(ManualClock(), WINDOW, KEY)
        for block in self.blocks:
            ids.remember(block.fingerprints, block.first, block.stored)
        admission = ids.admit([[event("abcd"[number % 4])]], first_position(len(self.kept) + 1), {})
        if admission.fresh:
            about = About(1, ManualClock().now(), Micros(0), 0)
            headers = headers_of(about, admission.fingerprints) | {"Nats-Msg-Id": f"other-{len(self.kept)}"}
            self.kept.append(Kept(len(self.kept) + 1, "other", headers, payload_of(admission.fresh)))

    @property
    def blocks(self) -> Sequence[StoredBlock]:
        return list(map(StoredBlock, self.kept))

    @property
    def entries(self) -> Sequence[Entry]:
        return [entry for block in self.blocks for entry in block.entries(0, block.count)]

    async def state(self) -> StreamState:
        return StreamState(1, len(self.kept), len(self.kept), 0, 0)

    async def at(self, sequence: int) -> StoredBlock | None:
        return self.blocks[sequence - 1] if sequence <= len(self.kept) else None

    async def between(self, first: int, through: int) -> AsyncIterator[StoredBlock]:
        for block in self.blocks[first - 1 : through]:
            yield block


class Nobody(Turns):
    """Turns that nobody else wants."""

    def __init__(self) -> None:
        self._wanted = 0


class Writer:
    """What writes to a stream, two events of a call or so to a block."""

    def __init__(self, stream: Stream) -> None:
        tail: Feeds[Sequence[Entry]] = Feeds(1 << 20)
        clock = ManualClock()
        self._tail = tail.open()
        self._made = 0
        self.appends = Appends(
            stream,
            cast(JournalBlocks, stream),  # of which it reads
            Names("certes"),
            Ids(clock, WINDOW, KEY),
            tail,
            clock,
            Nobody(),
            lambda: 0.0,
        )
        self.appends.block_bytes = 600

    def calls(self, ids: Sequence[Sequence[str]]) -> Sequence[Sequence[AcceptedEvent]]:
        return [[self._event(event_id) for event_id in call] for call in ids]

    def _event(self, event_id: str) -> AcceptedEvent:
        self._made += 1
        return event(event_id) if event_id else event(body=f"made {self._made}".encode())

    async def tail(self, number: int) -> Sequence[Entry]:
        """Returns so many entries of the tail."""
        entries: list[Entry] = []
        while len(entries) < number:
            entries += [entry._replace(event=as_read(entry.event)) for entry in await anext(self._tail)]
        return entries


def judge(calls: Sequence[Sequence[AcceptedEvent]], outcomes: Sequence[Outcome], stream: Stream) -> int:
    """Holds what was answered against what is stored; returns how many events were said to be new."""
    stored = {entry.position: entry.event for entry in stream.entries}
    new = 0
    assert len(outcomes) == len(calls)
    for call, outcome in zip(calls, outcomes, strict=True):
        if isinstance(outcome, CertesError):
            continue
        for sent, appended in zip(call, outcome, strict=True):
            assert stored[appended.position].body == sent.body
            new += not appended.duplicate
    return new


@given(WRITES, st.lists(FATES, max_size=12))
def test_whatever_becomes_of_blocks_each_event_is_stored_once_where_it_was_said(
    writes: list[list[list[str]]], fates: list[tuple[str, bool]]
) -> None:
    async def run() -> None:
        stream = Stream(fates)
        writer = Writer(stream)
        new = 0
        for ids in writes:
            calls = writer.calls(ids)
            new += judge(calls, await writer.appends.write(calls), stream)
        writer.appends.doubt()
        assert await writer.appends.write([()]) == [[]]
        bodies = [entry.event.body for entry in stream.entries]
        assert len(set(bodies)) == len(bodies)
        assert new <= len(bodies)
        assert await writer.tail(len(bodies)) == stream.entries

    asyncio.run(run())


async def test_what_waits_is_sent_at_once_and_stored_together() -> None:
    stream = Stream([])
    writer = Writer(stream)
    calls = writer.calls([["", ""], ["a", ""], ["b", "a"]])
    assert judge(calls, await writer.appends.write(calls), stream) == 5
    assert [block.count for block in stream.blocks] == [2, 2, 1]
    assert stream.sent == [3]


async def test_when_another_comes_first_all_is_judged_by_what_it_wrote() -> None:
    stream = Stream([(STORED, True)])
    writer = Writer(stream)
    calls = writer.calls([["", ""], ["a", "b"]])  # the other has stored one of these
    assert judge(calls, await writer.appends.write(calls), stream) == 3
    assert [block.count for block in stream.blocks] == [1, 2, 1]


async def test_the_first_block_by_itself_tells_that_all_are_stored_whose_answer_was_lost() -> None:
    stream = Stream([(LOST, False)])
    writer = Writer(stream)
    calls = writer.calls([["", ""], ["a", "b"], ["c"]])
    assert judge(calls, await writer.appends.write(calls), stream) == 5
    assert stream.sent == [3, 1]


async def test_it_takes_their_place_where_they_never_arrived_and_the_others_come_behind_it() -> None:
    stream = Stream([(GONE, False), (SENT_AGAIN, False)])
    writer = Writer(stream)
    calls = writer.calls([["", ""], ["a", "b"], ["c"]])
    assert judge(calls, await writer.appends.write(calls), stream) == 5
    assert stream.sent == [3, 1, 2]


async def test_where_nothing_is_answered_nothing_is_said_of_any() -> None:
    stream = Stream([(LOST, False), (GONE, False)])
    writer = Writer(stream)
    calls = writer.calls([["", ""], ["a", "b"]])
    for outcome in await writer.appends.write(calls):
        assert isinstance(outcome, Unavailable)
    assert len(stream.entries) == 4
    assert [
        [one.duplicate for one in call]
        for call in await writer.appends.write(calls[1:])
        if not isinstance(call, CertesError)
    ] == [[True, True]]


async def test_as_long_as_others_write_too_blocks_are_sent_one_by_one() -> None:
    stream = Stream([(STORED, True)])
    writer = Writer(stream)
    for _ in range(4):
        calls = writer.calls([["", ""]] * 3)
        judge(calls, await writer.appends.write(calls), stream)
    assert stream.sent == [3, 1, *[1] * 9, 3]
