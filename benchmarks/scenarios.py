"""The scenarios: each is one round with a broker, publishers and consumers as processes of their own.

A round warms up first, then takes the time from the first event of the measured part to the moment when the last one
is settled: acknowledged by the consumer and answered by the broker, which answers when it is durable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import sdks, sharing
from benchmarks.conversation import Program
from benchmarks.measures import Measure, Round, percentile
from benchmarks.nginx import Nginx, nginx
from benchmarks.schema_start import of_many_versions, of_one_version
from benchmarks.stage import Stage

BATCH: Final = 64
STREAM_WINDOW: Final = 1024
"""Events under way of a publisher that sends batches: sixteen of them."""
CALL_WINDOW: Final = 256
UNARY_WINDOW: Final = 64
OUTSTANDING: Final = 4096
PACED_RATE: Final = 1000
SLOWER_RATE: Final = 500
PROMISED: Final = 0.15
"""Seconds from received to handed over that 99 % of deliveries are promised to keep."""
FAN_OUT: Final = 4
CONNECTIONS: Final = 32
WEBHOOKS_AHEAD: Final = 2048
WARM_UP: Final = 4096
_WAIT: Final = 120.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario. `run` makes one round of it."""

    name: str
    title: str
    measures: tuple[Measure, ...]
    run: Callable[[Stage], Awaitable[Round]]
    nats_servers: int = 0
    """How many NATS servers the broker's engine has; 0 for the embedded one."""
    brokers: int = 1


async def _batches(stage: Stage) -> Round:
    return await _streamed(stage, 1, stage.publisher(batch=BATCH, window=STREAM_WINDOW))


async def _coalesced(stage: Stage) -> Round:
    return await _streamed(stage, 1, stage.publisher(coalesce=BATCH, window=CALL_WINDOW))


async def _fan_out(stage: Stage) -> Round:
    return await _streamed(stage, FAN_OUT, stage.publisher(batch=BATCH, window=STREAM_WINDOW))


async def _streamed(stage: Stage, streams: int, publishing: Program) -> Round:
    """Publishes to so many subscriptions, one stream each; the rate is that of acknowledged deliveries."""
    names = [await stage.subscribe(f"benchmark-{number}") for number in range(streams)]
    async with publishing as publisher, stage.consumer(names, max_outstanding=OUTSTANDING) as consumer:
        await publisher.ask(events=WARM_UP)
        before = await consumer.ask(until=WARM_UP)
        meter = stage.meter(publisher=publisher, consumer=consumer)
        published = await publisher.ask(seconds=stage.seconds)
        count = published["published"]
        done = await consumer.ask(until=WARM_UP + count)
        deliveries = count * streams
        use = meter.read(deliveries)
        _check(done["acknowledged"] == (WARM_UP + count) * streams, "more deliveries than events")
        _check(done["redelivered"] == 0, "deliveries came again")
        seconds = (done["at"] - published["began"]) / 1e9
        notes = {
            "published/s": count / (published["ended"] - published["began"]) * 1e9,
            "deliveries a frame": deliveries / (done["frames"] - before["frames"]),
            "deliveries an acknowledgement": deliveries / (done["acknowledgements"] - before["acknowledgements"]),
        }
        return Round((deliveries / seconds,), use, notes)


async def _unary(stage: Stage) -> Round:
    async with stage.publisher(unary=True, window=UNARY_WINDOW) as publisher:
        await publisher.ask(events=512)
        meter = stage.meter(publisher=publisher)
        published = await publisher.ask(seconds=stage.seconds)
        count = published["published"]
        return Round((count / (published["ended"] - published["began"]) * 1e9,), meter.read(count))


async def _paced(stage: Stage) -> Round:
    return await _paced_at(stage, PACED_RATE)


async def _paced_slower(stage: Stage) -> Round:
    return await _paced_at(stage, SLOWER_RATE)


async def _paced_at(stage: Stage, rate: int) -> Round:
    """Publishes so many a second; what a handler sees is timed by the clients, and beside it what the broker says of itself."""
    name = await stage.subscribe("benchmark")
    async with (
        stage.publisher(coalesce=BATCH, window=CALL_WINDOW) as publisher,
        stage.consumer([name], max_outstanding=OUTSTANDING, gather=0.01) as consumer,
    ):
        warm = await publisher.ask(seconds=1.0, rate=rate)
        await consumer.ask(until=warm["published"])
        consumer.tell(note_latencies=True)
        before = await stage.waits()
        meter = stage.meter(publisher=publisher, consumer=consumer)
        published = await publisher.ask(seconds=stage.seconds, rate=rate)
        done = await consumer.ask(until=warm["published"] + published["published"])
        use = meter.read(published["published"])
        latencies = sorted(latency / 1e6 for latency in done["latencies"])
        _check(len(latencies) == published["published"], "a delivery was not timed")
        waits = (await stage.waits()).since(before)
        _check(waits.count == published["published"], "the broker has not measured every delivery")
        notes = {
            f"received to handed over, by the broker: % within {PROMISED * 1000:g} ms": 100
            * waits.share_within(PROMISED),
            "p50 at most, ms": 1000 * waits.within(0.5),
            "p99 at most, ms": 1000 * waits.within(0.99),
        }
        return Round(tuple(percentile(latencies, share) for share in (0.5, 0.99, 0.999)), use, notes)


async def _webhooks(stage: Stage) -> Round:
    with nginx(stage.directory / "nginx") as receiver:
        await receiver.open()
        try:
            return await _posted(stage, receiver)
        finally:
            await receiver.close()


async def _posted(stage: Stage, receiver: Nginx) -> Round:
    """Publishes no further than a bit ahead of the receiver, so that what is measured is a steady state, not a backlog.

    The clock stops when pausing the subscription has been answered, since that puts its lane to rest and waits for its
    settle. That all was settled is then put to the proof: the broker is killed, started again and resumed, and must send
    nothing but one further event.
    """
    name = await stage.subscribe("benchmark", receiver.url)
    async with stage.publisher(batch=BATCH, window=STREAM_WINDOW, credit=True) as publisher:
        publisher.tell(allowed=WEBHOOKS_AHEAD)
        await publisher.ask(events=WEBHOOKS_AHEAD)
        await receiver.until(WEBHOOKS_AHEAD, _WAIT)
        meter = stage.meter(publisher=publisher, nginx=receiver.pid)
        publisher.tell(seconds=stage.seconds)
        published = await _while_allowing(publisher, receiver)
        count = published["published"]
        total = WEBHOOKS_AHEAD + count
        await receiver.until(total, _WAIT)
        await stage.pause(name)
        seconds = (time.monotonic_ns() - meter.began) / 1e9
        use = meter.read(count)
    stage.broker.kill9()
    stage.broker.start()
    async with stage.publisher(batch=1, window=1) as publisher:
        await publisher.ask(events=1)
        await stage.resume(name)
        await receiver.until(total + 1, _WAIT)
        await stage.pause(name)
    again = await receiver.count() - total - 1
    return Round((count / seconds,), use, {"sent again after kill -9": again})


async def _while_allowing(publisher: Program, receiver: Nginx) -> Mapping[str, Any]:
    """Lets the publisher go on as the receiver does, until it has published what it was told to."""
    async with asyncio.TaskGroup() as tasks:
        published = tasks.create_task(publisher.answer())
        while not published.done():
            publisher.tell(allowed=await receiver.count() + WEBHOOKS_AHEAD)
            await asyncio.sleep(0.01)
    return published.result()


async def _ingress(stage: Stage) -> Round:
    async with stage.ingress_load(CONNECTIONS) as load:
        await load.ask(events=512)
        meter = stage.meter(load=load)
        published = await load.ask(seconds=stage.seconds)
        count = published["published"]
        return Round((count / (published["ended"] - published["began"]) * 1e9,), meter.read(count))


def _check(holds: bool, otherwise: str) -> None:  # noqa: FBT001
    if not holds:
        raise RuntimeError(f"The round is void: {otherwise}.")


SCENARIOS: Final = (
    Scenario(
        "stream",
        "`PublishStream` in batches of 64 → stream → acknowledged",
        (Measure("", "/s", 50_000),),
        _batches,
    ),
    Scenario(
        "coalesced",
        "one-event calls, window 256, coalesced by the client → stream → acknowledged",
        (Measure("", "/s", 35_000),),
        _coalesced,
    ),
    Scenario("unary", "unary `Publish`, 64 in flight", (Measure("", "/s", 3_500),), _unary),
    Scenario(
        "latency",
        "publish → handler at 1,000/s",
        (Measure("p50", "ms", 1.5), Measure("p99", "ms", 4.0), Measure("p99.9", "ms", 10.0)),
        _paced,
    ),
    Scenario(
        "latency-500",
        "publish → handler at 500/s",
        (Measure("p50", "ms"), Measure("p99", "ms"), Measure("p99.9", "ms")),
        _paced_slower,
    ),
    Scenario("fan-out", "fan-out 1 → 4 streams, delivered and acknowledged", (Measure("", "/s", 120_000),), _fan_out),
    Scenario("webhooks", "signed webhooks, publish → 2xx → settled, JSON", (Measure("", "/s", 8_000),), _webhooks),
    Scenario(
        "start-50",
        "start with 1,000 registered event types of 50 versions; memory after an event of each",
        (Measure("start", "s", 3.0), Measure("memory", "MB", 300)),
        of_many_versions,
    ),
    Scenario(
        "start-1",
        "start with 1,000 registered event types of one version; memory after an event of each",
        (Measure("start", "s", 3.0), Measure("memory", "MB", 300)),
        of_one_version,
    ),
    *(
        Scenario(
            f"sdk-{language.lower()}-{window}",
            f"SDK for {language}: one-event calls, window {window} → handled → acknowledged",
            sdks.measures_of(window),
            sdks.scenario_of(language, window),
        )
        for language in sdks.LANGUAGES
        for window in sdks.WINDOWS
    ),
    *(
        Scenario(f"nats-{servers}-{name}", f"{title}; engine on {kind}", measures, run, servers)
        for servers, kind in ((1, "one NATS server"), (3, "a NATS cluster of three"))
        for name, title, measures, run in (
            ("stream", "`PublishStream` in batches of 64 → stream → acknowledged", (Measure("", "/s"),), _batches),
            ("coalesced", "one-event calls, window 256 → stream → acknowledged", (Measure("", "/s"),), _coalesced),
            ("unary", "unary `Publish`, 64 in flight", (Measure("", "/s"),), _unary),
            (
                "latency",
                "publish → handler at 1,000/s",
                (Measure("p50", "ms"), Measure("p99", "ms"), Measure("p99.9", "ms")),
                _paced,
            ),
        )
    ),
    *(
        Scenario(f"two-{where}-{name}", f"{title}; {kind}", measures, run, servers, brokers)
        for where, kind, servers, brokers in (
            ("sqlite", "one broker on SQLite", 0, 1),
            ("nats-1", "one broker on one NATS server", 1, 1),
            ("nats-2", "two brokers on one NATS server", 1, 2),
        )
        for name, title, measures, run in (
            ("streams", "two publishers in batches of 64 → two streams", sharing.DELIVERED, sharing.streamed),
            ("latency", "two publishers, 500/s each → two handlers", sharing.LATENCIES, sharing.paced),
        )
    ),
    Scenario("ingress", "GitHub ingress of a push of 9 KB", (Measure("", "/s", 3_500),), _ingress),
)
