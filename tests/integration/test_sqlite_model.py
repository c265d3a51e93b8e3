"""The embedded engine does what the reference engine does, whatever is done to them, closing and opening included."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from certes_broker.domain.errors import CertesError
from certes_broker.domain.events import AcceptedEvent, Micros, Original, Position
from certes_broker.engines.memory import MemoryEngine
from certes_broker.engines.sqlite import SqliteEngine
from certes_broker.ports.engine import CursorChange, DeadLetter, Engine, Gap
from tests.contracts.engine_contract_rejections import rejected
from tests.contracts.engine_contract_settings import attempt
from tests.contracts.engine_harness import PLENTY, START, WINDOW, event, parked, retry, state
from tests.fakes.manual_clock import ManualClock

SUBSCRIPTIONS = ["a", "b", "c"]
IDS = ["", "x", "y", "z", "ä"]
KEYS = ["k", "k/1", "k/2", "l"]

positions = st.integers(1, 30).map(Position)
times = st.integers(START - 50, START + 400).map(Micros)
events = st.builds(
    lambda event_id, body, time, original: event(event_id, body=body, accept_time=time, original=original),
    st.sampled_from(IDS),
    st.sampled_from([b"", b"1", b"2" * 400]),
    times,
    st.none() | st.just(Original("text/plain", (("a", "b"),), b"original")),
)
rows = st.lists(st.builds(retry, positions, st.integers(1, 9)) | st.builds(parked, positions), max_size=4)
dead_letters = st.builds(
    lambda position, error: DeadLetter(position, event("d")._replace(digest=None), 3, "REASON", error, Micros(START)),
    positions,
    st.sampled_from(["e", "f"]),
)
gaps = st.builds(
    lambda first, length, time: Gap(first, Position(first + length), "RETENTION", time),
    positions,
    st.integers(0, 5),
    times,
)
states = st.builds(
    lambda floor, steps, level: state(floor, floor + 100, *ranges(floor, steps), level=level),
    st.integers(0, 50),
    st.lists(st.integers(1, 5), max_size=6),
    st.booleans(),
)


def ranges(floor: int, steps: list[int]) -> list[tuple[int, int]]:
    ends = []
    for step in steps:
        floor += step
        ends.append(floor)
    return list(zip(ends[::2], ends[1::2], strict=False))


async def outcome(call: Awaitable[Any]) -> Any:
    """What a call came to, as a value to compare."""
    try:
        result = await call
    except CertesError as refusal:
        return type(refusal), refusal.reason, refusal.metadata
    return list(result) if isinstance(result, (list, tuple)) and not hasattr(result, "_fields") else result


class TwoEngines(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.clock = ManualClock(START)
        self.reference = MemoryEngine(self.clock, dedupe_window_seconds=WINDOW)
        self.runner = asyncio.Runner()
        self.trimmed = Position(0)
        self.erased = False
        self.open()

    # An engine is entered and left by one task, which lives as long as the engine.

    def open(self) -> None:
        async def start() -> None:
            ready: asyncio.Future[SqliteEngine] = asyncio.get_running_loop().create_future()
            self.leave = asyncio.Event()
            self.holding = asyncio.get_running_loop().create_task(self.hold(ready))
            self.engine = await ready

        self.runner.run(start())

    async def hold(self, ready: asyncio.Future[SqliteEngine]) -> None:
        async with AsyncExitStack() as stack:
            opened = SqliteEngine.open(self.directory, self.clock, dedupe_window=WINDOW)
            ready.set_result(await stack.enter_async_context(opened))
            await self.leave.wait()

    def close(self) -> None:
        async def stop() -> None:
            self.leave.set()
            await self.holding

        self.runner.run(stop())

    def teardown(self) -> None:
        self.what_cursors_and_settings_keep()
        self.close()
        self.runner.close()
        shutil.rmtree(self.directory)

    def both(self, call: Callable[[Engine], Coroutine[Any, Any, Any]]) -> Any:
        async def compare() -> Any:
            expected = await outcome(call(self.reference))
            assert await outcome(call(self.engine)) == expected
            return expected

        return self.runner.run(compare())

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()
        # The leases of a former process are void; the reference has no former process, so it gives its up.
        self.runner.run(self.reference.leases.release(SUBSCRIPTIONS))
        self.both(lambda engine: engine.leases.lease(SUBSCRIPTIONS))

    @rule(seconds=st.sampled_from([1.0, WINDOW - 1, WINDOW, 2 * WINDOW, -WINDOW, -3 * WINDOW]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.set(self.clock.now() + round(seconds * 1e6))

    @rule(batch=st.lists(events, max_size=5))
    def append(self, batch: list[AcceptedEvent]) -> None:
        self.both(lambda engine: engine.journal.append(batch))

    @rule(through=positions)
    def trim(self, through: Position) -> None:
        async def trimming() -> None:
            expected = await self.reference.journal.trim(through)
            bounds = await self.engine.journal.trim(through)
            assert bounds.trimmed <= expected.trimmed
            assert bounds.last == expected.last
            self.trimmed = expected.trimmed

        self.runner.run(trimming())

    @rule()
    def forget_ids(self) -> None:
        before = Micros(self.clock.now() - round(WINDOW * 1e6))
        self.both(lambda engine: engine.journal.forget_ids(before))

    @rule(after=positions, limit=st.integers(1, 6), max_bytes=st.sampled_from([1, 500, PLENTY]))
    def read(self, after: Position, limit: int, max_bytes: int) -> None:
        start = Position(max(after, self.trimmed))
        self.both(lambda engine: engine.journal.read(start, limit, max_bytes))

    @rule(position=positions)
    def look_up(self, position: Position) -> None:
        at = Position(self.trimmed + position)
        self.both(lambda engine: engine.journal.get(at))
        self.both(lambda engine: engine.journal.original(at))

    @rule(event_id=st.sampled_from(IDS))
    def find(self, event_id: str) -> None:
        self.both(lambda engine: engine.journal.find("tests", event_id))

    @rule(time=times)
    def position_at(self, time: Micros) -> None:
        async def compare() -> None:
            expected = await self.reference.journal.position_at(time)
            found = await self.engine.journal.position_at(time)
            # An event that the reference has trimmed or erased, and whose place the other still has, is above the answer, too.
            assert found <= expected if self.trimmed or self.erased else found == expected

        self.runner.run(compare())

    @rule(
        name=st.sampled_from(SUBSCRIPTIONS),
        epoch=st.integers(0, 12),
        new=states,
        put=rows,
        drop=st.lists(positions, max_size=3),
        dead=st.lists(dead_letters, max_size=2),
        gap=st.lists(gaps, max_size=2),
        reset=st.booleans(),
        buried=st.lists(positions, max_size=2),
        watermark=st.none() | positions,
    )
    def settle(self, name: str, epoch: int, new: Any, put: Any, drop: Any, dead: Any, gap: Any, reset: bool, buried: Any, watermark: Any) -> None:  # fmt: skip
        change = CursorChange(name, epoch, new, put, drop, dead, gap, reset, buried)
        self.both(lambda engine: engine.cursors.settle([change], watermark))

    @rule(name=st.sampled_from(SUBSCRIPTIONS), gone=st.lists(positions, max_size=3, unique=True))
    def bury(self, name: str, gone: list[Position]) -> None:
        self.both(lambda engine: engine.cursors.bury(name, gone))
        self.both(lambda engine: engine.cursors.count_dead_letters(name))

    @rule(often=st.integers(0, 5))
    def expire(self, often: int) -> None:
        if not often:
            self.both(lambda engine: engine.cursors.expire(Micros(self.clock.now() + 1)))

    @rule(often=st.integers(0, 5), subscriber=st.sampled_from(["org_1", "org_2"]))
    def erase(self, often: int, subscriber: str) -> None:
        async def erasing(engine: Engine) -> Any:
            async with engine.erasure.wiping():
                # What one has trimmed the other may still have.
                await engine.erasure.events(subscriber)
                return await engine.erasure.dead_letters(subscriber)

        if not often:
            self.erased = True
            self.both(erasing)

    @rule(name=st.sampled_from(SUBSCRIPTIONS))
    def forget(self, name: str) -> None:
        self.both(lambda engine: engine.cursors.forget(name))

    @rule(names=st.lists(st.sampled_from(SUBSCRIPTIONS), max_size=3))
    def lease(self, names: list[str]) -> None:
        self.both(lambda engine: engine.leases.lease(names))

    @rule(names=st.lists(st.sampled_from(SUBSCRIPTIONS), max_size=3))
    def release(self, names: list[str]) -> None:
        self.both(lambda engine: engine.leases.release(names))

    @rule(key=st.sampled_from(KEYS), body=st.binary(max_size=3), expected=st.none() | st.integers(0, 8))
    def put(self, key: str, body: bytes, expected: int | None) -> None:
        self.both(lambda engine: engine.settings.put(key, body, expected))

    @rule(key=st.sampled_from(KEYS), expected=st.none() | st.integers(0, 8))
    def delete(self, key: str, expected: int | None) -> None:
        self.both(lambda engine: engine.settings.delete(key, expected))

    @rule(numbers=st.lists(st.tuples(st.integers(1, 5), st.sampled_from(SUBSCRIPTIONS), positions), max_size=4))
    def record(self, numbers: list[tuple[int, str, Position]]) -> None:
        self.both(lambda engine: engine.attempts.record([attempt(*one) for one in numbers]))

    @rule(name=st.sampled_from(SUBSCRIPTIONS), position=st.none() | positions, limit=st.integers(0, 5))
    def list_attempts(self, name: str, position: Position | None, limit: int) -> None:
        self.both(lambda engine: engine.attempts.list(name, position, limit))

    @rule(body=st.sampled_from([b"", b"12", b"3" * 400]), source=st.sampled_from(SUBSCRIPTIONS), verified=st.booleans())
    def keep_rejected(self, body: bytes, source: str, verified: bool) -> None:
        self.both(lambda engine: engine.rejections.keep(rejected(body, source, verified=verified)))

    @rule(source=st.sampled_from(SUBSCRIPTIONS), number=st.none() | st.integers(1, 9))
    def forget_rejected(self, source: str, number: int | None) -> None:
        self.both(lambda engine: engine.rejections.forget(source, number))

    @rule(max_bytes=st.sampled_from([0, 400, 402, PLENTY]), max_unverified=st.integers(0, 3))
    def trim_rejected(self, max_bytes: int, max_unverified: int) -> None:
        self.both(lambda engine: engine.rejections.trim(Micros(0), max_bytes, max_unverified))

    @rule(source=st.sampled_from(SUBSCRIPTIONS), before=st.none() | st.integers(1, 9), limit=st.integers(0, 5))
    def list_rejected(self, source: str, before: int | None, limit: int) -> None:
        self.both(lambda engine: engine.rejections.list(source, before, limit))

    @rule()
    def what_cursors_and_settings_keep(self) -> None:
        async def everything(engine: Engine) -> list[Any]:
            kept = [list(await engine.cursors.load(SUBSCRIPTIONS)), list(await engine.settings.list("k"))]
            for name in SUBSCRIPTIONS:
                kept.append(list(await engine.cursors.dead_letters(name, Position(0), 100)))
                kept.append(list(await engine.cursors.gaps(name)))
            return [await engine.cursors.watermark(), *kept]

        self.both(everything)


TwoEngines.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
test_the_embedded_engine_does_what_the_reference_does = TwoEngines.TestCase
