"""An evaluation is priced before it begins, from above, and one that is too dear does not begin."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import given, settings

from certes.v1 import event_pb2
from certes_broker.domain.errors import Invalid
from certes_broker.schemas.filters.meter import BUDGET, Meter, OverBudgetError
from certes_broker.schemas.filters.prices import Price
from tests.unit.schemas.filters.environments_of import EVERY_ENVIRONMENT, EveryKind

MEGABYTE = 1 << 20
TEN = "[0,1,2,3,4,5,6,7,8,9]"
EVENT = event_pb2.Event(id="e", attributes={"a": "b"})


def price_of(text: str) -> Price:
    return EVERY_ENVIRONMENT.compile(text).price


def cost(text: str, message: Any, budget: float = 1e15) -> float:
    meter = Meter(message.ByteSize(), (message, EVENT), {}, budget)
    meter.charge(price_of(text))
    return meter.spent


def is_refused(text: str, message: Any) -> bool:
    """Whether a filter is not evaluated for an event, or not even taken."""
    try:
        price = price_of(text)
    except Invalid:
        return True
    bound = price.bound(message.ByteSize())
    if bound is not None and bound <= BUDGET:
        return False
    try:
        Meter(message.ByteSize(), (message, EVENT), {}).charge(price)
    except OverBudgetError:
        return True
    return False


LONG = EveryKind(one_string="ab" * (MEGABYTE // 2), choice_string="c", one_every_kind={"one_string": "x"})
MANY = EveryKind(many_every_kind=[{"one_int32": number} for number in range(9_000)])
TEXTS = EveryKind(many_string=[f"t{number}" for number in range(9_000)])
BOTH = EveryKind(one_string="a" * (MEGABYTE // 2), many_int32=range(9_000), many_every_kind=[{}] * 2000)
FREE = EveryKind(many_int32=range(5_000))
FREE.one_any.Pack(StringValue(value="x" * MEGABYTE))
FREE.one_struct.update({f"k{number}": "value" for number in range(20_000)})
SMALL = EveryKind(one_string="refs/heads/main", many_string=["a", "b"], many_every_kind=[{"one_string": "x"}] * 20)
SMALL.one_struct.update({"a": "b", "list": [1, 2, 3]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Copies of a megabyte for each element of a list.
        ("data.many_int32.all(n, data.one_string == 'x')", BOTH),
        ("data.many_int32.all(n, (data.one_string + 'y') != '')", BOTH),
        ("data.many_int32.map(n, data.one_string).size() == 1", BOTH),
        ("data.many_every_kind.all(e, data.many_every_kind.all(f, data.one_string == 'x'))", BOTH),
        # Lists that grow by one each time, each a copy of the one before.
        ("data.many_every_kind.map(e, e.one_int32).size() == 1", MANY),
        ("data.many_every_kind.filter(e, true).size() == 1", MANY),
        ("data.many_string.map(t, t).exists(t, t == 'x')", TEXTS),
        # Everything by everything.
        ("data.many_every_kind.all(e, data.many_every_kind.all(f, e.one_int32 == f.one_int32))", MANY),
        ("data.many_string.all(t, t in data.many_string)", TEXTS),
        ("data.many_every_kind.all(e, e in data.many_every_kind)", MANY),
        ("data.many_int32.all(n, [1,2,3,4].all(a, [1,2,3,4].all(b, [1,2,3,4].all(c, n > a + b + c))))", BOTH),
        (f"{TEN}.all(a, {TEN}.all(b, {TEN}.all(c, {TEN}.all(d, {TEN}.all(e, a + b + c + d + e < 9)))))", SMALL),
        # Much in each step.
        ("data.many_int32.all(n, " + " && ".join(["n > 0"] * 50) + ")", BOTH),
        # Regular expressions: large ones, repeated ones, and over long texts.
        ("data.one_string.matches('(a|b)*a(a|b){20}c')", LONG),
        ("data.one_string.matches('x{1000}')", SMALL),
        ("data.one_string.matches('((x{10}){10}){10}')", SMALL),
        (r"data.one_string.matches('(\\pL|\\pN){300}')", SMALL),
        ("data.many_string.all(t, t.matches('^t[0-9]+$'))", TEXTS),
        # A long text sought in a longer one.
        (f"data.one_string.contains('{'ab' * 500}c')", LONG),
        ("data.one_string.contains(data.one_string)", LONG),
        # Free-form data and what is packed is unpacked whole, each time.
        ("data.one_struct.k1 == 'x'", FREE),
        ("data.many_int32.all(n, data.one_any.value == 'x')", FREE),
        ("data.many_int32.all(n, has(data.one_struct.x))", FREE),
        ("data.one_struct.all(key, key != '')", FREE),
        # Comparisons of whole messages.
        ("data.many_every_kind.all(e, e == data)", MANY),
        ("data.many_every_kind == data.many_every_kind", MANY),
        ("dyn(data.one_struct) == dyn(data.one_struct)", FREE),
        # Long texts made longer.
        ("[1,2,3,4,5,6].all(a, (data.one_string + data.one_string + data.one_string).size() > 3)", LONG),
        ("duration(data.one_string) == duration('1h')", LONG),
    ],
)
def test_what_would_take_long_is_refused(text, message):
    assert is_refused(text, message)


@pytest.mark.parametrize(
    "text",
    [
        "data.one_string == 'x' && data.choice_string in ['a', 'b', 'c']",
        "data.choice_string.matches('^refs/heads/[a-z]+$')",
        "data.one_every_kind.one_string.contains('x') || data.choice_string.startsWith('c')",
        "data.many_int32.exists(n, n == 3) || data.many_string.all(t, t.contains('x'))",
        "event.attributes.all(key, event.attributes[key] == 'b') && event.id.matches('^[a-z]+$')",
        "data.one_struct.a == 'b'",
    ],
)
def test_in_a_large_event_only_what_is_asked_for_is_paid_for(text):
    assert not is_refused(text, LONG)


@pytest.mark.parametrize(
    "text",
    [
        "data.many_every_kind.exists(e, e.one_string.matches('^(fix|feat)'))",
        "data.many_every_kind.exists(e, data.many_string.exists(t, e.one_string == t))",
        "data.many_every_kind.filter(e, e.one_string == 'x').size() > 3",
        "data.many_every_kind.map(e, e.one_string + data.one_string).exists(t, t.endsWith('main'))",
        "data.many_every_kind.exists_one(e, e == data.one_every_kind)",
        "'a' in data.many_string && !('z' in data.many_every_kind.map(e, e.one_string))",
        "data.one_struct.list.exists(n, n == 2.0) && data.one_struct.a == 'b'",
        "data.many_every_kind.all(e, e.many_every_kind.all(f, f.many_string.all(t, t != '')))",
        "data.one_string.matches('[0-9a-f]{40}')",
    ],
)
def test_of_an_ordinary_event_much_can_be_asked(text):
    assert not is_refused(text, SMALL)


def test_a_list_costs_as_much_as_it_is_long():
    text = "data.many_every_kind.exists(e, e.one_int32 == 3)"
    ten, hundred = (EveryKind(many_every_kind=[{}] * count) for count in (10, 100))
    assert 8 < cost(text, hundred) / cost(text, ten) < 10
    assert price_of(text).bound(100) is None


def test_nested_lists_cost_as_much_as_they_are_long_together():
    text = "data.many_every_kind.exists(e, e.many_int32.exists(n, n == 3))"
    few = EveryKind(many_every_kind=[{"many_int32": range(100)}, *[{}] * 9])
    many = EveryKind(many_every_kind=[{"many_int32": range(100)}] * 10)
    inner = cost(text, few)
    assert 4 < cost(text, many) / inner < 10


def test_both_branches_are_paid_for():
    one, two = "data.many_int32.all(n, n > 1)", "data.many_int32.all(n, n > 2)"
    assert cost(f"data.one_bool ? {one} : {two}", BOTH) > cost(one, BOTH) + cost(two, BOTH)


def test_adding_up_ends_with_the_budget():
    meter = Meter(MANY.ByteSize(), (MANY, EVENT), {})
    with pytest.raises(OverBudgetError):
        meter.charge(price_of("data.many_every_kind.all(e, e.one_string.matches('x'))"))
    assert BUDGET < meter.spent < 100 * BUDGET


TEXT = st.sampled_from(
    ["data.one_string", "data.choice_string", "data.one_every_kind.one_string", "'abc'", "data.by_string_string['k']"]
)
ASKED = st.one_of(
    st.builds("{} == {}".format, TEXT, TEXT),
    st.builds("{} + {} < {}".format, TEXT, TEXT, TEXT),
    st.builds("{}.contains({})".format, TEXT, TEXT),
    st.builds("{}.matches('^a+$')".format, TEXT),
    st.builds("size({}) + size(string({})) > 3".format, TEXT, TEXT),
    st.just("data.one_struct.x == 'a' && data.one_any == data.one_any"),
    st.just("data == data.one_every_kind && 3 in data.many_int32"),
)


@given(
    st.lists(ASKED, min_size=1, max_size=4).map(" && ".join),
    st.builds(
        EveryKind,
        one_string=st.text(max_size=50),
        choice_string=st.text(max_size=50),
        many_int32=st.lists(st.integers(0, 9), max_size=9),
        by_string_string=st.dictionaries(st.just("k"), st.text(max_size=20)),
        one_struct=st.dictionaries(st.just("x"), st.text(max_size=20)),
    ),
)
@settings(max_examples=200, deadline=None)
def test_what_is_said_without_looking_is_never_below_what_is_found_by_looking(text, message):
    event = event_pb2.Event(id="e", type="t", data=AnyMessage(value=message.SerializeToString()))
    size = len(event.SerializeToString())
    meter = Meter(size, (message, event), {}, 1e15)
    meter.charge(price_of(text))
    bound = price_of(text).bound(size)
    assert bound is not None
    # A character counts as four bytes where one may take more than one, and looking costs too.
    assert meter.spent <= 4 * bound + 600.0 * len(price_of(text).terms)
