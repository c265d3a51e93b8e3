"""The embedded engine: everything in one SQLite database, in one directory, held by one process."""

from certes_broker.engines.sqlite.engine import Limits, SqliteEngine

__all__ = ["Limits", "SqliteEngine"]
