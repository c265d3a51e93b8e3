"""`GET /metrics`: the figures of the broker, for Prometheus and whatever else reads its text format.

The figures are counted by the broker itself; here they are only written down, when somebody asks. Names and units follow
https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response

from certes_broker.broker.broker import Broker
from certes_broker.broker.stats import Stats
from certes_broker.gateway.http.exchange import App
from certes_broker.observability.latencies import LATENCY_BOUNDS, Latencies

PATH = "/metrics"


def metrics(broker: Broker) -> App:
    """Returns what serves the figures."""

    async def serve(request: Request) -> Response:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Look(await broker.stats()))
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return request_response(serve)


class _Look(Collector):
    """One look at the broker, as metrics."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Yields every metric."""
        stats = self._stats
        build = GaugeMetricFamily("certes_build_info", "Always 1; the label says the version.", labels=["version"])
        build.add_metric([version("certes")], 1)
        yield build
        yield _counter("certes_events_accepted", "Events that were stored.", stats.accepted)
        yield _counter("certes_events_duplicate", "Events that had been stored before.", stats.duplicates)
        yield _counter("certes_publish_pushed_back", "Publish requests refused for want of room.", stats.pushed_back)
        arrivals = stats.arrivals
        for name, meaning, label, counts in (
            ("certes_webhooks_accepted", "Webhooks that were taken in, by source.", "source", arrivals.webhooks),
            (
                "certes_webhooks_rejected",
                "Webhooks that were refused, by reason.",
                "reason",
                arrivals.webhooks_rejected,
            ),
            ("certes_publish_refused", "Requests to publish that were refused.", "reason", arrivals.publishes_refused),
            ("certes_calls_refused", "Calls that were not let in, by reason.", "reason", arrivals.calls_refused),
        ):
            yield _counters(name, meaning, label, counts)
        yield _latencies(stats.latencies)
        yield _counters(
            "certes_webhook_attempts", "Attempts at webhooks, by what came of them.", "outcome", stats.attempts
        )
        yield _counters(
            "certes_dead_letters", "Deliveries that were given up, by reason.", "reason", stats.dead_letters
        )
        yield _counter("certes_gaps", "Ranges trimmed before a subscription had read them.", stats.gaps)
        yield _gauges("certes_subscriptions", "Subscriptions, by state.", "state", stats.subscriptions)
        yield _gauges(
            "certes_endpoints", "Endpoints of webhooks, by their breaker's condition.", "breaker", stats.breakers
        )
        for name, meaning, value in (
            ("certes_streams_open", "Open streams.", stats.streams),
            (
                "certes_http_connections",
                "Connections that are open at the port of HTTP.",
                stats.arrivals.http_connections(),
            ),
            ("certes_grpc_calls", "Rpcs under way at the port of gRPC.", stats.arrivals.grpc_calls()),
            ("certes_subscriptions_awake", "Subscriptions that deliver now.", stats.awake),
            (
                "certes_webhooks_awaiting_consent",
                "Active webhooks whose receiver has not consented.",
                stats.awaiting_consent,
            ),
            ("certes_publish_in_flight_bytes", "Bytes of events on their way to storage.", stats.in_flight_bytes),
            ("certes_delivery_bytes", "Bytes of deliveries that are in memory.", stats.delivery_bytes),
            ("certes_webhooks_in_flight", "Requests to webhooks under way.", stats.webhooks_in_flight),
            ("certes_storage_waiting_writes", "Writes that wait for a commit.", stats.waiting_writes),
            ("certes_oldest_unread_seconds", "Age of the oldest event still to be read.", stats.oldest_unread),
            ("certes_journal_bytes", "Bytes of events that are kept.", stats.journal_bytes),
            ("certes_storage_left_bytes", "Bytes that storage has left.", stats.storage_left),
            ("certes_weaker_guarantees", "Guarantees that the storage weakens as it is set up.", len(stats.weaker)),
        ):
            if value is not None:
                yield GaugeMetricFamily(name, meaning, value)
        parts = {part: int(part in stats.unavailable) for part in ("draining", "storage")}
        yield _gauges("certes_unavailable", "1 for a component that does not work now.", "component", parts)


def _counter(name: str, meaning: str, value: int) -> Metric:
    return CounterMetricFamily(name, meaning, value)


def _counters(name: str, meaning: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


def _gauges(name: str, meaning: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


def _latencies(latencies: Latencies) -> Metric:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(str, LATENCY_BOUNDS), "+Inf"), latencies.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return HistogramMetricFamily(
        "certes_delivery_latency_seconds",
        "From the acceptance of an event to the hand-over of a delivery's first attempt.",
        buckets=buckets,
        sum_value=latencies.micros / 1_000_000,
    )
