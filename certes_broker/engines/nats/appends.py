"""Appending to the journal: whatever waits becomes a block, which is one message, or a few where it is much.

Rules
-----
* A call is in one block, whole: one message is stored or not.
* A block says which sequence it expects to follow. So a block is stored only by a writer that has seen all before it, and
  has judged by all their ids; and what is sent again because an answer was lost is not stored twice.
* Blocks that waited together are one atomic batch: they are sent one behind the other, none waiting for an answer, and stored
  one behind the other or not at all. So they are judged as if they were one.
* A writer that is refused, or does not know what became of its block, takes in what it has not seen before it writes more.
  What it finds is committed, whoever wrote it: its ids are remembered, and it goes to the tail.
* While there are other members, their blocks are followed as they are stored, and taken in between this one's own. So each
  member has the same blocks in the same order, and who is refused has mostly seen already what came before. Who came second
  asks for its turn (`turns`) and goes on trying for a while, since somebody else's success is no failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from random import SystemRandom
from typing import Final, NamedTuple

import structlog

from certes_broker.domain.errors import CertesError, Invalid, Reason, Unavailable
from certes_broker.domain.events import BEGINNING, AcceptedEvent, Entry, Micros, Position
from certes_broker.engines.feed import Feeds
from certes_broker.engines.kept import event_size, tail_weight
from certes_broker.engines.nats.block_messages import (
    MAXIMUM_EVENTS,
    About,
    StoredBlock,
    first_position,
    headers_of,
    payload_of,
)
from certes_broker.engines.nats.connection import AGAIN, WRONG_LAST_SEQUENCE, Refusal
from certes_broker.engines.nats.following import Follower
from certes_broker.engines.nats.ids import Admission, Ids
from certes_broker.engines.nats.journal_blocks import JournalBlocks
from certes_broker.engines.nats.publishing import MESSAGE_ID, Message, Publisher
from certes_broker.engines.nats.reading import Kept
from certes_broker.engines.nats.subjects import Names
from certes_broker.engines.nats.turns import Turns
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Appended

EVENT_BYTES: Final = 256
"""What an event needs in a block beside its body, roughly."""
ID_BYTES: Final = 24
"""What an id needs in the headers, roughly."""
RESERVE: Final = 32 << 10
"""By so many bytes a block is smaller than what the servers take: an event that becomes a dead letter is stored with more."""
CONTENDING: Final = 15.0
"""Seconds for which an append that other writers come before is judged again."""
PAUSE: Final = 0.001
"""Seconds by which the longest pause before that grows with each time."""
COURTESY: Final = 0.02
"""Seconds in which another may take its turn."""
NEAR: Final = 8
"""While one of so many newest blocks is another's, blocks are sent one by one."""
NEWS: Final = 0.05
"""Seconds in which the block that came before is to come by itself."""

CHANCE: Final = SystemRandom().random

FOLLOWS_SEQUENCE: Final = "Nats-Expected-Last-Sequence"

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

Call = Sequence[AcceptedEvent]
Block = Sequence[Call]
Outcome = Sequence[Appended] | CertesError


class _Fate(NamedTuple):
    """How many of the drafts that were sent are stored, and how many of those behind fail; the others are not stored."""

    stored: int
    failed: int = 0
    failure: CertesError | None = None


class _Draft(NamedTuple):
    """A block that is to get a sequence, if it has anything new."""

    sequence: int
    admission: Admission
    about: About
    message: Message | None = None


class Appends:
    """Writes blocks, one after the other. `block_bytes` is where a block of several calls ends."""

    def __init__(
        self,
        publisher: Publisher,
        blocks: JournalBlocks,
        names: Names,
        ids: Ids,
        tail: Feeds[Sequence[Entry]],
        clock: Clock,
        turns: Turns,
        chance: Callable[[], float] = CHANCE,
    ) -> None:
        self._publisher = publisher
        self._stored = blocks
        self._names = names
        self._ids = ids
        self._tail = tail
        self._clock = clock
        self._turns = turns
        self.block_bytes = 1 << 20
        self.batches = True
        """Whether several blocks are one batch: sooner where servers agree on each message, later where one server keeps all."""
        self.last_sequence = 0
        """Of the newest block that is known."""
        self.last = BEGINNING
        """The position of the newest event."""
        self.latest = Micros(0)
        self.total = 0
        """Bytes of all blocks ever stored."""
        self._is_certain = True
        self._turn = asyncio.Lock()
        self._chance = chance
        self.follows = False
        """Whether what others store comes by itself."""
        self._others_sequence = 0
        self._news = asyncio.Event()

    def begin(self, newest: StoredBlock) -> None:
        """Stands after the newest block that there was."""
        self.last_sequence = newest.sequence
        self.last = newest.last
        self.latest = newest.latest
        self.total = newest.total

    def doubt(self) -> None:
        """Lets the next call, be it empty, find what came without this writer."""
        self._is_certain = False

    async def write(self, calls: Sequence[Call]) -> Sequence[Outcome]:
        """Appends calls, and says what became of each."""
        loop = asyncio.get_running_loop()
        end = loop.time() + CONTENDING
        left = list(self._blocks(calls))
        outcomes: list[Outcome] = []
        refused = 0
        while left:
            if not refused and self._turns.is_wanted(self._others_sequence):
                await self._hear_of(self.last_sequence + 1, COURTESY)
            async with self._turn:
                decided = await self._try(left[:1] if refused or self._one_by_one else left)
                sequence = self.last_sequence + 1
            if not decided and loop.time() >= end:
                decided = [[_contended()] * len(block) for block in left]
            for outcome in decided:
                outcomes += outcome
            del left[: len(decided)]
            if decided:
                end = loop.time() + CONTENDING
                refused = 0
                continue
            if self.follows:
                await self._turns.ask(sequence)
                if await self._hear_of(sequence, NEWS):
                    self._is_certain = True
            await asyncio.sleep(self._chance() * PAUSE * refused)
            refused += 1
        return outcomes

    async def follow(self, follower: Follower) -> None:
        """Takes in what others store, for ever."""
        await self._turns.open()
        self.follows = True
        while True:
            try:
                async with aclosing(follower.messages(lambda: self.last_sequence)) as messages:
                    async for kept in messages:
                        if kept.sequence > self.last_sequence:
                            await self._tail.room()
                            await self._follow_with(kept)
            except Unavailable as error:
                log.warning("journal_not_followed", error=str(error))
                await asyncio.sleep(AGAIN)

    async def _follow_with(self, kept: Kept) -> None:
        async with self._turn:
            if kept.sequence == self.last_sequence + 1:
                self._take_in(StoredBlock(kept))
            elif kept.sequence > self.last_sequence:
                await self._catch_up()

    async def _catch_up(self) -> None:
        """Reads the blocks that came without this writer, or whose answers were lost."""
        state = await self._stored.state()
        if state.last < self.last_sequence:
            raise Unavailable(
                Reason.STORAGE_UNAVAILABLE,
                f"The journal's stream ends at {state.last}, and {self.last_sequence} had been stored.",
                hint="The servers have lost what they had acknowledged: restore the stream, or see what is missing.",
            )
        async for block in self._stored.between(self.last_sequence + 1, state.last):
            self._take_in(block)
        self._is_certain = True

    def _take_in(self, block: StoredBlock) -> None:
        self._others_sequence = block.sequence
        self._ids.remember(block.fingerprints, block.first, block.stored)
        about = About(block.count, block.stored, block.latest, block.total)
        self._committed(block.sequence, about, block.entries(0, block.count))

    async def _try(self, blocks: Sequence[Block]) -> Sequence[Sequence[Outcome]]:
        """Stores blocks; returns what became of the first of them, none if another's came first.

        What is not told of was not stored, and is to be judged again.
        """
        try:
            if not self._is_certain:
                await self._catch_up()
        except CertesError as error:
            return [[error] * len(block) for block in blocks]
        drafts = self._drafts(blocks)
        stored, failed, failure = await self._sent([draft for draft in drafts if draft.message is not None])
        decided: list[Sequence[Outcome]] = []
        for draft in drafts:
            outcomes: Sequence[Outcome] = draft.admission.outcomes
            if draft.message is None and failure is None:
                decided.append(outcomes)
            elif draft.message is not None and stored:
                stored -= 1
                self._commit(draft)
                decided.append(outcomes)
            elif failure is not None and failed:
                failed -= draft.message is not None
                decided.append([failure] * len(outcomes))
            else:
                break
        return decided

    def _drafts(self, blocks: Sequence[Block]) -> Sequence[_Draft]:
        drafts: list[_Draft] = []
        sequence, latest, total = self.last_sequence, self.latest, self.total
        added: dict[int, int] = {}
        now = self._clock.now()
        for block in blocks:
            admission = self._ids.admit(block, first_position(sequence + 1), added)
            events = admission.fresh
            if not events:
                drafts.append(_Draft(sequence, admission, About(0, now, latest, total)))
                continue
            sequence += 1
            latest = Micros(max(latest, *(event.accept_time for event in events)))
            payload = payload_of(events)
            total += len(payload) + ID_BYTES * len(events)
            about = About(len(events), now, latest, total)
            headers = headers_of(about, admission.fingerprints)
            if sequence == self.last_sequence + 1:
                headers[FOLLOWS_SEQUENCE] = str(self.last_sequence)
            types = {event.type for event in events}
            subject = self._names.block(types.pop() if len(types) == 1 else None)
            message = self._publisher.identified(Message(subject, payload, headers))
            drafts.append(_Draft(sequence, admission, about, message))
        return drafts

    async def _sent(self, drafts: Sequence[_Draft]) -> _Fate:
        """Sends drafts that have something new. What is not known to be stored, or not to be, is to be looked for."""
        if not drafts:
            return _Fate(0)
        messages = [draft.message for draft in drafts if draft.message is not None]
        certain, self._is_certain = self._is_certain, False
        if len(messages) > 1:
            stored = await self._stored_together(messages)
            if stored == drafts[0].sequence:
                self._is_certain = certain
                return _Fate(len(drafts))
        # The first one by itself tells what became of all, if it is answered: it is known if they are there, and else takes their place.
        try:
            first = await self._publisher.store(messages[0], RESERVE)
            if first.sequence != drafts[0].sequence:
                return _Fate(0)
            if len(messages) > 1 and first.duplicate and await self._has(drafts[1]):
                return _Fate(len(drafts))
        except Invalid as error:
            self._is_certain = certain and len(messages) == 1
            return _Fate(0, 1, error)  # Too large: it was not sent.
        except Unavailable as error:
            return _Fate(0, len(drafts), error)
        except Refusal as refusal:
            if refusal.error_code == WRONG_LAST_SEQUENCE:
                return _Fate(0)
            return _Fate(0, len(drafts), _refused(refusal))
        self._is_certain = certain
        return _Fate(1)

    async def _stored_together(self, messages: Sequence[Message]) -> int | None:
        """Sends an atomic batch; returns the sequence of its first message, None if it is not known to be stored."""
        try:
            stored = await self._publisher.store_together(messages, RESERVE)
        except Invalid:
            return None
        return stored[0].sequence if stored else None

    async def _has(self, draft: _Draft) -> bool:
        """Says whether the block of a draft that was sent behind another, which is stored, is there."""
        block = await self._stored.at(draft.sequence)
        return block is not None and draft.message is not None and block.message_id == draft.message.headers[MESSAGE_ID]

    @property
    def _one_by_one(self) -> bool:
        """Whether no batch is sent: also while others write, who would come before many blocks, and wait for many."""
        return not self.batches or (self._others_sequence > 0 and self.last_sequence - self._others_sequence < NEAR)

    async def _hear_of(self, sequence: int, within: float) -> bool:
        """Waits a little for a block of another; says whether it came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self.last_sequence < sequence:
                    self._news.clear()
                    await self._news.wait()
        return self.last_sequence >= sequence

    def _commit(self, draft: _Draft) -> None:
        if draft.message is None:
            return
        events = draft.admission.fresh
        first = first_position(draft.sequence)
        self._ids.remember(draft.admission.fingerprints, first, draft.about.stored)
        if any(event.original is not None for event in events):
            events = [event._replace(original=None) if event.original else event for event in events]
        entries = list(map(Entry, map(Position, range(first, first + len(events))), events))
        self._committed(draft.sequence, draft.about, entries)

    def _committed(self, sequence: int, about: About, entries: Sequence[Entry]) -> None:
        size = about.total - self.total
        self.last_sequence = sequence
        self._news.set()
        self.last = Position(first_position(sequence) + about.events - 1)
        self.latest, self.total = about.latest, about.total
        if entries:  # Of what another member stored, all may have been erased before it was heard of.
            self._tail.publish(entries, tail_weight(len(entries), size))

    def _blocks(self, calls: Sequence[Call]) -> Iterator[Block]:
        block: list[Call] = []
        count = size = 0
        for call in calls:
            more = sum(map(event_size, call)) + EVENT_BYTES * len(call)
            if block and (count + len(call) > MAXIMUM_EVENTS or size + more > self.block_bytes):
                yield block
                block, count, size = [], 0, 0
            block.append(call)
            count += len(call)
            size += more
        if block:
            yield block


def _contended() -> Unavailable:
    return Unavailable(Reason.STORAGE_UNAVAILABLE, "Others write to the journal all the time.", retry_after=1.0)


def _refused(refusal: Refusal) -> Unavailable:
    return Unavailable(
        Reason.STORAGE_UNAVAILABLE, f"The journal's stream refuses to store: {refusal}.", retry_after=1.0
    )
