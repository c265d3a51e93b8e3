"""A soak: webhooks at a steady rate for a while, of which a tenth go to receivers that misbehave.

`python -m benchmarks.soak [--seconds S] [--rate EVENTS]`. Half of the time all receivers are well, the other half a tenth of
them misbehave, each in its way. Both halves take turns of half a minute at most; after each in which some misbehaved all are well
again, and everything must have arrived before the next. Prints what the others felt of it and what memory the broker took. Fails
if an event did not arrive, if memory grows without end, or if the others waited more than twice as long. The machine may be
shared, and its disk or its cores may stand still: so who waited too long is measured again, up to three times in all. In less
than a minute that is shown and not judged.

Every event is for one subscriber, who has one webhook: what is published is what is delivered.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc
import uvloop
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration

from benchmarks.machine import look_at_machine, sync_seconds
from benchmarks.soak.account import Account, Half, Turn, lost_or_grown, report, slowed_down
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
TRIES: Final = 3
TURN: Final = 30.0
"""Seconds that a turn of either half takes at most: what is compared should not be minutes apart on a machine that is shared."""
JUDGED: Final = 60.0
"""Seconds from which it is judged how long the others waited. In a shorter run a few seconds of the machine's own decide."""
PATIENCE: Final = 300.0
"""Seconds that what the misbehaving missed may take to arrive once they are well."""
EVENT_TYPE: Final = "community.certes.dev/github/1/ping"

TRY_AGAIN: Final = subscription_pb2.RetryPolicy(
    linear=subscription_pb2.LinearBackoff(
        initial=Duration(seconds=1), increment=Duration(seconds=1), maximum=Duration(seconds=5)
    ),
    max_attempts=100,
)


def main() -> int:
    """Runs the command line and returns its exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300, help="how long events are published (default: 300)")
    parser.add_argument("--rate", type=int, default=2_000, help="events a second (default: 2000)")
    arguments = parser.parse_args()
    if not (4 <= arguments.seconds <= MOST_SECONDS and REQUESTS_A_SECOND <= arguments.rate <= MOST_RATE):
        parser.error(f"4 to {MOST_SECONDS:g} seconds, {REQUESTS_A_SECOND} to {MOST_RATE} events a second")
    for _ in range(TRIES):
        lost, slow = _run(arguments.seconds, arguments.rate)
        is_judged = arguments.seconds >= JUDGED
        for fault in (*lost, *slow):
            print(
                f"FAILED: {fault}" if is_judged or fault in lost else f"not judged: {fault}",
                file=sys.stderr,
                flush=True,
            )
        if lost:
            return 1
        if not slow or not is_judged:
            return 0
    return 1


def _run(seconds: float, rate: int) -> tuple[list[str], list[str]]:
    """Soaks a new broker once. Returns what is wrong with what arrived and was held, and what with how long it took."""
    with tempfile.TemporaryDirectory(prefix="certes-soak-") as directory:
        print(look_at_machine(Path(directory)))
        with BrokerProcess(Path(directory) / "data").start() as broker:
            account, well, bad, caught_up = uvloop.run(_soak(broker, Path(directory), seconds, rate))
    print(report(account, well, bad, caught_up), flush=True)
    return lost_or_grown(account, well, bad), slowed_down(account, well, bad)


async def _soak(broker: BrokerProcess, directory: Path, seconds: float, rate: int) -> tuple[Account, Half, Half, float]:
    misbehaving = RECEIVERS // 10
    receivers = {
        f"/{number}": Receiver(MISBEHAVIOURS[number % len(MISBEHAVIOURS)] if number < misbehaving else "")
        for number in range(RECEIVERS)
    }
    well, bad, caught_up = Half("all are well"), Half("a tenth misbehave"), 0.0
    turns = math.ceil(seconds / 2 / TURN)
    account, serving, arrival = Account(receivers), Receivers(receivers), asyncio.Event()
    serving.on_arrival = arrival.set
    server = await asyncio.start_server(serving.serve, "127.0.0.1", 0, backlog=1024)
    try:
        async with grpc.aio.insecure_channel(broker.grpc) as channel:
            await _subscribe(channel, server.sockets[0].getsockname()[1], receivers)
            async with asyncio.TaskGroup() as tasks:
                watching = [
                    tasks.create_task(_watch_memory(broker.pid, account)),
                    tasks.create_task(_watch_disk(directory / "sync", account)),
                ]
                for _ in range(turns):
                    well.turns.append(await _publish(channel, account, seconds / 2 / turns, rate))
                    serving.misbehave()
                    bad.turns.append(await _publish(channel, account, seconds / 2 / turns, rate))
                    serving.behave()
                    await _all_arrive(account, arrival)
                    caught_up = max(caught_up, time.perf_counter() - bad.turns[-1].ended)
                    if account.missing:
                        break
                for task in watching:
                    task.cancel()
    finally:
        server.close()
        await serving.hang_up()
    return account, well, bad, caught_up


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


async def _publish(channel: grpc.aio.Channel, account: Account, seconds: float, rate: int) -> Turn:
    """Publishes at a steady rate: a request that is late is not made up for by a rush, but by being sent at once."""
    began = time.perf_counter()
    stub = event_service_pb2_grpc.EventServiceStub(channel)
    paths, size = list(account.receivers), rate // REQUESTS_A_SECOND
    data = Any()
    data.Pack(ping_event_pb2.PingEvent(zen="Half measures are as bad as nothing at all." * 20))
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(seconds * REQUESTS_A_SECOND)):
            await asyncio.sleep(max(0.0, began + number / REQUESTS_A_SECOND - time.perf_counter()))
            request = events_pb.PublishRequest()
            for _ in range(size):
                event_id, path = str(len(account.published)), paths[len(account.published) % len(paths)]
                account.published[event_id] = (path, time.perf_counter())
                request.events.append(
                    event_pb2.Event(id=event_id, type=EVENT_TYPE, source="soak", subscriber=f"s{path[1:]}", data=data)
                )
            tasks.create_task(_call(stub.Publish, request))
    return Turn(began, time.perf_counter())


async def _call(
    publish: Callable[[events_pb.PublishRequest], Awaitable[object]], request: events_pb.PublishRequest
) -> None:
    await publish(request)


async def _all_arrive(account: Account, arrival: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while account.missing:
                arrival.clear()
                await arrival.wait()


async def _watch_disk(file: Path, account: Account) -> None:
    handle = os.open(file, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        while True:
            began = time.perf_counter()
            account.syncs.append((began, await asyncio.to_thread(sync_seconds, handle) * 1000))
            await asyncio.sleep(0.05)
    finally:
        os.close(handle)


async def _watch_memory(pid: int, account: Account) -> None:
    status = Path(f"/proc/{pid}/status")
    while True:
        held = int(status.read_text().partition("VmRSS:")[2].split()[0]) / 1024  # noqa: ASYNC240  no disk behind it
        account.memory.append((time.perf_counter(), held))
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
