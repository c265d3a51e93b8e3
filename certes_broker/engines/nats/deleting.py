"""Deleting messages of a stream: as servers do it, or so that their bytes are written over.

A purge takes many messages away at once, whose bytes stay in the servers' files until those are compacted. A message that is
deleted by itself is overwritten, on every server, where that is asked for.
"""

from __future__ import annotations

from certes_broker.engines.nats.connection import NO_MESSAGE, Connection, Refusal
from certes_broker.engines.nats.reading import Reader


class Deletion:
    """Deletes messages of one stream. Each call can be made again."""

    def __init__(self, connection: Connection, stream: str, reader: Reader) -> None:
        self._connection = connection
        self._stream = stream
        self._reader = reader
        self.overwrites = False
        """Whether what is deleted is written over."""

    async def one(self, sequence: int) -> None:
        """Deletes one message. Raises `Unavailable`."""
        try:
            await self._connection.try_api(
                f"STREAM.MSG.DELETE.{self._stream}", {"seq": sequence, "no_erase": not self.overwrites}
            )
        except Refusal as refusal:
            # It is gone already, if an earlier answer was lost.
            if refusal.error_code != NO_MESSAGE and await self._reader.at(sequence) is not None:
                raise self._connection.unavailable(refusal) from refusal

    async def all(self, pattern: str) -> int:
        """Deletes the messages of subjects; returns how many there were. Raises `Unavailable`."""
        if not self.overwrites:
            answer = await self._connection.api(f"STREAM.PURGE.{self._stream}", {"filter": pattern})
            return int(answer.get("purged", 0))
        deleted = 0
        async for kept in self._reader.messages(pattern):
            await self.one(kept.sequence)
            deleted += 1
        return deleted
