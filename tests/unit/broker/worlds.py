"""Worlds as fixtures of tests have them, and for a hypothesis test, which needs one for each of its examples."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.fakes.broker_world import OpenEngine, World, one_memory_engine


@asynccontextmanager
async def opened(open_engine: OpenEngine) -> AsyncIterator[World]:
    """A world with a running broker."""
    async with asyncio.TaskGroup() as tasks:
        world = World(open_engine, tasks)
        await world.start()
        try:
            yield world
        finally:
            await world.leave()


def in_a_world(play: Callable[[World], Awaitable[None]]) -> None:
    """Plays one example in a world of its own."""

    async def playing() -> None:
        async with opened(one_memory_engine()) as world:
            await play(world)

    asyncio.run(playing())
