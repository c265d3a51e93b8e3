"""What every engine promises of erasing a subscriber."""

from __future__ import annotations

import pytest

from certes_broker.domain.errors import AlreadyExists, Reason
from certes_broker.domain.events import BEGINNING, Micros, Original, Position
from certes_broker.ports.engine import Attempt, CursorChange, DeadLetter, Engine
from tests.contracts.engine_contract_members import SharedTests, follow
from tests.contracts.engine_harness import START, EngineTests, as_read, event, state

THEIRS = "subscribers/org_1/subscriptions/a"
ORIGINAL = Original("application/json", (("x-event", "push"),), b"{}")
OTHERS = "subscribers/org_10/subscriptions/a"


def attempt(subscription: str) -> Attempt:
    return Attempt(subscription, Position(1), 1, Micros(START), 0.1, 500, "", "HTTP 500", b"no", None)


async def appended(engine: Engine) -> None:
    """Appends events 1 to 6 in two commits: for org_1 the second, the third and the sixth."""
    await engine.journal.append(
        [
            event("e1", subscriber="org_2"),
            event("e2", subscriber="org_1"),
            event("e3", subscriber="org_1", original=ORIGINAL),
            event("e4", subscriber=None, original=ORIGINAL),
        ]
    )
    await engine.journal.append([event("e5", subscriber="org_10"), event("e6", subscriber="org_1")])


async def kept(engine: Engine, after: Position = BEGINNING) -> list[tuple[int, str]]:
    page = await engine.journal.read(after, 100, 1 << 20)
    return [(entry.position, entry.event.id) for entry in page.entries]


class ErasureContract(EngineTests):
    async def test_events_for_a_subscriber_go_and_the_others_stay_where_they_are(self, engine: Engine) -> None:
        await appended(engine)
        before = dict(await kept(engine))
        async with engine.erasure.wiping():
            assert await engine.erasure.events("org_1") == 3
            assert await engine.erasure.events("org_1") == 0
        left = await kept(engine)
        assert [entry_id for _, entry_id in left] == ["e1", "e4", "e5"]
        assert all(before[position] == entry_id for position, entry_id in left)
        for position, entry_id in before.items():
            entry = await engine.journal.get(position)
            assert (None if entry is None else entry.event.id) == (entry_id if (position, entry_id) in left else None)

    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_page_by_page_nothing_of_the_others_is_passed_over(self, engine: Engine, limit: int) -> None:
        await engine.journal.append(
            [event(f"gone{n}", subscriber="org_1") for n in range(5)]
            + [event(f"e{n}", subscriber=None) for n in (1, 2)]
        )
        await engine.journal.append([event("gone", subscriber="org_1")])
        await engine.journal.append([event("gone again", subscriber="org_1"), event("e3", subscriber=None)])
        async with engine.erasure.wiping():
            await engine.erasure.events("org_1")
        found: list[str] = []
        page = await engine.journal.read(BEGINNING, limit, 1 << 20)
        while page.entries:
            found += [entry.event.id for entry in page.entries]
            page = await engine.journal.read(page.through, limit, 1 << 20)
        assert found == ["e1", "e2", "e3"]

    async def test_the_originals_of_what_was_erased_go_too(self, engine: Engine) -> None:
        await appended(engine)
        positions = {entry_id: position for position, entry_id in await kept(engine)}
        async with engine.erasure.wiping():
            await engine.erasure.events("org_1")
        assert await engine.journal.original(positions["e3"]) is None
        assert await engine.journal.original(positions["e4"]) == ORIGINAL

    async def test_reading_goes_past_what_was_erased_and_new_events_come_behind(self, engine: Engine) -> None:
        await appended(engine)
        last = (await engine.journal.bounds()).last
        async with engine.erasure.wiping():
            await engine.erasure.events("org_1")
        assert (await engine.journal.bounds()).last == last
        page = await engine.journal.read(Position(last - 1), 10, 1 << 20)
        assert (list(page.entries), page.through) == ([], last)
        await engine.journal.append([event("e7", subscriber="org_1")])
        assert [entry_id for _, entry_id in await kept(engine, last)] == ["e7"]
        assert (await engine.journal.trim(last)).trimmed >= last - 2

    async def test_dead_letters_of_its_events_go_whosoever_they_are(self, engine: Engine) -> None:
        letters = [
            DeadLetter(Position(1), as_read(event("a", subscriber="org_1")), 1, "rejected", "", Micros(START)),
            DeadLetter(Position(2), as_read(event("b", subscriber=None)), 1, "rejected", "", Micros(START)),
        ]
        await engine.cursors.settle([CursorChange(name, 0, state(9), dead=letters) for name in (THEIRS, OTHERS)])
        async with engine.erasure.wiping():
            assert await engine.erasure.dead_letters("org_1") == 2
        for name in (THEIRS, OTHERS):
            assert list(await engine.cursors.dead_letters(name, BEGINNING, 10)) == letters[1:]

    async def test_what_is_published_again_is_a_duplicate_or_refused_and_brings_nothing_back(
        self, engine: Engine
    ) -> None:
        await appended(engine)
        first = (await kept(engine))[-1][0]
        async with engine.erasure.wiping():
            await engine.erasure.events("org_1")
        assert list(await engine.journal.append([event("e6", subscriber="org_1")])) == [(first, True)]
        with pytest.raises(AlreadyExists) as refused:
            await engine.journal.append([event("e6", subscriber="org_1", body=b"other")])
        assert refused.value.reason is Reason.EVENT_ID_REUSED
        assert await engine.journal.find("tests", "e6") == first
        assert await engine.journal.get(Position(first)) is None
        assert [entry_id for _, entry_id in await kept(engine)] == ["e1", "e4", "e5"]

    async def test_attempts_of_its_subscriptions_go_and_no_others(self, engine: Engine) -> None:
        await engine.attempts.record([attempt(THEIRS), attempt(THEIRS), attempt(OTHERS)])
        async with engine.erasure.wiping():
            assert await engine.erasure.attempts("org_1") == 2
            assert await engine.erasure.attempts("org_1") == 0
        assert list(await engine.attempts.list(THEIRS, None, 10)) == []
        assert list(await engine.attempts.list(OTHERS, None, 10)) == [attempt(OTHERS)]


class SharedErasureContract(SharedTests):
    async def test_what_one_erases_no_other_reads_and_nothing_of_others_is_missing(
        self, one: Engine, two: Engine
    ) -> None:
        tail = two.journal.tail()
        await appended(one)
        await follow(tail, 6)
        before = await kept(two)
        assert len(before) == 6
        trimmed = (await two.journal.bounds()).trimmed
        async with one.erasure.wiping():
            assert await one.erasure.events("org_1") == 3
        assert (await two.journal.bounds()).trimmed == trimmed
        left = await kept(two)
        assert left == [entry for entry in before if entry[1] in {"e1", "e4", "e5"}]
        assert await two.journal.get(Position(before[1][0])) is None
        ones = one.journal.tail()
        await two.journal.append([event("e7")])
        await follow(ones, 1)
        assert [entry_id for _, entry_id in await kept(one)] == ["e1", "e4", "e5", "e7"]

    async def test_blocks_that_were_written_anew_are_trimmed_for_all(self, one: Engine, two: Engine) -> None:
        tail = two.journal.tail()
        await appended(one)
        await one.journal.append([event("e7", subscriber="org_2")])
        await follow(tail, 7)
        async with one.erasure.wiping():
            await one.erasure.events("org_1")
        positions = {entry_id: Position(position) for position, entry_id in await kept(two)}
        assert (await two.journal.bounds()).trimmed < positions["e1"]
        bounds = await one.journal.trim(Position(positions["e5"] - 1))
        assert bounds.trimmed >= positions["e4"]
        assert (await two.journal.bounds()).trimmed == bounds.trimmed
        assert [entry_id for _, entry_id in await kept(two)] == ["e5", "e7"]

    async def test_an_event_of_before_an_erasure_is_a_duplicate_for_all(self, one: Engine, two: Engine) -> None:
        tail = two.journal.tail()
        await appended(one)
        await follow(tail, 6)
        async with one.erasure.wiping():
            await one.erasure.events("org_1")
        for engine in (one, two):
            (outcome,) = await engine.journal.append([event("e6", subscriber="org_1")])
            assert outcome.duplicate
