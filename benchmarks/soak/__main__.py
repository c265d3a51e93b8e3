"""A soak: webhooks at a steady rate for a while, of which a tenth go to receivers that misbehave.

`python -m benchmarks.soak [--seconds S] [--rate EVENTS]`. Half of the time all receivers are well, the other half a tenth of
them misbehave, each in its way; then they are well again, and everything must have arrived. Prints what the others felt of it and
what memory the broker took. Fails if an event did not arrive, or if memory grows without end; latencies are shown, not judged,
because the machine may be shared.

Every event is for one subscriber, who has one webhook: what is published is what is delivered.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import uvloop
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration

from benchmarks.machine import look_at_machine
from benchmarks.soak.receivers import MISBEHAVIOURS, Receiver, Receivers
from certes.community.github.v1 import ping_event_pb2
from certes.v1 import event_pb2, event_service_pb2_grpc, subscription_pb2, subscription_service_pb2_grpc
from certes.v1 import event_service_pb2 as events_pb
from certes.v1 import subscription_service_pb2 as subscriptions_pb
from scripts.broker_process import BrokerProcess

RECEIVERS: Final = 50
REQUESTS_A_SECOND: Final = 50
MOST_SECONDS: Final = 3600.0
MOST_RATE: Final = 20_000
PATIENCE: Final = 300.0
"""Seconds that what the misbehaving missed may take to arrive once they are well."""
GROWTH: Final = 96
"""MiB that the broker may hold at the end of the second half beyond what it held at the end of the first. What waits for a
receiver waits in storage; this is for windows of 50 lanes, and for what the allocator keeps."""
EVENT_TYPE: Final = "community.certes.dev/github/1/ping"

TRY_AGAIN: Final = subscription_pb2.RetryPolicy(
    linear=subscription_pb2.LinearBackoff(
        initial=Duration(seconds=1), increment=Duration(seconds=1), maximum=Duration(seconds=5)
    ),
    max_attempts=100,
)


@dataclass
class Soak:
    """What was published and what came of it. Times are seconds of the monotonic clock, memory is MiB."""

    receivers: dict[str, Receiver]
    published: dict[str, tuple[str, float]] = field(default_factory=dict)
    """The path of its receiver and the time, by the id of an event."""
    memory: list[tuple[float, float]] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """How many events have not arrived."""
        return len(self.published) - sum(len(receiver.arrived) for receiver in self.receivers.values())

    def latencies(self, began: float, ended: float) -> list[float]:
        """Returns what healthy receivers waited for, in ms, for events published in a span of time."""
        return sorted(
            (receiver.arrived[event_id] - at) * 1000
            for event_id, (path, at) in self.published.items()
            if began <= at < ended
            and not (receiver := self.receivers[path]).misbehaviour
            and event_id in receiver.arrived
        )

    def memory_at(self, time_of: float) -> float:
        """The median of what was held in the ten seconds before a time."""
        return statistics.median(held for at, held in self.memory if time_of - 10 <= at <= time_of)


def main() -> int:
    """Runs the command line and returns its exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300, help="how long events are published (default: 300)")
    parser.add_argument("--rate", type=int, default=2_000, help="events a second (default: 2000)")
    arguments = parser.parse_args()
    if not (4 <= arguments.seconds <= MOST_SECONDS and REQUESTS_A_SECOND <= arguments.rate <= MOST_RATE):
        parser.error(f"4 to {MOST_SECONDS:g} seconds, {REQUESTS_A_SECOND} to {MOST_RATE} events a second")
    with tempfile.TemporaryDirectory(prefix="certes-soak-") as directory:
        print(look_at_machine(Path(directory)))
        with BrokerProcess(Path(directory) / "data").start() as broker:
            faults = uvloop.run(_soak(broker, arguments.seconds, arguments.rate))
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    return 1 if faults else 0


async def _soak(broker: BrokerProcess, seconds: float, rate: int) -> list[str]:
    bad = RECEIVERS // 10
    receivers = {
        f"/{number}": Receiver(MISBEHAVIOURS[number % len(MISBEHAVIOURS)] if number < bad else "")
        for number in range(RECEIVERS)
    }
    soak, serving, arrival = Soak(receivers), Receivers(receivers), asyncio.Event()
    serving.on_arrival = arrival.set
    server = await asyncio.start_server(serving.serve, "127.0.0.1", 0, backlog=1024)
    try:
        async with grpc.aio.insecure_channel(broker.grpc) as channel:
            await _subscribe(channel, server.sockets[0].getsockname()[1], receivers)
            began = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(_watch_memory(broker.pid, soak))
                await _publish(channel, soak, began, seconds / 2, rate)
                turned = time.perf_counter()
                serving.misbehave()
                await _publish(channel, soak, turned, seconds / 2, rate)
                ended = time.perf_counter()
                serving.behave()
                arrived = await _all_arrive(soak, arrival)
                watching.cancel()
    finally:
        server.close()
        await serving.hang_up()
    print(_report(soak, (began, turned, ended), time.perf_counter() - ended))
    return _judged(soak, turned, ended, arrived=arrived)


async def _subscribe(channel: grpc.aio.Channel, port: int, receivers: dict[str, Receiver]) -> None:
    stub = subscription_service_pb2_grpc.SubscriptionServiceStub(channel)
    for path in receivers:
        webhook = subscription_pb2.Webhook(
            url=f"http://127.0.0.1:{port}{path}",
            format=subscription_pb2.Webhook.FORMAT_CLOUDEVENTS_BINARY,
            timeout=Duration(seconds=5),
        )
        wanted = subscription_pb2.Subscription(
            selectors=[subscription_pb2.Selector(pattern=EVENT_TYPE)], webhook=webhook, retry_policy=TRY_AGAIN
        )
        await stub.CreateSubscription(
            subscriptions_pb.CreateSubscriptionRequest(
                parent=f"subscribers/s{path[1:]}", subscription_id="soak", subscription=wanted
            )
        )


async def _publish(channel: grpc.aio.Channel, soak: Soak, began: float, seconds: float, rate: int) -> None:
    """Publishes at a steady rate: a request that is late is not made up for by a rush, but by being sent at once."""
    stub = event_service_pb2_grpc.EventServiceStub(channel)
    paths, size = list(soak.receivers), rate // REQUESTS_A_SECOND
    data = Any()
    data.Pack(ping_event_pb2.PingEvent(zen="Half measures are as bad as nothing at all." * 20))
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(seconds * REQUESTS_A_SECOND)):
            await asyncio.sleep(max(0.0, began + number / REQUESTS_A_SECOND - time.perf_counter()))
            request = events_pb.PublishRequest()
            for _ in range(size):
                event_id, path = str(len(soak.published)), paths[len(soak.published) % len(paths)]
                soak.published[event_id] = (path, time.perf_counter())
                request.events.append(
                    event_pb2.Event(id=event_id, type=EVENT_TYPE, source="soak", subscriber=f"s{path[1:]}", data=data)
                )
            tasks.create_task(_call(stub.Publish, request))


async def _call(
    publish: Callable[[events_pb.PublishRequest], Awaitable[object]], request: events_pb.PublishRequest
) -> None:
    await publish(request)


async def _all_arrive(soak: Soak, arrival: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(PATIENCE):
            while soak.missing:
                arrival.clear()
                await arrival.wait()
    except TimeoutError:
        return False
    return True


async def _watch_memory(pid: int, soak: Soak) -> None:
    status = Path(f"/proc/{pid}/status")
    while True:
        held = int(status.read_text().partition("VmRSS:")[2].split()[0]) / 1024  # noqa: ASYNC240  no disk behind it
        soak.memory.append((time.perf_counter(), held))
        await asyncio.sleep(0.5)


def _report(soak: Soak, moments: tuple[float, float, float], caught_up: float) -> str:
    began, turned, ended = moments
    rows = []
    for title, since, until in (("all are well", began, turned), ("a tenth misbehave", turned, ended)):
        waits = soak.latencies(since, until)
        count = sum(since <= at < until for _, at in soak.published.values())
        rows.append(
            f"| {title:<18} | {count / (until - since):>8,.0f}/s | {_at(waits, 0.5):>9.1f} ms | {_at(waits, 0.99):>9.1f} ms"
            f" | {soak.memory_at(until):>8.0f} MiB |"
        )
    ratio = _at(soak.latencies(turned, ended), 0.99) / _at(soak.latencies(began, turned), 0.99)
    return "\n".join(
        [
            "",
            "| receivers          | published  | healthy median | healthy p99 | broker holds |",
            "|--------------------|------------|--------------|--------------|--------------|",
            *rows,
            "",
            f"p99 of healthy receivers while others misbehave: {ratio:.2f} of that without (aim: at most 2)",
            f"{len(soak.published):,} events, {soak.missing} missing; the last arrived {caught_up:.1f} s after all were well again",
            *(
                f"  {receiver.misbehaviour}: {len(receiver.arrived):,} events in {receiver.requests:,} requests"
                for receiver in soak.receivers.values()
                if receiver.misbehaviour
            ),
        ]
    )


def _judged(soak: Soak, turned: float, ended: float, *, arrived: bool) -> list[str]:
    faults = [] if arrived else [f"{soak.missing} events had not arrived {PATIENCE:g} s after all receivers were well"]
    grown = soak.memory_at(ended) - soak.memory_at(turned)
    if grown > GROWTH:
        faults.append(f"the broker held {grown:.0f} MiB more while some misbehaved; {GROWTH} are allowed")
    return faults


def _at(waits: list[float], share: float) -> float:
    return waits[int(len(waits) * share)] if waits else float("nan")


if __name__ == "__main__":
    sys.exit(main())
