"""Event names: they say nothing of positions, and what was guessed names nothing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.broker.names import EventNames
from certes_broker.domain.errors import Invalid, NotFound, Reason
from certes_broker.domain.events import Position
from tests.fakes.broker_world import World, ping

NAMES = EventNames(bytes(range(16)))
POSITIONS = st.integers(1, 2**63 - 1).map(Position)


@given(position=POSITIONS)
def test_a_name_leads_back_to_its_position(position: Position) -> None:
    assert NAMES.position(NAMES.name(position)) == position


@given(positions=st.lists(POSITIONS, max_size=50))
def test_names_made_together_are_those_made_one_by_one(positions: list[Position]) -> None:
    assert NAMES.names(positions) == [NAMES.name(position) for position in positions]


@given(token=st.text("0123456789abcdef", min_size=32, max_size=32))
def test_a_guessed_name_is_not_found(token: str) -> None:
    with pytest.raises(NotFound) as refusal:
        NAMES.position(f"events/{token}")
    assert refusal.value.reason is Reason.EVENT_NOT_FOUND


@pytest.mark.parametrize("change", [str.upper, lambda name: name[:-1], lambda name: f"{name}0", lambda name: name[7:]])
def test_a_name_in_another_spelling_is_not_found(change) -> None:
    with pytest.raises(NotFound):
        NAMES.position(change(NAMES.name(Position(7))))


@given(text=st.text(max_size=60))
def test_no_text_whatever_makes_it_fail_otherwise(text: str) -> None:
    with pytest.raises(NotFound):
        NAMES.position(text)


@given(position=POSITIONS)
def test_a_place_in_a_list_leads_back_to_its_position_and_is_no_name(position: Position) -> None:
    place, name = NAMES.place(position), NAMES.name(position)
    assert NAMES.position_of_place(place) == position
    with pytest.raises(NotFound):
        NAMES.position(f"events/{place}")
    for text in (name, name.removeprefix("events/"), place[:-1], ""):
        with pytest.raises(Invalid) as refusal:
            NAMES.position_of_place(text)
        assert refusal.value.reason is Reason.PAGE_TOKEN_INVALID


def test_names_tell_neither_order_nor_distance() -> None:
    tokens = [int(name.removeprefix("events/"), 16) for name in NAMES.names([Position(one) for one in range(1, 1001)])]
    rising = sum(later > earlier for earlier, later in itertools.pairwise(tokens))
    assert 400 < rising < 600
    shared = [(earlier ^ later).bit_count() for earlier, later in itertools.pairwise(tokens)]
    assert 60 < sum(shared) / len(shared) < 68


def test_another_key_makes_other_names() -> None:
    other = EventNames(bytes(16))
    assert other.name(Position(1)) != NAMES.name(Position(1))
    with pytest.raises(NotFound):
        other.position(NAMES.name(Position(1)))


async def test_names_are_the_same_after_a_restart(either_world: World) -> None:
    world = either_world
    [receipt] = await world.publish(ping("p1"))
    name = world.broker.names.name(receipt.position)
    await world.restart()
    assert (await world.broker.kept_events.get(name)).entry.event.id == "p1"
