"""What a cursor does with deliveries while nothing crashes."""

from __future__ import annotations

import pytest

from certes_broker.domain.cursor import Cursor
from certes_broker.domain.cursor_state import CursorChange, CursorState, OwedKind, StoredCursor
from certes_broker.domain.deliveries import IllegalTransition, State, Tracked
from certes_broker.domain.events import AcceptedEvent, Micros, Position
from certes_broker.domain.limits import LIMITS, CursorLimits, Window

ENOUGH = 1_000_000
EVENT = AcceptedEvent(b"body", "events.example/_/1/it", "id", "tests", None, "", (), Micros(1), None, None)
NOW = Micros(5_000)
LATER = Micros(NOW + LIMITS.soon + 1)
"""Too late for events to be kept in memory until then."""
SOON = Micros(NOW + LIMITS.soon)


def new_cursor(floor: int = 0, limits: CursorLimits = LIMITS) -> Cursor[str]:
    return Cursor(
        "subscribers/s/subscriptions/x", 7, StoredCursor(CursorState(Position(floor), Position(floor)), ()), limits
    )


def offer(cursor: Cursor[str], *positions: int, key: str = "", size: int = 100) -> None:
    for position in positions:
        cursor.offer(Position(position), key, size, f"event {position}")


def take(cursor: Cursor[str], count: int = 1000, size: int = ENOUGH) -> list[Tracked[str]]:
    return cursor.take(count, size)


def positions(deliveries: list[Tracked[str]]) -> list[int]:
    return [tracked.position for tracked in deliveries]


def collect(cursor: Cursor[str]) -> CursorChange:
    return cursor.collect(level=False)


# Success.


def test_deliveries_go_out_in_the_order_of_the_journal() -> None:
    cursor = new_cursor()
    offer(cursor, 3, 5, 9)
    taken = take(cursor)
    assert [(tracked.position, tracked.payload, tracked.attempt) for tracked in taken] == [
        (3, "event 3", 1),
        (5, "event 5", 1),
        (9, "event 9", 1),
    ]
    assert (cursor.ready, cursor.ready_bytes, cursor.out, cursor.pending) == (0, 0, 3, 3)


def test_success_moves_the_floor_and_writes_no_row() -> None:
    cursor = new_cursor()
    offer(cursor, 3, 5)
    first, second = take(cursor)
    cursor.ack(first)
    assert collect(cursor).state == CursorState(Position(4), Position(5))
    cursor.ack(second)
    change = collect(cursor)
    assert change == CursorChange(cursor.subscription, 7, CursorState(Position(5), Position(5)))
    assert not cursor.pending
    assert second.payload is None


def test_reading_what_does_not_concern_it_moves_the_floor_too() -> None:
    cursor = new_cursor()
    cursor.advance(Position(40))
    cursor.advance(Position(30))
    assert collect(cursor).state == CursorState(Position(40), Position(40))


def test_an_event_that_was_read_before_is_not_taken_in_again() -> None:
    cursor = new_cursor(floor=10)
    offer(cursor, 10, 11)
    offer(cursor, 11)
    assert positions(take(cursor)) == [11]


def test_what_is_settled_out_of_order_is_one_range_between_two_unsettled_deliveries() -> None:
    cursor = new_cursor()
    offer(cursor, 2, 4, 6, 8, 20, 22)
    two, *middle, twenty, _ = take(cursor)
    cursor.ack_many([*reversed(middle)])
    assert collect(cursor).state == CursorState(Position(1), Position(22), ((Position(3), Position(8)),))
    cursor.ack(two)
    cursor.ack(twenty)
    assert collect(cursor).state == CursorState(Position(21), Position(22))


def test_the_sparse_set_stays_as_short_as_what_is_unsettled() -> None:
    cursor = new_cursor()
    offer(cursor, *range(10, 2_000, 2))
    stuck, *others = take(cursor)
    for one in others[:-1]:
        cursor.ack(one)
        assert len(collect(cursor).state.settled) == 1
    assert cursor.pending == 2
    assert stuck.state is State.OUT


def test_acknowledging_many_at_once_does_all_or_nothing() -> None:
    cursor = new_cursor()
    offer(cursor, 1, 2, 3)
    taken = take(cursor)
    cursor.ack(taken[2])
    with pytest.raises(IllegalTransition):
        cursor.ack_many(taken)
    with pytest.raises(IllegalTransition):
        cursor.ack_many([taken[0], taken[0]])
    assert [tracked.state for tracked in taken] == [State.OUT, State.OUT, State.SETTLED]
    assert (cursor.out, cursor.pending) == (2, 2)
    cursor.ack_many([taken[1], taken[0]])
    assert not cursor.pending


def test_a_delivery_that_ended_cannot_be_settled_again() -> None:
    cursor = new_cursor()
    offer(cursor, 1)
    (tracked,) = take(cursor)
    cursor.ack(tracked)
    with pytest.raises(IllegalTransition, match="settled cannot ack"):
        cursor.ack(tracked)
    with pytest.raises(IllegalTransition, match="settled cannot give back"):
        cursor.give_back(tracked, attempted=True)
    assert (cursor.out, cursor.ready, cursor.pending) == (0, 0, 0)


# Handing out.


def test_taking_stops_at_the_count_and_at_the_size() -> None:
    cursor = new_cursor()
    offer(cursor, *range(1, 9), size=100)
    assert positions(take(cursor, count=3)) == [1, 2, 3]
    assert positions(take(cursor, size=250)) == [4, 5]
    assert take(cursor, count=0) == []
    assert (cursor.ready, cursor.ready_bytes) == (3, 300)


def test_one_delivery_goes_out_however_big_it_is() -> None:
    cursor = new_cursor()
    offer(cursor, 1, 2, size=5_000)
    assert cursor.next_size == 5_000
    assert positions(take(cursor, size=10)) == [1]
    take(cursor)
    assert cursor.next_size == 0


def test_first_attempts_and_later_ones_share_what_is_taken_and_take_turns() -> None:
    cursor = new_cursor()
    offer(cursor, *range(1, 11))
    for tracked in take(cursor):
        cursor.give_back(tracked, attempted=True)
    offer(cursor, *range(11, 21))
    assert positions(take(cursor, count=1)) == [1]
    assert positions(take(cursor, count=1)) == [11]
    assert positions(take(cursor, count=5)) == [2, 3, 4, 12, 13]
    assert positions(take(cursor, count=100)) == [*range(14, 21), *range(5, 11)]


def test_what_one_kind_leaves_of_its_share_goes_to_the_other() -> None:
    cursor = new_cursor()
    offer(cursor, *range(1, 11))
    for tracked in take(cursor):
        cursor.give_back(tracked, attempted=True)
    offer(cursor, 11)
    assert len(take(cursor, count=10)) == 10
    assert cursor.ready == 1


def test_no_retry_goes_out_where_none_was_asked_for() -> None:
    cursor = new_cursor()
    offer(cursor, 1)
    cursor.give_back(take(cursor)[0], attempted=True)
    offer(cursor, 2)
    assert take(cursor, count=0) == []


def test_the_size_of_the_next_delivery_is_that_of_the_one_taken_first() -> None:
    cursor = new_cursor()
    offer(cursor, 1, 2, size=10)
    for tracked in take(cursor):
        cursor.give_back(tracked, attempted=False)
    offer(cursor, 3, 4, size=20)
    for expected in (10, 20, 10, 20):
        assert cursor.next_size == expected
        assert take(cursor, count=1)[0].size == expected


def test_a_delivery_comes_back_with_its_attempt_counted_if_it_was_one() -> None:
    cursor = new_cursor()
    offer(cursor, 1)
    cursor.give_back(take(cursor)[0], attempted=False)
    (tracked,) = take(cursor)
    assert tracked.attempt == 1
    cursor.give_back(tracked, attempted=True)
    assert take(cursor)[0].attempt == 2


# Failure.


def test_a_failed_delivery_gets_a_row_and_lets_the_floor_go() -> None:
    cursor = new_cursor()
    offer(cursor, 1, 2)
    one, two = take(cursor)
    cursor.retry(one, NOW, LATER, "503")
    cursor.ack(two)
    change = collect(cursor)
    assert change.state == CursorState(Position(2), Position(2))
    (row,) = change.put
    assert (row.position, row.kind, row.due, row.attempt, row.first_try, row.error) == (
        1,
        OwedKind.RETRY,
        LATER,
        2,
        NOW,
        "503",
    )
    assert (one.payload, cursor.next_due, cursor.owed, cursor.pending) == (None, LATER, 1, 1)


def test_a_delivery_that_is_due_is_read_again_and_goes_out() -> None:
    cursor = new_cursor()
    offer(cursor, 1)
    cursor.retry(take(cursor)[0], NOW, LATER, "503")
    cursor.wake(Micros(LATER - 1))
    assert not cursor.needs_events
    cursor.wake(LATER)
    assert (cursor.needs_events, cursor.next_due) == (True, None)
    (needed,) = cursor.needed(10)
    cursor.load(needed, 70, "again")
    (tracked,) = take(cursor)
    assert (tracked.payload, tracked.size, tracked.attempt, tracked.first_try) == ("again", 70, 2, NOW)
    collect(cursor)
    cursor.ack(tracked)
    assert collect(cursor).drop == (1,)


def test_a_retry_at_once_keeps_its_event_in_memory() -> None:
    cursor = new_cursor()
    offer(cursor, 1)
    cursor.retry(take(cursor)[0], NOW, NOW, "no")
    cursor.wake(NOW)
    assert take(cursor)[0].payload == "event 1"


def test_what_is_due_again_soon_keeps_its_event_in_memory() -> None:
    cursor = new_cursor()
    offer(cursor, 1)
    cursor.retry(take(cursor)[0], NOW, SOON, "503")
    assert (cursor.waiting.kept, cursor.waiting.bytes) == (1, 100)
    assert not cursor.wake(Micros(SOON - 1))
    assert cursor.wake(SOON)
    assert (cursor.waiting.kept, cursor.waiting.bytes, cursor.needs_events) == (0, 0, False)
    (tracked,) = take(cursor)
    assert (tracked.payload, tracked.attempt, tracked.first_try) == ("event 1", 2, NOW)


@pytest.mark.parametrize("window", [Window(2, 1_000_000), Window(1_000, 150)], ids=["deliveries", "bytes"])
def test_no_more_stays_in_memory_for_retries_than_there_is_room_for(window: Window) -> None:
    cursor = new_cursor(limits=CursorLimits(waiting=window))
    offer(cursor, 1, 2, 3)
    for tracked in take(cursor):
        cursor.retry(tracked, NOW, SOON, "503")
    cursor.wake(SOON)
    assert [tracked.payload for tracked in take(cursor)] == ["event 1", "event 2"]
    assert positions(cursor.needed(10)) == [3]


def test_what_waits_in_memory_and_is_erased_leaves_it_and_its_room() -> None:
    cursor = new_cursor()
    offer(cursor, 1, 2)
    for tracked in take(cursor):
        cursor.retry(tracked, NOW, SOON, "503")
    assert cursor.erase(lambda event: event == "event 1", NOW)
    assert (cursor.waiting.kept, cursor.waiting.bytes) == (1, 100)
    cursor.wake(SOON)
    assert positions(cursor.needed(10)) == [1]
    assert [tracked.payload for tracked in take(cursor)] == ["event 2"]


def test_the_first_try_is_remembered_over_all_retries() -> None:
    cursor = new_cursor()
    offer(cursor, 1)
    cursor.retry(take(cursor)[0], NOW, NOW, "no")
    cursor.wake(NOW)
    cursor.retry(take(cursor)[0], LATER, LATER, "no again")
    (row,) = collect(cursor).put
    assert (row.attempt, row.first_try, row.error) == (3, NOW, "no again")


def test_a_row_that_was_never_stored_is_dropped_all_the_same() -> None:
    """It may be stored from an earlier attempt, and nobody knows that but the engine."""
    cursor = new_cursor()
    offer(cursor, 1)
    cursor.retry(take(cursor)[0], NOW, NOW, "no")
    cursor.wake(NOW)
    cursor.ack(take(cursor)[0])
    change = collect(cursor)
    assert (change.put, change.drop) == ((), (1,))


def test_a_need_for_an_event_is_named_until_it_is_answered() -> None:
    """A reading that fails half-way must not lose what it was asked for."""
    cursor = new_cursor()
    offer(cursor, 1, 2)
    for tracked in take(cursor):
        cursor.retry(tracked, NOW, LATER, "no")
    cursor.wake(LATER)
    assert positions(cursor.needed(10)) == positions(cursor.needed(10)) == [1, 2]
    cursor.load(cursor.needed(1)[0], 100, "event 1")
    assert positions(cursor.needed(10)) == [2]


def test_events_are_read_again_only_while_there_is_memory_for_them() -> None:
    cursor = new_cursor(limits=CursorLimits(loaded=Window(2, 1_000)))
    offer(cursor, 1, 2, 3)
    for tracked in take(cursor):
        cursor.retry(tracked, NOW, LATER, "no")
    cursor.wake(LATER)
    first, second = cursor.needed(10)
    cursor.load(first, 100, "event 1")
    cursor.load(second, 100, "event 2")
    assert (cursor.needed(10), cursor.needs_events) == ([], False)
    take(cursor, count=1)
    assert cursor.needs_events
    cursor.load(cursor.needed(10)[0], 2_000, "event 3")
    take(cursor, count=1)
    assert not cursor.needs_events


def test_an_event_that_is_kept_no_longer_ends_its_delivery_with_a_gap() -> None:
    cursor = new_cursor()
    offer(cursor, 1)
    cursor.retry(take(cursor)[0], NOW, LATER, "no")
    cursor.wake(LATER)
    cursor.lose(cursor.needed(1)[0], LATER)
    change = collect(cursor)
    assert [(gap.first, gap.last, gap.reason, gap.time) for gap in change.gaps] == [(1, 1, "retention", LATER)]
    assert change.drop == (1,)
    assert not cursor.pending


def test_a_dead_letter_has_a_copy_of_its_event_and_says_why() -> None:
    cursor = new_cursor()
    offer(cursor, 1)
    (tracked,) = take(cursor)
    cursor.give_up(tracked, EVENT, "rejected", "malformed", NOW)
    change = collect(cursor)
    (dead,) = change.dead
    assert (dead.position, dead.event, dead.attempts, dead.reason, dead.error, dead.time) == (
        1,
        EVENT,
        1,
        "rejected",
        "malformed",
        NOW,
    )
    assert change.state.floor == 1
    assert not cursor.pending
    assert collect(cursor).dead == ()


# Order.


def test_one_delivery_of_a_key_is_out_at_a_time_and_others_pass_by() -> None:
    cursor = new_cursor()
    offer(cursor, 1, 2, key="k")
    offer(cursor, 3, key="other")
    offer(cursor, 4)
    one, three, four = take(cursor)
    assert positions([one, three, four]) == [1, 3, 4]
    assert cursor.keys.parked == 1
    cursor.ack(three)
    cursor.ack(four)
    assert take(cursor) == []
    cursor.ack(one)
    assert positions(take(cursor)) == [2]
    assert cursor.keys.parked == 0


def test_a_key_is_held_through_retries() -> None:
    cursor = new_cursor()
    offer(cursor, 1, 2, key="k")
    cursor.retry(take(cursor)[0], NOW, LATER, "no")
    assert take(cursor) == []
    cursor.wake(LATER)
    cursor.load(cursor.needed(1)[0], 100, "event 1")
    (one,) = take(cursor)
    assert one.position == 1
    cursor.give_back(one, attempted=True)
    assert positions(take(cursor)) == [1]


def test_a_dead_letter_and_a_gap_release_their_key() -> None:
    cursor = new_cursor()
    offer(cursor, 1, 2, 3, key="k")
    cursor.give_up(take(cursor)[0], EVENT, "rejected", "no", NOW)
    cursor.retry(take(cursor)[0], NOW, LATER, "no")
    cursor.wake(LATER)
    cursor.lose(cursor.needed(1)[0], LATER)
    assert positions(take(cursor)) == [3]


def test_parked_deliveries_beyond_the_window_get_rows_and_give_their_memory_back() -> None:
    cursor = new_cursor(limits=CursorLimits(parked=Window(2, ENOUGH)))
    offer(cursor, 1, 2, 3, 4, 5, key="k")
    assert (cursor.keys.parked, cursor.owed, cursor.pending) == (2, 2, 5)
    change = collect(cursor)
    assert [(row.position, row.kind) for row in change.put] == [(4, OwedKind.PARKED), (5, OwedKind.PARKED)]
    assert change.state == CursorState(Position(0), Position(5), ((Position(4), Position(5)),))
    for expected in (1, 2, 3):
        (tracked,) = take(cursor)
        assert tracked.position == expected
        cursor.ack(tracked)
    assert take(cursor) == []
    cursor.load(cursor.needed(1)[0], 100, "event 4")
    assert cursor.ready == 1
    assert not cursor.wake(LATER)
    cursor.ack(take(cursor)[0])
    assert collect(cursor).drop == (4,)


def test_the_window_of_parked_deliveries_counts_bytes_too() -> None:
    cursor = new_cursor(limits=CursorLimits(parked=Window(100, 250)))
    offer(cursor, 1, 2, 3, 4, 5, key="k", size=100)
    assert (cursor.keys.parked, cursor.owed) == (3, 1)


# A floor that stands still.


def test_a_delivery_that_many_have_overtaken_gets_a_row_so_that_the_floor_can_go_on() -> None:
    cursor = new_cursor(limits=CursorLimits(overtakers=10))
    offer(cursor, 1, 2, key="k")
    offer(cursor, *range(3, 30))
    stuck, *others = take(cursor)
    cursor.ack_many(others[:11])
    assert collect(cursor).put == ()
    cursor.ack_many(others[11:22])
    change = collect(cursor)
    assert [(row.position, row.kind, row.attempt) for row in change.put] == [
        (1, OwedKind.RETRY, 1),
        (2, OwedKind.PARKED, 1),
    ]
    assert change.state.floor == 24
    assert cursor.keys.parked == 0
    cursor.ack(stuck)
    assert collect(cursor).drop == (1,)
    assert positions(cursor.needed(1)) == [2]
