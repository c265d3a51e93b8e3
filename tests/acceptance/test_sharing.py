"""Several streams of one subscription, and what becomes of the deliveries of one that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import pytest

from scripts.broker_process import BrokerProcess
from tests.acceptance.client import Client, Frames, connected, event, ordinals, refusal

EVENTS = 50


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


async def test_a_cancelled_streams_deliveries_go_to_the_other_stream_at_once(broker: BrokerProcess) -> None:
    ids = {str(number) for number in range(EVENTS)}
    async with connected(broker) as client:
        name = await client.create_stream("shared")
        leaving = await open_reader(client, name, EVENTS)
        await client.publish(event(one) for one in sorted(ids))
        await leaving.has(ids)
        staying = await open_reader(client, name, EVENTS)
        leaving.cancel()
        await staying.has(ids)
        assert set(staying.attempts.values()) == {2}
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.acknowledge(leaving.stream, ordinals(1, EVENTS))
        assert refusal(refused.value) == (grpc.StatusCode.FAILED_PRECONDITION, "STREAM_ENDED")
        await client.acknowledge(staying.stream, ordinals(1, EVENTS))


async def test_a_client_that_vanishes_gives_back_what_it_had(broker: BrokerProcess) -> None:
    ids = {str(number) for number in range(EVENTS)}
    async with connected(broker) as client:
        name = await client.create_stream("shared")
        async with connected(broker) as vanishing:
            reader = await open_reader(vanishing, name, EVENTS)
            await client.publish(event(one) for one in sorted(ids))
            await reader.has(ids)
        staying = await open_reader(client, name, EVENTS)
        await staying.has(ids)
        await client.acknowledge(staying.stream, ordinals(1, EVENTS))
        staying.cancel()


async def test_two_streams_share_the_work_and_nothing_goes_to_both(broker: BrokerProcess) -> None:
    ids = {str(number) for number in range(EVENTS)}
    async with connected(broker) as client:
        name = await client.create_stream("shared")
        readers = [await open_reader(client, name, EVENTS // 2) for _ in range(2)]
        await client.publish(event(one) for one in sorted(ids))
        for reader in readers:
            await reader.fills(EVENTS // 2)
        assert sorted([*readers[0].held.values(), *readers[1].held.values()]) == sorted(ids)
