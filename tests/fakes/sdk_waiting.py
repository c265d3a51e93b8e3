"""Waiting for what no event says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], seconds: float = 50) -> None:
    """Gives the event loop its turns until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it is nothing that could tell an event
            await asyncio.sleep(0)
