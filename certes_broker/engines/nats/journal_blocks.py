"""The blocks of the journal, wherever they are.

A block is a message of the journal's stream, or, once events were erased from it, one of the lanes' stream that stands for it: a
message cannot be written over, and its sequence is a part of positions. The new one is stored first, and then the old one is
deleted. So wherever a message is missing there is a block that stands for it, unless it was trimmed.

Rules
-----
* The journal's own message counts as long as it is there.
* A stream forgets about missing messages before its first. So what the journal begins with is looked for among the blocks that
  stand for others, whenever the first message is another than before, and as long as the journal begins with such blocks: that they
  are trimmed does not show in its own stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from certes_broker.engines.nats.block_messages import StoredBlock
from certes_broker.engines.nats.reading import ALL, PAGE, PAGE_BYTES, Reader, StreamState
from certes_broker.engines.nats.subjects import Names


class JournalBlocks:
    """Reads blocks. `journal` and `lanes` read those streams."""

    def __init__(self, journal: Reader, lanes: Reader, names: Names) -> None:
        self._journal = journal
        self._lanes = lanes
        self._names = names
        self._first = 1
        """The sequence of the first message at the last look."""
        self._anew: frozenset[int] = frozenset()
        """The sequences for which there were blocks elsewhere at the last look."""

    async def state(self) -> StreamState:
        """Returns what the leader knows of the journal, whose first block need not be its first message."""
        state = await self._journal.state()
        if state.first != self._first or state.first - 1 in self._anew:
            await self._look()
            self._first = state.first
        first = state.first
        while first - 1 in self._anew:
            first -= 1
        return state._replace(first=first)

    async def at(self, sequence: int) -> StoredBlock | None:
        """Returns the block of a sequence."""
        found = None
        async for block in self.between(sequence, sequence, page=1):
            found = block
        return found

    async def between(
        self, first: int, through: int, *, page: int = PAGE, page_bytes: int = PAGE_BYTES
    ) -> AsyncIterator[StoredBlock]:
        """Yields the blocks from one sequence to another, which the leader has, in order."""
        following = first
        async for kept in self._journal.between(ALL, first - 1, through, page=page, page_bytes=page_bytes):
            async for block in self._missing(following, kept.sequence - 1):
                yield block
            yield StoredBlock(kept)
            following = kept.sequence + 1
        async for block in self._missing(following, through):
            yield block

    async def headers(self, first: int, through: int) -> AsyncIterator[StoredBlock]:
        """Yields the blocks from one sequence to another, most of them without their payloads, in order."""
        following = first
        async for kept in self._journal.headers(first, through):
            async for block in self._missing(following, kept.sequence - 1):
                yield block
            yield StoredBlock(kept)
            following = kept.sequence + 1
        async for block in self._missing(following, through):
            yield block

    async def trimmed(self, first: int) -> frozenset[int]:
        """Returns for which sequences before another, the first that is kept, there are blocks elsewhere."""
        await self._look()
        return frozenset(sequence for sequence in self._anew if sequence < first)

    async def _missing(self, first: int, last: int) -> AsyncIterator[StoredBlock]:
        """Yields what stands for messages that are not there."""
        if any(sequence not in self._anew for sequence in range(first, last + 1)):
            await self._look()
        for sequence in sorted(sequence for sequence in self._anew if first <= sequence <= last):
            kept = await self._lanes.last(self._names.anew(sequence))
            if kept is not None:
                yield StoredBlock(kept._replace(sequence=sequence))

    async def _look(self) -> None:
        subjects = await self._lanes.subjects(self._names.anew("*"))
        self._anew = frozenset(int(subject.rpartition(".")[2]) for subject in subjects)
