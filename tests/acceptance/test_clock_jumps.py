"""The time of day jumps by a day, forward and back, under the real broker.

The jumps are made by libfaketime, which is preloaded into the broker and its children and reads from a file by how much the time of
day differs from the real one. Clocks that cannot be set are left alone, as they are where a system's clock is set.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from certes.v1 import event_service_pb2 as events_pb
from certes.v1 import subscription_pb2 as resources
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import Client, Frames, connected, event, ordinals, receive_all
from tests.acceptance.receiver import Receiver, receiving

SHARED_MEMORY = Path("/dev/shm")
PATIENCE = 120
CONFIG = """
[dedupe]
# After a jump of a day everything is older than a day, which is how long ids are known if nothing is set.
window = "2d"
[breaker]
pause = "1s"
"""
DAY = timedelta(days=1)
EVERY_SECOND = resources.RetryPolicy(
    linear=resources.LinearBackoff(initial=Duration(seconds=1), increment=Duration()), max_attempts=100, jitter=0
)


def libfaketime() -> Path:
    """The library for programs with threads. Skips where it is not installed."""
    for found in Path("/usr").glob("lib/*/faketime/libfaketimeMT.so.1"):
        return found
    pytest.skip("libfaketime is not installed: on Debian it is the package libfaketime")


class TimeOfDay:
    """By how much the broker's time of day differs from the real one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(timedelta(0))

    def set(self, offset: timedelta) -> None:
        """Lets the time of day jump there, for the broker, in one step."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset.total_seconds():+.0f}\n")
        new.replace(self.file)


@pytest.fixture
def time_of_day(tmp_path: Path) -> TimeOfDay:
    return TimeOfDay(tmp_path / "faketimerc")


@pytest.fixture
def broker(tmp_path: Path, time_of_day: TimeOfDay) -> Iterator[BrokerProcess]:
    config = tmp_path / "certes.toml"
    config.write_text(CONFIG)
    with jumping(tmp_path / "data", config, time_of_day) as process:
        yield process.start(PATIENCE)


@contextmanager
def jumping(data_dir: Path, config: Path, time_of_day: TimeOfDay) -> Iterator[BrokerProcess]:
    """A broker, to be started, that has a time of day of its own."""
    environ = {
        "LD_PRELOAD": str(libfaketime()),
        "FAKETIME_TIMESTAMP_FILE": str(time_of_day.file),
        "FAKETIME_CACHE_DURATION": "1",  # in seconds: reading the file every time takes more than all the rest
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # with it, threads that wait for each other do so in a busy loop
        "NO_FAKE_STAT": "1",
    }
    with BrokerProcess(data_dir, config=config, environ=environ) as process:
        yield process
        if process.is_running:
            clear(process.pid)


def clear(pid: int) -> None:
    """Removes what the library leaves behind of a program that is killed."""
    for left in SHARED_MEMORY.glob(f"*faketime_*_{pid}"):
        left.unlink()


@dataclass
class Flow:
    """Events of one key that are published and delivered while the clock jumps.

    `client` publishes and `reader` reads the stream, at the same broker or at another.
    """

    client: Client
    hook: Receiver
    stream: str
    reader: Client
    published: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    """The ids that the broker made."""

    async def goes_on(self) -> None:
        """Publishes some more, which arrive once and in order at the webhook and on the stream; nothing is forgotten."""
        ids = [f"f{len(self.published) + number}" for number in range(3)]
        assert not any(one.duplicate for one in await self._publish(ids))
        self.published += ids
        assert await receive_all(self.reader, self.stream, set(ids)) == ids
        await self.hook.until(lambda: {one.event_id for one in self.hook.requests} >= set(ids), PATIENCE)
        assert list(dict.fromkeys(one.event_id for one in self.hook.requests)) == self.published
        assert all(one.duplicate for one in await self._publish(self.published))
        request = events_pb.ListEventsRequest(parent="subscribers/flow", page_size=1000)
        assert [one.event.id for one in (await self.client.events.ListEvents(request)).events] == self.published
        self.made += [one.id for one in await self.client.publish([event("", subscriber="nobody") for _ in range(3)])]

    async def _publish(self, ids: Sequence[str]) -> list[events_pb.PublishResult]:
        return await self.client.publish([event(one, key="flow", subscriber="flow") for one in ids])


async def test_a_day_forward_and_two_days_back_stop_nothing_and_lose_nothing(
    broker: BrokerProcess, time_of_day: TimeOfDay
) -> None:
    async with connected(broker) as client, receiving() as prompt, receiving() as failing:
        await client.create_webhook("hook", prompt.url, parent="subscribers/flow")
        flow = Flow(client, prompt, await client.create_stream("stream", parent="subscribers/flow"), client)
        await begin_to_fail(client, failing)
        stream, held = await hold(client)
        await flow.goes_on()
        for days in (1, -1, 0):
            time_of_day.set(days * DAY)
            # A retry waits all the time, and tells the broker's time when it comes.
            await until_ahead(failing, days)
            await flow.goes_on()
        failing.status = 204
        await failing.until(lambda: len(failing.taken) == 1, PATIENCE)
        # It had an hour to be acknowledged.
        await client.acknowledge(stream, ordinals(1, 1))
        held.cancel()
        assert flow.made == sorted(flow.made), "ids that the broker makes grow, whatever the clock does"


async def until_ahead(receiver: Receiver, days: int) -> None:
    """Waits for a request that was made so many days ahead of the real time."""

    def is_ahead() -> bool:
        ahead = int(receiver.requests[-1].arrival.headers["webhook-timestamp"]) - time.time()
        return round(ahead / DAY.total_seconds()) == days

    await receiver.until(is_ahead, PATIENCE)


async def begin_to_fail(client: Client, receiver: Receiver) -> None:
    receiver.status = 503
    await client.create_webhook("hook", receiver.url, parent="subscribers/failing", retry_policy=EVERY_SECOND)
    await client.publish([event("failing", subscriber="failing")])
    await receiver.until(lambda: len(receiver.requests) == 1, PATIENCE)


async def hold(client: Client, event_id: str = "held") -> tuple[str, Frames]:
    """Takes a delivery and does not settle it. Returns the name of the stream, and the stream."""
    parent = f"subscribers/{event_id}"
    name = await client.create_stream("stream", parent=parent, ack_deadline=Duration(seconds=3600))
    await client.publish([event(event_id, subscriber=event_id)])
    frames = client.subscribe(name)
    opened = await frames.read()
    assert [one.event.id for one in (await frames.read()).batch.deliveries] == [event_id]
    return opened.opened.stream, frames
