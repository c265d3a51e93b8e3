"""The reference engine keeps the port's promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from certes_broker.engines.memory import MemoryEngine
from tests.contracts.engine_contract import EngineContract
from tests.contracts.engine_harness import WINDOW
from tests.fakes.manual_clock import ManualClock


class MemoryHarness:
    def __init__(self) -> None:
        self.clock = ManualClock()

    @asynccontextmanager
    async def open(
        self, *, tail_entries: int = 10_000, watch_changes: int = 1_000, append_calls: int = 10_000
    ) -> AsyncIterator[MemoryEngine]:
        yield MemoryEngine(
            self.clock,
            dedupe_window_seconds=WINDOW,
            tail_limit=tail_entries,
            watch_limit=watch_changes,
            waiting_limit=append_calls,
        )


class TestMemoryEngine(EngineContract):
    @pytest.fixture
    def harness(self) -> MemoryHarness:
        return MemoryHarness()
