"""The table of a delivery's life is all there is to it, and the guide shows it as it is."""

from __future__ import annotations

import pytest

from certes_broker.domain.cursor_state import Owed, OwedKind
from certes_broker.domain.deliveries import (
    BEGINNINGS,
    ENDED,
    TRANSITIONS,
    IllegalTransition,
    Signal,
    State,
    Tracked,
    only_way,
)
from certes_broker.domain.events import Micros, Position
from scripts import delivery_diagram

EVERY_PAIR = [(state, signal) for state in State for signal in Signal]


def delivery(state: State) -> Tracked[str]:
    return Tracked(Position(1), "key", 10, "payload", state)


def everything_about(tracked: Tracked[str]) -> dict[str, object]:
    return {name: getattr(tracked, name) for name in Tracked.__slots__}


@pytest.mark.parametrize(("state", "signal"), EVERY_PAIR)
def test_a_signal_leads_where_the_table_says_or_changes_nothing(state: State, signal: Signal) -> None:
    tracked = delivery(state)
    before = everything_about(tracked)
    if (state, signal) in TRANSITIONS:
        tracked.signal(signal)
        assert everything_about(tracked) == before | {"state": TRANSITIONS[state, signal]}
    else:
        with pytest.raises(IllegalTransition, match=f"a delivery that is {state.value} cannot {signal.value}"):
            tracked.signal(signal)
        assert everything_about(tracked) == before


def test_the_table_is_what_the_promises_need() -> None:
    """Written out a second time, on purpose: whoever changes the table changes a promise, and says so here."""
    told = {f"{state.value} / {signal.value}": after.value for (state, signal), after in TRANSITIONS.items()}
    assert told == {
        "ready / take": "out",
        "ready / lose": "settled",
        "out / ack": "settled",
        "out / retry": "waiting",
        "out / give back": "ready",
        "out / give up": "dead",
        "out / lose": "settled",
        "waiting / fall due": "due",
        "parked / release": "due",
        "due / load": "ready",
        "due / lose": "settled",
        "ready / discard": "discarded",
        "out / discard": "discarded",
        "waiting / discard": "discarded",
        "parked / discard": "discarded",
        "due / discard": "discarded",
    }


def test_nothing_follows_an_end_and_only_ends_have_no_way_out() -> None:
    assert {State.SETTLED, State.DEAD, State.DISCARDED} == ENDED
    assert {state for state in State if delivery(state).has_ended} == ENDED


def test_every_state_can_be_reached_and_every_signal_means_something() -> None:
    reached = set(BEGINNINGS)
    for _ in State:
        reached |= {after for (state, _), after in TRANSITIONS.items() if state in reached}
    assert reached == set(State)
    assert {signal for _, signal in TRANSITIONS} == set(Signal)


def test_only_what_is_out_can_be_settled_by_a_receiver() -> None:
    for signal in (Signal.ACK, Signal.RETRY, Signal.GIVE_BACK, Signal.GIVE_UP):
        assert only_way(signal)[0] is State.OUT


def test_a_signal_with_several_ways_has_no_only_one() -> None:
    assert only_way(Signal.TAKE) == (State.READY, State.OUT)
    with pytest.raises(ValueError, match="too many"):
        only_way(Signal.DISCARD)


def test_the_floor_may_pass_what_has_ended_or_has_a_row() -> None:
    tracked = delivery(State.OUT)
    assert (tracked.is_passed, tracked.first_try) == (False, 0)
    tracked.row = Owed(Position(1), OwedKind.RETRY, Micros(9), 2, Micros(5), "key", "no")
    assert (tracked.is_passed, tracked.first_try) == (True, 5)
    assert repr(tracked) == "Tracked(1, out, attempt 1, row)"
    assert delivery(State.SETTLED).is_passed


# The guide.


def test_the_diagram_in_the_guide_is_drawn_from_the_table() -> None:
    text = delivery_diagram.GUIDE.read_text(encoding="utf-8")
    assert delivery_diagram.with_diagram(text) == text, "run scripts/delivery_diagram.py generate"


def test_the_diagram_shows_every_way_and_every_end() -> None:
    drawn = delivery_diagram.diagram().splitlines()
    for (state, signal), after in TRANSITIONS.items():
        (arrow,) = [line for line in drawn if line.strip().startswith(f"{state.value} --> {after.value}:")]
        assert signal.value in arrow.partition(": ")[2].split(", ")
    assert {line.split()[0] for line in drawn if line.endswith("--> [*]")} == {state.value for state in ENDED}


def test_a_guide_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="marker"):
        delivery_diagram.with_diagram(f"text {delivery_diagram.BEGIN} text")
