"""The embedded engine: one SQLite database in one directory.

How it works
------------
* One connection writes. Whatever waits becomes one transaction (`writer`), which is on the disk before it is answered:
  `journal_mode = WAL`, `synchronous = FULL`.
* A few connections read, each in a transaction of its own, so that reading never waits for the writer.
* One connection checkpoints (`checkpoints`), beside the writer.
* A lock on the directory keeps other processes out (`directory`), so what the writer keeps in mind is what there is.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from certes_broker.domain.events import Entry, Position
from certes_broker.engines.alone import Alone, NoPost
from certes_broker.engines.feed import Feeds
from certes_broker.engines.sqlite.attempts import Attempts, SqliteAttempts
from certes_broker.engines.sqlite.checkpoints import Checkpointer
from certes_broker.engines.sqlite.connection import PAGE_SIZE, Readers, connect, connected
from certes_broker.engines.sqlite.cursors import Burials, Forgets, Settles, SqliteCursors
from certes_broker.engines.sqlite.directory import held_directory, sync_directory
from certes_broker.engines.sqlite.erasure import Erasures, SqliteErasure
from certes_broker.engines.sqlite.export import rejecting, with_digests_and_originals
from certes_broker.engines.sqlite.ids import Ids
from certes_broker.engines.sqlite.journal import Appends, SqliteJournal, Trims, read_page
from certes_broker.engines.sqlite.leases import Leases, SqliteLeases
from certes_broker.engines.sqlite.rejections import Rejections, SqliteRejections
from certes_broker.engines.sqlite.schema import migrate, migrations
from certes_broker.engines.sqlite.settings import Changes, SqliteSettings
from certes_broker.engines.sqlite.writer import Bound, Writer
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import DocumentChange

MICROS_PER_SECOND: Final = 1_000_000
READERS: Final = 3

CREATING: Final = (f"page_size = {PAGE_SIZE}", "journal_mode = WAL", "synchronous = FULL")
# Some builds overwrite what is deleted with zeros unless told not to, which would make a trim write what it forgets.
WRITING: Final = (
    "secure_delete = OFF",
    "synchronous = FULL",
    "wal_autocheckpoint = 0",
    "cache_size = -65536",
    "temp_store = MEMORY",
)
# The writer is paused while the log is to begin anew, so waiting for readers is short, and tried again later.
CHECKPOINTING: Final = ("synchronous = FULL", "wal_autocheckpoint = 0", "busy_timeout = 100")
READING: Final = ("query_only = ON", "cache_size = -16384")

MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """The engine's bounds.

    `tail_entries` (an entry counts once more for every 4 KiB) may wait for the journal's tail, and `watch_changes` for
    each watch of the settings, before writes of that kind are held back. `append_bytes` and `append_calls` may wait for the disk; more is refused. `log_bytes` bounds
    the write-ahead log: a quarter of it makes the log begin anew, all of it holds the writer back. `checkpoint_seconds`
    is the time between checkpoints.
    """

    tail_entries: int = 16_384
    watch_changes: int = 1_024
    append_bytes: int = 64 * MEBIBYTE
    append_calls: int = 10_000
    other_bytes: int = 16 * MEBIBYTE
    other_calls: int = 10_000
    log_bytes: int = 256 * MEBIBYTE
    checkpoint_seconds: float = 1.0


DEFAULT_LIMITS: Final = Limits()


class SqliteEngine:
    """Keeps events, cursors and settings in a SQLite database. Made by `open`."""

    def __init__(self, ids: Ids, readers: Readers, writer: Writer, limits: Limits) -> None:
        appends = Bound(limits.append_bytes, limits.append_calls, refuses=True)
        others = Bound(limits.other_bytes, limits.other_calls, refuses=False)
        leases = Leases()
        self._members = Alone()
        self._post = NoPost()
        self._readers = readers
        self._writer = writer
        self._tail: Feeds[Sequence[Entry]] = Feeds(limits.tail_entries, writer.wake)
        self._watch: Feeds[DocumentChange] = Feeds(limits.watch_changes, writer.wake)
        self._journal = SqliteJournal(
            ids,
            self._tail,
            readers,
            writer.queue(Appends(ids, self._tail), appends),
            writer.queue(Trims(), others),
            lambda: writer.log_bytes,
        )
        self._leases = SqliteLeases(leases, writer.queue(leases, others), self._members.own)
        self._cursors = SqliteCursors(
            readers,
            writer.queue(Settles(leases), others),
            writer.queue(Burials(), others),
            writer.queue(Forgets(leases), others),
        )
        self._erasure = SqliteErasure(readers, writer.queue(Erasures(), others))
        self._attempts = SqliteAttempts(readers, writer.queue(Attempts(), others))
        self._rejections = SqliteRejections(readers, writer.queue(Rejections(), others))
        self._settings = SqliteSettings(self._watch, readers, writer.queue(Changes(self._watch), others))

    @property
    def journal(self) -> SqliteJournal:
        return self._journal

    @property
    def cursors(self) -> SqliteCursors:
        return self._cursors

    @property
    def leases(self) -> SqliteLeases:
        return self._leases

    @property
    def attempts(self) -> SqliteAttempts:
        return self._attempts

    @property
    def rejections(self) -> SqliteRejections:
        return self._rejections

    @property
    def settings(self) -> SqliteSettings:
        return self._settings

    @property
    def members(self) -> Alone:
        return self._members

    @property
    def post(self) -> NoPost:
        return self._post

    @property
    def weaker(self) -> Sequence[str]:
        return ()

    @property
    def erasure(self) -> SqliteErasure:
        return self._erasure

    @property
    def waiting(self) -> int:
        return self._writer.waiting

    async def entries(self, after: Position, limit: int, max_bytes: int) -> Sequence[Entry]:
        """Returns entries as `journal.read`, with their originals, and with their digests as long as ids are known."""

        def read(db: sqlite3.Connection) -> Sequence[Entry]:
            return with_digests_and_originals(db, read_page(db, after, limit, max_bytes).entries)

        return await self._readers.run(read)

    async def rejecting(self) -> Sequence[str]:
        """Returns the sources that have rejected payloads, by name."""
        return await self._readers.run(rejecting)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, directory: Path, clock: Clock, *, dedupe_window: float = 86400.0, limits: Limits = DEFAULT_LIMITS
    ) -> AsyncIterator[SqliteEngine]:
        """Opens the engine on a directory, which it makes if it is absent, and holds it. Leaving commits what waits.

        `dedupe_window` is seconds. Raises `FailedPrecondition`: DATA_DIR_LOCKED if another engine holds the directory,
        STORAGE_UNAVAILABLE if it cannot be used, or its database is of a newer version or another program; and
        `Unavailable` (STORAGE_UNAVAILABLE) if the database cannot be read.
        """
        async with AsyncExitStack() as stack:
            database = stack.enter_context(held_directory(directory))
            async with connected(database, *CREATING) as creating:
                await creating.run(partial(migrate, steps=migrations()))
            sync_directory(directory)
            writer = Writer(partial(connect, database, *WRITING), limits.log_bytes)
            stack.push_async_callback(writer.disconnect)
            checkpointing = await stack.enter_async_context(connected(database, *CHECKPOINTING))
            reading = [await stack.enter_async_context(connected(database, *READING)) for _ in range(READERS)]
            engine = cls(Ids(clock, round(dedupe_window * MICROS_PER_SECOND)), Readers(reading), writer, limits)
            await writer.open()
            checkpointer = Checkpointer(checkpointing, writer, limits.checkpoint_seconds, limits.log_bytes)
            async with engine._running(checkpointer):
                yield engine

    @asynccontextmanager
    async def _running(self, checkpointer: Checkpointer) -> AsyncIterator[None]:
        """Runs the writer and the checkpointer while the block runs, and until what waits is committed.

        What the block raises goes on as it is, not in the group's `ExceptionGroup`.
        """
        failure: BaseException | None = None
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._writer.run(), name="sqlite writer")
            tasks.create_task(checkpointer.run(), name="sqlite checkpointer")
            try:
                yield
            except BaseException as error:  # noqa: BLE001 - raised again below, once what waits is committed
                failure = error
            self._tail.close()
            self._watch.close()
            self._writer.close()
            checkpointer.close()
            await asyncio.wait([writing])
        if failure is not None:
            raise failure
