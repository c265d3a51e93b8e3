"""The database's schema: numbered migrations, applied in order, each in a transaction of its own.

The number of the last one applied is the database's `user_version`, written in the same transaction.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from importlib.resources import files
from typing import Final, NamedTuple

from certes_broker.domain.errors import FailedPrecondition, Reason

APPLICATION_ID: Final = 0x43657274
"""Marks the file as one of this engine's ("Cert"), so that another program's database is never migrated."""

_NAME: Final = re.compile(r"(\d{4})_(\w+)\.sql")


class Migration(NamedTuple):
    """One step from a version of the schema to the next."""

    number: int
    name: str
    script: str


def migrations() -> Sequence[Migration]:
    """Returns the migrations that this version knows, in order."""
    found = []
    for file in files(__package__).joinpath("migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match is not None:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return sorted(found)


def migrate(db: sqlite3.Connection, steps: Sequence[Migration]) -> None:
    """Brings a database to the newest schema.

    Raises `FailedPrecondition` (STORAGE_UNAVAILABLE) if a newer version of the broker, or another program, made it.
    """
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    application: int = db.execute("PRAGMA application_id").fetchone()[0]
    newest = steps[-1].number
    if version > newest:
        raise FailedPrecondition(
            Reason.STORAGE_UNAVAILABLE,
            f"The database has schema {version}; this version of the broker knows schemas up to {newest}.",
            hint="A newer version wrote it: run that one, or restore the backup made before it.",
            metadata={"schema": str(version), "newest": str(newest)},
        )
    empty = db.execute("SELECT count(*) = 0 FROM sqlite_schema").fetchone()[0]
    if application != APPLICATION_ID and not empty:
        raise FailedPrecondition(
            Reason.STORAGE_UNAVAILABLE,
            "The database was made by another program.",
            hint="Give the broker a data directory of its own.",
        )
    for step in steps:
        if step.number > version:
            db.executescript(
                f"BEGIN IMMEDIATE; {step.script}; PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {step.number}; COMMIT;"
            )
