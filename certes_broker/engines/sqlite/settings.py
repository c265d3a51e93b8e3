"""The settings documents. Revisions are one counter over all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from certes_broker.domain.errors import CertesError
from certes_broker.engines.feed import Feed, Feeds
from certes_broker.engines.kept import revision_conflict
from certes_broker.engines.sqlite.connection import Readers
from certes_broker.engines.sqlite.queries import named_queries
from certes_broker.engines.sqlite.writer import WriteQueue
from certes_broker.ports.engine import Document, DocumentChange

QUERIES: Final = named_queries("settings")
COUNTERS: Final = named_queries("cursors")

DOCUMENT_BYTES: Final = 1024
"""What a document adds to the log beside its body, roughly."""


class Change(NamedTuple):
    """A call of `put`, or, without a body, of `delete`."""

    key: str
    body: bytes | None
    expected: int | None


class Changes:
    """A kind of write: changes of documents. The outcome is the new revision; 0 if there was nothing to delete."""

    def __init__(self, feeds: Feeds[DocumentChange]) -> None:
        self._feeds = feeds
        self._revision = 0
        self._committed: list[DocumentChange] = []

    @property
    def ready(self) -> bool:
        return self._feeds.has_room

    def load(self, db: sqlite3.Connection) -> None:
        row = db.execute(COUNTERS["counter"], ("revision",)).fetchone()
        self._revision = 0 if row is None else row[0]

    def apply(self, db: sqlite3.Connection, requests: Sequence[Change]) -> Sequence[int | CertesError]:
        self._committed = []
        outcomes = [self._apply(db, request) for request in requests]
        if self._committed:
            db.execute(COUNTERS["set_counter"], ("revision", self._revision))
        return outcomes

    def announce(self) -> None:
        for change in self._committed:
            self._feeds.publish(change)
        self._committed = []

    def _apply(self, db: sqlite3.Connection, request: Change) -> int | CertesError:
        row = db.execute(QUERIES["revision"], (request.key,)).fetchone()
        present = 0 if row is None else row[0]
        if request.expected is not None and request.expected != present:
            return revision_conflict(request.key, request.expected, present)
        if request.body is None:
            if row is None:
                return 0
            db.execute(QUERIES["delete"], (request.key,))
        else:
            db.execute(QUERIES["put"], (request.key, request.body, self._revision + 1))
        self._revision += 1
        self._committed.append(DocumentChange(request.key, request.body, self._revision))
        return self._revision


class SqliteSettings:
    """The documents: writes go through the writer, reads through connections of their own."""

    def __init__(self, feeds: Feeds[DocumentChange], readers: Readers, queue: WriteQueue[Change, int]) -> None:
        self._feeds = feeds
        self._readers = readers
        self._queue = queue

    async def get(self, key: str) -> Document | None:
        return await self._readers.run(partial(_get, key=key))

    async def list(self, prefix: str) -> Sequence[Document]:
        return await self._readers.run(lambda db: [Document(*row) for row in db.execute(QUERIES["list"], (prefix,))])

    async def refresh(self) -> None:
        """Does nothing: nobody else writes."""

    async def put(self, key: str, body: bytes, expected: int | None = None) -> int:
        return await self._queue.submit(Change(key, body, expected), DOCUMENT_BYTES + len(body))

    async def delete(self, key: str, expected: int | None = None) -> None:
        await self._queue.submit(Change(key, None, expected), DOCUMENT_BYTES)

    def watch(self, prefix: str) -> Feed[DocumentChange]:
        return self._feeds.open(lambda change: change.key.startswith(prefix))


def _get(db: sqlite3.Connection, key: str) -> Document | None:
    row = db.execute(QUERIES["get"], (key,)).fetchone()
    return None if row is None else Document(*row)
