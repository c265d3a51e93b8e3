"""A journal block gives back the events it was made of."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Unavailable
from certes_broker.domain.events import AcceptedEvent, Entry, Micros, Original, Position
from certes_broker.engines.blocks import MAXIMUM_BYTES, MAXIMUM_EVENTS, cut, decode, decode_header, encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)

EVENTS = st.builds(
    AcceptedEvent,
    body=st.binary(max_size=40),
    type=TEXT.filter(bool),  # an event that was erased has none
    id=TEXT,
    source=TEXT,
    subscriber=st.none() | TEXT,
    ordering_key=TEXT,
    options=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    accept_time=st.integers(min_value=0, max_value=2**62).map(Micros),
    digest=st.none(),
    original=st.none(),
)


def sized(body: int, original: int = 0) -> AcceptedEvent:
    foreign = Original("text/plain", (), bytes(original)) if original else None
    return AcceptedEvent(bytes(body), "t", "i", "s", None, "", (), Micros(1), None, foreign)


@given(st.lists(EVENTS, min_size=1, max_size=20), st.data())
def test_any_part_of_a_block_is_read_as_it_was_written(events: list[AcceptedEvent], data: st.DataObject) -> None:
    header, body = encode(events)
    start = data.draw(st.integers(0, len(events)))
    stop = data.draw(st.integers(start, len(events)))
    entries = decode(Position(7), decode_header(header), body, start, stop)
    assert entries == [Entry(Position(7 + index), events[index]) for index in range(start, stop)]


@given(EVENTS)
def test_a_column_of_one_value_is_written_once(event: AcceptedEvent) -> None:
    assert {len(column) for column in json.loads(encode([event] * 50).header)[2:]} == {1}


@pytest.mark.parametrize("header", ["[2, 0]", "[1, 2, [1]]", "[1, 2", "7", "\xff"])
def test_a_block_that_is_damaged_or_of_a_newer_format_is_refused(header: str) -> None:
    with pytest.raises(Unavailable):
        decode_header(header)


def lengths(sizes: list[int]) -> list[int]:
    return [len(sizes[part]) for part in cut(sizes)]


def test_a_block_ends_at_its_bound_of_events_and_of_bytes() -> None:
    assert lengths([1] * (2 * MAXIMUM_EVENTS + 1)) == [MAXIMUM_EVENTS, MAXIMUM_EVENTS, 1]
    assert lengths([MAXIMUM_BYTES // 2] * 5) == [2, 2, 1]
    assert lengths([3 * MAXIMUM_BYTES, 1]) == [1, 1]
    assert lengths([1, MAXIMUM_BYTES, 1]) == [2, 1]
    assert lengths([]) == []


@given(st.lists(st.integers(0, MAXIMUM_BYTES), max_size=30))
def test_cutting_loses_nothing_and_keeps_the_order(sizes: list[int]) -> None:
    parts = [sizes[part] for part in cut(sizes)]
    assert [size for part in parts for size in part] == sizes
    assert all(parts)
    assert all(sum(part[:-1]) < MAXIMUM_BYTES for part in parts)
