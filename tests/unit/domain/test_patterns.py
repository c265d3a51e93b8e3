"""Patterns of event types; the vectors are shared with the SDKs."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.uris import parse_event_type, parse_pattern

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "patterns.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["pattern"][:40])
def test_a_pattern_matches_what_it_should_and_nothing_else(vector):
    pattern = parse_pattern(vector["pattern"])
    assert pattern.text == str(pattern) == vector.get("canonical", vector["pattern"])
    assert pattern.is_literal is ("*" not in vector["pattern"])
    assert [text for text in vector["matches"] if not pattern.matches(parse_event_type(text))] == []
    assert [text for text in vector["misses"] if pattern.matches(parse_event_type(text))] == []


@pytest.mark.parametrize(
    "vector", VECTORS["invalid"], ids=lambda vector: f"{vector['why']}: {vector['pattern'][:30]!r}"
)
def test_a_wrong_pattern_is_refused_with_reason_and_position(vector):
    with pytest.raises(Invalid) as refusal:
        parse_pattern(vector["pattern"])
    assert refusal.value.reason is Reason(vector["reason"])
    assert refusal.value.metadata["position"] == str(vector["position"])


segments = st.sampled_from(["a", "b", "1", "2", "_a", "_"])
event_types = st.builds(
    lambda namespace, version, name: parse_event_type("/".join(["d", *namespace, version, name])),
    st.lists(segments, min_size=1, max_size=4),
    st.sampled_from(["1", "2"]),
    segments,
)


@given(event_types, st.data())
def test_a_type_with_segments_replaced_by_stars_still_matches_unless_it_is_a_system_event(event_type, data):
    parts = event_type.text.split("/")
    starred = data.draw(st.sets(st.integers(1, len(parts) - 1)))
    pattern = parse_pattern("/".join("*" if at in starred else part for at, part in enumerate(parts)))
    assert pattern.matches(event_type) is not (event_type.is_system and len(parts) - 1 in starred)


@given(event_types, st.data())
def test_a_type_cut_short_by_two_stars_still_matches_unless_it_is_a_system_event(event_type, data):
    parts = event_type.text.split("/")
    kept = data.draw(st.integers(1, len(parts) - 1))
    assert parse_pattern("/".join([*parts[:kept], "**"])).matches(event_type) is not event_type.is_system


@given(event_types, event_types)
def test_a_literal_pattern_matches_its_own_type_only(one, other):
    assert parse_pattern(one.text).matches(other) is (one == other)


@given(st.lists(st.sampled_from(["a", "1", "0", "01", "A", "*", "**", "_x", ""]), max_size=7))
def test_a_pattern_is_accepted_exactly_if_some_event_uri_matches_it(parts):
    text = "/".join(["d", *parts])
    try:
        pattern = parse_pattern(text)
    except Invalid:
        assert _shortest_types(parts) == []
    else:
        assert any(pattern.matches(event_type) for event_type in _shortest_types(parts))


def _shortest_types(parts):
    """The shortest event types that a pattern with these segments could mean; `1` can stand in every place."""
    spelled = ["1" if part == "*" else part for part in parts]
    if spelled[-1:] == ["**"]:
        texts = ["/".join(["d", *spelled[:-1], *["1"] * more]) for more in (1, 2, 3)]
    else:
        texts = ["/".join(["d", *spelled])]
    return [event_type for text in texts if (event_type := _event_type_or_none(text)) is not None]


def _event_type_or_none(text):
    try:
        return parse_event_type(text)
    except Invalid:
        return None
