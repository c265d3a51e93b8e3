"""A world for each test, with a broker in it; `world` on the reference engine, `either_world` on each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.broker_world import OpenEngine, World, one_memory_engine, sqlite_engine


@asynccontextmanager
async def opened(open_engine: OpenEngine) -> AsyncIterator[World]:
    async with asyncio.TaskGroup() as tasks:
        world = World(open_engine, tasks)
        await world.start()
        try:
            yield world
        finally:
            await world.leave()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with opened(one_memory_engine()) as made:
        yield made


@pytest.fixture(params=["memory", "sqlite"])
async def either_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with opened(one_memory_engine() if request.param == "memory" else sqlite_engine(tmp_path / "data")) as made:
        yield made
