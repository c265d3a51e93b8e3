"""A paused subscription gathers what it misses, and gets all of it when it is resumed."""

from __future__ import annotations

import asyncio
import random

import grpc
import pytest

from scripts.broker_process import BrokerProcess
from tests.acceptance.client import closing_reason, connected, event, refusal
from tests.acceptance.consumer import Consumer

EVENTS = 10_000
KEYS = 100
"""Half of the events have one of these; the others have none, and come once, in no promised order."""


async def test_ten_thousand_events_gathered_while_paused_come_once_and_in_each_keys_order(
    broker: BrokerProcess,
) -> None:
    async with connected(broker) as client:
        name = await client.create_stream("sleeper")
        call = client.subscribe(name)
        assert (await call.read()).HasField("opened")
        await client.pause(name)
        assert closing_reason(await call.read()) == "REASON_PAUSED"
        ids = [f"k{number % KEYS}:{number // KEYS + 1}" for number in range(EVENTS // 2)]
        ids += [f"-none:{number + 1}" for number in range(EVENTS // 2)]
        random.Random(7).shuffle(ids)
        ids.sort(key=lambda one: int(one.rpartition(":")[2]))
        for first in range(0, EVENTS, 1_000):
            await client.publish(
                event(one, key="" if one.startswith("-") else one.partition(":")[0])
                for one in ids[first : first + 1_000]
            )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.subscribe(name).read()
        assert refusal(refused.value) == (grpc.StatusCode.FAILED_PRECONDITION, "SUBSCRIPTION_NOT_STREAMABLE")
        await client.resume(name)
        consumer = Consumer(client, name, random.Random(7))
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(consumer.run())
            await consumer.has(set(ids))
            reading.cancel()
    assert consumer.delivered.total() == EVENTS, "each comes once"
    by_key: dict[str, list[int]] = {}
    for session in consumer.sessions:
        for key, number in session.delivered:
            by_key.setdefault(key, []).append(number)
    assert sorted(by_key.pop("-none")) == list(range(1, EVENTS // 2 + 1))
    assert by_key == {f"k{key}": list(range(1, EVENTS // 2 // KEYS + 1)) for key in range(KEYS)}
