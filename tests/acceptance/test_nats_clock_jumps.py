"""The time of day jumps by a day, forward and back, under two brokers and three NATS servers: under one of them, or several."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from certes.v1 import event_service_pb2 as pb
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import Client, connected, event, ordinals
from tests.acceptance.receiver import Receiver, receiving
from tests.acceptance.test_clock_jumps import DAY, PATIENCE, Flow, TimeOfDay, begin_to_fail, clear, hold, jumping
from tests.acceptance.test_cluster import TAKEN_FOR_GONE, taken_over
from tests.acceptance.test_nats import settings
from tests.fakes.nats_servers import NatsCluster, running
from tests.fakes.process_clock import ProcessClock

CONFIG = """
[dedupe]
# Two brokers are up to two days apart, and what one stores is older than that for the other.
window = "4d"
[breaker]
pause = "1s"
"""
TELLS_GONE = "member_gone"
"""Logged by a broker that takes another one for gone."""
STEPS = (
    # Days by which two brokers and three servers differ.
    ((1, 0), (0, 0, 0)),
    ((1, -1), (0, 0, 0)),
    ((0, 0), (1, 1, 1)),
    ((0, 0), (-1, 1, 0)),
    ((-1, 1), (-1, -1, -1)),
)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    with running(tmp_path / "nats", size=3) as cluster:
        yield cluster


@pytest.fixture
def times(tmp_path: Path) -> Sequence[TimeOfDay]:
    return [TimeOfDay(tmp_path / name) for name in ("one_time", "other_time")]


@pytest.fixture
def brokers(tmp_path: Path, cluster: NatsCluster, times: Sequence[TimeOfDay]) -> Iterator[Sequence[BrokerProcess]]:
    config = tmp_path / "broker.toml"
    config.write_text(settings(*cluster.servers) + CONFIG)
    with ExitStack() as stack:
        brokers = [stack.enter_context(jumping(time.file.with_suffix(".data"), config, time)) for time in times]
        for broker in brokers:
            broker.start(PATIENCE)
        yield brokers


async def test_days_by_which_brokers_and_servers_differ_stop_nothing_and_lose_nothing(
    brokers: Sequence[BrokerProcess], times: Sequence[TimeOfDay], cluster: NatsCluster
) -> None:
    one, other = brokers
    clocks = [ProcessClock(server.pid) for server in cluster.servers]
    async with connected(one) as first, connected(other) as second, receiving() as prompt, receiving() as failing:
        await first.create_webhook("hook", prompt.url, parent="subscribers/flow")
        flow = Flow(first, prompt, await first.create_stream("stream", parent="subscribers/flow"), second)
        await begin_to_fail(second, failing)
        stream, held = await hold(second)
        await flow.goes_on()
        for of_brokers, of_servers in STEPS:
            for clock, days in zip(clocks, of_servers, strict=True):
                clock.set(days * DAY)
            for time_of_day, days in zip(times, of_brokers, strict=True):
                time_of_day.set(days * DAY)
            for client, days in zip((first, second), of_brokers, strict=True):
                await until_ahead(client, days)
            await flow.goes_on()
            await one_more(failing)
        failing.status = 204
        await failing.until(lambda: len(failing.taken) == 1, PATIENCE)
        # It had an hour to be acknowledged, at the broker that differs by a day now.
        await second.acknowledge(stream, ordinals(1, 1))
        held.cancel()
        assert flow.made == sorted(flow.made), "ids that the broker makes grow, whatever the clock does"
        assert not any(word in broker.log for broker in brokers for word in (TAKEN_FOR_GONE, TELLS_GONE))
        await hold(first, "left")
        pid = one.pid
        one.kill9()
        clear(pid)
        # Two days apart, it notices that the first is gone, as ever.
        assert await taken_over(second, "subscribers/left/subscriptions/stream", {"left"}) == ["left"]
        flow.client = second
        await flow.goes_on()


async def until_ahead(client: Client, days: int) -> None:
    """Publishes until a broker says that it is so many days ahead of the real time."""
    async with asyncio.timeout(PATIENCE):
        while True:
            [one] = await client.publish([event("", subscriber="nobody")])
            kept = (await client.events.GetEvent(pb.GetEventRequest(name=one.name))).event
            if round((kept.event.time.ToSeconds() - time.time()) / DAY.total_seconds()) == days:
                return


async def one_more(receiver: Receiver) -> None:
    """Waits for the next retry."""
    count = len(receiver.requests)
    await receiver.until(lambda: len(receiver.requests) > count, PATIENCE)
