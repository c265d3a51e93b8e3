"""The rpcs of `certes.v1.AdminService` that look at the broker."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from certes.v1 import admin_service_pb2 as pb
from certes_broker.broker.broker import Broker
from certes_broker.gateway.convert.times import duration
from certes_broker.gateway.methods import Call, unary


def look_calls(broker: Broker) -> Mapping[str, Call]:
    """Returns the calls, by the names of their rpcs."""

    async def ping(_request: pb.PingRequest) -> pb.PingResponse:
        return pb.PingResponse(
            version=version("certes"), unavailable=await broker.unavailable(), weaker_guarantees=broker.weaker
        )

    async def get_stats(_request: pb.GetStatsRequest) -> pb.GetStatsResponse:
        stats = await broker.stats()
        answer = pb.GetStatsResponse(
            accepted_events=stats.accepted,
            duplicate_events=stats.duplicates,
            pushed_back_requests=stats.pushed_back,
            first_attempts=stats.latencies.count,
            webhook_attempts=stats.attempts,
            dead_letters=stats.dead_letters,
            gaps=stats.gaps,
            subscriptions=stats.subscriptions,
            breakers=stats.breakers,
            open_streams=stats.streams,
            awake_subscriptions=stats.awake,
            in_flight_bytes=stats.in_flight_bytes,
            webhooks_in_flight=stats.webhooks_in_flight,
            webhooks_awaiting_consent=stats.awaiting_consent,
            oldest_unread=duration(stats.oldest_unread),
            journal_bytes=stats.journal_bytes,
            storage_left_bytes=stats.storage_left,
            accepted_webhooks=stats.arrivals.webhooks,
            rejected_webhooks=stats.arrivals.webhooks_rejected,
            refused_publishes=stats.arrivals.publishes_refused,
            refused_calls=stats.arrivals.calls_refused,
            http_connections=stats.arrivals.http_connections(),
            grpc_calls=stats.arrivals.grpc_calls(),
        )
        within = stats.latencies.within(0.99)
        if within is not None:
            answer.delivery_latency_p99.CopyFrom(duration(within))
        return answer

    return {"Ping": unary(pb.PingRequest, ping), "GetStats": unary(pb.GetStatsRequest, get_stats)}
