"""Events are read back from a block's message as they were, originals and ids too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Unavailable
from certes_broker.domain.events import Entry, Micros, Original, Position
from certes_broker.engines.nats import ids
from certes_broker.engines.nats.block_messages import (
    MAXIMUM_EVENTS,
    About,
    StoredBlock,
    first_position,
    headers_of,
    last_below,
    payload_of,
    sequence_of,
)
from certes_broker.engines.nats.reading import Kept
from tests.contracts.engine_harness import as_read, event

pairs = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
originals = st.builds(
    Original, st.text(), st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple), st.binary()
)
events = st.builds(
    lambda body, original, key: event(body=body, original=original, ordering_key=key),
    st.binary(max_size=50),
    st.none() | originals,
    st.text(max_size=5),
)


@given(st.lists(events, min_size=1, max_size=9), st.integers(1, 2**53))
def test_a_block_is_read_back(made, sequence: int) -> None:
    headers = headers_of(About(len(made), Micros(5), Micros(7), 9), [(0, 0)] * len(made))
    block = StoredBlock(Kept(sequence, "s", headers, payload_of(made)))
    first = first_position(sequence)
    assert block.entries(0, block.count) == [Entry(Position(first + at), as_read(one)) for at, one in enumerate(made)]
    assert [block.original(at) for at in range(block.count)] == [one.original for one in made]
    assert (block.stored, block.latest, block.total, block.last) == (5, 7, 9, first + len(made) - 1)


@given(st.lists(pairs, min_size=1, max_size=20))
def test_fingerprints_are_read_back(made) -> None:
    headers = headers_of(About(len(made), Micros(0), Micros(0), 0), made)
    block = StoredBlock(Kept(1, "s", headers, b""))
    assert list(block.fingerprints) == (made if any(key for key, _ in made) else [])


def test_the_ids_of_a_full_block_fit_the_headers() -> None:
    """Servers take 64 KiB of them."""
    assert len(ids.encode([(2**64 - 1, 2**64 - 1)] * MAXIMUM_EVENTS)) < 32 << 10


@given(st.integers(1, 2**53 - 1), st.integers(0, MAXIMUM_EVENTS - 1))
def test_a_position_says_where_its_event_is(sequence: int, index: int) -> None:
    position = Position(first_position(sequence) + index)
    assert sequence_of(position) == sequence
    assert last_below(sequence) < position <= last_below(sequence + 1)
    assert position < 2**63


@pytest.mark.parametrize(
    "headers", [{}, {"Certes-Count": "many", "Certes-Time": "1", "Certes-Latest": "1", "Certes-Total": "1"}]
)
def test_a_message_that_is_no_block_is_said_to_be_none(headers) -> None:
    with pytest.raises(Unavailable, match="Message 9"):
        StoredBlock(Kept(9, "s", headers, b""))
