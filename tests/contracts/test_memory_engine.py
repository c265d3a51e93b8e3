"""The reference engine keeps the port's promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from certes_broker.engines.memory import MemoryEngine
from certes_broker.ports.engine import Engine
from tests.contracts.engine_contract import EngineContract, SharedEngineContract
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


class SharedMemoryHarness:
    """Opens engines on one store."""

    def __init__(self) -> None:
        self._first = MemoryEngine(ManualClock())
        self._first.members.end()

    @asynccontextmanager
    async def open(self, *, stands_still: bool = False) -> AsyncIterator[MemoryEngine]:
        engine = self._first.another()
        if stands_still:
            engine.members.stand_still()
        try:
            yield engine
        finally:
            engine.members.end()

    async def ended(self, member: Engine, seen_by: Engine) -> None:
        assert isinstance(member, MemoryEngine)
        member.members.end()
        assert member.members.own not in seen_by.members.living


class TestSharedMemoryEngine(SharedEngineContract):
    @pytest.fixture
    def harness(self) -> SharedMemoryHarness:
        return SharedMemoryHarness()
