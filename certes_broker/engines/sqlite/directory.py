"""The data directory: made private, held by one process at a time, and itself durable."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from certes_broker.domain.errors import FailedPrecondition, Reason

DATABASE: Final = "certes.db"
LOCK: Final = "certes.lock"


@contextmanager
def held_directory(directory: Path) -> Iterator[Path]:
    """Makes the directory if it is absent, holds it by a lock, and yields the path of the database file in it.

    The lock goes with the process, however that ends. Raises `FailedPrecondition` (DATA_DIR_LOCKED; metadata `pid`,
    `directory`) if another engine holds it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(directory, error) from error
    try:
        _take(lock, directory)
        database = directory / DATABASE
        try:
            os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sync_directory(directory)
            sync_directory(directory.parent)
        except OSError as error:
            raise _unusable(directory, error) from error
        yield database
    finally:
        os.close(lock)


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory durable: a file that was synced can still lose its name with the power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take(lock: int, directory: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        pid = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise FailedPrecondition(
            Reason.DATA_DIR_LOCKED,
            f"The data directory {directory} is held by process {pid}.",
            hint="Stop that broker, or give this one a data directory of its own.",
            metadata={"pid": pid, "directory": str(directory)},
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode("ascii"), 0)


def _unusable(directory: Path, error: OSError) -> FailedPrecondition:
    return FailedPrecondition(
        Reason.STORAGE_UNAVAILABLE,
        f"The data directory {directory} cannot be used: {error.strerror}.",
        hint="Name a directory that this user may create files in.",
        metadata={"directory": str(directory)},
    )
