"""Moves what was committed from the write-ahead log to the database file, beside the writer, and bounds the log.

A passive checkpoint disturbs nobody but cannot let the log begin anew while the writer goes on. So when the log has
grown, the writer is paused for what has come since the last passive one; the next group then begins the log anew.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from typing import Final, NamedTuple

from certes_broker.domain.errors import Unavailable
from certes_broker.engines.sqlite.connection import PAGE_SIZE, Connection
from certes_broker.engines.sqlite.writer import Writer

RESTART_SHARE: Final = 4
"""The log begins anew once it has reached its limit divided by this."""


class Progress(NamedTuple):
    """What a checkpoint reports: whether a lock kept it from ending, and the log's pages, all and moved ones."""

    busy: int
    pages: int
    moved: int


class Checkpointer:
    """Checkpoints about every `interval` seconds, and earlier when the writer says that the log has grown."""

    def __init__(self, connection: Connection, writer: Writer, interval: float, log_limit: int) -> None:
        self._connection = connection
        self._writer = writer
        self._interval = interval
        self._log_limit = log_limit
        self._closed = asyncio.Event()

    async def run(self) -> None:
        """Checkpoints until `close` is called."""
        while True:
            await self._interval_or(self._writer.log_filled)
            self._writer.log_filled.clear()
            if self._closed.is_set():
                return
            if not self._writer.log_bytes:
                continue
            # A failed checkpoint loses nothing: what is committed is safe in the log. The writer stops at the log's limit,
            # its own failures are answered to its callers, and a disk that works again is found by the next round.
            is_held_up = True
            with suppress(Unavailable):
                is_held_up = await self._checkpoint()
            if is_held_up:
                # A long reader, such as a backup: asking again at once would pause the writer for nothing.
                await self._interval_or(self._closed)

    def close(self) -> None:
        """Lets `run` end."""
        self._closed.set()
        self._writer.log_filled.set()

    async def _interval_or(self, event: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._interval):
                await event.wait()

    async def _checkpoint(self) -> bool:
        """Moves what there is; says whether a reader kept the log from beginning anew although it has grown."""
        before = self._writer.log_bytes
        progress = await self._connection.run(_passive)
        has_grown = progress.pages * PAGE_SIZE >= self._log_limit // RESTART_SHARE
        if has_grown:
            await self._connection.run(_passive)
            async with self._writer.paused():
                before = self._writer.log_bytes
                progress = await self._connection.run(_restart)
        added = self._writer.log_bytes - before
        begins_anew = progress.moved == progress.pages and not progress.busy and not added
        self._writer.log_bytes = 0 if begins_anew else progress.pages * PAGE_SIZE + added
        self._writer.wake()
        return has_grown and bool(progress.busy)


def _passive(db: sqlite3.Connection) -> Progress:
    return Progress(*db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone())


def _restart(db: sqlite3.Connection) -> Progress:
    return Progress(*db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone())
