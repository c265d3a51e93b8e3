"""The settings documents: a key-value bucket, of which a copy is in memory.

Rules
-----
* A write is answered once the copy has it, and everything before it. So whoever wrote reads what it wrote, and every watch
  has every change in order. What other members change is followed. The bucket keeps the last value of a key alone: of
  changes to one that others make in quick succession, a watch may have the last alone.
* What is expected of a document is checked by the bucket, when it is written.
* A document that was deleted leaves a marker, as in every bucket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from certes_broker.engines.feed import Feed, Feeds
from certes_broker.engines.kept import revision_conflict
from certes_broker.engines.nats.connection import WRONG_LAST_SEQUENCE, Connection, Refusal
from certes_broker.engines.nats.following import Follower
from certes_broker.engines.nats.publishing import EXPECTED, Message, Publisher
from certes_broker.engines.nats.reading import ALL, Kept, Reader
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.engine import Document, DocumentChange

TRIES: Final = 5
"""How often a change that another came before is decided again."""
OPERATION: Final = "KV-Operation"


class NatsSettings:
    """The documents."""

    def __init__(
        self, connection: Connection, publisher: Publisher, reader: Reader, names: Names, feeds: Feeds[DocumentChange]
    ) -> None:
        self.waiting = 0
        self._connection = connection
        self._publisher = publisher
        self._reader = reader
        self._names = names
        self._feeds = feeds
        self._turn = asyncio.Lock()
        self._documents: dict[str, Document] = {}
        self._revision = 0
        self._is_certain = True

    async def open(self) -> None:
        """Reads all documents."""
        await self._catch_up()

    async def follow(self, follower: Follower) -> None:
        """Takes in what others change, for ever."""
        async with aclosing(follower.messages(lambda: self._revision)) as messages:
            async for kept in messages:
                await self._feeds.room()
                async with self._turn:
                    if kept.sequence > self._revision:
                        self._apply(_change_of(self._names, kept))

    async def get(self, key: str) -> Document | None:
        await self._see()
        return self._documents.get(key)

    async def list(self, prefix: str) -> Sequence[Document]:
        await self._see()
        return [self._documents[key] for key in sorted(self._documents) if key.startswith(prefix)]

    async def refresh(self) -> None:
        await self._feeds.room()
        async with self._turn:
            await self._catch_up()

    async def put(self, key: str, body: bytes, expected: int | None = None) -> int:
        return await self._write(DocumentChange(key, body, 0), expected)

    async def delete(self, key: str, expected: int | None = None) -> None:
        await self._write(DocumentChange(key, None, 0), expected)

    def watch(self, prefix: str) -> Feed[DocumentChange]:
        return self._feeds.open(lambda change: change.key.startswith(prefix))

    async def _write(self, change: DocumentChange, expected: int | None) -> int:
        self.waiting += 1
        try:
            async with self._turn:
                await self._feeds.room()
                if not self._is_certain:
                    await self._catch_up()
                return await self._store(change, expected)
        finally:
            self.waiting -= 1

    async def _store(self, change: DocumentChange, expected: int | None) -> int:
        key, body, _ = change
        for _ in range(TRIES):
            await self._expect(key, expected)
            if body is None and expected is None and await self._is_absent(key):
                return 0
            try:
                sequence = await self._try(change, expected)
            except Refusal as refusal:
                if refusal.error_code != WRONG_LAST_SEQUENCE:
                    raise self._connection.unavailable(refusal) from refusal
                await self._catch_up()
            else:
                return sequence
        raise self._connection.unavailable(f"others change {key} all the time")

    async def _try(self, change: DocumentChange, expected: int | None) -> int:
        key, body, _ = change
        headers = {} if body is not None else {OPERATION: "DEL"}
        if expected is not None:
            # To the bucket, a document that was deleted has the revision of its marker.
            headers[EXPECTED] = str(expected or await self._marker(key))
        try:
            stored = await self._publisher.store(Message(self._names.document(key), body or b"", headers))
        except Refusal:
            raise
        except BaseException:  # Not answered, or not waited for: it may be stored.
            self._is_certain = False
            raise
        if stored.sequence == self._revision + 1:
            self._apply(DocumentChange(key, body, stored.sequence))
        else:
            await self._catch_up()
        return stored.sequence

    async def _is_absent(self, key: str) -> bool:
        if key not in self._documents:
            await self._catch_up()
        return key not in self._documents

    async def _marker(self, key: str) -> int:
        kept = await self._reader.last(self._names.document(key))
        return 0 if kept is None or OPERATION not in kept.headers else kept.sequence

    async def _see(self) -> None:
        """Finds out what became of a write that was not answered."""
        if not self._is_certain:
            async with self._turn:
                if not self._is_certain:
                    await self._catch_up()

    async def _catch_up(self) -> None:
        last = (await self._reader.state()).last
        async for kept in self._reader.between(ALL, self._revision, last):
            self._apply(_change_of(self._names, kept))
        self._revision = max(self._revision, last)
        self._is_certain = True

    def _apply(self, change: DocumentChange) -> None:
        self._revision = change.revision
        if change.body is None:
            self._documents.pop(change.key, None)
        else:
            self._documents[change.key] = Document(change.key, change.body, change.revision)
        self._feeds.publish(change)

    async def _expect(self, key: str, expected: int | None) -> None:
        """Refuses what is not expected; what others have done since may be what is."""
        if expected is None or expected == self._present(key):
            return
        await self._catch_up()
        if expected != self._present(key):
            raise revision_conflict(key, expected, self._present(key))

    def _present(self, key: str) -> int:
        document = self._documents.get(key)
        return 0 if document is None else document.revision


def _change_of(names: Names, kept: Kept) -> DocumentChange:
    body = None if OPERATION in kept.headers else kept.payload
    return DocumentChange(names.key(kept.subject), body, kept.sequence)
