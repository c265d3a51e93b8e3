"""A webhook subscription together with its receiver."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration

from certes.v1 import dead_letter_pb2
from certes.v1 import delivery_service_pb2 as deliveries_pb
from certes.v1 import subscription_pb2 as resources
from tests.acceptance.client import Client, event
from tests.acceptance.receiver import Receiver

PATIENCE = 120


@dataclass
class Hook:
    """A webhook subscription of the subscriber `of`, and its receiver."""

    of: str
    client: Client
    receiver: Receiver
    name: str = ""
    names: dict[str, str] = field(default_factory=dict)
    """Of the events that were published, by their ids."""

    async def subscribe(self, policy: resources.RetryPolicy | None = None, *, max_in_flight: int = 1) -> None:
        self.name = await self.client.create_webhook(
            "hook",
            self.receiver.url,
            parent=f"subscribers/{self.of}",
            retry_policy=policy,
            max_in_flight=max_in_flight,
            timeout=Duration(seconds=60),
        )

    async def publish(self, *ids: str, key: str = "k") -> list[str]:
        """Publishes events of one key; returns their names."""
        results = await self.client.publish([event(one, key=key, subscriber=self.of, source=self.of) for one in ids])
        self.names.update({one.id: one.name for one in results})
        return [one.name for one in results]

    async def letters(self, count: int) -> list[str]:
        """Waits until there are so many dead letters, and returns their names."""
        request = deliveries_pb.ListDeadLettersRequest(parent=self.name)
        async with asyncio.timeout(PATIENCE):
            while len(found := (await self.client.deliveries.ListDeadLetters(request)).dead_letters) != count:
                """They are being written."""
        return [one.name for one in found]

    async def replay(self, *names: str) -> deliveries_pb.ReplayDeadLettersResponse:
        """Replays these dead letters, or all."""
        every = None if names else dead_letter_pb2.DeadLetterFilter()
        request = deliveries_pb.ReplayDeadLettersRequest(parent=self.name, names=names, filter=every)
        return await self.client.deliveries.ReplayDeadLetters(request)

    async def has_asked(self, ids: set[str]) -> None:
        """Waits until its receiver has had a request for each of these."""
        await self.receiver.until(lambda: set(self.requested) >= ids, PATIENCE)

    @property
    def requested(self) -> list[str]:
        """The events of the requests that came, in order."""
        return [one.event_id for one in self.receiver.requests]
