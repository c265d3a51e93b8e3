"""PublishStream under pressure: what is bounded, what ends it, and what does not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from structlog.testing import capture_logs

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1 import event_pb2
from certes.v1 import event_service_pb2 as pb
from certes_broker.broker.conversion import Conversion
from certes_broker.broker.intake import Intake
from certes_broker.broker.names import EventNames
from certes_broker.broker.publisher import Publisher, Receipts
from certes_broker.domain.access import LOCAL_OPERATOR
from certes_broker.domain.errors import Exhausted, Reason, Unavailable
from certes_broker.domain.events import AcceptedEvent, Position
from certes_broker.domain.open_namespaces import NONE_OPEN
from certes_broker.gateway.callers import acting_as
from certes_broker.gateway.publishing import BYTES_IN_FLIGHT, REQUESTS_IN_FLIGHT, Publishing
from certes_broker.ports.engine import Appended
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.events import EventReader
from certes_broker.schemas.registry import Registry
from tests.fakes.inline_workers import InlineWorkers
from tests.fakes.manual_clock import ManualClock

MOST_BYTES = 4 << 20
REGISTRY = Registry(community_versions())


def _intake() -> Intake:
    workers = InlineWorkers(REGISTRY)
    conversion = Conversion(workers.documents, workers.as_workers())
    reader = EventReader(REGISTRY, max_event_bytes=MOST_BYTES)
    return Intake(reader, conversion, Unwatched(), MOST_BYTES, NONE_OPEN)


class Unwatched:
    """Is not interested in drift."""

    def noticed(self, *_: object) -> None:
        """Takes no note of it."""


class HeldPublisher:
    """Stores nothing until the test says so. Like `Publisher`, it begins in the order in which it is called."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.outcomes: dict[str, asyncio.Future[None]] = {}
        self._changed = asyncio.Condition()

    async def publish(self, events: Sequence[AcceptedEvent]) -> Receipts:
        first = events[0].id
        self.begun.append(first)
        outcome = self.outcomes.setdefault(first, asyncio.get_running_loop().create_future())
        async with self._changed:
            self._changed.notify_all()
        try:
            await outcome
        except asyncio.CancelledError:
            self.cancelled.append(first)
            raise
        return Receipts(events, [Appended(Position(i), duplicate=False) for i in range(1, len(events) + 1)])

    async def has_begun(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.begun) >= count)

    def settle(self, event_id: str, error: Exception | None = None) -> None:
        outcome = self.outcomes.setdefault(event_id, asyncio.get_running_loop().create_future())
        if error is None:
            outcome.set_result(None)
        else:
            outcome.set_exception(error)


class Exchange:
    """One `PublishStream` call, both ends in the test's hands."""

    def __init__(self) -> None:
        self.publisher = HeldPublisher()
        self.draining = asyncio.Event()
        self.answers: asyncio.Queue[pb.PublishStreamResponse] = asyncio.Queue()
        self.reading = asyncio.Event()
        self.reading.set()
        self.requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.refused: Counter[str] = Counter()
        self.taken = 0
        self.gone = False

    async def run(self) -> None:
        publisher = cast("Publisher", self.publisher)
        publishing = Publishing(_intake(), publisher, EventNames(bytes(16)), ManualClock(), refused=self.refused)
        with acting_as(LOCAL_OPERATOR):
            await publishing.publish_stream(self._iterate(), self._send, self.draining)

    def ask(self, *ids: str, padding: int = 0) -> None:
        for event_id in ids:
            request = pb.PublishStreamRequest(request_id=event_id, events=[event(event_id, padding)])
            self.requests.put_nowait(request.SerializeToString())

    async def answered(self, count: int) -> list[pb.PublishStreamResponse]:
        return [await self.answers.get() for _ in range(count)]

    async def _iterate(self) -> AsyncIterator[bytes]:
        while (wire := await self.requests.get()) is not None:
            self.taken += 1
            yield wire

    async def _send(self, wire: bytes) -> None:
        await self.reading.wait()
        if self.gone:
            raise BrokenPipeError
        self.answers.put_nowait(pb.PublishStreamResponse.FromString(wire))


def event(event_id: str, padding: int) -> event_pb2.Event:
    data = AnyMessage()
    data.Pack(PushEvent(ref="x" * padding))
    return event_pb2.Event(
        id=event_id, type="community.certes.dev/github/1/push", source="//test", everyone=True, data=data
    )


async def test_a_request_is_taken_while_others_wait_for_their_commit_and_answers_keep_the_order() -> None:
    exchange = Exchange()
    async with asyncio.TaskGroup() as group:
        group.create_task(exchange.run())
        exchange.ask("a", "b", "c")
        await exchange.publisher.has_begun(3)
        for event_id in ("c", "b", "a"):
            exchange.publisher.settle(event_id)
        assert [answer.request_id for answer in await exchange.answered(3)] == ["a", "b", "c"]
        exchange.requests.put_nowait(None)


async def test_refusals_of_a_stream_are_counted_by_reason() -> None:
    exchange = Exchange()
    async with asyncio.TaskGroup() as group:
        group.create_task(exchange.run())
        exchange.requests.put_nowait(b"\xff")
        exchange.requests.put_nowait(pb.PublishStreamRequest(request_id="none").SerializeToString())
        assert [answer.WhichOneof("outcome") for answer in await exchange.answered(2)] == ["rejected", "rejected"]
        exchange.requests.put_nowait(None)
    assert exchange.refused == {"MALFORMED_REQUEST": 1, "FIELD_REQUIRED": 1}


async def test_no_more_requests_are_in_flight_than_the_bound() -> None:
    exchange = Exchange()
    ids = [f"e{i}" for i in range(REQUESTS_IN_FLIGHT + 20)]
    async with asyncio.TaskGroup() as group:
        group.create_task(exchange.run())
        exchange.ask(*ids)
        await exchange.publisher.has_begun(REQUESTS_IN_FLIGHT)
        # One more is read, and waits for room.
        assert len(exchange.publisher.begun) == REQUESTS_IN_FLIGHT
        assert exchange.taken <= REQUESTS_IN_FLIGHT + 1
        for finished, event_id in enumerate(ids, 1):
            exchange.publisher.settle(event_id)
            await exchange.answered(1)
            assert len(exchange.publisher.begun) <= finished + REQUESTS_IN_FLIGHT
        exchange.requests.put_nowait(None)


async def test_no_more_bytes_are_in_flight_than_the_bound() -> None:
    exchange = Exchange()
    size = BYTES_IN_FLIGHT // 3 + 1
    async with asyncio.TaskGroup() as group:
        group.create_task(exchange.run())
        exchange.ask("a", "b", "c", padding=size)
        await exchange.publisher.has_begun(2)
        exchange.publisher.settle("a")
        await exchange.answered(1)
        assert exchange.publisher.begun == ["a", "b"]
        await exchange.publisher.has_begun(3)
        exchange.publisher.settle("b")
        exchange.publisher.settle("c")
        await exchange.answered(2)
        exchange.requests.put_nowait(None)


async def test_a_caller_that_does_not_read_its_answers_holds_up_its_own_requests() -> None:
    exchange = Exchange()
    exchange.reading.clear()
    ids = [f"e{i}" for i in range(2 * REQUESTS_IN_FLIGHT)]
    async with asyncio.TaskGroup() as group:
        group.create_task(exchange.run())
        for event_id in ids:
            exchange.publisher.settle(event_id)
        exchange.ask(*ids)
        await exchange.publisher.has_begun(REQUESTS_IN_FLIGHT)
        assert exchange.answers.empty()
        assert exchange.taken <= REQUESTS_IN_FLIGHT + 1
        exchange.reading.set()
        assert [answer.request_id for answer in await exchange.answered(len(ids))] == ids
        exchange.requests.put_nowait(None)


async def test_a_full_buffer_rejects_one_request_with_a_delay_and_serves_the_next() -> None:
    exchange = Exchange()
    async with asyncio.TaskGroup() as group:
        group.create_task(exchange.run())
        exchange.ask("a", "b")
        exchange.publisher.settle("a", Exhausted(Reason.BUFFER_FULL, "full", retry_after=0.1))
        exchange.publisher.settle("b")
        first, second = await exchange.answered(2)
        assert (first.rejected.reason, first.rejected.retry_delay.nanos) == ("BUFFER_FULL", 100_000_000)
        assert second.accepted.count == 1
        exchange.requests.put_nowait(None)


async def test_a_fault_of_the_broker_rejects_one_request_and_is_logged() -> None:
    exchange = Exchange()
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            group.create_task(exchange.run())
            exchange.ask("a", "b")
            exchange.publisher.settle("a", ZeroDivisionError("secret detail"))
            exchange.publisher.settle("b")
            first, second = await exchange.answered(2)
            exchange.requests.put_nowait(None)
    assert first.rejected.reason == "INTERNAL"
    assert "secret detail" not in str(first)
    assert second.accepted.count == 1
    assert [entry["correlation_id"] for entry in logs] == [first.rejected.metadata["correlation_id"]]


async def test_cancelling_the_call_cancels_what_it_began() -> None:
    exchange = Exchange()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(exchange.run())
        exchange.ask("a", "b")
        await exchange.publisher.has_begun(2)
        running.cancel()
    assert running.cancelled()
    assert sorted(exchange.publisher.cancelled) == ["a", "b"]
    assert exchange.answers.empty()


async def test_a_caller_that_is_gone_ends_the_call_and_what_it_began() -> None:
    exchange = Exchange()
    exchange.gone = True
    exchange.ask("a", "b")
    exchange.publisher.settle("a")
    with pytest.raises(ExceptionGroup) as raised:
        await exchange.run()
    assert raised.group_contains(BrokenPipeError)
    assert exchange.publisher.cancelled == ["b"]


async def test_a_draining_broker_answers_what_was_taken_and_takes_no_more() -> None:
    exchange = Exchange()
    async with asyncio.TaskGroup() as group:
        ended = group.create_task(outcome_of(exchange))
        exchange.ask("a")
        await exchange.publisher.has_begun(1)
        exchange.draining.set()
        exchange.publisher.settle("a")
        [answer] = await exchange.answered(1)
        error = await ended
    assert answer.accepted.count == 1
    assert isinstance(error, Unavailable)
    assert error.reason is Reason.DRAINING
    exchange.ask("b")
    assert exchange.taken == 1


async def outcome_of(exchange: Exchange) -> Any:
    try:
        return await exchange.run()
    except Unavailable as error:
        return error
