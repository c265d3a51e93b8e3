"""`certes.v1.EventService`: takes events in, hands deliveries out, and shows what is kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final, assert_never

from certes.v1 import event_service_pb2 as pb
from certes_broker.broker.broker import Broker
from certes_broker.broker.kept_events import PAGES_SCANNED, PAGES_SCANNED_FURTHER, event_not_known
from certes_broker.broker.names import event_not_found
from certes_broker.broker.stream import Stream, StreamLimits
from certes_broker.domain.access import check_patterns
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.names import parse_subscriber_name
from certes_broker.domain.uris import TypePattern, parse_pattern
from certes_broker.gateway.callers import current_caller
from certes_broker.gateway.convert.events import kept_event_answer, kept_page_answer
from certes_broker.gateway.convert.lists import read_page_size, read_parent
from certes_broker.gateway.convert.names import read_subscription_name
from certes_broker.gateway.convert.seeking import read_seek_target
from certes_broker.gateway.convert.selectors import read_filter, read_selectors
from certes_broker.gateway.convert.settlement import read_settlement
from certes_broker.gateway.convert.times import read_time
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.limits import (
    DEFAULT_OUTSTANDING,
    MAXIMUM_OUTSTANDING,
    MAXIMUM_OUTSTANDING_BYTES,
    MAXIMUM_REQUEST_BYTES,
)
from certes_broker.gateway.methods import BidiStream, Method, ServerStream, Unary, methods_of, unary
from certes_broker.gateway.publishing import Publishing
from certes_broker.gateway.requests import decode
from certes_broker.gateway.visibility import check_listed, check_point, check_subscription, is_visible


def event_methods(broker: Broker, max_request_bytes: int = MAXIMUM_REQUEST_BYTES) -> tuple[Method, ...]:
    """Returns the rpcs of `certes.v1.EventService`; `max_request_bytes` bounds requests with events."""
    publishing = Publishing(
        broker.intake,
        broker.publisher,
        broker.names,
        broker.clock,
        max_request_bytes,
        broker.look,
        broker.arrivals.publishes_refused,
    )
    service = _EventService(broker)
    return methods_of(
        pb.DESCRIPTOR.services_by_name["EventService"],
        {
            "Publish": Unary(publishing.publish),
            "PublishStream": BidiStream(publishing.publish_stream),
            "Subscribe": ServerStream(service.subscribe),
            "Acknowledge": unary(pb.AcknowledgeRequest, service.acknowledge),
            "GetEvent": unary(pb.GetEventRequest, service.get_event),
            "ListEvents": unary(pb.ListEventsRequest, service.list_events),
        },
    )


@dataclass(frozen=True, slots=True)
class _EventService:
    broker: Broker

    async def subscribe(self, wire: bytes) -> AsyncGenerator[bytes, None]:
        stream = await self._open(decode(pb.SubscribeRequest, wire))
        try:
            async for frame in stream.frames():
                yield frame
        finally:
            await stream.close()

    async def acknowledge(self, request: pb.AcknowledgeRequest) -> pb.AcknowledgeResponse:
        if not request.stream:
            raise Invalid.field(Reason.FIELD_REQUIRED, "stream", "is required; the first frame of Subscribe names it")
        await self.broker.streams.acknowledge(request.stream, read_settlement(request))
        return _ACKNOWLEDGED

    async def get_event(self, request: pb.GetEventRequest) -> Any:
        kept_events = self.broker.kept_events
        faults = Faults()
        match request.WhichOneof("key"):
            case "name":
                if not request.name:
                    faults.required("name")
                faults.check()
                kept = await kept_events.get(request.name)
                if not is_visible(kept):
                    raise event_not_found(request.name)
            case "source_and_id":
                key = request.source_and_id
                if not key.source:
                    faults.required("source_and_id.source")
                if not key.id:
                    faults.required("source_and_id.id")
                faults.check()
                kept = await kept_events.find(key.source, key.id)
                if not is_visible(kept):
                    raise event_not_known(key.source, key.id)
            case None:
                raise faults.missing("key", "needs one of name and source_and_id")
            case _:
                assert_never(request.WhichOneof("key"))
        return kept_event_answer(kept, await kept_events.original(kept))

    async def list_events(self, request: pb.ListEventsRequest) -> Any:
        faults = Faults()
        subscriber = read_parent(faults, request)
        page_size = read_page_size(faults, request)
        pattern: TypePattern | None = None
        if request.pattern:
            with faults.at("pattern"):
                pattern = parse_pattern(request.pattern)
        start = read_time(faults, "start_time", request.start_time) if request.HasField("start_time") else None
        faults.check()
        check_listed(pattern)
        scanned = PAGES_SCANNED if current_caller().sees_all_events else PAGES_SCANNED_FURTHER
        return kept_page_answer(
            await self.broker.kept_events.list(subscriber, pattern, start, page_size, request.page_token, scanned)
        )

    async def _open(self, request: pb.SubscribeRequest) -> Stream:
        faults = Faults()
        limits = _read_limits(faults, request)
        match request.WhichOneof("target"):
            case "subscription":
                faults.check()
                name = read_subscription_name("subscription", request.subscription)
                check_subscription(self.broker.subscriptions.get(name))
                return await self.broker.streams.open(name, limits)
            case "ephemeral":
                return await self._open_ephemeral(faults, request.ephemeral, limits)
            case None:
                raise faults.missing("target", "needs one of subscription and ephemeral")
            case _:
                assert_never(request.WhichOneof("target"))

    async def _open_ephemeral(self, faults: Faults, wanted: pb.EphemeralSubscription, limits: StreamLimits) -> Stream:
        subscriber = ""
        with faults.at("ephemeral.parent"):
            subscriber = parse_subscriber_name(wanted.parent).subscriber
        selectors = read_selectors(faults, "ephemeral.selectors", wanted.selectors, self.broker.registry.check_selector)
        filter_text = read_filter(faults, "ephemeral.filter", wanted.filter)
        if filter_text:
            with faults.at("ephemeral.filter"):
                await self.broker.filtering.filters.check(filter_text, [selector.pattern for selector in selectors])
        start = read_seek_target(faults, "ephemeral.start", wanted.start) if wanted.HasField("start") else None
        faults.check()
        check_patterns(current_caller(), [selector.pattern for selector in selectors])
        await check_point(self.broker.kept_events, start)
        return await self.broker.streams.open_ephemeral(subscriber, selectors, start, limits, filter_text)


_ACKNOWLEDGED: Final = pb.AcknowledgeResponse()


def _read_limits(faults: Faults, request: pb.SubscribeRequest) -> StreamLimits:
    outstanding, size = DEFAULT_OUTSTANDING, MAXIMUM_OUTSTANDING_BYTES
    if request.HasField("max_outstanding"):
        outstanding = request.max_outstanding
        if not 1 <= outstanding <= MAXIMUM_OUTSTANDING:
            faults.invalid("max_outstanding", f"{outstanding} is outside 1 to {MAXIMUM_OUTSTANDING}")
    if request.HasField("max_outstanding_bytes"):
        size = request.max_outstanding_bytes
        if not 1 <= size <= MAXIMUM_OUTSTANDING_BYTES:
            faults.invalid("max_outstanding_bytes", f"{size} is outside 1 to {MAXIMUM_OUTSTANDING_BYTES}")
    return StreamLimits(outstanding, size, current_caller().id)
