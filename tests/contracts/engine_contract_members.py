"""What every engine promises that several brokers share: what one writes is there for all, and a lane is one member's.

An engine's test file is a harness and one class that inherits `SharedEngineContract`.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol

import pytest

from certes_broker.domain.errors import Aborted, AlreadyExists, Reason
from certes_broker.domain.events import BEGINNING, Entry, Position
from certes_broker.engines.feed import Feed
from certes_broker.ports.engine import Appended, CursorChange, Document, DocumentChange, Engine, StoredCursor
from tests.contracts.engine_harness import PLENTY, as_read, event, retry, state

A = "subscribers/org_1/subscriptions/a"
B = "subscribers/org_1/subscriptions/b"
PATIENCE = 50.0


class SharedHarness(Protocol):
    """Opens engines of one kind that share what they keep."""

    def open(self, *, stands_still: bool = False) -> AbstractAsyncContextManager[Engine]:
        """Opens an engine; one that stands still does nothing by itself, so that the others will take it for ended."""

    async def ended(self, member: Engine, seen_by: Engine) -> None:
        """Returns when a member that stands still has ended, as another sees it."""


async def lives(engine: Engine, *others: Engine) -> None:
    """Waits until the living, as an engine sees them, are these."""
    wanted = {one.members.own for one in (engine, *others)}
    async with asyncio.timeout(PATIENCE):
        async for living in engine.members.watch():
            if living == wanted:
                return


async def follow(tail: Feed[list[Entry]], count: int) -> list[Entry]:
    """Takes so many entries, or a few more, from a tail."""
    entries: list[Entry] = []
    async with asyncio.timeout(PATIENCE):
        while len(entries) < count:
            entries += await anext(tail)
    return entries


class SharedTests:
    """Two engines that know each other. A concrete class adds the fixture `harness`."""

    @pytest.fixture
    async def pair(self, harness: SharedHarness):
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(harness.open())
            two = await stack.enter_async_context(harness.open())
            await lives(one, two)
            await lives(two, one)
            yield one, two

    @pytest.fixture
    def one(self, pair: tuple[Engine, Engine]) -> Engine:
        return pair[0]

    @pytest.fixture
    def two(self, pair: tuple[Engine, Engine]) -> Engine:
        return pair[1]


class SharedJournalContract(SharedTests):
    async def test_all_tails_have_what_all_append_in_the_order_of_the_journal(self, one: Engine, two: Engine) -> None:
        tails = [engine.journal.tail() for engine in (one, two)]

        async def produce(engine: Engine, name: str) -> None:
            for number in range(25):
                await engine.journal.append([event(f"{name}-{number}-{index}") for index in range(4)])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(produce(one, "one"))
            tasks.create_task(produce(two, "two"))
            following = [tasks.create_task(follow(tail, 200)) for tail in tails]
        first, second = ([(at, as_read(found)) for at, found in task.result()] for task in following)
        assert first == second
        positions = [position for position, _ in first]
        assert positions == sorted(set(positions))
        stored = (await two.journal.read(BEGINNING, PLENTY, PLENTY)).entries
        assert first == [tuple(entry) for entry in stored]
        for name in ("one", "two"):
            own = [found.id for _, found in first if found.id.startswith(name)]
            assert own == [f"{name}-{number}-{index}" for number in range(25) for index in range(4)]

    async def test_an_id_is_stored_once_whoever_appends_it(self, one: Engine, two: Engine) -> None:
        (first,) = await one.journal.append([event("a")])
        again = await two.journal.append([event("a"), event("b")])
        assert again[0] == Appended(first.position, duplicate=True)
        assert (await one.journal.append([event("b")]))[0] == Appended(again[1].position, duplicate=True)
        with pytest.raises(AlreadyExists) as refusal:
            await two.journal.append([event("a", body=b"other")])
        assert refusal.value.reason is Reason.EVENT_ID_REUSED

    async def test_of_two_that_append_an_id_at_once_one_stores_it(self, one: Engine, two: Engine) -> None:
        for number in range(10):
            outcomes = await asyncio.gather(*(engine.journal.append([event(f"{number}")]) for engine in (one, two)))
            (first,), (second,) = outcomes
            assert first.position == second.position
            assert {first.duplicate, second.duplicate} == {True, False}

    async def test_busy_writers_leave_each_other_their_turns(self, one: Engine, two: Engine) -> None:
        stored = {one.members.own: 0, two.members.own: 0}

        async def hurry(engine: Engine, producer: int) -> None:
            while sum(stored.values()) < 20_000:
                number = stored[engine.members.own]
                batch = [event(f"{engine.members.own}-{producer}-{number}-{n}", body=bytes(500)) for n in range(64)]
                await engine.journal.append(batch)
                stored[engine.members.own] += len(batch)
                await asyncio.sleep(0)

        async with asyncio.timeout(2 * PATIENCE), asyncio.TaskGroup() as tasks:
            for producer in range(16):
                for engine in (one, two):
                    tasks.create_task(hurry(engine, producer))
        assert min(stored.values()) > max(stored.values()) / 5

    async def test_what_one_appended_is_read_by_position_by_the_other(self, one: Engine, two: Engine) -> None:
        for number in range(5):
            (appended,) = await one.journal.append([event(f"{number}")])
            entry = await two.journal.get(appended.position)
            assert entry is not None
            assert entry.event.id == f"{number}"

    async def test_an_engine_that_joins_later_reads_what_there_was_and_follows_what_comes(
        self, harness: SharedHarness, one: Engine
    ) -> None:
        await one.journal.append([event("before")])
        async with harness.open() as late:
            tail = late.journal.tail()
            (entry,) = (await late.journal.read(BEGINNING, PLENTY, PLENTY)).entries
            assert entry.event.id == "before"
            await one.journal.append([event("after")])
            assert [entry.event.id for entry in await follow(tail, 1)] == ["after"]


class SharedLanesContract(SharedTests):
    async def test_a_lane_is_one_member_s_as_long_as_it_lives(self, one: Engine, two: Engine) -> None:
        (epoch,) = await one.leases.lease([A])
        assert epoch is not None
        taken = await two.leases.lease([A, B])
        assert taken[0] is None
        assert taken[1] is not None
        assert list(await two.leases.holders([A, B])) == [one.members.own, two.members.own]
        assert list(await one.cursors.settle([CursorChange(A, epoch, state(1))])) == []

    async def test_of_many_that_want_a_lane_at_once_one_gets_it(self, one: Engine, two: Engine) -> None:
        names = [f"subscribers/o/subscriptions/{index}" for index in range(20)]
        taken = await asyncio.gather(one.leases.lease(names), two.leases.lease(names))
        for first, second in zip(*taken, strict=True):
            assert (first is None) != (second is None)

    async def test_what_another_member_forgot_its_holder_does_not_bring_back(self, one: Engine, two: Engine) -> None:
        (epoch,) = await one.leases.lease([A])
        assert epoch is not None
        assert list(await one.cursors.settle([CursorChange(A, epoch, state(5), put=[retry(7)])])) == []
        await two.cursors.forget(A)
        assert list(await one.cursors.settle([CursorChange(A, epoch, state(6), put=[retry(8)])])) == [A]
        assert list(await one.cursors.load([A])) == list(await two.cursors.load([A])) == [None]

    async def test_a_lane_that_was_given_up_is_taken_with_a_higher_epoch(self, one: Engine, two: Engine) -> None:
        (first,) = await one.leases.lease([A])
        await two.leases.release([A])
        assert list(await two.leases.lease([A])) == [None]
        await one.leases.release([A])
        (second,) = await two.leases.lease([A])
        assert first is not None
        assert second is not None
        assert second > first
        assert list(await one.cursors.settle([CursorChange(A, first, state(9))])) == [A]

    async def test_a_lane_of_a_member_that_closed_is_free(
        self, harness: SharedHarness, one: Engine, two: Engine
    ) -> None:
        async with harness.open() as closing:
            (first,) = await closing.leases.lease([A])
            assert list(await one.leases.lease([A])) == [None]
        await lives(one, two)
        (second,) = await one.leases.lease([A])
        assert first is not None
        assert second is not None
        assert second > first

    async def test_a_member_that_stood_still_loses_its_lanes_and_settles_nothing_more(
        self, harness: SharedHarness, one: Engine
    ) -> None:
        async with harness.open(stands_still=True) as still:
            (old,) = await still.leases.lease([A])
            assert old is not None
            assert list(await still.cursors.settle([CursorChange(A, old, state(5))])) == []
            await harness.ended(still, one)
            assert not still.members.is_current()
            assert list(await one.leases.holders([A])) == [None]
            (new,) = await one.leases.lease([A])
            assert new is not None
            assert new > old
            assert list(await still.cursors.settle([CursorChange(A, old, state(9), put=[retry(7)])])) == [A]
            assert list(await one.cursors.settle([CursorChange(A, new, state(6))])) == []
            for engine in (still, one):
                assert list(await engine.cursors.load([A])) == [StoredCursor(state(6), ())]

    async def test_a_cursor_is_read_as_whoever_wrote_it_left_it(self, one: Engine, two: Engine) -> None:
        (epoch,) = await one.leases.lease([A])
        assert epoch is not None
        for floor in (3, 4):
            await one.cursors.settle([CursorChange(A, epoch, state(floor), put=[retry(9)])])
            assert list(await two.cursors.load([A])) == [StoredCursor(state(floor), (retry(9),))]

    async def test_a_watermark_speaks_for_the_lanes_of_its_member_alone(self, one: Engine, two: Engine) -> None:
        await one.cursors.settle([CursorChange(A, 0, state(5, level=True))], Position(20))
        await two.cursors.settle([CursorChange(B, 0, state(6, level=True))], Position(50))
        for engine in (one, two):
            found = await engine.cursors.load([A, B])
            assert [cursor.state.floor for cursor in found if cursor is not None] == [20, 50]
            assert await engine.cursors.watermark() == 50

    async def test_a_level_lane_is_taken_from_where_its_member_s_watermark_had_brought_it(
        self, harness: SharedHarness, one: Engine, two: Engine
    ) -> None:
        async with harness.open() as closing:
            (epoch,) = await closing.leases.lease([A])
            assert epoch is not None
            await closing.cursors.settle([CursorChange(A, epoch, state(5, level=True))], Position(20))
        await lives(one, two)
        await one.cursors.settle([], Position(90))
        assert list(await one.cursors.load([A])) == [StoredCursor(state(20, level=True), ())]
        await one.leases.lease([A])
        assert list(await one.cursors.load([A])) == [StoredCursor(state(20), ())]


class SharedSettingsContract(SharedTests):
    async def test_a_change_by_one_is_watched_and_read_by_the_other(self, one: Engine, two: Engine) -> None:
        watch = two.settings.watch("key")
        async with asyncio.timeout(PATIENCE):
            revision = await one.settings.put("key", b"1")
            assert await anext(watch) == DocumentChange("key", b"1", revision)
            await one.settings.put("other", b"2")
            await one.settings.delete("key")
            assert await anext(watch) == DocumentChange("key", None, revision + 2)
        assert await two.settings.get("key") is None
        assert [document.key for document in await two.settings.list("")] == ["other"]

    async def test_what_is_expected_is_compared_with_what_the_others_wrote(self, one: Engine, two: Engine) -> None:
        first = await one.settings.put("key", b"1", expected=0)
        second = await two.settings.put("key", b"2", expected=first)
        with pytest.raises(Aborted) as refusal:
            await one.settings.put("key", b"3", expected=first)
        assert refusal.value.reason is Reason.REVISION_CONFLICT
        assert refusal.value.metadata == {"revision": str(second)}
        assert await one.settings.get("key") == Document("key", b"2", second)
        await one.settings.delete("key", expected=second)
        third = await two.settings.put("key", b"4", expected=0)
        await one.settings.put("key", b"5", expected=third)

    async def test_of_two_that_change_a_document_at_once_one_is_refused(self, one: Engine, two: Engine) -> None:
        revision = await one.settings.put("key", b"")
        puts = (engine.settings.put("key", b"new", expected=revision) for engine in (one, two))
        outcomes = await asyncio.gather(*puts, return_exceptions=True)
        assert len([outcome for outcome in outcomes if isinstance(outcome, Aborted)]) == 1
        assert len([outcome for outcome in outcomes if isinstance(outcome, int)]) == 1

    async def test_what_one_wrote_the_other_has_once_it_is_refreshed(self, one: Engine, two: Engine) -> None:
        for number in range(20):
            revision = await one.settings.put("key", b"%d" % number)
            await two.settings.refresh()
            assert await two.settings.get("key") == Document("key", b"%d" % number, revision)

    async def test_what_one_wrote_without_expecting_anything_is_deleted_by_the_other(
        self, one: Engine, two: Engine
    ) -> None:
        await one.settings.put("key", b"1")
        await two.settings.delete("key")
        assert await two.settings.get("key") is None


class MembersContract(SharedTests):
    async def test_members_see_each_other_come_and_go(self, harness: SharedHarness, one: Engine, two: Engine) -> None:
        assert one.members.own != two.members.own
        assert one.members.is_shared
        async with harness.open() as late:
            gone = late.members.own
            assert not await one.members.has_ended(gone)
            await lives(one, two, late)
            await lives(two, one, late)
            await lives(late, one, two)
        await lives(one, two)
        await lives(two, one)
        assert [await one.members.has_ended(member) for member in (one.members.own, two.members.own, gone)] == [
            False,
            False,
            True,
        ]
        assert all(engine.members.is_current() for engine in (one, two))
