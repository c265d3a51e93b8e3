"""What a filter may be: it is judged in the terms of an event type, and refused with the place and the reason."""

from __future__ import annotations

import pytest

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.filters.checked_expressions import Use
from certes_broker.schemas.filters.environments import Environment
from certes_broker.schemas.registry import Registry
from tests.unit.schemas.filters.environments_of import EVERY_ENVIRONMENT
from tests.unit.schemas.version_makers import BOOKED, meetly_version

PUSH = "community.certes.dev/github/1/push"
REGISTRY = Registry(community_versions())
PUSHES = Environment(REGISTRY.lookup(PUSH))
ANYTHING = Environment(None)
BOOKINGS = Environment(Registry([meetly_version({"booked": ["room"]})]).lookup(BOOKED))


def refusal_of(text: str, environment: Environment = PUSHES) -> str:
    with pytest.raises(Invalid) as refusal:
        environment.compile(text)
    assert refusal.value.reason is Reason.FILTER_INVALID
    return refusal.value.message


@pytest.mark.parametrize(
    "text",
    [
        "data.ref == 'refs/heads/main'",
        "data.repository.full_name.startsWith('meetly/') && !data.forced",
        "data.commits.exists(c, c.author.name == 'Ann' && 'README.md' in c.modified)",
        "data.commits.all(c, c.added.exists(f, f.endsWith('.md')))",
        "data.commits.exists_one(c, c.id == data.after)",
        "data.commits.filter(c, c.distinct).size() > 1 && size(data.commits.map(c, c.id)) < 10",
        "has(data.head_commit) ? data.head_commit.message.matches('^(fix|feat)') : false",
        "event.id != '' && event.source == 'sources/github' && event.subject.contains('/')",
        "event.type in ['a', 'b'] || event.traceparent + event.tracestate == ''",
        "event.time > timestamp('2026-01-01T00:00:00Z') && event.time.getHours('Europe/Berlin') < 18",
        "has(event.subscriber) || event.everyone || event.ordering_key == 'k'",
        "event.attributes['region'] == 'eu' && 'team' in event.attributes",
        "event.attributes.all(name, name.size() < 10)",
        "int('3') + 4 > 2 && double(5) / 2.0 < 3.0 && string(1) == '1' && duration('1h') < duration('2h')",
        "dyn(data.ref) == 1 || type(data.ref) == string",
    ],
)
def test_a_filter_is_over_the_event_and_its_data(text):
    PUSHES.compile(text)


@pytest.mark.parametrize("field", ["struct", "value", "any", "list_value"])
def test_fields_that_only_the_event_knows_may_be_looked_into(field):
    looked = "[0]" if field == "list_value" else ".x"
    EVERY_ENVIRONMENT.compile(f"data.one_{field}{looked} == 'a'")


def test_the_messages_of_a_registered_version_are_known_beside_those_of_events():
    BOOKINGS.compile("data.room == 'blue' && event.source == 's' && event.time < timestamp('2026-01-01T00:00:00Z')")
    assert "undefined field 'rooms' not found in struct 'meetly.Booked'" in refusal_of("data.rooms == 'x'", BOOKINGS)


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("data.reff == ''", "line 1, column 5", "undefined field 'reff'"),
        ("data.commits.exists(c,\n  c.nope)", "line 2, column 4", "undefined field 'nope'"),
        ("event.nope == ''", "line 1, column 6", "undefined field 'nope' not found in struct 'certes.v1.Event'"),
        ("datum == ''", "line 1, column 1", "undeclared reference to 'datum'"),
        ("data.ref == 1", "line 1, column 10", "no matching overload"),
        ("data.ref ==", "line 1, column 12", "Syntax error"),
        ("data.ref.upper() == ''", "line 1, column 15", "undeclared reference to 'upper'"),
        ("true && event.data == event.data", "line 1, column 14", "event.data is not there"),
        ("has(event.raw)", "line 1, column 4", "event.raw is not there"),
        ("data.ref.matches(data.after)", "line 1, column 22", "must be written out"),
        ("event.time.getHours(event.id) == 1", "line 1, column 26", "must be written out, such as"),
        ("event.time.getHours('../etc') == 1", "line 1, column 21", "must be written out, such as"),
        (
            "certes.v1.Event{id: 'a'} == event",
            "line 1, column 1",
            "messages such as certes.v1.Event cannot be made in a filter",
        ),
        ("dyn(certes.v1.RawContent{}) == 1", "line 1, column 5", "cannot be made in a filter"),
    ],
)
def test_a_filter_that_does_not_fit_is_refused_with_the_place_and_the_event_type(text, place, problem):
    message = refusal_of(text)
    assert message.startswith(f"the filter does not fit {PUSH}: {place}: ")
    assert problem in message


@pytest.mark.parametrize(
    ("text", "of"), [("data.ref", "STRING"), ("1", "INT"), ("data", "PushEvent"), ("[true]", "LIST"), ("null", "NULL")]
)
def test_a_filter_that_is_not_of_type_bool_is_refused(text, of):
    message = refusal_of(text)
    assert "is of type " in message
    assert of in message
    assert message.endswith("not bool.")


def test_of_a_value_that_only_the_event_knows_no_bool_is_made_by_itself():
    assert "not bool" in refusal_of("data.one_struct.x", EVERY_ENVIRONMENT)
    EVERY_ENVIRONMENT.compile("data.one_struct.x == true")


@pytest.mark.parametrize("text", ["", " ", "\0", "(" * 4096, "[" * 33 + "]" * 33, "!" * 4095, '"' * 4095, "1+" * 2000])
def test_what_is_no_expression_is_refused(text):
    assert refusal_of(text).startswith("the filter does not fit ")


def test_loops_may_be_nested_no_deeper_than_can_be_read():
    def nested(depth: int) -> str:
        return "[1].all(a, " * depth + "true" + ")" * depth

    PUSHES.compile(nested(5))
    assert "nested too deeply" in refusal_of(nested(25))


def test_the_variable_of_a_loop_may_have_any_name():
    PUSHES.compile("[1].all(event, event == 1) && [1].all(data, data == 1)")
    PUSHES.compile("data.commits.all(event, event.id != '')")
    assert PUSHES.compile("data.commits.all(data, data.id != '')").data.fields == {"commits"}


def test_the_fields_that_a_filter_names_are_known():
    text = "has(data.ref) && data.commits.all(c, c.id == data.after) && {data.before: [data.compare]}.size() == 1"
    assert PUSHES.compile(text).data.fields == {"ref", "commits", "after", "before", "compare"}
    assert PUSHES.compile("data == data").data == Use(is_named=True, fields=frozenset())
    assert PUSHES.compile("event.id == '1' && [1].all(data, data == 1)").data == Use(is_named=False, fields=frozenset())


def test_where_nothing_is_known_data_may_be_anything_and_the_rest_may_not():
    ANYTHING.compile("data.what.ever > 3 && data[1].x.exists(y, y == 'z')")
    ANYTHING.compile("data.flag")
    assert refusal_of("event.nope == 1", ANYTHING).startswith("the filter is invalid: line 1, column 6: ")
    assert "not bool" in refusal_of("event.id", ANYTHING)


def test_what_is_said_of_a_filter_stays_short():
    assert len(refusal_of(" && ".join(f"data.nope_{number} == 1" for number in range(150)))) < 1000
