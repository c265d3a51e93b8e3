"""Erasing what is kept of one subscriber.

A block with events for the subscriber is written anew without them, into the lanes' stream, and the journal's message is deleted and
overwritten (`journal_blocks` says how the new one is found). Every step can be made again: as long as the journal has the old block,
that counts, and is found. Of several blocks that stand for one message, since it was written anew more than once, all but the newest
are deleted in the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from certes_broker.engines.nats.attempts import count_of
from certes_broker.engines.nats.block_messages import StoredBlock
from certes_broker.engines.nats.connection import Connection, Refusal
from certes_broker.engines.nats.deleting import Deletion
from certes_broker.engines.nats.journal_blocks import JournalBlocks
from certes_broker.engines.nats.keepsakes import is_letter_for
from certes_broker.engines.nats.publishing import Message, Publisher
from certes_broker.engines.nats.reading import Reader
from certes_broker.engines.nats.subjects import Names

REMAINS: Final = (
    "Former settings of its subscriptions, what it was to be told of them, and where those had come to, in the servers' files until they are compacted.",
    "What was stored lately in the logs by which servers of a cluster agree, until they have taken their next snapshot.",
    "Blocks of events in the memory of other brokers, until they ask next what the journal holds: for retention, or when asked whether they are ready.",
)


class Deletions(NamedTuple):
    """How messages of each stream are deleted."""

    journal: Deletion
    lanes: Deletion
    attempts: Deletion
    rejected: Deletion


class NatsErasure:
    """Erases. `readers` are those of lanes and of attempts; `forget` is called when blocks have changed."""

    def __init__(
        self,
        connection: Connection,
        publisher: Publisher,
        names: Names,
        blocks: JournalBlocks,
        readers: tuple[Reader, Reader],
        deletions: Deletions,
        forget: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._names = names
        self._blocks = blocks
        self._lanes, self._attempts = readers
        self._deletions = deletions
        self._forget = forget

    @property
    def remains(self) -> tuple[str, ...]:
        return REMAINS

    @asynccontextmanager
    async def wiping(self) -> AsyncIterator[None]:
        for deletion in self._deletions:
            deletion.overwrites = True
        try:
            yield
        finally:
            for deletion in self._deletions:
                deletion.overwrites = False

    async def events(self, subscriber: str) -> int:
        erased = 0
        state = await self._blocks.state()
        async for block in self._blocks.between(state.first, state.last):
            if block.is_for(subscriber):
                erased += await self._write_anew(block, subscriber)
        self._forget()
        await self._delete_replaced()
        return erased

    async def dead_letters(self, subscriber: str) -> int:
        erased = 0
        async for kept in self._lanes.messages(self._names.dead_letters):
            if is_letter_for(kept.payload, subscriber):
                await self._deletions.lanes.one(kept.sequence)
                erased += 1
        return erased

    async def attempts(self, subscriber: str) -> int:
        erased = 0
        async for kept in self._attempts.messages(self._names.attempts_of_all(subscriber)):
            await self._deletions.attempts.one(kept.sequence)
            erased += count_of(kept.payload)
        return erased

    async def _write_anew(self, block: StoredBlock, subscriber: str) -> int:
        payload, headers, erased = block.without(subscriber)
        try:
            await self._publisher.store(Message(self._names.anew(block.sequence), payload, headers))
        except Refusal as refusal:
            raise self._connection.unavailable(refusal) from refusal
        await self._deletions.journal.one(block.sequence)
        return erased

    async def _delete_replaced(self) -> None:
        newest: dict[str, int] = {}
        async for kept in self._lanes.messages(self._names.anew("*")):
            if kept.subject in newest:
                await self._deletions.lanes.one(newest[kept.subject])
            newest[kept.subject] = kept.sequence
