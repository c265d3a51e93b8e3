"""Reads all that a journal has of its events, as whoever moves them to another engine wants it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from certes_broker.domain.events import Entry, Original, Position
from certes_broker.engines.sqlite.queries import named_queries

QUERIES: Final = named_queries("export")


def with_digests_and_originals(db: sqlite3.Connection, entries: Sequence[Entry]) -> Sequence[Entry]:
    """Returns entries with what stands in other tables: their digests, as long as ids are known, and their originals."""
    if not entries:
        return entries
    originals = {
        Position(position): Original(content_type, tuple((name, value) for name, value in json.loads(headers)), body)
        for position, content_type, headers, body in db.execute(
            QUERIES["originals_between"], (entries[0].position, entries[-1].position)
        )
    }
    (newest,) = db.execute(QUERIES["newest_period"]).fetchone()
    return [
        Entry(
            position,
            event._replace(
                digest=_digest(db, newest, event.source, event.id, position), original=originals.get(position)
            ),
        )
        for position, event in entries
    ]


def rejecting(db: sqlite3.Connection) -> Sequence[str]:
    """Returns the sources that have rejected payloads, by name."""
    return [source for (source,) in db.execute(QUERIES["rejecting"])]


def _digest(db: sqlite3.Connection, newest: int, source: str, event_id: str, position: Position) -> bytes | None:
    row = db.execute(QUERIES["digest"], (newest, source, event_id, position)).fetchone()
    return None if row is None else bytes(row[0])
