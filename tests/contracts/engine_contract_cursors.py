"""What every engine promises of its cursors and leases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from certes_broker.domain.events import BEGINNING, Micros, Position
from certes_broker.ports.engine import CursorChange, DeadLetter, Engine, Gap, StoredCursor
from tests.contracts.engine_harness import START, EngineTests, as_read, event, parked, retry, state

A = "subscribers/org_1/subscriptions/a"
B = "subscribers/org_1/subscriptions/b"
NOW = Micros(START)


def dead(position: int, error: str = "HTTP 500") -> DeadLetter:
    letter = event(f"event-{position}", ordering_key="k", options=(("repo", "meetly/meetly"),))
    return DeadLetter(Position(position), as_read(letter), 8, "ATTEMPTS_EXHAUSTED", error, NOW)


def gap(first: int, last: int, time: int = START) -> Gap:
    return Gap(Position(first), Position(last), "RETENTION", Micros(time))


async def loaded(engine: Engine, subscription: str = A) -> StoredCursor | None:
    return (await engine.cursors.load([subscription]))[0]


class CursorsContract(EngineTests):
    async def test_a_subscription_that_never_settled_has_no_cursor(self, engine: Engine) -> None:
        assert list(await engine.cursors.load([A, B])) == [None, None]
        assert list(await engine.cursors.load([])) == []

    async def test_a_settled_cursor_is_loaded_as_it_was(self, engine: Engine) -> None:
        settled = state(10, 25, (12, 12), (14, 20), (22, 25))
        assert await engine.cursors.settle([CursorChange(A, 0, settled, put=[retry(21), parked(11)])]) == []
        assert await loaded(engine) == StoredCursor(settled, (parked(11), retry(21)))

    async def test_cursors_are_loaded_in_the_order_asked_for(self, engine: Engine) -> None:
        names = [f"subscribers/o/subscriptions/{index}" for index in range(300)]
        await engine.cursors.settle(
            [CursorChange(name, 0, state(index), put=[retry(index + 1)]) for index, name in enumerate(names)]
        )
        found = await engine.cursors.load([*names[::-1], "none", names[5]])
        floors = [None if cursor is None else cursor.state.floor for cursor in found]
        assert floors == [*range(299, -1, -1), None, 5]
        assert next(cursor.owed for cursor in found if cursor is not None) == (retry(300),)

    async def test_a_settle_replaces_the_whole_state(self, engine: Engine) -> None:
        await engine.cursors.settle([CursorChange(A, 0, state(3, 9, (5, 7)))])
        await engine.cursors.settle([CursorChange(A, 0, state(9))])
        assert await loaded(engine) == StoredCursor(state(9), ())

    async def test_rows_are_put_replaced_and_dropped_by_position(self, engine: Engine) -> None:
        await engine.cursors.settle([CursorChange(A, 0, state(1), put=[retry(5), retry(6), parked(7)])])
        await engine.cursors.settle([CursorChange(A, 0, state(2), put=[retry(5, attempt=3)], drop=[Position(7)])])
        await engine.cursors.settle([CursorChange(A, 0, state(3), drop=[Position(99)])])
        assert await loaded(engine) == StoredCursor(state(3), (retry(5, attempt=3), retry(6)))

    async def test_a_row_that_is_dropped_and_put_in_one_change_is_there(self, engine: Engine) -> None:
        await engine.cursors.settle([CursorChange(A, 0, state(1), put=[retry(5)])])
        await engine.cursors.settle([CursorChange(A, 0, state(1), put=[retry(5, attempt=4)], drop=[Position(5)])])
        assert await loaded(engine) == StoredCursor(state(1), (retry(5, attempt=4),))

    async def test_a_reset_drops_every_row_first(self, engine: Engine) -> None:
        await engine.cursors.settle([CursorChange(A, 0, state(1), put=[retry(5), retry(6)], dead=[dead(4)])])
        await engine.cursors.settle([CursorChange(B, 0, state(1), put=[retry(5)])])
        await engine.cursors.settle([CursorChange(A, 0, state(7), put=[retry(8)], reset=True)])
        assert await loaded(engine) == StoredCursor(state(7), (retry(8),))
        assert await loaded(engine, B) == StoredCursor(state(1), (retry(5),))
        assert list(await engine.cursors.dead_letters(A, BEGINNING, 10)) == [dead(4)]

    async def test_settles_made_at_once_take_effect_in_the_order_of_the_calls(self, engine: Engine) -> None:
        changes = [
            CursorChange(A, 0, state(1), put=[retry(5), retry(6)]),
            CursorChange(A, 0, state(2), drop=[Position(5)], put=[retry(7)]),
            CursorChange(A, 0, state(3), put=[parked(5, "again")]),
            CursorChange(A, 0, state(4), reset=True, put=[retry(9)]),
            CursorChange(A, 0, state(5), put=[retry(10)], drop=[Position(9)]),
        ]
        async with asyncio.TaskGroup() as tasks:
            for change in changes:
                tasks.create_task(engine.cursors.settle([change]))
        assert await loaded(engine) == StoredCursor(state(5), (retry(10),))

    async def test_a_settle_done_again_changes_nothing(self, engine: Engine) -> None:
        change = CursorChange(
            A, 0, state(4, 9, (6, 7)), put=[retry(8)], drop=[Position(5)], dead=[dead(4)], gaps=[gap(1, 2)]
        )
        for _ in range(2):
            await engine.cursors.settle([change], Position(3))
            assert await loaded(engine) == StoredCursor(change.state, (retry(8),))
            assert list(await engine.cursors.dead_letters(A, BEGINNING, 10)) == [dead(4)]
            assert list(await engine.cursors.gaps(A)) == [gap(1, 2)]

    async def test_the_watermark_never_goes_back(self, engine: Engine) -> None:
        assert await engine.cursors.watermark() == BEGINNING
        await engine.cursors.settle([], Position(7))
        await engine.cursors.settle([], Position(5))
        assert await engine.cursors.watermark() == 7

    async def test_the_watermark_raises_level_cursors_and_no_others(self, engine: Engine) -> None:
        await engine.cursors.settle([CursorChange(A, 0, state(5, level=True)), CursorChange(B, 0, state(5, 6))])
        await engine.cursors.settle([], Position(50))
        assert await loaded(engine) == StoredCursor(state(50, level=True), ())
        assert await loaded(engine, B) == StoredCursor(state(5, 6), ())

    async def test_a_level_cursor_above_the_watermark_stands_where_it_is(self, engine: Engine) -> None:
        await engine.cursors.settle([CursorChange(A, 0, state(60, level=True))], Position(50))
        assert await loaded(engine) == StoredCursor(state(60, level=True), ())

    async def test_a_cursor_that_is_level_no_more_keeps_what_it_says_itself(self, engine: Engine) -> None:
        await engine.cursors.settle([CursorChange(A, 0, state(5, level=True))], Position(50))
        await engine.cursors.settle([CursorChange(A, 0, state(50, 55))], Position(70))
        assert await loaded(engine) == StoredCursor(state(50, 55), ())

    async def test_dead_letters_are_paged_by_position_with_a_copy_of_their_events(self, engine: Engine) -> None:
        await engine.cursors.settle([CursorChange(A, 0, state(9), dead=[dead(7), dead(3), dead(5)])])
        await engine.cursors.settle([CursorChange(B, 0, state(9), dead=[dead(4)])])
        assert list(await engine.cursors.dead_letters(A, BEGINNING, 2)) == [dead(3), dead(5)]
        assert list(await engine.cursors.dead_letters(A, Position(5), 2)) == [dead(7)]

    async def test_a_dead_letter_is_kept_without_digest_and_original(self, engine: Engine) -> None:
        letter = DeadLetter(Position(3), event("a"), 1, "REJECTED", "", NOW)
        await engine.cursors.settle([CursorChange(A, 0, state(9), dead=[letter])])
        (kept,) = await engine.cursors.dead_letters(A, BEGINNING, 10)
        assert kept.event == as_read(letter.event)

    async def test_dead_letters_end_with_the_one_that_reaches_the_bytes_asked_for(self, engine: Engine) -> None:
        letters = [dead(position) for position in (3, 5, 7)]
        size = len(letters[0].event.body)
        await engine.cursors.settle([CursorChange(A, 0, state(9), dead=letters)])
        assert list(await engine.cursors.dead_letters(A, BEGINNING, 10, 1)) == letters[:1]
        assert list(await engine.cursors.dead_letters(A, BEGINNING, 10, size + 1)) == letters[:2]
        assert list(await engine.cursors.dead_letters(A, BEGINNING, 10, 100 * size)) == letters

    async def test_a_dead_letter_is_found_by_its_position(self, engine: Engine) -> None:
        await engine.cursors.settle([CursorChange(A, 0, state(9), dead=[dead(3), dead(5)])])
        assert await engine.cursors.dead_letter(A, Position(5)) == dead(5)
        assert await engine.cursors.dead_letter(A, Position(4)) is None
        assert await engine.cursors.dead_letter(B, Position(5)) is None

    async def test_the_dead_letters_of_a_subscription_are_counted(self, engine: Engine) -> None:
        assert await engine.cursors.count_dead_letters(A) == 0
        await engine.cursors.settle([CursorChange(A, 0, state(9), dead=[dead(3), dead(5)])])
        await engine.cursors.settle([CursorChange(B, 0, state(9), dead=[dead(4)])])
        assert await engine.cursors.count_dead_letters(A) == 2

    async def test_a_settle_buries_dead_letters_of_its_own_subscription(self, engine: Engine) -> None:
        for name in (A, B):
            await engine.cursors.settle([CursorChange(name, 0, state(9), put=[retry(3)], dead=[dead(3), dead(5)])])
        change = CursorChange(A, 0, state(9), drop=[Position(3)], buried=[Position(3), Position(4)])
        for _ in range(2):
            await engine.cursors.settle([change])
            assert list(await engine.cursors.dead_letters(A, BEGINNING, 10)) == [dead(5)]
        assert list(await engine.cursors.dead_letters(B, BEGINNING, 10)) == [dead(3), dead(5)]

    async def test_a_dead_letter_that_is_buried_and_comes_in_one_change_is_the_new_one(self, engine: Engine) -> None:
        await engine.cursors.settle([CursorChange(A, 0, state(9), dead=[dead(3)])])
        again = dead(3, "HTTP 503")
        await engine.cursors.settle([CursorChange(A, 0, state(9), dead=[again], buried=[Position(3)])])
        assert list(await engine.cursors.dead_letters(A, BEGINNING, 10)) == [again]

    async def test_burials_made_at_once_with_new_dead_letters_take_effect_in_order(self, engine: Engine) -> None:
        changes = [
            CursorChange(A, 0, state(9), dead=[dead(3), dead(5)]),
            CursorChange(A, 0, state(9), buried=[Position(3), Position(5)]),
            CursorChange(A, 0, state(9), dead=[dead(5, "again")]),
        ]
        async with asyncio.TaskGroup() as tasks:
            for change in changes:
                tasks.create_task(engine.cursors.settle([change]))
        assert list(await engine.cursors.dead_letters(A, BEGINNING, 10)) == [dead(5, "again")]

    async def test_dead_letters_are_buried_but_for_those_that_a_row_speaks_for(self, engine: Engine) -> None:
        for name in (A, B):
            change = CursorChange(name, 0, state(9), put=[retry(5)], dead=[dead(3), dead(5), dead(7)])
            await engine.cursors.settle([change])
        positions = [Position(3), Position(4), Position(5)]
        assert await engine.cursors.bury(A, positions) == 1
        assert await engine.cursors.bury(A, positions) == 0
        assert await engine.cursors.bury(A, []) == 0
        assert [one.position for one in await engine.cursors.dead_letters(A, BEGINNING, 10)] == [5, 7]
        assert await engine.cursors.count_dead_letters(B) == 3

    async def test_dead_letters_past_their_time_go_but_for_those_that_a_row_speaks_for(self, engine: Engine) -> None:
        letters = [replace(dead(position), time=Micros(START + position)) for position in (1, 2, 3, 4)]
        for letter in letters:
            for name in (A, B):
                await engine.cursors.settle([CursorChange(name, 0, state(9), put=[retry(2)], dead=[letter])])
        for _ in range(2):
            await engine.cursors.expire(Micros(START + 3))
            for name in (A, B):
                left = await engine.cursors.dead_letters(name, BEGINNING, 10)
                assert [one.position for one in left] == [2, 3, 4]

    async def test_gaps_are_listed_oldest_first(self, engine: Engine) -> None:
        await engine.cursors.settle([CursorChange(A, 0, state(9), gaps=[gap(5, 8, START + 2), gap(1, 3, START + 1)])])
        await engine.cursors.settle([CursorChange(A, 0, state(20), gaps=[gap(12, 12, START + 3)])])
        assert [found.first for found in await engine.cursors.gaps(A)] == [1, 5, 12]
        assert list(await engine.cursors.gaps(B)) == []

    async def test_forgetting_a_subscription_leaves_the_others_alone(self, engine: Engine) -> None:
        for name in (A, B):
            change = CursorChange(name, 0, state(9), put=[retry(10)], dead=[dead(3)], gaps=[gap(1, 2)])
            await engine.cursors.settle([change])
        for _ in range(2):
            await engine.cursors.forget(A)
            assert await loaded(engine) is None
            assert list(await engine.cursors.dead_letters(A, BEGINNING, 10)) == []
            assert list(await engine.cursors.gaps(A)) == []
        assert await loaded(engine, B) == StoredCursor(state(9), (retry(10),))
        assert list(await engine.cursors.dead_letters(B, BEGINNING, 10)) == [dead(3)]

    async def test_a_change_of_an_old_epoch_is_left_out_and_the_others_are_written(self, engine: Engine) -> None:
        (old,) = await engine.leases.lease([A])
        await engine.leases.release([A])
        (new,) = await engine.leases.lease([A])
        assert old is not None
        assert new is not None
        changes = [CursorChange(A, old, state(5), put=[retry(6)], dead=[dead(4)]), CursorChange(B, 0, state(6))]
        assert list(await engine.cursors.settle(changes, Position(3))) == [A]
        assert await loaded(engine) is None
        assert list(await engine.cursors.dead_letters(A, BEGINNING, 10)) == []
        assert await loaded(engine, B) == StoredCursor(state(6), ())
        assert await engine.cursors.watermark() == 3
        assert list(await engine.cursors.settle([CursorChange(A, new, state(5))])) == []

    async def test_many_settles_at_once_are_all_written(self, engine: Engine) -> None:
        names = [f"subscribers/o/subscriptions/{index}" for index in range(200)]
        async with asyncio.TaskGroup() as tasks:
            for index, name in enumerate(names):
                tasks.create_task(
                    engine.cursors.settle([CursorChange(name, 0, state(index, level=False))], Position(index))
                )
        found = await engine.cursors.load(names)
        assert [cursor.state.floor for cursor in found if cursor is not None] == list(range(200))
        assert await engine.cursors.watermark() == 199


class LeasesContract(EngineTests):
    async def test_each_lease_has_an_epoch_above_all_before(self, engine: Engine) -> None:
        epochs = list(await engine.leases.lease([A, B]))
        await engine.leases.release([A, B])
        epochs += await engine.leases.lease([A, B])
        numbers = [epoch for epoch in epochs if epoch is not None]
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 4
        assert numbers[0] > 0

    async def test_who_holds_a_lease_and_asks_for_it_keeps_its_epoch(self, engine: Engine) -> None:
        (epoch,) = await engine.leases.lease([A])
        assert epoch is not None
        again = list(await engine.leases.lease([A, B, A]))
        assert again[0] == again[2] == epoch
        assert again[1] not in {None, epoch}
        assert list(await engine.cursors.settle([CursorChange(A, epoch, state(1))])) == []

    async def test_a_lease_has_a_holder_until_it_is_given_up(self, engine: Engine) -> None:
        assert list(await engine.leases.holders([A])) == [None]
        await engine.leases.lease([A])
        assert list(await engine.leases.holders([A, B])) == [engine.members.own, None]
        await engine.leases.release([A, B])
        assert list(await engine.leases.holders([A])) == [None]

    async def test_giving_up_a_lease_lets_no_older_epoch_back_in(self, engine: Engine) -> None:
        (first,) = await engine.leases.lease([A])
        await engine.leases.release([A])
        await engine.leases.lease([A])
        await engine.leases.release([A])
        assert first is not None
        assert list(await engine.cursors.settle([CursorChange(A, first, state(1))])) == [A]

    async def test_a_forgotten_subscription_is_leased_with_a_higher_epoch(self, engine: Engine) -> None:
        (first,) = await engine.leases.lease([A])
        await engine.cursors.forget(A)
        (second,) = await engine.leases.lease([A])
        assert first is not None
        assert second is not None
        assert second > first

    async def test_who_held_a_forgotten_subscription_brings_nothing_of_it_back(self, engine: Engine) -> None:
        (epoch,) = await engine.leases.lease([A])
        assert epoch is not None
        change = CursorChange(A, epoch, state(5), put=[retry(6)], dead=[dead(4)], gaps=[gap(1, 2)])
        assert list(await engine.cursors.settle([change])) == []
        await engine.cursors.forget(A)
        assert list(await engine.cursors.settle([change])) == [A]
        assert await loaded(engine) is None
        assert list(await engine.cursors.dead_letters(A, BEGINNING, 10)) == []
        assert list(await engine.cursors.gaps(A)) == []
        (again,) = await engine.leases.lease([A])
        assert list(await engine.cursors.settle([change])) == [A]
        assert again is not None
        assert list(await engine.cursors.settle([CursorChange(A, again, state(7))])) == []

    async def test_an_engine_is_a_member_that_lives_and_is_current(self, engine: Engine) -> None:
        assert engine.members.living == {engine.members.own}
        assert engine.members.is_current()
        assert await anext(engine.members.watch()) == {engine.members.own}
