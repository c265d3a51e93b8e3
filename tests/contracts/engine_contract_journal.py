"""What every engine promises of its journal."""

from __future__ import annotations

import asyncio

import pytest

from certes_broker.domain.errors import AlreadyExists, Exhausted, Reason
from certes_broker.domain.events import BEGINNING, Entry, Micros, Original, Position
from certes_broker.ports.engine import Appended, Bounds, Engine
from tests.contracts.engine_harness import PLENTY, START, WINDOW, EngineHarness, EngineTests, as_read, event
from tests.fakes.manual_clock import ManualClock


async def everything(engine: Engine, after: int = 0) -> list[Entry]:
    return list((await engine.journal.read(Position(after), PLENTY, PLENTY)).entries)


class JournalContract(EngineTests):
    async def test_it_says_how_much_room_is_left_where_it_can(self, engine: Engine) -> None:
        await engine.journal.append([event("a")])
        room = await engine.journal.room()
        assert room is None or room > 0

    async def test_an_append_answers_growing_positions_in_the_order_of_its_events(self, engine: Engine) -> None:
        first = await engine.journal.append([event("a"), event("b"), event()])
        second = await engine.journal.append([event("c")])
        positions = [appended.position for appended in [*first, *second]]
        assert positions == sorted(set(positions))
        assert positions[0] > BEGINNING
        assert not any(appended.duplicate for appended in [*first, *second])

    async def test_appending_nothing_does_nothing(self, engine: Engine) -> None:
        assert list(await engine.journal.append([])) == []
        assert await engine.journal.bounds() == Bounds(BEGINNING, BEGINNING, 0)

    async def test_what_was_appended_is_read_back_without_digest_and_original(self, engine: Engine) -> None:
        original = Original("application/json", (("x-github-event", "push"),), b"{}")
        events = [
            event("a", options=(("org", "meetly"), ("repo", "meetly/meetly")), original=original),
            event("b", subscriber=None, ordering_key="k", type="example.com/a/b/2/_version", body=b""),
            event("ü\0", source="søurce", body=bytes(range(256)), accept_time=Micros(START + 7)),
        ]
        appended = await engine.journal.append(events)
        positions = [outcome.position for outcome in appended]
        entries = [Entry(position, as_read(one)) for position, one in zip(positions, events, strict=True)]
        assert await everything(engine) == entries
        assert [await engine.journal.get(position) for position in positions] == entries
        assert type((await everything(engine))[0].event.options) is tuple

    async def test_an_original_is_kept_with_its_event(self, engine: Engine) -> None:
        original = Original("application/json", (("a", "1"), ("a", "2")), bytes(100_000))
        appended = await engine.journal.append([event("a", original=original), event("b")])
        assert await engine.journal.original(appended[0].position) == original
        assert await engine.journal.original(appended[1].position) is None

    async def test_there_is_no_entry_where_none_was_appended(self, engine: Engine) -> None:
        await engine.journal.append([event("a")])
        assert await engine.journal.get(BEGINNING) is None
        assert await engine.journal.get(Position(1_000)) is None
        assert await engine.journal.original(Position(1_000)) is None

    async def test_calls_made_at_once_are_stored_whole_and_unmixed(self, engine: Engine) -> None:
        calls = [[event(f"{call}-{index}") for index in range(7)] for call in range(40)]
        outcomes = await asyncio.gather(*(engine.journal.append(call) for call in calls))
        stored = await everything(engine)
        assert len(stored) == 280
        for call, outcome in zip(calls, outcomes, strict=True):
            # Positions need not be dense; what is between the first and the last of a call is of that call.
            first, last = outcome[0].position, outcome[-1].position
            found = [entry for entry in stored if first <= entry.position <= last]
            assert [entry.position for entry in found] == [appended.position for appended in outcome]
            assert [entry.event for entry in found] == [as_read(one) for one in call]

    async def test_a_page_ends_at_its_limit(self, engine: Engine) -> None:
        appended = await engine.journal.append([event(str(index)) for index in range(600)])
        after = BEGINNING
        read: list[Position] = []
        while (page := await engine.journal.read(after, 100, PLENTY)).entries:
            assert len(page.entries) <= 100
            assert page.through == page.entries[-1].position
            read += [entry.position for entry in page.entries]
            after = page.through
        assert read == [outcome.position for outcome in appended]

    async def test_a_page_ends_with_the_entry_that_fills_it(self, engine: Engine) -> None:
        await engine.journal.append([event(str(index), body=bytes(100)) for index in range(10)])
        assert len((await engine.journal.read(BEGINNING, PLENTY, 300)).entries) == 3
        assert len((await engine.journal.read(BEGINNING, PLENTY, 301)).entries) == 4
        assert len((await engine.journal.read(BEGINNING, PLENTY, 1)).entries) == 1

    async def test_with_nothing_left_a_page_says_how_far_it_got(self, engine: Engine) -> None:
        assert (await engine.journal.read(BEGINNING, 1, 1)).through == BEGINNING
        last = (await engine.journal.append([event("a")]))[-1].position
        assert (await engine.journal.read(last, 1, 1)).through == last
        assert (await engine.journal.read(Position(last + 50), 1, 1)).through == last + 50

    async def test_a_time_leads_to_the_position_below_its_events(self, engine: Engine) -> None:
        times = [START + 10 * index for index in range(50)]
        positions = [(await engine.journal.append([event(accept_time=Micros(time))]))[0].position for time in times]
        for index, time in enumerate(times):
            below = await engine.journal.position_at(Micros(time))
            assert (positions[index - 1] if index else BEGINNING) <= below < positions[index]
            assert await engine.journal.position_at(Micros(time - 5)) == below
        assert await engine.journal.position_at(Micros(times[-1] + 1)) == positions[-1]

    async def test_a_clock_that_went_back_hides_no_event_from_its_time(self, engine: Engine) -> None:
        times = [START + 100, START + 10, START + 200, START + 20, START + 300]
        appended = await engine.journal.append([event(accept_time=Micros(time)) for time in times])
        for time in range(START, START + 310, 10):
            below = await engine.journal.position_at(Micros(time))
            later = [one.position for one, at in zip(appended, times, strict=True) if at >= time]
            assert below == (min(later) - 1 if later else appended[-1].position)

    async def test_the_latest_time_is_known_although_the_clock_went_back_and_events_were_trimmed(
        self, engine: Engine
    ) -> None:
        await engine.journal.append([event(accept_time=Micros(START + 100)), event(accept_time=Micros(START + 300))])
        last = (await engine.journal.append([event(accept_time=Micros(START))]))[0].position
        assert (await engine.journal.bounds()).latest == START + 300
        assert (await engine.journal.trim(last)).latest == START + 300

    async def test_an_empty_journal_has_no_bounds_and_any_time_leads_to_its_beginning(self, engine: Engine) -> None:
        assert await engine.journal.bounds() == Bounds(BEGINNING, BEGINNING, 0)
        assert await engine.journal.position_at(Micros(START)) == BEGINNING
        assert await engine.journal.trim(Position(10)) == Bounds(BEGINNING, BEGINNING, 0)

    async def test_trimming_forgets_up_to_a_position_or_a_little_less(self, engine: Engine) -> None:
        original = Original("text/plain", (), bytes(5_000))
        appended = []
        for index in range(30):
            appended += await engine.journal.append([event(f"{index}-{n}", original=original) for n in range(20)])
        before = await engine.journal.bounds()
        through = appended[450].position
        bounds = await engine.journal.trim(through)
        assert appended[300].position <= bounds.trimmed <= through
        assert bounds.last == before.last == appended[-1].position
        assert bounds.bytes < before.bytes
        kept = [entry.position for entry in await everything(engine)]
        assert kept == [outcome.position for outcome in appended if outcome.position > bounds.trimmed]
        assert await engine.journal.get(appended[0].position) is None
        assert await engine.journal.original(appended[0].position) is None
        assert await engine.journal.original(appended[-1].position) == original
        assert await engine.journal.trim(through) == bounds == await engine.journal.bounds()

    async def test_what_is_too_much_ends_where_the_rest_fits_however_unlike_the_events_are(
        self, engine: Engine
    ) -> None:
        """A few large events, then many small ones: a share of the positions would be no share of the bytes."""
        large = [await engine.journal.append([event(f"l{index}", body=bytes(100_000))]) for index in range(6)]
        small = [await engine.journal.append([event(f"s{index}", body=bytes(10))]) for index in range(40)]
        size = (await engine.journal.bounds()).bytes
        assert await engine.journal.surplus(size) == BEGINNING
        through = await engine.journal.surplus(size - 250_000)
        assert large[2][0].position <= through < large[3][0].position
        bounds = await engine.journal.trim(through)
        assert large[1][0].position <= bounds.trimmed < large[3][0].position
        assert await engine.journal.surplus(bounds.bytes) == bounds.trimmed
        assert await engine.journal.surplus(200_000) < small[0][0].position

    async def test_positions_grow_on_after_everything_was_trimmed(self, engine: Engine) -> None:
        last = (await engine.journal.append([event("a"), event("b")]))[-1].position
        bounds = await engine.journal.trim(last)
        assert bounds.last == last
        assert (await engine.journal.read(last, 10, PLENTY)).through == last
        assert (await engine.journal.append([event("c")]))[0].position > last

    async def test_the_bytes_are_about_those_of_the_events_and_their_originals(self, engine: Engine) -> None:
        original = Original("text/plain", (), bytes(40_000))
        await engine.journal.append([event(body=bytes(20_000), original=original) for _ in range(10)])
        assert 600_000 <= (await engine.journal.bounds()).bytes <= 700_000


class IdsContract(EngineTests):
    async def test_an_id_sent_again_is_stored_once_and_answered_with_its_first_position(self, engine: Engine) -> None:
        first = await engine.journal.append([event("a"), event("b")])
        again = await engine.journal.append([event("c"), event("b"), event("a")])
        assert again[1:] == [Appended(first[1].position, True), Appended(first[0].position, True)]
        assert again[0].duplicate is False
        assert [entry.event.id for entry in await everything(engine)] == ["a", "b", "c"]

    async def test_an_id_sent_twice_in_a_call_is_stored_once(self, engine: Engine) -> None:
        outcome = await engine.journal.append([event("a"), event("b"), event("a")])
        assert outcome[2] == Appended(outcome[0].position, duplicate=True)
        assert [entry.event.id for entry in await everything(engine)] == ["a", "b"]

    async def test_an_id_is_its_source_s_own(self, engine: Engine) -> None:
        outcome = await engine.journal.append([event("a"), event("a", source="others", body=b"else")])
        assert [one.duplicate for one in outcome] == [False, False]

    async def test_events_without_a_digest_are_never_duplicates(self, engine: Engine) -> None:
        outcome = await engine.journal.append([event(), event(), event("a"), event("a", digest=None)])
        assert [one.duplicate for one in outcome] == [False] * 4

    @pytest.mark.parametrize("stored_before", [True, False], ids=["between calls", "within a call"])
    async def test_an_id_with_other_content_refuses_the_whole_call(self, engine: Engine, stored_before: bool) -> None:
        call = [event("x"), event("a", body=b"other"), event("y")]
        if stored_before:
            await engine.journal.append([event("a")])
        else:
            call.insert(0, event("a"))
        with pytest.raises(AlreadyExists) as refusal:
            await engine.journal.append(call)
        index = "1" if stored_before else "2"
        assert refusal.value.reason is Reason.EVENT_ID_REUSED
        assert refusal.value.metadata == {"source": "tests", "id": "a", "index": index}
        assert [entry.event.id for entry in await everything(engine)] == (["a"] if stored_before else [])
        assert await engine.journal.find("tests", "x") is None
        assert not (await engine.journal.append([event("x")]))[0].duplicate

    async def test_a_refused_call_leaves_those_made_with_it_alone(self, engine: Engine) -> None:
        await engine.journal.append([event("a")])
        calls = [[event(f"{call}-{n}") for n in range(3)] for call in range(10)]
        calls[4].append(event("a", body=b"other"))
        calls[7].append(event("a"))
        outcomes = await asyncio.gather(*(engine.journal.append(call) for call in calls), return_exceptions=True)
        assert [index for index, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)] == [4]
        found = {entry.event.id for entry in await everything(engine)}
        assert found == {"a"} | {one.id for call in calls for one in call if not one.id.startswith("4-")}

    async def test_two_writers_of_one_id_at_once_store_it_once(self, engine: Engine) -> None:
        calls = [engine.journal.append([event("a"), event(f"own-{writer}")]) for writer in range(20)]
        outcomes = await asyncio.gather(*calls)
        assert sorted(outcome[0].duplicate for outcome in outcomes) == [False] + [True] * 19
        assert len({outcome[0].position for outcome in outcomes}) == 1
        assert len(await everything(engine)) == 21

    async def test_many_ids_sent_again_are_all_known(self, engine: Engine) -> None:
        events = [event(str(index)) for index in range(700)]
        first = await engine.journal.append(events)
        again = await engine.journal.append(events[::-1])
        assert again == [Appended(outcome.position, duplicate=True) for outcome in reversed(first)]

    async def test_an_id_is_known_for_a_window_and_forgotten_after_two(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        first = await engine.journal.append([event("a")])
        clock.advance(WINDOW - 1)
        assert await engine.journal.append([event("a")]) == [Appended(first[0].position, duplicate=True)]
        assert await engine.journal.find("tests", "a") == first[0].position
        clock.advance(WINDOW + 1)
        assert await engine.journal.find("tests", "a") is None
        assert not (await engine.journal.append([event("a", body=b"other")]))[0].duplicate

    async def test_an_id_of_the_window_s_far_end_is_found_among_new_ones(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        old = await engine.journal.append([event(f"old-{index}") for index in range(300)])
        clock.advance(WINDOW - 1)
        mixed = [event(f"new-{index}") for index in range(300)] + [event("old-7")]
        outcome = await engine.journal.append(mixed)
        assert [one.duplicate for one in outcome] == [False] * 300 + [True]
        assert outcome[-1].position == old[7].position
        with pytest.raises(AlreadyExists):
            await engine.journal.append([event("old-7", body=b"other")])

    async def test_a_clock_that_goes_back_forgets_nothing(self, engine: Engine, clock: ManualClock) -> None:
        clock.advance(10 * WINDOW)
        await engine.journal.append([event("a")])
        clock.set(START)
        assert (await engine.journal.append([event("a")]))[0].duplicate

    async def test_letting_go_of_ids_keeps_those_of_the_window(self, engine: Engine, clock: ManualClock) -> None:
        await engine.journal.append([event("old")])
        clock.advance(3 * WINDOW)
        await engine.journal.append([event(f"new-{index}") for index in range(10)])
        await engine.journal.forget_ids(Micros(clock.now() - round(WINDOW * 1e6)))
        assert await engine.journal.find("tests", "old") is None
        assert await engine.journal.find("tests", "new-9") is not None
        assert (await engine.journal.append([event("new-3")]))[0].duplicate

    async def test_an_id_outlives_its_trimmed_event(self, engine: Engine) -> None:
        first = await engine.journal.append([event("a")])
        await engine.journal.append([event("b")])
        await engine.journal.trim(first[0].position)
        assert await engine.journal.append([event("a")]) == [Appended(first[0].position, duplicate=True)]


class TailContract(EngineTests):
    async def test_the_tail_has_every_commit_after_the_call_once_and_in_order(self, engine: Engine) -> None:
        await engine.journal.append([event("before")])
        tail = engine.journal.tail()
        calls = [engine.journal.append([event(f"{call}-{n}") for n in range(5)]) for call in range(20)]
        outcomes = await asyncio.gather(*calls)
        seen: list[Entry] = []
        while len(seen) < 100:
            seen += await anext(tail)
        positions = [entry.position for entry in seen]
        assert positions == sorted(outcome.position for call in outcomes for outcome in call)
        assert [Entry(at, as_read(one)) for at, one in seen] == (await everything(engine))[1:]

    async def test_the_tail_leaves_duplicates_out(self, engine: Engine) -> None:
        tail = engine.journal.tail()
        await engine.journal.append([event("a")])
        await engine.journal.append([event("a")])
        await engine.journal.append([event("a"), event("b")])
        seen = [entry.event.id for _ in range(2) for entry in await anext(tail)]
        assert seen == ["a", "b"]

    async def test_a_tail_that_is_not_read_holds_appends_back_and_nothing_else(self, harness: EngineHarness) -> None:
        async with harness.open(tail_entries=8) as engine, asyncio.TaskGroup() as tasks:
            tail = engine.journal.tail()
            done: list[int] = []

            async def produce() -> None:
                for index in range(100):
                    await engine.journal.append([event(str(index))])
                    done.append(index)

            tasks.create_task(produce())
            read = 0
            while read < 100:
                # Each of these is committed, so an append that is not held back would be, too.
                for _ in range(3):
                    await engine.settings.put("key", b"")
                assert len(done) - read <= 8
                read += len(await anext(tail))

    async def test_large_events_fill_the_tail_sooner(self, harness: EngineHarness) -> None:
        async with harness.open(tail_entries=64) as engine, asyncio.TaskGroup() as tasks:
            tail = engine.journal.tail()
            done: list[int] = []

            async def produce() -> None:
                for index in range(10):
                    await engine.journal.append([event(str(index), body=bytes(1 << 18))])
                    done.append(index)

            tasks.create_task(produce())
            for read in range(10):
                for _ in range(3):
                    await engine.settings.put("key", b"")
                assert len(done) - read <= 1
                await anext(tail)

    async def test_more_appends_than_may_wait_are_refused(self, harness: EngineHarness) -> None:
        async with harness.open(tail_entries=1, append_calls=3) as engine, asyncio.TaskGroup() as tasks:
            tail = engine.journal.tail()
            await engine.journal.append([event("first")])

            refused: asyncio.Queue[Exhausted] = asyncio.Queue()

            async def append(index: int) -> None:
                try:
                    await engine.journal.append([event(str(index))])
                except Exhausted as refusal:
                    refused.put_nowait(refusal)

            for index in range(10):
                tasks.create_task(append(index))
            refusals = [await refused.get() for _ in range(7)]
            assert [refusal.reason for refusal in refusals] == [Reason.BUFFER_FULL] * 7
            assert all(refusal.retry_after for refusal in refusals)
            assert engine.waiting == 3
            seen: list[Entry] = []
            while len(seen) < 4:
                seen += await anext(tail)
        assert engine.waiting == 0

    async def test_a_tail_that_was_let_go_of_holds_nothing_back(self, harness: EngineHarness) -> None:
        async with harness.open(tail_entries=1) as engine:
            tail = engine.journal.tail()
            await engine.journal.append([event("a")])
            del tail
            await engine.journal.append([event("b")])
            await engine.journal.append([event("c")])

    async def test_a_reader_that_was_cancelled_misses_nothing(self, engine: Engine) -> None:
        tail = engine.journal.tail()
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(anext(tail))  # type: ignore[arg-type]  # an iterator's anext is a coroutine here
            await engine.settings.put("key", b"")
            reading.cancel()
        await engine.journal.append([event("a")])
        assert [entry.event.id for entry in await anext(tail)] == ["a"]
