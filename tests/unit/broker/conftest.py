"""A world for each test, with a broker in it; `world` on the reference engine, `either_world` on each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.broker_world import World, one_memory_engine, sqlite_engine
from tests.unit.broker.worlds import opened


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with opened(one_memory_engine()) as made:
        yield made


@pytest.fixture(params=["memory", "sqlite"])
async def either_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with opened(one_memory_engine() if request.param == "memory" else sqlite_engine(tmp_path / "data")) as made:
        yield made
