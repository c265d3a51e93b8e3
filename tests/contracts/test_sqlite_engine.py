"""The embedded engine keeps the port's promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certes_broker.engines.sqlite import Limits, SqliteEngine
from tests.contracts.engine_contract import EngineContract
from tests.contracts.engine_harness import WINDOW
from tests.fakes.manual_clock import ManualClock


class SqliteHarness:
    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self._directory = directory

    @asynccontextmanager
    async def open(
        self, *, tail_entries: int = 10_000, watch_changes: int = 1_000, append_calls: int = 10_000
    ) -> AsyncIterator[SqliteEngine]:
        limits = Limits(tail_entries=tail_entries, watch_changes=watch_changes, append_calls=append_calls)
        async with SqliteEngine.open(self._directory, self.clock, dedupe_window=WINDOW, limits=limits) as engine:
            yield engine


class TestSqliteEngine(EngineContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> SqliteHarness:
        return SqliteHarness(tmp_path / "data")
