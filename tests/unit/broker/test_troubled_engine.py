"""The engine that tests give trouble is an engine, as long as it has none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from certes_broker.domain.errors import Unavailable
from certes_broker.engines.memory import MemoryEngine
from tests.contracts.engine_contract import EngineContract
from tests.contracts.engine_contract_erasure import ErasureContract
from tests.contracts.engine_harness import WINDOW
from tests.fakes.manual_clock import ManualClock
from tests.fakes.troubled_engine import TroubledEngine


class TroubledHarness:
    def __init__(self) -> None:
        self.clock = ManualClock()

    @asynccontextmanager
    async def open(
        self, *, tail_entries: int = 10_000, watch_changes: int = 1_000, append_calls: int = 10_000
    ) -> AsyncIterator[TroubledEngine]:
        yield TroubledEngine(
            MemoryEngine(
                self.clock,
                dedupe_window_seconds=WINDOW,
                tail_limit=tail_entries,
                watch_limit=watch_changes,
                waiting_limit=append_calls,
            )
        )


class TestTroubledEngine(EngineContract, ErasureContract):
    @pytest.fixture
    def harness(self) -> TroubledHarness:
        return TroubledHarness()


async def test_a_call_that_is_ordered_to_fail_does_nothing_and_the_next_is_carried_out() -> None:
    engine = TroubledEngine(MemoryEngine(ManualClock()))
    engine.fail("settings.put", 1)
    with pytest.raises(Unavailable):
        await engine.settings.put("key", b"1")
    assert await engine.settings.get("key") is None
    await engine.settings.put("key", b"2")
    assert (await engine.settings.get("key")).body == b"2"


async def test_nothing_is_written_after_a_crash() -> None:
    behind = MemoryEngine(ManualClock())
    engine = TroubledEngine(behind)
    engine.crash()
    assert await engine.cursors.settle((), 5) == ()
    with pytest.raises(Unavailable):
        await engine.settings.put("key", b"1")
    assert (await behind.cursors.watermark(), await behind.settings.get("key")) == (0, None)
