"""Appending to the journal: whatever waits becomes one block, which is one message.

Rules
-----
* A call is in one block, whole: one message is stored or not.
* A block says which sequence it expects to follow. So a block is stored only by a writer that has seen all before it, and
  has judged by all their ids; and what is sent again because an answer was lost is not stored twice.
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
from itertools import count
from random import SystemRandom
from typing import Final

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
from certes_broker.engines.nats.ids import Fingerprint, Ids
from certes_broker.engines.nats.journal_blocks import JournalBlocks
from certes_broker.engines.nats.publishing import Message, Publisher
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
NEWS: Final = 0.05
"""Seconds in which the block that came before is to come by itself."""

CHANCE: Final = SystemRandom().random

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

Call = Sequence[AcceptedEvent]
Outcome = Sequence[Appended] | CertesError


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
        outcomes: list[Outcome] = []
        for block in self._blocks(calls):
            try:
                outcomes += await self._append(block)
            except CertesError as error:
                outcomes += [error] * len(block)
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

    async def _append(self, calls: Sequence[Call]) -> Sequence[Outcome]:
        loop = asyncio.get_running_loop()
        end = loop.time() + CONTENDING
        pauses = count()
        if self._turns.is_wanted(self._others_sequence):
            await self._hear_of(self.last_sequence + 1, COURTESY)
        while True:
            async with self._turn:
                outcomes = await self._try(calls)
                sequence = self.last_sequence + 1
            if outcomes is not None:
                return outcomes
            if loop.time() >= end:
                break
            if self.follows:
                await self._turns.ask(sequence)
                if await self._hear_of(sequence, NEWS):
                    self._is_certain = True
            await asyncio.sleep(self._chance() * PAUSE * next(pauses))
        raise Unavailable(Reason.STORAGE_UNAVAILABLE, "Others write to the journal all the time.", retry_after=1.0)

    async def _try(self, calls: Sequence[Call]) -> Sequence[Outcome] | None:
        if not self._is_certain:
            await self._catch_up()
        sequence = self.last_sequence + 1
        admission = self._ids.admit(calls, first_position(sequence))
        if not admission.fresh or await self._store(sequence, admission.fresh, admission.fingerprints):
            return admission.outcomes
        return None

    async def _hear_of(self, sequence: int, within: float) -> bool:
        """Waits a little for a block of another; says whether it came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self.last_sequence < sequence:
                    self._news.clear()
                    await self._news.wait()
        return self.last_sequence >= sequence

    async def _store(self, sequence: int, events: Call, fingerprints: Sequence[Fingerprint]) -> bool:
        """Stores a block; says whether it was. If not, there is something to catch up with."""
        types = {event.type for event in events}
        now, latest = self._clock.now(), max(self.latest, *(event.accept_time for event in events))
        payload = payload_of(events)
        about = About(len(events), now, Micros(latest), self.total + len(payload) + ID_BYTES * len(events))
        headers = headers_of(about, fingerprints)
        headers["Nats-Expected-Last-Sequence"] = str(sequence - 1)
        subject = self._names.block(types.pop() if len(types) == 1 else None)
        try:
            stored = await self._publisher.store(Message(subject, payload, headers), RESERVE)
        except Refusal as refusal:
            self._is_certain = False
            if refusal.error_code == WRONG_LAST_SEQUENCE:
                return False
            raise _refused(refusal) from refusal
        except Invalid:
            raise  # Too large: it was not sent.
        except BaseException:
            self._is_certain = False
            raise
        if stored.sequence != sequence:
            self._is_certain = False
            return False
        first = first_position(sequence)
        self._ids.remember(fingerprints, first, now)
        if any(event.original is not None for event in events):
            events = [event._replace(original=None) if event.original else event for event in events]
        entries = list(map(Entry, map(Position, range(first, first + len(events))), events))
        self._committed(sequence, about, entries)
        return True

    def _committed(self, sequence: int, about: About, entries: Sequence[Entry]) -> None:
        size = about.total - self.total
        self.last_sequence = sequence
        self._news.set()
        self.last = Position(first_position(sequence) + about.events - 1)
        self.latest, self.total = about.latest, about.total
        if entries:  # Of what another member stored, all may have been erased before it was heard of.
            self._tail.publish(entries, tail_weight(len(entries), size))

    def _blocks(self, calls: Sequence[Call]) -> Iterator[Sequence[Call]]:
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


def _refused(refusal: Refusal) -> Unavailable:
    return Unavailable(
        Reason.STORAGE_UNAVAILABLE, f"The journal's stream refuses to store: {refusal}.", retry_after=1.0
    )
