"""What is kept of a subscription is read back as it was, whether it was written whole or as changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Unavailable
from certes_broker.domain.events import Micros, Position
from certes_broker.engines.nats import lane_records
from certes_broker.engines.nats.lane_records import CHANGES, FEW_ROWS, LaneRecord, Lease, Rows
from certes_broker.ports.engine import CursorChange, CursorState, Owed, OwedKind

PLENTY = 1 << 30

positions = st.integers(1, 2**53).map(Position)
times = st.integers(0, 2**62).map(Micros)
rows = st.builds(
    Owed, positions, st.sampled_from(OwedKind), times, st.integers(1, 100), times, st.text(), st.text(max_size=50)
)


@st.composite
def states(draw: st.DrawFn) -> CursorState:
    ends = sorted(draw(st.sets(positions, max_size=9)))
    floor, ends = (ends[0], ends[1:]) if ends else (Position(0), ends)
    ranges = tuple(zip(ends[::2], ends[1::2], strict=False))
    return CursorState(floor, Position(floor + draw(st.integers(0, 99))), ranges, draw(st.booleans()))


leases = st.one_of(
    st.just(Lease()),
    st.builds(Lease, st.text(min_size=1), st.integers(1, 2**53)),
    st.builds(Lease, st.none(), st.integers(1, 2**53)),
)
changes = st.builds(
    CursorChange,
    st.just("s"),
    st.just(1),
    states(),
    st.lists(rows, max_size=6, unique_by=lambda row: row.position),
    st.lists(st.integers(1, 20).map(Position), max_size=4),
    reset=st.booleans(),
)


@given(leases, st.none() | states(), st.lists(rows, max_size=FEW_ROWS, unique_by=lambda row: row.position))
def test_a_whole_record_is_read_back(lease: Lease, state: CursorState | None, owed: list[Owed]) -> None:
    record = LaneRecord(7, 3, lease, state, "m", {row.position: row for row in owed})
    written = lane_records.write(record, Rows(), PLENTY)
    assert written.is_whole
    assert lane_records.read(LaneRecord(), 8, written.payload) == replace(record, sequence=8, changes=0)


@given(st.lists(changes, min_size=1, max_size=8), st.booleans())
def test_changes_come_to_what_they_come_to_one_by_one(made: list[CursorChange], many: bool) -> None:
    """The rows after changes that were written together or one by one, and read back from whole records and changes."""
    before = {Position(at): Owed(Position(at), OwedKind.RETRY, Micros(0), 1, Micros(0), "", "") for at in range(1, 10)}
    if many:
        before |= {
            Position(at): before[Position(1)]._replace(position=Position(at)) for at in range(10**6, 10**6 + FEW_ROWS)
        }
    expected = dict(before)
    together = Rows()
    kept = LaneRecord(1, 0, Lease(), None, "", before)
    for sequence, change in enumerate(made, 2):
        if change.reset:
            expected.clear()
        for position in change.drop:
            expected.pop(position, None)
        expected |= {row.position: row for row in change.put}
        together = together.then(change)
        delta = Rows().then(change)
        after = replace(kept, state=change.state, owed=delta.apply(kept.owed))
        written = lane_records.write(after, delta, PLENTY)
        kept = lane_records.read(kept, sequence, written.payload)
        assert kept == lane_records.stored(after, sequence, is_whole=written.is_whole)
        assert kept.owed == expected
    assert together.apply(before) == expected


def test_the_epoch_of_a_new_lease_is_the_sequence_of_its_message_and_stays() -> None:
    record = LaneRecord(4, 0, Lease("holder"))
    written = lane_records.write(record, Rows(), PLENTY)
    kept = lane_records.read(LaneRecord(), 5, written.payload)
    assert kept.lease.epoch == 5
    assert lane_records.stored(record, 5, is_whole=True) == kept
    settled = lane_records.write(replace(kept, writer="holder"), Rows(), PLENTY)
    assert lane_records.read(kept, 9, settled.payload).lease.epoch == 5


def test_many_rows_are_written_as_changes_and_now_and_then_whole() -> None:
    owed = {Position(at): Owed(Position(at), OwedKind.PARKED, Micros(0), 1, Micros(0), "k", "") for at in range(1, 200)}
    record = LaneRecord(1, 0, Lease(), None, "", owed)
    assert not lane_records.write(record, Rows(), PLENTY).is_whole
    assert lane_records.write(replace(record, changes=CHANGES), Rows(), PLENTY).is_whole
    # Unless it is too long for a message.
    assert not lane_records.write(replace(record, changes=CHANGES), Rows(), 100).is_whole


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"v":3}', b"nonsense", b'{"v":2,"lease":[],"state":null,"owed":[]}'])
def test_what_is_no_record_is_said_to_be_unreadable(payload: bytes) -> None:
    with pytest.raises(Unavailable, match="Message 7"):
        lane_records.read(LaneRecord(), 7, payload)
