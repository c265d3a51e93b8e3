"""Ids that outlive their events: those of the dedupe window whose blocks retention has trimmed.

Ids are in the headers of blocks, and are read from there at the start. So before a block of the window is trimmed, its ids
are written to a message of their own, which goes when the window has passed.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator
from typing import Final

from certes_broker.domain.events import Micros
from certes_broker.engines.nats.block_messages import StoredBlock, first_position
from certes_broker.engines.nats.connection import Connection
from certes_broker.engines.nats.ids import Ids
from certes_broker.engines.nats.publishing import ROLLUP, Message, Publisher
from certes_broker.engines.nats.reading import Kept, Reader
from certes_broker.engines.nats.subjects import Names

NEWEST: Final = "Certes-Newest"
MESSAGE_BYTES: Final = 256 << 10
_BLOCK: Final = struct.Struct(">QQI")
"""Of each block: its sequence, when it was stored, and how many fingerprints follow."""
_PAIR: Final = struct.Struct(">QQ")


class CarriedIds:
    """The messages of ids that outlive their events."""

    def __init__(self, connection: Connection, publisher: Publisher, reader: Reader, names: Names) -> None:
        self._connection = connection
        self._publisher = publisher
        self._reader = reader
        self._names = names
        self._newest: dict[str, Micros] = {}

    async def load(self, ids: Ids) -> None:
        """Lets the ids know those that are carried."""
        async for kept in self._reader.messages(self._names.carried_ids("*")):
            self._newest[kept.subject] = Micros(int(kept.headers[NEWEST]))
            for sequence, stored, fingerprints in _blocks_of(kept):
                ids.remember(fingerprints, first_position(sequence), stored)

    async def carry(self, blocks: AsyncIterator[StoredBlock]) -> None:
        """Writes down the ids of blocks that are going to be trimmed. Done again, it replaces what was written.

        What another broker writes, which trims to another place, stands beside it.
        """
        parts: list[bytes] = []
        size, first, last, newest = 0, 0, 0, Micros(0)
        async for block in blocks:
            if not block.fingerprints:
                continue
            pairs = b"".join([_PAIR.pack(*pair) for pair in block.fingerprints])
            parts += (_BLOCK.pack(block.sequence, block.stored, len(block.fingerprints)), pairs)
            size += len(pairs)
            first, last, newest = first or block.sequence, block.sequence, max(newest, block.stored)
            if size >= MESSAGE_BYTES:
                await self._store(f"{first}-{last}", newest, b"".join(parts))
                parts, size, first, newest = [], 0, 0, Micros(0)
        if parts:
            await self._store(f"{first}-{last}", newest, b"".join(parts))

    async def forget(self, before: Micros) -> None:
        """Lets go of messages whose ids are all of events stored before a time."""
        for subject in [subject for subject, newest in self._newest.items() if newest < before]:
            await self._connection.api(f"STREAM.PURGE.{self._names.lanes}", {"filter": subject})
            del self._newest[subject]

    async def _store(self, blocks: str, newest: Micros, payload: bytes) -> None:
        subject = self._names.carried_ids(blocks)
        outcome = (await self._publisher.store_all([Message(subject, payload, ROLLUP | {NEWEST: str(newest)})]))[0]
        if isinstance(outcome, Exception):
            raise self._connection.unavailable(outcome)
        self._newest[subject] = newest


def _blocks_of(kept: Kept) -> Iterator[tuple[int, Micros, list[tuple[int, int]]]]:
    payload, offset = kept.payload, 0
    while offset < len(payload):
        sequence, stored, count = _BLOCK.unpack_from(payload, offset)
        offset += _BLOCK.size
        end = offset + count * _PAIR.size
        yield sequence, Micros(stored), list(_PAIR.iter_unpack(payload[offset:end]))
        offset = end
