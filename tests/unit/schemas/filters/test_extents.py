"""What lies at a path is what CEL finds there, so that what is counted is what is evaluated."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from certes.v1 import event_pb2
from certes_broker.schemas.filters.extents import Extent, Path, elements_of, size_of
from tests.unit.schemas.filters.environments_of import EVERY_ENVIRONMENT, EveryKind

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("xyz"), JSON, max_size=3)
STEPS = ("x", "y", "z", 0, 1)


def spelled(step: str | int) -> str:
    return f".{step}" if isinstance(step, str) else f"[{step}]"


def ask(text: str, message: object) -> object:
    """What CEL says; None if it fails."""
    program = EVERY_ENVIRONMENT.compile(text)
    value = program.expression.eval(EVERY_ENVIRONMENT.activation(event_pb2.Event(), message)).value()
    return value if isinstance(value, bool) else None


@given(documents, st.sampled_from("xyz"), st.lists(st.sampled_from(STEPS), max_size=2))
@settings(max_examples=200, deadline=None)
def test_a_path_into_free_form_data_leads_where_cel_goes(document, first, others):
    message = EveryKind()
    message.one_struct.update(document)
    steps = (first, *others)
    path = Path(0, ("one_struct", *steps))
    found = path.follow([message])
    text = "data.one_struct" + "".join(map(spelled, steps))
    if found is None:
        # There is nothing, or a null.
        assert ask(f"{text} == null", message) in {True, None}
        return
    elements = elements_of(found)
    if elements:
        assert ask(f"size({text}) == {len(elements)}", message) is True
    if ask(f"type({text}) == string", message):
        assert ask(f"bytes(string({text})).size() <= {size_of(found)}", message) is True


@given(st.lists(st.text(max_size=3), max_size=4), st.dictionaries(st.sampled_from("xyz"), st.text(max_size=3)))
@settings(max_examples=50, deadline=None)
def test_lists_and_maps_are_counted_as_cel_counts_them(texts, entries):
    message = EveryKind(many_string=texts, by_string_string=entries)
    for field in ("many_string", "by_string_string"):
        found = Path(0, (field,)).follow([message])
        assert ask(f"data.{field}.size() == {size_of(found)}", message) is True
        assert len(elements_of(found)) == size_of(found)
    for key, text in entries.items():
        assert Path(0, ("by_string_string", key)).follow([message]) == text


@pytest.mark.parametrize(
    "steps",
    [
        ("one_every_kind", "many_string", 3),
        ("by_string_string", "nope"),
        ("by_bool", "nope"),
        ("by_int32", "nope"),
        ("by_int32", 1 << 40),
        ("many_string", "nope"),
        ("many_string", -1),
        ("one_string", "nope"),
        ("one_string", 0),
        ("one_int32", "nope"),
        ("one_every_kind", 0),
        ("one_value", "x"),
        ("one_struct", 0),
        ("nope",),
    ],
)
def test_where_nothing_lies_there_is_nothing(steps):
    message = EveryKind()
    before = message.SerializeToString()
    assert size_of(Path(0, steps).follow([message])) <= 1
    assert elements_of(Path(0, steps).follow([message])) == ()
    assert message.SerializeToString() == before


def test_a_text_is_measured_by_its_bytes_and_never_as_less():
    for text in ("", "abc", "é", "漢字", "\U0001f600"):
        assert size_of(text) >= len(text.encode())


@given(st.floats(0, 10), st.floats(0, 10), st.integers(0, 3))
def test_an_extent_is_never_above_its_bound(fixed, per_byte, paths):
    message = EveryKind(one_string="abc", many_string=["", "a"])
    extent = Extent(fixed, per_byte, (Path(0, ("one_string",)), Path(0, ("many_string",)), Path(0))[:paths])
    size = message.ByteSize()
    assert extent.measure(lambda path: size_of(path.follow([message])), size) <= extent.bound(size)
