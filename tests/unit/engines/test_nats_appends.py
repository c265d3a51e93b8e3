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
IDS: Final = st.sampled_from(["", "", "a", "b", "c", "d"])
FATES: Final = st.tuples(st.sampled_from([STORED, STORED, STORED, LOST, GONE, REFUSED, TOO_LARGE]), st.booleans())
WRITES: Final = st.lists(st.lists(st.lists(IDS, min_size=1, max_size=3), min_size=1, max_size=5), max_size=4)


class Stream(Publisher):
    """A stream as the servers keep it, and what becomes of each message that one writer sends.

    A fate is what happens, and whether another writer, who knows all that is stored, comes first with an id of the same kind.
    """

    def __init__(self, fates: Sequence[tuple[str, bool]]) -> None:
        self._fates = list(fates)
        self._numbers = count(1)
        self.kept: list[Kept] = []
        self.at_once = 0
        self._under_way = 0

    def identified(self, message: Message) -> Message:
        return message._replace(headers={**message.headers, "Nats-Msg-Id": str(next(self._numbers))})

    async def store(self, message: Message, reserve: int = 0) -> Stored:
        assert reserve
        fate, is_overtaken = self._fates.pop(0) if self._fates else (STORED, False)
        if is_overtaken:
            self._come_first(len(self._fates))
        refusal = self._take(message) if fate in (STORED, LOST) else None
        sequence = len(self.kept)
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        await asyncio.sleep(0)
        self._under_way -= 1
        if fate in (LOST, GONE):
            raise Unavailable(Reason.STORAGE_UNAVAILABLE, fate)
        if fate == TOO_LARGE:
            raise Invalid(Reason.REQUEST_TOO_LARGE, fate)
        if fate == REFUSED:
            raise Refusal({"err_code": 10_023, "description": "insufficient resources"})
        if refusal:
            raise Refusal({"err_code": refusal})
        return Stored(sequence, duplicate=False)

    def _take(self, message: Message) -> int | None:
        if message.headers["Nats-Expected-Last-Sequence"] != str(len(self.kept)):
            return 10_071
        last = self.kept[-1].headers.get("Nats-Msg-Id") if self.kept else None
        if message.headers.get("Nats-Expected-Last-Msg-Id", last) != last:
            return 10_070
        self.kept.append(Kept(len(self.kept) + 1, message.subject, message.headers, message.payload))
        return None

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


async def test_what_waits_is_sent_without_waiting_for_answers_between() -> None:
    stream = Stream([])
    writer = Writer(stream)
    calls = writer.calls([["", ""], ["a", ""], ["b", "a"]])
    assert judge(calls, await writer.appends.write(calls), stream) == 5
    assert [block.count for block in stream.blocks] == [2, 2, 1]
    assert stream.at_once == 3


async def test_a_block_that_follows_one_whose_place_another_took_is_not_stored_there() -> None:
    """The second would have its place, but was judged without what the other wrote."""
    stream = Stream([(STORED, True)])
    writer = Writer(stream)
    calls = writer.calls([["", ""], ["a", "b"]])  # the other has stored one of these
    outcomes = await writer.appends.write(calls)
    assert judge(calls, outcomes, stream) == 3
    assert [block.count for block in stream.blocks] == [1, 2, 1]


async def test_who_is_stored_tells_that_those_before_are() -> None:
    stream = Stream([(LOST, False), (STORED, False)])
    writer = Writer(stream)
    calls = writer.calls([["", ""], ["a", "b"]])
    assert judge(calls, await writer.appends.write(calls), stream) == 4


async def test_of_a_block_whose_answer_is_lost_nothing_is_said_and_those_behind_it_are_stored_after_it() -> None:
    stream = Stream([(LOST, False), (GONE, False), (STORED, False)])
    writer = Writer(stream)
    calls = writer.calls([["", ""], ["a", "b"], ["c", "d"]])
    first, second, third = await writer.appends.write(calls)
    assert isinstance(first, Unavailable)
    assert isinstance(second, Unavailable)
    assert judge(calls, [first, second, third], stream) == 2
    assert [block.count for block in stream.blocks] == [2, 2]


async def test_as_long_as_others_write_too_blocks_are_sent_one_by_one() -> None:
    stream = Stream([(STORED, True)])
    writer = Writer(stream)
    at_once: list[int] = []
    for _ in range(4):
        stream.at_once = 0
        calls = writer.calls([["", ""]] * 3)
        judge(calls, await writer.appends.write(calls), stream)
        at_once.append(stream.at_once)
    assert at_once == [3, 1, 1, 3]
