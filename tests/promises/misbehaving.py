"""Five receivers that misbehave, each in its way, beside one that is well.

`benchmarks/soak` has the same five for longer and at a rate, and shows what the others feel of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from google.protobuf.duration_pb2 import Duration

from benchmarks.soak.receivers import MISBEHAVIOURS, Receiver, Receivers
from certes.v1 import subscription_pb2 as resources
from scripts.broker_process import BrokerProcess, look_for_secrets
from tests.acceptance.client import Client, connected, event

PATIENCE = 120
EVENTS = 60
"""For each receiver at a time: more than may be under way to one that does not answer."""
EVERY_SECOND = resources.RetryPolicy(
    linear=resources.LinearBackoff(initial=Duration(seconds=1), increment=Duration()), max_attempts=100, jitter=0
)
WELL = "well"


class Stage:
    """The receivers by the name of their subscriber, and what was published for each."""

    def __init__(self, client: Client) -> None:
        self.receivers = {WELL: Receiver()} | {
            f"bad{number}": Receiver(how) for number, how in enumerate(MISBEHAVIOURS)
        }
        self.server = Receivers({f"/{name}": receiver for name, receiver in self.receivers.items()})
        self.published: dict[str, set[str]] = {name: set() for name in self.receivers}
        self._client = client
        self._arrival = asyncio.Event()
        self.server.on_arrival = self._arrival.set
        self.server.on_request = partial(look_for_secrets, where="a webhook")

    @property
    def bad(self) -> list[str]:
        return [name for name in self.receivers if name != WELL]

    def missing(self, *names: str) -> dict[str, int]:
        """How many events have not arrived, where any has not."""
        missing = {name: len(self.published[name] - self.receivers[name].arrived.keys()) for name in names}
        return {name: count for name, count in missing.items() if count}

    async def subscribe(self, port: int) -> None:
        for name in self.receivers:
            await self._client.create_webhook(
                "hook",
                f"http://127.0.0.1:{port}/{name}",
                parent=f"subscribers/{name}",
                retry_policy=EVERY_SECOND,
                format=resources.Webhook.FORMAT_CLOUDEVENTS_BINARY,
            )

    async def publish(self, name: str) -> None:
        first = len(self.published[name])
        ids = [f"{name}-{number}" for number in range(first, first + EVENTS)]
        await self._client.publish([event(one, subscriber=name, text="x" * 1_000) for one in ids])
        self.published[name].update(ids)

    async def all_arrive(self, *names: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.missing(*names):
                self._arrival.clear()
                await self._arrival.wait()


@asynccontextmanager
async def staged(broker: BrokerProcess) -> AsyncIterator[Stage]:
    async with connected(broker) as client:
        stage = Stage(client)
        server = await asyncio.start_server(stage.server.serve, "127.0.0.1", 0, backlog=1024)
        await stage.subscribe(server.sockets[0].getsockname()[1])
        try:
            yield stage
        finally:
            server.close()
            stage.server.behave()
            await stage.server.hang_up()
