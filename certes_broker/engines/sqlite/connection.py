"""Connections to the database: aiosqlite's, with a function as the unit of work.

Each connection has a thread. What crosses between the loop and the thread is one function with all it needs, so a group
of writes costs one hop, however many statements it makes.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar, cast

import aiosqlite

from certes_broker.domain.errors import Reason, Unavailable

T = TypeVar("T")

PAGE_SIZE: Final = 4096
BUSY_SECONDS: Final = 30.0
"""How long a statement waits for a lock. Nothing here holds one for long; a backup tool may."""

_STATEMENTS: Final = 512
_ROWS_PER_CHUNK: Final = 64


class Connection(aiosqlite.Connection):
    """A connection whose unit of work is a function of the `sqlite3` connection, run on the connection's thread."""

    ended: asyncio.Future[object] | None = None
    """Done when the thread has ended, from when on it was told to."""

    def stop(self) -> asyncio.Future[object] | None:
        self.ended = super().stop()
        return self.ended

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Runs a function on the thread and returns what it returns.

        If the caller is cancelled, the function still runs to its end. Raises `Unavailable` (STORAGE_UNAVAILABLE) for
        whatever SQLite raised.
        """
        connection = self._connection
        if connection is None:
            raise Unavailable(Reason.STORAGE_UNAVAILABLE, "The engine is closed.")
        try:
            return cast(T, await self._execute(function, connection))  # type: ignore[no-untyped-call]  # aiosqlite's own
        except sqlite3.Error as error:
            raise storage_unavailable(error) from error


async def connect(path: Path, *pragmas: str) -> Connection:
    """Opens a connection to an existing database file and sets its pragmas."""

    def connector() -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=_STATEMENTS)
        try:
            for pragma in pragmas:
                db.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            db.close()
            raise
        return db

    connection = Connection(connector, _ROWS_PER_CHUNK)
    try:
        return cast(Connection, await connection)
    except sqlite3.Error as error:
        # aiosqlite tells the thread to end and does not wait, so that it may outlive the loop it is to answer.
        if connection.ended is not None:
            await connection.ended
        raise storage_unavailable(error) from error


@asynccontextmanager
async def connected(path: Path, *pragmas: str) -> AsyncIterator[Connection]:
    """Opens a connection and closes it at the end."""
    connection = await connect(path, *pragmas)
    try:
        yield connection
    finally:
        await connection.close()


class Readers:
    """A few connections that only read. Each sees what was committed when its function began."""

    def __init__(self, connections: list[Connection]) -> None:
        self._idle: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
        for connection in connections:
            self._idle.put_nowait(connection)

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Runs a function that reads, on a connection of its own, in one read transaction."""
        connection = await self._idle.get()
        try:
            return await connection.run(lambda db: _reading(db, function))
        finally:
            self._idle.put_nowait(connection)


def _reading(db: sqlite3.Connection, function: Callable[[sqlite3.Connection], T]) -> T:
    db.execute("BEGIN")
    try:
        return function(db)
    finally:
        db.execute("ROLLBACK")


def storage_unavailable(error: sqlite3.Error) -> Unavailable:
    """Says what SQLite could not do."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return Unavailable(
        Reason.STORAGE_UNAVAILABLE,
        f"The database could not be read or written: {error} ({name}).",
        hint=_HINTS.get(name.split("_")[1] if "_" in name else name, "See that the disk works and has space."),
        metadata={"sqlite": name},
    )


_HINTS: Final = {
    "FULL": "The disk is full: make space, then try again.",
    "CORRUPT": "The database file is damaged: restore the data directory from a backup.",
    "NOTADB": "The file is no SQLite database: restore the data directory from a backup, or name another one.",
    "READONLY": "The data directory must be writable.",
}
