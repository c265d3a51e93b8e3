"""What a cursor does with replays: deliveries that somebody asked for once more."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from certes_broker.domain.cursor import Cursor
from certes_broker.domain.cursor_state import CursorChange, CursorState, Owed, OwedKind, StoredCursor
from certes_broker.domain.deliveries import Tracked
from certes_broker.domain.events import Micros, Position
from tests.unit.domain.test_cursor import EVENT, LATER, NOW, collect, new_cursor, offer, positions, take

AT = Position(3)


def owes_nothing(floor: int = 9) -> Cursor[str]:
    return new_cursor(floor)


def loaded(cursor: Cursor[str], *at: int) -> None:
    """Lets what is due go out: the events are read again."""
    cursor.wake(NOW)
    needed = cursor.needed(10)
    assert [tracked.position for tracked in needed] == list(at)
    for tracked in needed:
        cursor.load(tracked, 100, f"event {tracked.position}")


def test_a_replay_is_a_row_that_is_due_at_once_and_has_no_key() -> None:
    cursor = owes_nothing()
    assert cursor.replay(AT)
    change = collect(cursor)
    assert change.put == (Owed(AT, OwedKind.REPLAY, Micros(0), 1, Micros(0), "", ""),)
    assert change.state.floor == 9
    assert cursor.pending
    loaded(cursor, 3)
    assert [(tracked.position, tracked.attempt) for tracked in take(cursor)] == [(3, 1)]


def test_a_replay_that_is_done_drops_its_row_and_buries_its_dead_letter_in_one_change() -> None:
    cursor = owes_nothing()
    cursor.replay(AT)
    collect(cursor)
    loaded(cursor, 3)
    cursor.ack_many(take(cursor))
    change = collect(cursor)
    assert (change.drop, change.buried, change.dead) == ((AT,), (AT,), ())
    assert not cursor.pending


def test_a_replay_that_is_given_up_on_is_a_dead_letter_and_buries_none() -> None:
    cursor = owes_nothing()
    cursor.replay(AT)
    loaded(cursor, 3)
    (tracked,) = take(cursor)
    cursor.give_up(tracked, EVENT, "rejected", "no", NOW)
    change = collect(cursor)
    assert (change.drop, change.buried, [dead.position for dead in change.dead]) == ((AT,), (), [AT])


def test_a_dead_letter_that_was_never_written_and_is_replayed_and_done_is_not_written() -> None:
    cursor = owes_nothing()
    offer(cursor, 12)
    (tracked,) = take(cursor)
    cursor.give_up(tracked, EVENT, "rejected", "no", NOW)
    assert cursor.replay(Position(12))
    loaded(cursor, 12)
    cursor.ack_many(take(cursor))
    change = collect(cursor)
    assert (change.dead, change.buried, change.put) == ((), (12,), ())


def test_a_replay_that_failed_is_a_replay_after_a_crash_too() -> None:
    cursor = owes_nothing()
    cursor.replay(AT)
    loaded(cursor, 3)
    (tracked,) = take(cursor)
    cursor.retry(tracked, NOW, LATER, "HTTP 500")
    change = collect(cursor)
    (row,) = change.put
    assert row == Owed(AT, OwedKind.REPLAY, LATER, 2, NOW, "", "HTTP 500")
    again: Cursor[str] = Cursor("s", 8, StoredCursor(change.state, (row,)))
    again.wake(LATER)
    for needed in again.needed(10):
        again.load(needed, 100, "event 3")
    (tracked,) = take(again)
    assert tracked.attempt == 2
    again.ack(tracked)
    assert collect(again).buried == (AT,)


def what_is_read(cursor: Cursor[str]) -> None:
    offer(cursor, 12)


def what_is_out(cursor: Cursor[str]) -> Sequence[Tracked[str]]:
    offer(cursor, 12)
    return take(cursor)


def what_failed(cursor: Cursor[str]) -> None:
    offer(cursor, 12)
    (tracked,) = take(cursor)
    cursor.retry(tracked, NOW, LATER, "no")


def what_is_parked(cursor: Cursor[str]) -> None:
    offer(cursor, 11, 12, key="k")


def what_is_replayed(cursor: Cursor[str]) -> None:
    cursor.replay(Position(12))


@pytest.mark.parametrize("owe", [what_is_read, what_is_out, what_failed, what_is_parked, what_is_replayed])
def test_what_is_owed_is_not_owed_twice(owe) -> None:
    cursor = owes_nothing()
    owe(cursor)
    before = cursor.pending
    assert not cursor.replay(Position(12))
    assert cursor.pending == before


def done_after_a_crash(change: CursorChange) -> CursorChange:
    """Lets what a change has rows for be done by a broker that starts anew."""
    again: Cursor[str] = Cursor("s", 8, StoredCursor(change.state, tuple(change.put)))
    again.wake(LATER)
    for needed in again.needed(10):
        again.load(needed, 100, f"event {needed.position}")
    again.ack_many(take(again))
    return collect(again)


@pytest.mark.parametrize("owe", [what_is_read, what_is_out, what_failed, what_is_replayed])
def test_what_is_under_way_does_for_a_replay_also_after_a_crash(owe) -> None:
    cursor = owes_nothing()
    owe(cursor)
    assert not cursor.replay(Position(12))
    assert done_after_a_crash(collect(cursor)).buried == (12,)


@pytest.mark.parametrize("owe", [what_is_read, what_is_out])
def test_what_is_under_way_buries_its_dead_letter_when_it_is_done(owe) -> None:
    cursor = owes_nothing()
    taken = owe(cursor)
    cursor.replay(Position(12))
    (taken,) = taken or take(cursor)
    cursor.ack(taken)
    change = collect(cursor)
    assert (change.buried, change.put, change.state.floor) == ((12,), (), 12)
    assert not cursor.pending


def test_what_is_parked_does_for_a_replay_in_its_place_of_the_order() -> None:
    cursor = owes_nothing()
    what_is_parked(cursor)
    assert not cursor.replay(Position(12))
    change = collect(cursor)
    assert change.put == ()
    cursor.ack_many(take(cursor))
    assert collect(cursor).buried == ()
    loaded(cursor)
    cursor.ack_many(take(cursor))
    assert collect(cursor).buried == (12,)


def test_what_holds_its_key_keeps_it_when_it_does_for_a_replay() -> None:
    cursor = owes_nothing()
    offer(cursor, 11, 12, key="k")
    assert not cursor.replay(Position(11))
    change = collect(cursor)
    assert change.put == (Owed(Position(11), OwedKind.REPLAY, Micros(0), 1, Micros(0), "k", ""),)
    assert positions(take(cursor)) == [11]
    again: Cursor[str] = Cursor("s", 8, StoredCursor(change.state, tuple(change.put)))
    offer(again, 11, 12, key="k")
    assert take(again) == []
    loaded(again, 11)
    assert positions(take(again)) == [11]


@pytest.mark.parametrize("is_asked_again", [False, True])
def test_what_waits_for_its_next_attempt_is_due_at_once_when_it_is_replayed(*, is_asked_again: bool) -> None:
    cursor = owes_nothing()
    what_failed(cursor)
    cursor.replay(Position(12))
    cursor.wake(NOW, {Position(12)})
    if is_asked_again:
        loaded(cursor, 12)
        (tracked,) = take(cursor)
        cursor.retry(tracked, NOW, LATER, "no")
        collect(cursor)
        cursor.replay(Position(12))
        assert not cursor.needed(10)
        cursor.wake(NOW, {Position(12)})
    [row] = collect(cursor).put
    assert (row.kind, row.due, row.attempt) == (OwedKind.REPLAY, 0, 3 if is_asked_again else 2)
    assert [one.position for one in cursor.needed(10)] == [12]


def test_nothing_but_what_is_replayed_is_hastened() -> None:
    cursor = owes_nothing()
    offer(cursor, 11, 12)
    for tracked in take(cursor):
        cursor.retry(tracked, NOW, LATER, "no")
    cursor.replay(Position(12))
    cursor.wake(NOW, {Position(12)})
    assert [one.position for one in cursor.needed(10)] == [12]
    cursor.wake(LATER)
    assert [one.position for one in cursor.needed(10)] == [12, 11]


def test_what_was_settled_can_be_replayed_also_above_the_floor() -> None:
    cursor = owes_nothing()
    offer(cursor, 11, 12)
    taken = take(cursor)
    cursor.ack(taken[1])
    assert cursor.replay(Position(12))
    assert collect(cursor).state.floor == 10
    loaded(cursor, 12)
    assert positions(take(cursor)) == [12]


def test_a_reading_that_comes_to_a_replay_passes_over_it_and_stays_right_after_a_crash() -> None:
    cursor = owes_nothing(0)
    cursor.replay(AT)
    offer(cursor, 1, 2, 3, 4)
    assert positions(take(cursor)) == [1, 2, 4]
    change: CursorChange = collect(cursor)
    again: Cursor[str] = Cursor("s", 8, StoredCursor(change.state, tuple(change.put)))
    offer(again, 1, 2, 3, 4)
    assert positions(take(again)) == [1, 2, 4]
    loaded(again, 3)
    assert positions(take(again)) == [3]


def test_a_replay_goes_beside_fresh_events_and_behind_none() -> None:
    cursor = owes_nothing()
    for position in range(1, 5):
        cursor.replay(Position(position))
    loaded(cursor, 1, 2, 3, 4)
    offer(cursor, 11, 12, 13, 14)
    assert set(positions(take(cursor, 4))) & {11, 12, 13, 14}


def test_a_seek_discards_replays_and_buries_nothing() -> None:
    cursor = owes_nothing()
    cursor.replay(AT)
    collect(cursor)
    assert cursor.seek(Position(5)) == 1
    change = collect(cursor)
    assert (change.reset, change.buried, change.state) == (True, (), CursorState(Position(5), Position(5)))


def test_a_replay_of_an_event_that_is_nowhere_any_more_ends_with_a_gap() -> None:
    cursor = owes_nothing()
    cursor.replay(AT)
    cursor.wake(NOW)
    (needed,) = cursor.needed(1)
    cursor.lose(needed, NOW)
    assert [(gap.first, gap.last) for gap in collect(cursor).gaps] == [(AT, AT)]
    assert not cursor.pending
