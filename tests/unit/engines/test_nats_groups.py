"""Group commit: what waits is written together, in order, and everybody is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from certes_broker.domain.errors import Exhausted, Internal, Reason, Unavailable
from certes_broker.engines.nats.groups import Bound, Groups

PLENTY = Bound(1 << 20, 1000, refuses=False)


class Written:
    """Writes groups of numbers, each when it is let."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.failure: BaseException | None = None

    async def write(self, numbers: Sequence[int]) -> Sequence[int]:
        self.groups.append(list(numbers))
        self.begun.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return [number * 10 for number in numbers]


async def test_what_comes_while_a_group_is_written_is_the_next_group() -> None:
    written = Written()
    groups: Groups[int, int] = Groups(written.write, PLENTY)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(groups.run())
        first = tasks.create_task(groups.submit(1, 1))
        await written.begun.wait()
        others = [tasks.create_task(groups.submit(number, 1)) for number in (2, 3, 4)]
        await asyncio.sleep(0)
        assert len(groups) == 3
        written.gate.set()
        assert [await one for one in (first, *others)] == [10, 20, 30, 40]
        groups.close()
    assert written.groups == [[1], [2, 3, 4]]


async def test_a_fault_fails_its_group_and_not_the_next() -> None:
    written = Written()
    written.gate.set()
    written.failure = ZeroDivisionError("of the engine's own")
    groups: Groups[int, int] = Groups(written.write, PLENTY)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(groups.run())
        with pytest.raises(Internal):
            await groups.submit(1, 1)
        written.failure = None
        assert await groups.submit(2, 1) == 20
        groups.close()


async def test_whoever_waits_when_the_engine_ends_is_answered() -> None:
    written = Written()
    groups: Groups[int, int] = Groups(written.write, PLENTY)
    outcomes: list[Exception] = []

    async def submit(number: int) -> None:
        try:
            await groups.submit(number, 1)
        except Unavailable as error:
            outcomes.append(error)

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(groups.run())
        writing = tasks.create_task(submit(1))
        await written.begun.wait()
        waiting = tasks.create_task(submit(2))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([writing, waiting])
        assert len(outcomes) == 2
        with pytest.raises(Unavailable):
            await groups.submit(3, 1)


async def test_more_than_may_wait_is_refused_where_it_is_to_be() -> None:
    written = Written()
    groups: Groups[int, int] = Groups(written.write, Bound(1 << 20, 2, refuses=True), ready=lambda: False)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(groups.run())
        waiting = [tasks.create_task(groups.submit(number, 1)) for number in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(Exhausted) as refusal:
            await groups.submit(3, 1)
        assert refusal.value.reason is Reason.BUFFER_FULL
        written.gate.set()
        groups.close()  # What waits is written all the same.
        assert [await one for one in waiting] == [10, 20]
