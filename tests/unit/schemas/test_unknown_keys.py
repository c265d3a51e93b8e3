"""Unknown keys are told once for each event type, by their path without indices, and remembered within bounds."""

from __future__ import annotations

from certes_broker.domain.uris import parse_event_type
from certes_broker.schemas import unknown_keys
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.json_out import PAYLOAD, DocumentTables
from certes_broker.schemas.json_table import JsonTables
from certes_broker.schemas.unknown_keys import UnknownKey, UnknownKeys
from tests.unit.schemas.every_kind import every_kind

MESSAGE = "every.EveryKind"
TABLES, DOCUMENTS, DESCRIPTOR = JsonTables(), DocumentTables(PAYLOAD), every_kind()


def schema(name: str = "made") -> EventSchema:
    return EventSchema(parse_event_type(f"events.example.com/_/1/{name}"), DESCRIPTOR, TABLES, DOCUMENTS)


def told(unknown: UnknownKeys, document: dict, name: str = "made") -> list[str]:
    """The paths that are told when a document is read."""
    _, new = schema(name).from_json_noting(document, unknown)
    assert all(key.message == MESSAGE for key in new)
    return [key.path for key in new]


def test_a_key_is_told_when_it_is_first_met_and_counted_from_then_on():
    unknown = UnknownKeys()
    document = {"one_string": "a", "extra": 1, "one_every_kind": {"many_every_kind": [{}, {"inner": 2}, {"inner": 3}]}}
    assert told(unknown, document) == ["extra", "one_every_kind.many_every_kind.inner"]
    assert told(unknown, document) == []
    assert told(unknown, {"one_string": "a"}) == []
    assert unknown.counts == {"events.example.com/_/1/made": 2}


def test_a_key_that_comes_beside_others_is_told_alone():
    unknown = UnknownKeys()
    assert told(unknown, {"a": 1}) == ["a"]
    assert told(unknown, {"a": 1, "b": 1}) == ["b"]
    assert told(unknown, {"b": 1}) == []


def test_each_event_type_is_told_for_itself():
    unknown = UnknownKeys()
    assert told(unknown, {"a": 1}, "first") == ["a"]
    assert told(unknown, {"a": 1}, "second") == ["a"]


def test_a_document_that_needs_a_careful_reading_tells_its_keys_too():
    unknown = UnknownKeys()
    assert told(unknown, {"one_string": "a", "oneString": "b", "x": {"y": 1}, "many_every_kind": [{"z": 1}]}) == [
        "x",
        "many_every_kind.z",
    ]


def test_the_keys_of_a_map_and_of_free_form_objects_are_not_unknown():
    document = {"by_string_string": {"a": "b"}, "one_struct": {"a": 1}, "by_string_every_kind": {"x": {"a": 1}}}
    assert told(UnknownKeys(), document) == ["by_string_every_kind.a"]


def test_what_is_remembered_of_one_event_type_is_bounded():
    unknown = UnknownKeys()
    found = [path for number in range(2000) for path in told(unknown, {f"key{number}": 1})]
    assert len(found) == unknown_keys.MOST_KEYS
    assert told(unknown, {"another": 1}) == []
    assert unknown.counts["events.example.com/_/1/made"] == 2001


def test_one_document_with_many_keys_is_told_within_the_same_bounds():
    unknown = UnknownKeys()
    assert len(told(unknown, {f"key{number}": 1 for number in range(5000)})) == unknown_keys.MOST_KEYS
    assert told(unknown, {"x" * 100_000: 1}, "second") == []


def test_event_types_are_remembered_up_to_a_number():
    unknown = UnknownKeys()
    for number in range(unknown_keys.MOST_TYPES + 1):
        new = unknown.are_new(str(number), [unknown_keys.Strangers(MESSAGE, ("a",))])
        assert new == (number < unknown_keys.MOST_TYPES)


def test_a_key_is_known_by_its_path_and_its_message():
    unknown = UnknownKeys()
    keys = [UnknownKey("a.b", "x.A"), UnknownKey("a.b", "x.B"), UnknownKey("a.b", "x.A")]
    assert unknown.note("t", keys) == keys[:2]
