"""What a cursor does after a crash, and when somebody changes its course."""

from __future__ import annotations

import pytest

from certes_broker.domain.cursor import Cursor
from certes_broker.domain.cursor_state import CursorChange, CursorState, Owed, OwedKind, Ranges, StoredCursor
from certes_broker.domain.deliveries import IllegalTransition, State, Tracked
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.limits import LIMITS, CursorLimits, Window

NOW = Micros(5_000)
LATER = Micros(6_000)


def retry_row(position: int, key: str = "", due: Micros = LATER) -> Owed:
    return Owed(Position(position), OwedKind.RETRY, due, 3, NOW, key, "503")


def parked_row(position: int, key: str = "k") -> Owed:
    return Owed(Position(position), OwedKind.PARKED, Micros(0), 1, Micros(0), key, "")


def stored(floor: int, *rows: Owed, settled: Ranges = (), read_mark: int = 0) -> StoredCursor:
    return StoredCursor(CursorState(Position(floor), Position(max(floor, read_mark)), settled), rows)


def new_cursor(kept: StoredCursor, limits: CursorLimits = LIMITS) -> Cursor[str]:
    return Cursor("s", 7, kept, limits)


def offer(cursor: Cursor[str], *positions: int, key: str = "") -> None:
    for position in positions:
        cursor.offer(Position(position), key, 100, f"event {position}")


def take(cursor: Cursor[str]) -> list[Tracked[str]]:
    return cursor.take(1000, 1_000_000)


def positions(deliveries: list[Tracked[str]]) -> list[int]:
    return [tracked.position for tracked in deliveries]


def load_needed(cursor: Cursor[str]) -> list[int]:
    needed = cursor.needed(1000)
    for tracked in needed:
        cursor.load(tracked, 100, f"event {tracked.position}")
    return positions(needed)


def span(first: int, last: int) -> tuple[Position, Position]:
    return Position(first), Position(last)


def after_crash(change: CursorChange) -> Cursor[str]:
    """The cursor as it comes back when `change` was its first and its last to become durable."""
    return new_cursor(StoredCursor(change.state, tuple(sorted(change.put))))


# Coming back.


def test_what_was_not_made_durable_is_delivered_again() -> None:
    cursor = new_cursor(stored(0))
    offer(cursor, 1, 2)
    kept = cursor.collect(level=False)
    cursor.ack_many(take(cursor))
    cursor = after_crash(kept)
    offer(cursor, 1, 2)
    assert positions(take(cursor)) == [1, 2]


def test_what_was_settled_out_of_order_is_not_delivered_again() -> None:
    cursor = new_cursor(stored(0))
    offer(cursor, 1, 2, 3, 4)
    _, two, three, _ = take(cursor)
    cursor.ack_many([two, three])
    cursor = after_crash(cursor.collect(level=False))
    offer(cursor, 1, 2, 3, 4)
    assert positions(take(cursor)) == [1, 4]


def test_what_was_settled_before_two_crashes_is_not_delivered_after_them() -> None:
    """The second reading has gone past it, and the floor has not."""
    cursor = new_cursor(stored(10, settled=(span(12, 20),), read_mark=20))
    offer(cursor, 11, 12, 20, 21)
    cursor.advance(Position(30))
    change = cursor.collect(level=False)
    assert change.state == CursorState(Position(10), Position(30), (span(12, 20),))
    cursor = after_crash(change)
    offer(cursor, 11, 12, 20, 21)
    assert positions(take(cursor)) == [11, 21]


def test_half_way_through_the_second_reading_the_rest_of_the_sparse_set_is_kept() -> None:
    cursor = new_cursor(stored(10, settled=(span(12, 20), span(25, 30)), read_mark=30))
    offer(cursor, 11, 12)
    assert cursor.collect(level=False).state.settled == (span(12, 12), span(13, 20), span(25, 30))


def test_how_far_it_had_read_is_never_stored_lower() -> None:
    """Whoever changes the selectors reads so far under the old ones, and so must know it after two crashes, too."""
    cursor = new_cursor(stored(10, read_mark=50))
    offer(cursor, 11)
    assert cursor.collect(level=False).state.read_mark == 50


def test_a_retry_comes_back_with_its_history_and_waits_for_its_time() -> None:
    cursor = new_cursor(stored(10, retry_row(5)))
    assert (cursor.next_due, cursor.pending, cursor.owed) == (LATER, 1, 1)
    cursor.wake(LATER)
    assert load_needed(cursor) == [5]
    (tracked,) = take(cursor)
    assert (tracked.attempt, tracked.first_try, tracked.payload) == (3, NOW, "event 5")
    cursor.ack(tracked)
    change = cursor.collect(level=True)
    assert (change.drop, change.state.level) == ((5,), True)


def test_a_retry_above_the_floor_that_has_been_settled_meanwhile_is_passed_over_by_the_second_reading() -> None:
    cursor = new_cursor(stored(10, retry_row(15), settled=(span(15, 15),), read_mark=15))
    cursor.wake(LATER)
    load_needed(cursor)
    cursor.ack(take(cursor)[0])
    assert cursor.collect(level=False).state.settled == (span(15, 15),)
    offer(cursor, 11, 15, 16)
    assert positions(take(cursor)) == [11, 16]


def test_a_retry_holds_its_key_from_the_start() -> None:
    cursor = new_cursor(stored(10, retry_row(5, "k")))
    offer(cursor, 11, key="k")
    assert take(cursor) == []
    cursor.wake(LATER)
    load_needed(cursor)
    cursor.ack(take(cursor)[0])
    assert positions(take(cursor)) == [11]


def test_parked_deliveries_below_the_floor_come_back_in_order_behind_their_key() -> None:
    cursor = new_cursor(stored(10, retry_row(5, "k"), parked_row(6), parked_row(7), parked_row(8, "other")))
    assert load_needed(cursor) == [8]
    cursor.wake(LATER)
    for expected in (5, 6, 7):
        assert load_needed(cursor) == [expected]
        for tracked in take(cursor):
            cursor.ack(tracked)
    assert not cursor.pending


def test_a_parked_delivery_above_the_floor_waits_for_the_reading_to_come_to_it() -> None:
    cursor = new_cursor(stored(10, parked_row(15), settled=(span(12, 15),), read_mark=15))
    assert cursor.is_deferred(Position(15))
    assert not cursor.needs_events
    offer(cursor, 11, 15, key="k")
    assert not cursor.is_deferred(Position(15))
    (eleven,) = take(cursor)
    assert (eleven.position, cursor.keys.parked, cursor.pending) == (11, 0, 2)
    cursor.ack(eleven)
    assert load_needed(cursor) == [15]
    assert cursor.collect(level=False).state.floor == 15


def test_a_deferred_delivery_whose_key_is_free_goes_out_as_it_is_read() -> None:
    cursor = new_cursor(stored(10, parked_row(15), settled=(span(15, 15),), read_mark=15))
    offer(cursor, 15, key="k")
    (tracked,) = take(cursor)
    cursor.ack(tracked)
    assert cursor.collect(level=False).drop == (15,)


# What retention has trimmed.


def test_backlog_that_was_trimmed_unread_leaves_one_gap() -> None:
    cursor = new_cursor(stored(10, parked_row(15), settled=(span(12, 15),), read_mark=15))
    gap = cursor.skip_trimmed(Position(20), NOW)
    assert gap is not None
    assert cursor.skip_trimmed(Position(20), NOW) is None
    change = cursor.collect(level=False)
    assert change.gaps == (gap,)
    assert (gap.first, gap.last, gap.reason) == (11, 20, "retention")
    assert (change.drop, change.state.floor) == ((15,), 20)
    assert not cursor.pending


def test_a_deferred_delivery_that_the_reading_did_not_find_leaves_a_gap() -> None:
    cursor = new_cursor(stored(10, parked_row(15), settled=(span(15, 15),), read_mark=15))
    cursor.advance(Position(14))
    cursor.lose_deferred(NOW)
    assert cursor.is_deferred(Position(15))
    cursor.advance(Position(15))
    cursor.lose_deferred(NOW)
    change = cursor.collect(level=False)
    assert [(gap.first, gap.last) for gap in change.gaps] == [(15, 15)]
    assert change.drop == (15,)


# Changing course.


def test_securing_gives_a_row_to_all_that_is_unsettled_and_moves_the_floor_to_the_read_mark() -> None:
    cursor = new_cursor(stored(0))
    offer(cursor, 1, 2, key="k")
    offer(cursor, 3, 4)
    cursor.advance(Position(9))
    _, _, four = take(cursor)
    cursor.ack(four)
    cursor.secure()
    change = cursor.collect(level=False)
    assert change.state == CursorState(Position(9), Position(9))
    assert [(row.position, row.kind) for row in change.put] == [
        (1, OwedKind.RETRY),
        (2, OwedKind.PARKED),
        (3, OwedKind.RETRY),
    ]
    assert (cursor.pending, cursor.out, cursor.keys.parked) == (3, 2, 0)


def test_what_was_secured_is_owed_across_a_crash_whatever_the_selectors_say() -> None:
    cursor = new_cursor(stored(0))
    offer(cursor, 1, 2, key="k")
    take(cursor)
    cursor.secure()
    cursor = after_crash(cursor.collect(level=False))
    cursor.wake(NOW)
    assert load_needed(cursor) == [1]
    cursor.ack(take(cursor)[0])
    assert load_needed(cursor) == [2]
    assert take(cursor)[0].attempt == 1


def test_what_was_secured_while_it_was_out_is_settled_as_ever() -> None:
    cursor = new_cursor(stored(0))
    offer(cursor, 1)
    (tracked,) = take(cursor)
    cursor.secure()
    cursor.collect(level=False)
    cursor.ack(tracked)
    assert cursor.collect(level=False).drop == (1,)
    assert not cursor.pending


def test_a_seek_discards_what_is_pending_and_says_how_much() -> None:
    cursor = new_cursor(stored(20, retry_row(5), parked_row(6)), CursorLimits(parked=Window(1, 1000)))
    offer(cursor, 21, 22, 23, key="j")
    (out,) = take(cursor)
    assert cursor.seek(Position(2)) == 5
    change = cursor.collect(level=False)
    assert change.state == CursorState(Position(2), Position(2))
    assert (change.reset, change.put, change.drop) == (True, (), ())
    assert (cursor.pending, cursor.out, cursor.ready, cursor.ready_bytes, cursor.keys.parked) == (0, 0, 0, 0, 0)
    assert (out.state, out.payload) == (State.DISCARDED, None)
    assert not cursor.collect(level=False).reset


def test_after_a_seek_everything_above_it_is_delivered_again() -> None:
    cursor = new_cursor(stored(20, settled=(span(22, 22),), read_mark=22))
    cursor.seek(Position(19))
    offer(cursor, 20, 22)
    assert positions(take(cursor)) == [20, 22]


def test_what_a_seek_discarded_can_be_neither_settled_nor_loaded() -> None:
    cursor = new_cursor(stored(20, retry_row(5)))
    offer(cursor, 21)
    (out,) = take(cursor)
    cursor.wake(LATER)
    (needed,) = cursor.needed(1)
    cursor.seek(Position(0))
    with pytest.raises(IllegalTransition, match="discarded cannot ack"):
        cursor.ack(out)
    cursor.load(needed, 100, "event 5")
    cursor.lose(needed, NOW)
    assert (cursor.ready, cursor.out, cursor.pending) == (0, 0, 0)
    assert cursor.collect(level=False).gaps == ()


def test_dead_letters_and_gaps_from_before_a_seek_are_kept() -> None:
    cursor = new_cursor(stored(20))
    gap = cursor.skip_trimmed(Position(30), NOW)
    cursor.seek(Position(25))
    assert cursor.collect(level=False).gaps == (gap,)
