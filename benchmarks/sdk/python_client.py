"""What the SDK for Python does under load: one process publishes, handles and acknowledges.

    python benchmarks/sdk/python_client.py '{"gateway": "events://127.0.0.1:9600", "app": "bench", "window": 256,
                                             "events": 100000, "payload_bytes": 1024}'

It says `{"ready": true}` when the warm-up is handled, waits for a line, publishes `events` events by calls of one event each, `window` of
them un-answered at any time, and says how long it took until all were handled and the client was closed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, Final

import uvloop

import certes_sdk as certes
from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1.event_pb2 import Event

TYPE: Final = "community.certes.dev/github/1/push"
WARM_UP: Final = 2_000
# What an event has beside its data: its id, its source, its type.
_ENVELOPE: Final = Event(id="0" * 36, type=TYPE, source="apps/bench", everyone=True).ByteSize() + 56


class Count:
    """Counts what was handled, and says when it is enough."""

    def __init__(self) -> None:
        self.handled = 0
        self.redelivered = 0
        self._wanted = 0
        self._enough = asyncio.Event()

    async def handle(self, raw: certes.RawEvent) -> None:
        """Reads the typed message, as an application would."""
        event = raw.to(PushEvent)
        if not event.ref:
            raise ValueError("an event without a ref")
        if raw.attempt > 1:
            self.redelivered += 1
        self.handled += 1
        if self.handled == self._wanted:
            self._enough.set()

    async def until(self, wanted: int) -> None:
        """Returns when so many were handled."""
        self._wanted = wanted
        self._enough.clear()
        if self.handled < wanted:
            await self._enough.wait()


async def publish(first: int, count: int, window: int, padding: str) -> None:
    """Publishes events by calls of one event each, a number of them at once."""
    numbers = iter(range(first, first + count))

    async def caller() -> None:
        for number in numbers:
            message = PushEvent(ref=f"refs/heads/{number}", before="0" * 40, after="1" * 40)
            message.repository.full_name = "meetly/meetly"
            message.head_commit.message = padding
            await certes.publish(message, everyone=True)

    async with asyncio.TaskGroup() as callers:
        for _ in range(window):
            callers.create_task(caller())


async def main(settings: dict[str, Any]) -> None:
    """Runs the benchmark."""
    certes.init(settings["gateway"], app=settings["app"])
    count = Count()
    certes.on(TYPE)(count.handle)
    await certes.ensure_subscriptions(certes.event(TYPE))
    padding = "x" * max(0, settings["payload_bytes"] - _ENVELOPE - 120)
    events, window = settings["events"], settings["window"]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(certes.run())
        await publish(0, WARM_UP, window, padding)
        await count.until(WARM_UP)
        print(json.dumps({"ready": True}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began, cpu = time.perf_counter(), time.process_time()
        await publish(WARM_UP, events, window, padding)
        await count.until(WARM_UP + events)
        await certes.close()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    outcome = {
        "seconds": seconds,
        "events": events,
        "handled": count.handled - WARM_UP,
        "redelivered": count.redelivered,
        "cpu_seconds": cpu,
    }
    print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(json.loads(sys.argv[1])))
