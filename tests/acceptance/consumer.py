"""A consumer that outlives its broker: it reads, acknowledges while it reads on, and opens another stream when one ends."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import grpc

from certes.v1 import event_service_pb2 as pb
from tests.acceptance.client import Client, closing_reason, ordinals, refusal
from tests.acceptance.load import Backlog, Count, is_broken


@dataclass
class Session:
    """One stream: what came on it, in order, as key and number."""

    stream: str = ""
    delivered: list[tuple[str, int]] = field(default_factory=list)
    closing: str = ""
    """The reason of the closing frame; empty where there was none."""
    unsettled: list[tuple[int, str]] = field(default_factory=list)
    """Ordinals and event ids that are still to be acknowledged."""
    came: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Consumer:
    """Reads a durable subscription. What it acknowledges next is drawn from all that it has, so that gaps arise."""

    client: Client
    subscription: str
    chance: random.Random
    count: Count = lambda what: None
    backlog: Backlog = field(default_factory=Backlog)
    sessions: list[Session] = field(default_factory=list)
    delivered: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    """The ids of events whose acknowledgement the broker has answered."""
    came_again: set[str] = field(default_factory=set)
    """Those of them that were delivered once more after that, which must not be."""
    _latest: list[str] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Reads for ever."""
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Reads one stream until it ends."""
        session = Session()
        self.sessions.append(session)
        async with asyncio.TaskGroup() as tasks:
            settling = tasks.create_task(self._settle(session))
            await self._read(session)
            settling.cancel()

    async def has(self, ids: set[str], timeout: float = 60) -> None:
        """Waits until all of these have been delivered. Raises `TimeoutError` with how many are missing."""
        missing = ids - self.delivered.keys()
        try:
            async with asyncio.timeout(timeout):
                while missing:
                    self._latest.clear()
                    await self._changed.wait()
                    self._changed.clear()
                    missing.difference_update(self._latest)
        except TimeoutError:
            raise TimeoutError(f"{len(missing)} of {len(ids)} events are missing: {sorted(missing)[:5]}…") from None

    async def _read(self, session: Session) -> None:
        call = self.client.subscribe(self.subscription)
        try:
            async for frame in call:
                if frame.HasField("opened"):
                    session.stream = frame.opened.stream
                elif frame.HasField("batch"):
                    self._take(session, frame.batch)
                elif frame.HasField("closing"):
                    session.closing = closing_reason(frame)
        except grpc.aio.AioRpcError as error:
            if not is_broken(error):
                raise
        finally:
            call.cancel()

    def _take(self, session: Session, batch: pb.SubscribeResponse.Batch) -> None:
        for ordinal, delivery in enumerate(batch.deliveries, batch.first_ordinal):
            one = delivery.event.id
            key, _, number = one.rpartition(":")
            session.delivered.append((key, int(number)))
            session.unsettled.append((ordinal, one))
            self._latest.append(one)
            self.delivered[one] += 1
            if self.delivered[one] == 1:
                self.backlog.shrink()
            if one in self.acknowledged:
                self.came_again.add(one)
            self.count("delivered")
        session.came.set()
        self._changed.set()

    async def _settle(self, session: Session) -> None:
        """Acknowledges until the stream has ended. What the stream still has to say then is worth reading."""
        try:
            while True:
                await session.came.wait()
                session.came.clear()
                while session.unsettled:
                    await self._acknowledge_some(session)
        except grpc.aio.AioRpcError as error:
            if not is_broken(error) and refusal(error)[1] != "STREAM_ENDED":
                raise

    async def _acknowledge_some(self, session: Session) -> None:
        drawn = self.chance.sample(session.unsettled, self.chance.randint(1, len(session.unsettled)))
        settled = {ordinal for ordinal, _ in drawn}
        session.unsettled = [one for one in session.unsettled if one[0] not in settled]
        try:
            await self.client.acknowledge(session.stream, *(ordinals(ordinal, ordinal) for ordinal in settled))
        except grpc.aio.AioRpcError as error:
            if refusal(error)[1] != "STORAGE_UNAVAILABLE":
                raise
            # It is settled, and the broker goes on trying to make that durable; but there is no promise.
            return
        for _, one in drawn:
            self.acknowledged.add(one)
            self.count("acknowledged")


def check_order(consumer: Consumer) -> None:
    """Every key's first deliveries are 1, 2, 3…; on one stream a key goes on without repeating or skipping."""
    reached: dict[str, int] = {}
    for session in consumer.sessions:
        here: dict[str, int] = {}
        for key, number in session.delivered:
            if key.startswith("-"):
                continue
            if key in here:
                assert number == here[key] + 1, f"{key} went from {here[key]} to {number} on one stream"
            assert number <= reached.get(key, 0) + 1, f"{key} skipped from {reached.get(key, 0)} to {number}"
            here[key] = number
            reached[key] = max(reached.get(key, 0), number)
    assert reached, "without a single key nothing would be proven"
