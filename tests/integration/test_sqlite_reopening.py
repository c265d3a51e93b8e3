"""Everything that the embedded engine keeps survives closing, and what waits is committed first."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from certes_broker.domain.errors import AlreadyExists, Unavailable
from certes_broker.domain.events import BEGINNING, Micros, Original, Position
from certes_broker.engines.sqlite import Limits, SqliteEngine
from certes_broker.ports.engine import Appended, CursorChange, DeadLetter, Document, Gap, StoredCursor
from tests.contracts.engine_contract_rejections import rejected
from tests.contracts.engine_contract_settings import attempt
from tests.contracts.engine_harness import PLENTY, START, as_read, event, parked, retry, state
from tests.fakes.manual_clock import ManualClock

A = "subscribers/org_1/subscriptions/a"
A_SOURCE = "github"
NOW = Micros(START)


class Disk:
    """A data directory that is opened again and again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = ManualClock()

    def open(self, limits: Limits | None = None) -> AbstractAsyncContextManager[SqliteEngine]:
        return SqliteEngine.open(self.directory, self.clock, dedupe_window=100.0, limits=limits or Limits())


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "data")


async def test_events_and_their_originals_survive(disk: Disk) -> None:
    original = Original("application/json", (("x-github-event", "push"),), b"{}")
    events = [event(str(index), options=(("repo", "r"),), original=original) for index in range(300)]
    async with disk.open() as engine:
        appended = await engine.journal.append(events)
        bounds = await engine.journal.bounds()
    async with disk.open() as engine:
        entries = (await engine.journal.read(BEGINNING, PLENTY, PLENTY)).entries
        assert [entry.event for entry in entries] == [as_read(one) for one in events]
        assert [entry.position for entry in entries] == [outcome.position for outcome in appended]
        assert await engine.journal.original(appended[299].position) == original
        assert await engine.journal.bounds() == bounds
        assert (await engine.journal.append([event("next")]))[0].position == bounds.last + 1


async def test_positions_grow_on_after_everything_was_trimmed(disk: Disk) -> None:
    async with disk.open() as engine:
        last = (await engine.journal.append([event("a")]))[0].position
        await engine.journal.trim(last)
    async with disk.open() as engine:
        assert (await engine.journal.append([event("b")]))[0].position > last


async def test_ids_are_known_for_their_window(disk: Disk) -> None:
    async with disk.open() as engine:
        first = await engine.journal.append([event("a"), event("b")])
    disk.clock.advance(99)
    async with disk.open() as engine:
        assert await engine.journal.append([event("a")]) == [Appended(first[0].position, duplicate=True)]
        with pytest.raises(AlreadyExists):
            await engine.journal.append([event("b", body=b"other")])
        assert await engine.journal.find("tests", "b") == first[1].position


async def test_ids_are_known_although_the_clock_went_back_meanwhile(disk: Disk) -> None:
    disk.clock.advance(1_000)
    async with disk.open() as engine:
        await engine.journal.append([event("a")])
    disk.clock.set(START)
    async with disk.open() as engine:
        assert (await engine.journal.append([event("a")]))[0].duplicate


async def test_a_clock_that_was_ahead_while_no_id_came_parts_none_whether_it_is_opened_anew_or_not(disk: Disk) -> None:
    now = disk.clock.now()
    async with disk.open() as engine:
        await engine.journal.append([event("a")])
        disk.clock.set(now + 300_000_000)
        await engine.journal.append([event()])
        assert await engine.journal.find("tests", "a") is None
        disk.clock.set(now)
        assert (await engine.journal.append([event("a")]))[0].duplicate
    async with disk.open() as engine:
        assert (await engine.journal.append([event("a")]))[0].duplicate


async def test_cursors_and_all_that_belongs_to_them_survive(disk: Disk) -> None:
    dead = DeadLetter(Position(4), as_read(event("a")), 8, "ATTEMPTS_EXHAUSTED", "HTTP 500", NOW)
    gap = Gap(Position(1), Position(2), "RETENTION", NOW)
    change = CursorChange(A, 0, state(5, 30, (8, 9), (12, 30)), put=[retry(7), parked(10)], dead=[dead], gaps=[gap])
    async with disk.open() as engine:
        await engine.cursors.settle([change, CursorChange("level", 0, state(0, level=True))], Position(40))
    async with disk.open() as engine:
        found = await engine.cursors.load([A, "level"])
        assert found == [StoredCursor(change.state, (retry(7), parked(10))), StoredCursor(state(40, level=True), ())]
        assert await engine.cursors.dead_letters(A, BEGINNING, 10) == [dead]
        assert await engine.cursors.gaps(A) == [gap]
        assert await engine.cursors.watermark() == 40
        await engine.cursors.settle([], Position(39))
        assert await engine.cursors.watermark() == 40


async def test_leases_of_a_former_process_are_void_and_epochs_grow_on(disk: Disk) -> None:
    async with disk.open() as engine:
        (first,) = await engine.leases.lease([A])
    async with disk.open() as engine:
        (second,) = await engine.leases.lease([A])
        assert first is not None
        assert second is not None
        assert second > first


async def test_attempts_survive(disk: Disk) -> None:
    async with disk.open() as engine:
        await engine.attempts.record([attempt(1), attempt(2)])
    async with disk.open() as engine:
        assert await engine.attempts.list(attempt(1).subscription, None, 10) == [attempt(2), attempt(1)]


async def test_rejected_payloads_survive_and_their_bounds_still_hold(disk: Disk) -> None:
    async with disk.open() as engine:
        numbers = [await engine.rejections.keep(rejected(b"x" * 100, verified=index < 2)) for index in range(6)]
        listed = await engine.rejections.list(A_SOURCE, None, 10)
    async with disk.open() as engine:
        assert await engine.rejections.list(A_SOURCE, None, 10) == listed
        await engine.rejections.trim(Micros(0), 400, 3)
        left = [one.number for one in await engine.rejections.list(A_SOURCE, None, 10)]
        assert left == [numbers[index] for index in (5, 4, 1, 0)]
        await engine.rejections.forget(A_SOURCE, None)
    async with disk.open() as engine:
        assert await engine.rejections.keep(rejected()) > numbers[-1]


async def test_documents_survive_and_revisions_grow_on(disk: Disk) -> None:
    async with disk.open() as engine:
        await engine.settings.put("a", b"1")
        await engine.settings.put("b", b"2")
        await engine.settings.delete("b")
    async with disk.open() as engine:
        assert await engine.settings.list("") == [Document("a", b"1", 1)]
        assert await engine.settings.put("c", b"3") == 4


async def test_closing_commits_what_waits(disk: Disk) -> None:
    async with asyncio.TaskGroup() as tasks:
        async with disk.open() as engine:
            appends = [tasks.create_task(engine.journal.append([event(str(index))])) for index in range(50)]
            settle = tasks.create_task(engine.cursors.settle([CursorChange(A, 0, state(9))]))
            await asyncio.sleep(0)  # the tasks begin
            assert engine.waiting == 51
        assert [(await append)[0].duplicate for append in appends] == [False] * 50
        assert await settle == []
    async with disk.open() as engine:
        assert len((await engine.journal.read(BEGINNING, PLENTY, PLENTY)).entries) == 50


async def test_closing_commits_what_a_tail_was_holding_back_and_ends_the_tail(disk: Disk) -> None:
    async with asyncio.TaskGroup() as tasks:
        async with disk.open(Limits(tail_entries=1)) as engine:
            tail = engine.journal.tail()
            watch = engine.settings.watch("")
            await engine.journal.append([event("a")])
            held_back = tasks.create_task(engine.journal.append([event("b")]))
            await asyncio.sleep(0)  # the task begins
            assert engine.waiting == 1
        assert (await held_back)[0].position == 2
        assert [entry.event.id async for batch in tail for entry in batch][:1] == ["a"]
        assert [change async for change in watch] == []


async def test_a_closed_engine_says_so(disk: Disk) -> None:
    async with disk.open() as engine:
        pass
    with pytest.raises(Unavailable, match="closed"):
        await engine.journal.append([event("a")])
    with pytest.raises(Unavailable, match="closed"):
        await engine.journal.read(BEGINNING, 1, 1)
    with pytest.raises(Unavailable, match="closed"):
        await engine.cursors.settle([])


async def test_cancelling_whoever_holds_it_open_commits_what_waits(disk: Disk) -> None:
    opened: asyncio.Queue[SqliteEngine] = asyncio.Queue()

    async def hold() -> None:
        async with disk.open() as engine:
            opened.put_nowait(engine)
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(hold())
        engine = await opened.get()
        append = tasks.create_task(engine.journal.append([event("a")]))
        await asyncio.sleep(0)  # the task begins
        assert engine.waiting == 1
        holding.cancel()
    assert holding.cancelled()
    assert append.result() == [Appended(Position(1), duplicate=False)]
    async with disk.open() as engine:
        assert await engine.journal.find("tests", "a") == 1


async def test_a_caller_that_was_cancelled_disturbs_no_other(disk: Disk) -> None:
    async with disk.open() as engine, asyncio.TaskGroup() as tasks:
        appends = [tasks.create_task(engine.journal.append([event(str(index))])) for index in range(20)]
        await asyncio.sleep(0)  # the tasks begin
        assert engine.waiting == 20
        for append in appends[::2]:
            append.cancel()
        for append in appends[1::2]:
            assert not (await append)[0].duplicate
        assert not (await engine.journal.append([event("after")]))[0].duplicate
