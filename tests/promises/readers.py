"""Readers of streams who keep what they get, unsettled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.acceptance.client import Client, Frames


class Reader:
    """Reads one stream and keeps what it has, unsettled."""

    def __init__(self, call: Frames) -> None:
        self.stream = ""
        self.held: dict[int, str] = {}
        """Event ids by ordinal."""
        self.attempts: dict[str, int] = {}
        self._call = call

    async def open(self) -> None:
        self.stream = (await self._call.read()).opened.stream

    async def has(self, wanted: set[str]) -> None:
        """Reads until it holds all of these."""
        await self._read_until(lambda: wanted <= set(self.held.values()))

    async def fills(self, count: int) -> None:
        """Reads until it holds so many."""
        await self._read_until(lambda: len(self.held) >= count)

    async def _read_until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(50):
            while not holds():
                batch = (await self._call.read()).batch
                for ordinal, delivery in enumerate(batch.deliveries, batch.first_ordinal):
                    self.held[ordinal] = delivery.event.id
                    self.attempts[delivery.event.id] = delivery.attempt

    def cancel(self) -> None:
        self._call.cancel()


async def open_reader(client: Client, name: str, max_outstanding: int) -> Reader:
    reader = Reader(client.subscribe(name, max_outstanding=max_outstanding))
    await reader.open()
    return reader
