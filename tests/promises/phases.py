"""A broker that is killed while something of every kind is under way, so that one kill does for all.

Each phase has a subscriber of its own. The kill strikes in the step in which a receiver answers, while others have a request in
hand, wait for a retry, or hold deliveries of a stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration

from certes.v1 import subscription_pb2 as resources
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import Client, Frames, connected, event, ordinals
from tests.acceptance.receiver import receiving
from tests.acceptance.retries import ONCE
from tests.promises.hooks import PATIENCE, Hook

RETRY_AFTER = 3
"""Seconds: longer than a restart takes, so that the retry is still to come then, where the machine is not too busy."""
LATER = resources.RetryPolicy(
    linear=resources.LinearBackoff(initial=Duration(seconds=RETRY_AFTER), increment=Duration()),
    max_attempts=100,
    jitter=0,
)


@dataclass
class Scene:
    """What was under way when the broker was killed. It runs again."""

    client: Client
    requesting: Hook
    """Its receiver had a request, and had not answered."""
    answered: Hook
    """Its receiver had just answered."""
    waiting: Hook
    """A retry was still to come."""
    stream: str
    """A subscription of which s1 and s2 were acknowledged, s3 to s6 were out, and s7 was parked behind s6."""


@asynccontextmanager
async def killed_in_each_phase(directory: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(BrokerProcess(directory / "data"))
        await asyncio.to_thread(broker.start, PATIENCE)
        client = await stack.enter_async_context(connected(broker))
        requesting, answered, waiting = [
            Hook(of, client, await stack.enter_async_context(receiving()))
            for of in ("requesting", "answered", "waiting")
        ]
        stream, held = await hold_deliveries(client)
        await begin_waiting(waiting)
        await begin_requesting(requesting)
        await kill_when_answered(broker, answered)
        held.cancel()
        for one in (requesting, waiting):
            one.receiver.status = 204
            one.receiver.answer_all()
        await asyncio.to_thread(broker.start, PATIENCE)
        await client.channel.channel_ready()
        yield Scene(client, requesting, answered, waiting, stream)


async def begin_requesting(hook: Hook) -> None:
    await hook.subscribe(ONCE)
    hook.receiver.status = None
    await hook.publish("1", "2", "3")
    await hook.has_asked({"1"})


async def hold_deliveries(client: Client) -> tuple[str, Frames]:
    """Returns a subscription and the stream that has deliveries of it."""
    name = await client.create_stream("stream", parent="subscribers/stream")
    await client.publish(
        [event(f"s{number}", key=key, subscriber="stream") for number, key in enumerate("abcdeff", start=1)]
    )
    stream = client.subscribe(name)
    opened = await stream.read()
    came = 0
    async with asyncio.timeout(PATIENCE):
        while came < 6:
            came += len((await stream.read()).batch.deliveries)
    await client.acknowledge(opened.opened.stream, ordinals(1, 2))
    return name, stream


async def begin_waiting(hook: Hook) -> None:
    """Lets an attempt fail, and returns once its retry is durable."""
    await hook.subscribe(LATER)
    hook.receiver.status = 503
    await hook.publish("1", "2", "3")
    await hook.client.attempts(hook.name, 1)
    await hook.client.settled(hook.name)


async def kill_when_answered(broker: BrokerProcess, hook: Hook) -> None:
    """Kills the broker in the step in which a receiver answers."""
    struck = asyncio.Event()

    def strike() -> None:
        if not struck.is_set():
            broker.kill9()
            struck.set()

    await hook.subscribe()
    hook.receiver.on_answered = strike
    async with asyncio.timeout(PATIENCE):
        # It is killed when the first of these is delivered, so the answer may not come.
        with suppress(grpc.aio.AioRpcError):
            await hook.publish("1", "2", "3")
        await struck.wait()
