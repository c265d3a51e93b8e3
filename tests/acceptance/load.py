"""Publishers that outlive their broker, and what they and the consumer tell of what happens.

Every event is called `KEY:NUMBER`, numbered from 1 for each key. A publisher keeps what was not answered and sends it
again, with the same ids and in the same order, on the next stream. What is counted is told from within the step that did
it, so that a test can kill the broker at that very moment.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc

from certes.v1 import event_service_pb2 as pb
from tests.acceptance.client import Client, event

REQUESTS_UNANSWERED = 4
EVENTS_A_REQUEST = 12
LATE = 0.2
"""Seconds of an offer that are made up for when it could not be taken."""


def is_broken(error: grpc.aio.AioRpcError) -> bool:
    """Whether an rpc ended because its broker did."""
    # CANCELLED is what gRPC makes of an rpc that comes in while the server stops, before any code of ours sees it; the
    # text is what grpcio calls a message that was being written when the connection broke.
    ended = error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    return ended or error.details() == "Internal error from Core"


Count = Callable[[str], None]
"""Hears of each thing that happened: `accepted`, `delivered`, `acknowledged`."""


class Backlog:
    """Bounds how far publishers run ahead of the consumer, so that the load is one of both."""

    def __init__(self, limit: int = 1_500) -> None:
        self._limit = limit
        self._size = 0
        self._room = asyncio.Event()
        self._room.set()

    @property
    def has_room(self) -> bool:
        return self._room.is_set()

    async def room(self) -> None:
        await self._room.wait()

    def grow(self, events: int) -> None:
        self._size += events
        if self._size >= self._limit:
            self._room.clear()

    def shrink(self) -> None:
        self._size -= 1
        if self._size < self._limit:
            self._room.set()


class Offer(Backlog):
    """Bounds how far publishers run ahead, and offers so many events a second, whatever has become of those before."""

    def __init__(self, limit: int, rate: float) -> None:
        super().__init__(limit)
        self.rate = rate
        self._due = 0.0
        self._turn = asyncio.Lock()

    async def room(self) -> None:
        """Waits for room, and until the next request is due: whoever has waited makes it at once."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            await super().room()
            self._due = max(self._due, loop.time() - LATE)
            await asyncio.sleep(self._due - loop.time())

    def grow(self, events: int) -> None:
        super().grow(events)
        self._due += events / self.rate


@dataclass
class Publisher:
    """Publishes to its keys on `PublishStream`, pipelined. Keys that begin with `-` are no ordering keys."""

    client: Client
    keys: Sequence[str]
    chance: random.Random
    count: Count
    backlog: Backlog
    accepted: set[str] = field(default_factory=set)
    """The ids of events that the broker has answered for."""
    duplicates: int = 0
    """How many of the events sent again had been stored although their answer was lost."""
    most_unanswered: int = REQUESTS_UNANSWERED
    """How many requests may be under way. Where storage may fail only one keeps the order of keys: another could overtake it."""
    stopping: bool = False
    _numbers: Counter[str] = field(default_factory=Counter)
    _unanswered: deque[pb.PublishStreamRequest] = field(default_factory=deque)
    _requests: int = 0

    async def run(self) -> None:
        """Publishes until it is told to stop and all is answered."""
        while not self.stopping or self._unanswered:
            await self.run_once()

    async def run_once(self) -> None:
        """Publishes on one stream, until that breaks or nothing is left to do."""
        call = self.client.events.PublishStream(wait_for_ready=True)
        try:
            for request in tuple(self._unanswered):
                await call.write(request)
            await self._exchange(call)
        except grpc.aio.AioRpcError as error:
            if not is_broken(error):
                raise
        except asyncio.InvalidStateError:
            # Written to a stream that ended meanwhile; its status says by what.
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
        finally:
            call.cancel()

    async def _exchange(
        self, call: grpc.aio.StreamStreamCall[pb.PublishStreamRequest, pb.PublishStreamResponse]
    ) -> None:
        while True:
            if not self._unanswered and not self.stopping:
                await self.backlog.room()
            while len(self._unanswered) < self.most_unanswered and not self.stopping and self.backlog.has_room:
                request = self._next_request()
                self._unanswered.append(request)
                await call.write(request)
            if not self._unanswered:
                return
            answer = await call.read()
            # The end without a status would be an answer that never comes.
            assert isinstance(answer, pb.PublishStreamResponse)
            request = self._unanswered[0]
            assert answer.request_id == request.request_id
            if answer.rejected.reason in {"DRAINING", "STORAGE_UNAVAILABLE"}:
                # After the first none of the later ones was accepted either, after the second that is not known; all of
                # them go again, in order.
                return
            self._unanswered.popleft()
            assert answer.WhichOneof("outcome") == "accepted", answer
            assert answer.accepted.count == len(request.events)
            self.duplicates += answer.accepted.duplicates
            for one in request.events:
                self.accepted.add(one.id)
                self.count("accepted")

    def _next_request(self) -> pb.PublishStreamRequest:
        self._requests += 1
        events = []
        for key in self.chance.choices(self.keys, k=self.chance.randint(1, EVENTS_A_REQUEST)):
            self._numbers[key] += 1
            ordering_key = "" if key.startswith("-") else key
            events.append(event(f"{key}:{self._numbers[key]}", key=ordering_key))
        self.backlog.grow(len(events))
        return pb.PublishStreamRequest(request_id=str(self._requests), events=events)
