"""Several brokers on one engine: as many publishers and streams for one broker as for two, which have half of them each.

So what two brokers do can be compared with what one does, on NATS and on SQLite, in rounds that take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from benchmarks.conversation import Program
from benchmarks.measures import Measure, Round, Use, percentile
from benchmarks.stage import Meter, Stage

PAIRS: Final = 2
"""Publishers, and streams; each stream has the events of all publishers."""
RATE: Final = 500
"""Events a second of each publisher where latency is measured."""
DELIVERED: Final = (Measure("", "/s"),)
LATENCIES: Final = (Measure("p50", "ms"), Measure("p99", "ms"), Measure("p99.9", "ms"))
WARM_UP: Final = 2048
_OUTSTANDING: Final = 4096


async def streamed(stage: Stage) -> Round:
    """Publishes as fast as the brokers take it; the rate is that of acknowledged deliveries."""
    async with AsyncExitStack() as stack:
        publishers, consumers = await _company(stack, stage, {"batch": 64, "window": 1024}, {})
        await _ask(publishers, events=WARM_UP)
        warm = WARM_UP * PAIRS
        await _ask(consumers, until=warm)
        meter = _meter(stage, publishers, consumers)
        published = await _ask(publishers, seconds=stage.seconds)
        count = sum(one["published"] for one in published)
        done = await _ask(consumers, until=warm + count)
        deliveries = count * PAIRS
        use = _summed(meter.read(deliveries))
        _check(done, warm + count)
        began = min(one["began"] for one in published)
        rate = deliveries / (max(one["at"] for one in done) - began) * 1e9
        least, most = sorted(one["published"] / (one["ended"] - one["began"]) * 1e9 for one in published)
        return Round((rate,), use, {"slower publisher, events/s": least, "faster publisher, events/s": most})


async def paced(stage: Stage) -> Round:
    """Publishes at a steady rate, and times each delivery from when its event was due to be sent."""
    async with AsyncExitStack() as stack:
        publishers, consumers = await _company(stack, stage, {"coalesce": 64, "window": 256}, {"gather": 0.01})
        warm = sum(one["published"] for one in await _ask(publishers, seconds=1.0, rate=RATE))
        await _ask(consumers, until=warm)
        for consumer in consumers:
            consumer.tell(note_latencies=True)
        meter = _meter(stage, publishers, consumers)
        count = sum(one["published"] for one in await _ask(publishers, seconds=stage.seconds, rate=RATE))
        done = await _ask(consumers, until=warm + count)
        use = _summed(meter.read(count * PAIRS))
        _check(done, warm + count)
        latencies = sorted(latency / 1e6 for one in done for latency in one["latencies"])
        if len(latencies) != count * PAIRS:
            raise RuntimeError("The round is void: a delivery was not timed.")
        return Round(tuple(percentile(latencies, share) for share in (0.5, 0.99, 0.999)), use)


async def _company(
    stack: AsyncExitStack, stage: Stage, publishing: Mapping[str, Any], consuming: Mapping[str, Any]
) -> tuple[Sequence[Program], Sequence[Program]]:
    """Starts publishers and consumers, in turns at the brokers."""
    at = [stage.brokers[number % len(stage.brokers)] for number in range(PAIRS)]
    names = [await stage.subscribe(f"benchmark-{number}") for number in range(PAIRS)]
    publishers = [await stack.enter_async_context(stage.publisher(broker, **publishing)) for broker in at]
    consumers = [
        await stack.enter_async_context(stage.consumer([name], broker, max_outstanding=_OUTSTANDING, **consuming))
        for name, broker in zip(names, at, strict=True)
    ]
    return publishers, consumers


async def _ask(programs: Sequence[Program], **command: object) -> Sequence[Mapping[str, Any]]:
    """Asks all of them at once."""
    return await asyncio.gather(*(program.ask(**command) for program in programs))


def _meter(stage: Stage, publishers: Sequence[Program], consumers: Sequence[Program]) -> Meter:
    theirs = {f"publisher {number}": one for number, one in enumerate(publishers, 1)}
    return stage.meter(**theirs, **{f"consumer {number}": one for number, one in enumerate(consumers, 1)})


def _summed(use: Use) -> Use:
    """Returns what processes of one kind used together."""
    per_event: dict[str, float] = {}
    for name, used in use.per_event.items():
        kind = name.split(" ")[0]
        per_event[kind] = per_event.get(kind, 0.0) + used
    return Use(per_event, use.elsewhere)


def _check(done: Sequence[Mapping[str, Any]], events: int) -> None:
    if any(one["acknowledged"] != events or one["redelivered"] for one in done):
        raise RuntimeError("The round is void: there were more deliveries than events, or some came again.")
