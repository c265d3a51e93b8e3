"""Acknowledgements as the domain has them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes.v1 import event_service_pb2 as pb
from certes_broker.domain.errors import Invalid
from certes_broker.domain.settlement import Extension, Nack, NackAction, Settlement
from certes_broker.gateway.convert.settlement import read_settlement


def read(**fields: Any) -> Settlement:
    return read_settlement(pb.AcknowledgeRequest(**fields))


def spans(first: int, last: int) -> dict[str, int]:
    return {"first": first, "last": last}


def test_every_part_is_read() -> None:
    assert read(
        acked=[spans(1, 5)],
        nacked=[
            {"range": spans(6, 6)},
            {"range": spans(7, 8), "action": pb.AcknowledgeRequest.ACTION_RETRY, "delay": {"nanos": 500_000_000}},
            {"range": spans(9, 9), "action": pb.AcknowledgeRequest.ACTION_DROP, "reason": "unwanted"},
            {"range": spans(10, 10), "action": pb.AcknowledgeRequest.ACTION_DEAD_LETTER},
        ],
        extended=[{"range": spans(11, 12), "deadline": {"seconds": 60}}],
    ) == Settlement(
        acked=((1, 5),),
        nacked=(
            Nack(6, 6, NackAction.RETRY, None, ""),
            Nack(7, 8, NackAction.RETRY, 0.5, ""),
            Nack(9, 9, NackAction.DROP, None, "unwanted"),
            Nack(10, 10, NackAction.DEAD_LETTER, None, ""),
        ),
        extended=(Extension(11, 12, 60.0),),
    )


def test_the_first_1024_bytes_of_a_reason_are_kept_and_no_character_is_split() -> None:
    [nack] = read(nacked=[{"range": spans(1, 1), "reason": "ü" * 600}]).nacked
    assert nack.reason == "ü" * 512
    [nack] = read(nacked=[{"range": spans(1, 1), "reason": "x" + "ü" * 600}]).nacked
    assert nack.reason == "x" + "ü" * 511


def test_ten_thousand_ranges_are_read_and_more_are_refused() -> None:
    ranges = [pb.OrdinalRange(first=2 * i + 1, last=2 * i + 1) for i in range(10_001)]
    assert len(read(acked=ranges[:-1]).acked) == 10_000
    with pytest.raises(Invalid, match="10000 are allowed"):
        read(acked=ranges)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=6))
def test_a_settlement_is_read_if_and_only_if_no_ordinal_is_named_twice(drawn: list[tuple[int, int, int]]) -> None:
    ranges = [(first, first + more, kind) for first, more, kind in drawn]
    named = [ordinal for first, last, _ in ranges for ordinal in range(first, last + 1)]
    fields = {
        "acked": [spans(first, last) for first, last, kind in ranges if kind == 0],
        "nacked": [{"range": spans(first, last)} for first, last, kind in ranges if kind == 1],
        "extended": [
            {"range": spans(first, last), "deadline": {"seconds": 1}} for first, last, kind in ranges if kind == 2
        ],
    }
    if len(named) == len(set(named)):
        read(**fields)
    else:
        with pytest.raises(Invalid, match="overlaps"):
            read(**fields)


def test_a_nack_without_a_range_is_refused() -> None:
    with pytest.raises(Invalid) as raised:
        read(nacked=[{}])
    assert [violation.field for violation in raised.value.violations] == ["nacked[0].range.first"]
