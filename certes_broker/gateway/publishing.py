"""Publishing: requests with events in, what became of them out.

Theory of operation
-------------------
Both ways in share `read_events`, which hands each event's own bytes to the broker's reader, and `Publisher.publish`, which
returns when they are durable.

`PublishStream` is pipelined: while a request waits for its commit the next ones are taken, so that one commit serves many.
A request taken becomes a task that stores its events; a queue holds the tasks in the order of their requests, and one
answerer takes them from it, so answers come in that order. `_Room` bounds what is in flight. A caller that does not read its
answers holds up the answerer, with it the room, and with that the taking: nothing piles up. A refusal is an answer; a task
never raises one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from certes.v1 import event_service_pb2 as pb
from certes_broker.broker.intake import LONG, Intake
from certes_broker.broker.names import EventNames
from certes_broker.broker.publisher import Publisher, Receipts
from certes_broker.domain.access import INGRESS_SOURCES, Caller, check_publish
from certes_broker.domain.errors import (
    AlreadyExists,
    CertesError,
    FieldViolation,
    Invalid,
    PermissionDenied,
    Reason,
    Unavailable,
)
from certes_broker.domain.events import AcceptedEvent
from certes_broker.gateway import overlay
from certes_broker.gateway.callers import current_caller
from certes_broker.gateway.errors import problem, refusal
from certes_broker.gateway.limits import MAXIMUM_EVENTS, MAXIMUM_REQUEST_BYTES, MAXIMUM_REQUEST_ID_BYTES
from certes_broker.gateway.methods import Send
from certes_broker.gateway.requests import decode_envelope
from certes_broker.observability.arrivals import refusals
from certes_broker.ports.clock import Clock
from certes_broker.schemas.system_events import SeenIn

REQUESTS_IN_FLIGHT: Final = 32
"""Requests of one stream that are taken and not answered."""
BYTES_IN_FLIGHT: Final = 8 * 1024 * 1024
"""Their bytes; one request in any case."""


async def _has_all() -> bool:
    """Looks for nothing: there is no other broker."""
    return False


@dataclass(frozen=True, slots=True)
class Publishing:
    """Serves `Publish` and `PublishStream`."""

    intake: Intake
    publisher: Publisher
    names: EventNames
    clock: Clock
    max_request_bytes: int = MAXIMUM_REQUEST_BYTES
    look: Callable[[], Awaitable[bool]] = _has_all
    """Returns True when everything is in force that other brokers had registered before, False where there are none."""
    refused: Counter[str] = field(default_factory=Counter)
    """Counts requests that are refused, by reason."""

    async def publish(self, wire: bytes) -> bytes:
        """Serves `Publish`."""
        with refusals(self.refused):
            request = decode_envelope(overlay.PublishRequest, wire, self.max_request_bytes)
            receipts = await self.store(await self.read_events(request.events))
        answer = pb.PublishResponse(results=self._results(receipts))
        return answer.SerializeToString()

    async def publish_stream(self, requests: AsyncIterator[bytes], send: Send, draining: asyncio.Event) -> None:
        """Serves `PublishStream`."""
        await _PublishStream(self, requests, send).run(draining)

    async def read_events(self, events: Sequence[bytes]) -> list[AcceptedEvent]:
        """Validates the events of one request, and whether whoever calls may publish them."""
        try:
            accepted = await self._read_events(events)
        except Invalid as error:
            # Another broker may have registered it just now.
            if error.reason is not Reason.UNKNOWN_EVENT_TYPE or not await self.look():
                raise
            accepted = await self._read_events(events)
        check_published(current_caller(), accepted)
        return accepted

    async def _read_events(self, events: Sequence[bytes]) -> list[AcceptedEvent]:
        if not events:
            raise Invalid.field(Reason.FIELD_REQUIRED, "events", "needs at least one event")
        if len(events) > MAXIMUM_EVENTS:
            raise Invalid.field(
                Reason.TOO_MANY_EVENTS,
                "events",
                f"has {len(events)} events; {MAXIMUM_EVENTS} are allowed in one request",
                hint="Send the rest in further requests.",
                limit=str(MAXIMUM_EVENTS),
            )
        now = self.clock.now()
        wires = list(events)
        sizes = list(map(len, wires))
        if max(sizes) < LONG and sum(sizes) + len(sizes) * _EVENT_OVERHEAD <= _BYTES_AT_ONCE:
            return self.intake.reader.read_all(wires, now)
        read = self.intake.reader.read
        accepted = []
        held = 0
        for index, event in enumerate(wires):
            held += len(event) + _EVENT_OVERHEAD
            if held > _BYTES_AT_ONCE:
                await asyncio.sleep(0)
                held = 0
            path = f"events[{index}]"
            short = len(event) < LONG
            accepted.append(read(event, now, path) if short else await self.intake.read(event, now, path))
        return accepted

    async def store(self, events: Sequence[AcceptedEvent]) -> Receipts:
        """Publishes the events of one request, and says which of them an engine refused."""
        try:
            return await self.publisher.publish(events)
        except AlreadyExists as error:
            raise _with_field(error) from error

    def encode_accepted(self, request_id: str, receipts: Receipts, *, with_results: bool) -> bytes:
        """Returns the answer to a request of a stream whose events are durable."""
        accepted = pb.PublishStreamResponse.Accepted(
            count=len(receipts),
            duplicates=receipts.duplicates,
            results=self._results(receipts) if with_results else (),
        )
        return pb.PublishStreamResponse(request_id=request_id, accepted=accepted).SerializeToString()

    def _results(self, receipts: Receipts) -> list[pb.PublishResult]:
        names = self.names.names(receipts.positions)
        return [
            pb.PublishResult(name=name, id=receipt.id, duplicate=receipt.duplicate)
            for name, receipt in zip(names, receipts, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Taken:
    """A request that was taken and is to be answered. Its task never raises a refusal, it returns it."""

    request_id: str
    with_results: bool
    size: int
    outcome: asyncio.Task[_Outcome] | CertesError


_Outcome = Receipts | CertesError


class _PublishStream:
    """One open stream."""

    def __init__(self, publishing: Publishing, requests: AsyncIterator[bytes], send: Send) -> None:
        self._publishing = publishing
        self._requests = requests
        self._send = send
        self._room = _Room()
        self._taken: asyncio.Queue[_Taken | None] = asyncio.Queue()
        """Bounded by `_room`: what is queued has entered it."""

    async def run(self, draining: asyncio.Event) -> None:
        drained = False
        async with asyncio.TaskGroup() as group:
            group.create_task(self._answer_all())
            taking = asyncio.timeout(None)
            watch = group.create_task(_end(taking, draining))
            try:
                async with taking:
                    await self._take_all(group)
            except TimeoutError:
                drained = True
            watch.cancel()
            self._taken.put_nowait(None)
        if drained:
            raise Unavailable(
                Reason.DRAINING,
                "The broker is shutting down and takes no further requests; those it took are answered.",
                hint="Open the stream again, at another one or in a moment.",
                retry_after=1.0,
            )

    async def _take_all(self, group: asyncio.TaskGroup) -> None:
        async for wire in self._requests:
            await self._room.enter(len(wire))
            self._taken.put_nowait(await self._take(group, wire))

    async def _take(self, group: asyncio.TaskGroup, wire: bytes) -> _Taken:
        """Reads a request and begins to store it.

        Reading is not left to the task: requests of one stream are handed to the publisher in their order, so that events of
        one ordering key that were sent one after another are accepted so.
        """
        request_id, with_results = "", False
        outcome: asyncio.Task[_Outcome] | CertesError
        try:
            request = decode_envelope(overlay.PublishStreamRequest, wire, self._publishing.max_request_bytes)
            _check_request_id(request.request_id)
            request_id, with_results = request.request_id, request.return_results
            outcome = group.create_task(self._store(await self._publishing.read_events(request.events)))
        except Exception as error:  # noqa: BLE001 - a fault of ours in one request must not end the others' stream
            outcome = refusal(error, _RPC)
        return _Taken(request_id, with_results, len(wire), outcome)

    async def _store(self, events: Sequence[AcceptedEvent]) -> _Outcome:
        try:
            return await self._publishing.store(events)
        except Exception as error:  # noqa: BLE001 - the same
            return refusal(error, _RPC)

    async def _answer_all(self) -> None:
        while (taken := await self._taken.get()) is not None:
            outcome = taken.outcome if isinstance(taken.outcome, CertesError) else await taken.outcome
            if isinstance(outcome, CertesError):
                self._publishing.refused[outcome.reason.value] += 1
                rejected = pb.PublishStreamResponse(request_id=taken.request_id, rejected=problem(outcome))
                answer = rejected.SerializeToString()
            else:
                answer = self._publishing.encode_accepted(taken.request_id, outcome, with_results=taken.with_results)
            await self._send(answer)
            self._room.leave(taken.size)


class _Room:
    """Bounds the requests in flight and their bytes; whatever its size, one request always finds room."""

    def __init__(self) -> None:
        self._requests = 0
        self._bytes = 0
        self._left = asyncio.Event()

    async def enter(self, size: int) -> None:
        while self._requests >= REQUESTS_IN_FLIGHT or (self._requests and self._bytes + size > BYTES_IN_FLIGHT):
            self._left.clear()
            await self._left.wait()
        self._requests += 1
        self._bytes += size

    def leave(self, size: int) -> None:
        self._requests -= 1
        self._bytes -= size
        self._left.set()


_RPC: Final = "certes.v1.EventService/PublishStream"
_BYTES_AT_ONCE: Final = 256 * 1024
"""Bytes of events that are validated before others have their turn: about a millisecond."""
_EVENT_OVERHEAD: Final = 2 * 1024
"""What an event costs besides its bytes, in bytes."""


async def _end(taking: asyncio.Timeout, draining: asyncio.Event) -> None:
    """Ends the taking of requests, wherever it waits, when the broker drains."""
    await draining.wait()
    taking.reschedule(asyncio.get_running_loop().time())


def _check_request_id(request_id: str) -> None:
    size = len(request_id.encode())
    if size > MAXIMUM_REQUEST_ID_BYTES:
        raise Invalid.field(
            Reason.FIELD_INVALID, "request_id", f"has {size} bytes; {MAXIMUM_REQUEST_ID_BYTES} are allowed"
        )


def check_published(caller: Caller, events: Sequence[AcceptedEvent]) -> None:
    """Raises `PermissionDenied` if a caller may not publish one of these events; it names the event."""
    # The common case, in which there is nothing to ask of an event but this.
    if caller.publishes_all and not any(event.source.startswith(INGRESS_SOURCES) for event in events):
        return
    for index, event in enumerate(events):
        try:
            check_publish(caller, event.source, event.subscriber, event.type)
        except PermissionDenied as error:
            raise PermissionDenied(
                error.reason,
                f"events[{index}]: {error.message}",
                metadata={**error.metadata, "index": str(index)},
                hint=error.hint,
            ) from None


def may_publish(event: SeenIn, event_type: str) -> bool:
    """Says whether whoever calls may publish an event that is being read. Webhooks have no caller: their signature lets them in."""
    try:
        check_publish(current_caller(), event.source, event.subscriber, event_type)
    except PermissionDenied:
        return False
    except LookupError:
        return True
    return True


def _with_field(error: AlreadyExists) -> AlreadyExists:
    index = error.metadata.get("index")
    if index is None or error.violations:
        return error
    return AlreadyExists(
        error.reason,
        error.message,
        metadata=error.metadata,
        violations=[FieldViolation(f"events[{index}].id", "was sent before with other content")],
        hint=error.hint,
    )
