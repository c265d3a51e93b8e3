from __future__ import annotations

import json

import pytest

TYPE = "events.meetly.com/rooms/1/booked"
SCHEMA = {
    "type": TYPE,
    "message": "meetly.rooms.v1.Booked",
    "revision": "2",
    "file": "meetly/booked.proto",
    "options": [{"name": "building", "field": "room.building", "fieldType": "string"}],
    "comment": "A room was booked, e.g.\nfor a\nday. It is paid for.",
    "origin": "ORIGIN_REGISTERED",
}
MESSAGES = [
    {
        "name": "meetly.rooms.v1.Booked",
        "fields": [
            {"name": "room", "number": 1, "type": "meetly.rooms.v1.Room", "optional": True, "described": True},
            {"name": "by", "number": 2, "type": "string", "optional": True, "comment": "Who\nbooked it."},
            {"name": "guests", "number": 3, "type": "meetly.rooms.v1.Guest", "repeated": True, "described": True},
            {"name": "mail", "number": 4, "type": "string", "optional": True, "oneof": "reply"},
            {"name": "kind", "number": 5, "type": "meetly.rooms.v1.Kind", "enumValues": ["KIND_A", "KIND_B"]},
        ],
    },
    {
        "name": "meetly.rooms.v1.Room",
        "fields": [
            {"name": "building", "number": 1, "type": "string", "comment": "Its building."},
            {"name": "next", "number": 2, "type": "map<string, meetly.rooms.v1.Room>", "described": True},
            {"name": "open", "number": 3, "type": "google.protobuf.Timestamp", "optional": True},
        ],
    },
]
SOURCE = {"path": "meetly/booked.proto", "content": 'syntax = "proto3";\n'}


def test_a_list_follows_the_pages_and_narrows_as_asked(certes, gateway):
    gateway.answer("ListSchemas", {"schemas": [SCHEMA], "nextPageToken": "t"})
    gateway.answer("ListSchemas", {"schemas": [{"type": "a.b/_/1/c", "revision": "1"}]})
    words = ["--domain", "events.meetly.com", "--namespace", "rooms", "--pattern", "events.meetly.com/**"]
    result = certes("schemas", "list", *words, "--broker", gateway.address)
    assert result.stdout.splitlines() == [
        "TYPE\tREVISION\tMEANING",
        f"{TYPE}\t2\tA room was booked, e.g.",
        "a.b/_/1/c\t1\t",
    ]
    first, second = gateway.requests("ListSchemas")
    assert (first["domain"], first["namespace"], first["pattern"]) == tuple(words[1::2])
    assert second["pageToken"] == "t"


def test_a_list_as_json_is_what_the_api_answered(certes, gateway):
    gateway.answer("ListSchemas", {"schemas": [SCHEMA]})
    assert json.loads(certes("schemas", "list", "--json", "--broker", gateway.address).stdout) == [SCHEMA]


def test_an_empty_list_says_how_to_begin(certes, gateway):
    gateway.answer("ListSchemas", {})
    result = certes("schemas", "list", "--broker", gateway.address)
    assert result.stdout == ""
    assert "schemas init" in result.stderr


def test_what_another_gateway_serves_is_listed_alike(certes, gateway):
    gateway.answer("DiscoverSchemas", {"schemas": [SCHEMA]})
    uri = "events://events.meetly.com/rooms"
    result = certes("schemas", "discover", uri, "--refresh", "--broker", gateway.address)
    assert TYPE in result.stdout
    (request,) = gateway.requests("DiscoverSchemas")
    assert (request["uri"], request["refresh"]) == (uri, True)


def test_what_strangers_wrote_does_not_steer_the_terminal(certes, gateway):
    hostile = SCHEMA | {"comment": "a\x1b[2J\x9b1m\u202e"}
    gateway.answer("DiscoverSchemas", {"schemas": [hostile]})
    listed = certes("schemas", "discover", "events://x.y", "--broker", gateway.address)
    gateway.answer("GetSchema", {"schema": hostile, "version": {}, "messages": []})
    shown = certes("schemas", "get", TYPE, "--broker", gateway.address)
    for result in (listed, shown):
        assert "a\ufffd[2J\ufffd1m\ufffd\n" in result.stdout


def test_a_schema_is_shown_with_its_options_and_the_tree_of_its_fields(certes, gateway):
    gateway.answer("GetSchema", {"schema": SCHEMA, "version": {}, "messages": MESSAGES})
    result = certes("schemas", "get", TYPE, "--broker", gateway.address)
    head, tree = result.stdout.split("\n\n")
    assert "building = room.building (string)" in head
    assert "revision  2" in head
    assert "origin    registered" in head
    assert tree.splitlines() == [
        "FIELD\tTYPE\tMEANING",
        "room\tRoom\t",
        "  building\tstring\tIts building.",
        "  next\tmap<string, Room>\t(Its fields are above.)",
        "  open\tgoogle.protobuf.Timestamp\t",
        "by\toptional string\tWho booked it.",
        # What the broker had no room to describe has no fields here.
        "guests\trepeated Guest\t",
        "mail\tstring (one of reply)\t",
        "kind\tKind\tOne of KIND_A, KIND_B.",
    ]
    assert gateway.requests("GetSchema") == [{"type": TYPE}]


def test_a_schema_as_json_is_what_the_api_answered(certes, gateway):
    answer = {"schema": SCHEMA, "version": {}, "messages": MESSAGES}
    gateway.answer("GetSchema", answer)
    assert json.loads(certes("schemas", "get", TYPE, "--json", "--broker", gateway.address).stdout) == answer


def test_the_source_of_a_schema_is_printed_as_it_is(certes, gateway):
    sources = [{"path": "meetly/other.proto", "content": "other"}, SOURCE]
    gateway.answer("GetSchema", {"schema": SCHEMA, "version": {"sources": sources}})
    assert certes("schemas", "get", TYPE, "--proto", "--broker", gateway.address).stdout == SOURCE["content"]


def test_a_schema_without_a_source_says_so(certes, gateway):
    gateway.answer("GetSchema", {"schema": SCHEMA, "version": {}})
    result = certes("schemas", "get", TYPE, "--proto", "--broker", gateway.address)
    assert result.stdout == ""
    assert "registered as a descriptor set" in result.stderr


def test_an_event_that_fits_is_told_with_its_revision(certes, gateway):
    gateway.answer("ValidateEvent", {"schema": SCHEMA})
    result = certes("schemas", "validate", TYPE, "-", "--broker", gateway.address, stdin='{"by": "anna"}')
    assert (result.exit_code, result.stdout) == (0, f"It fits {TYPE}, revision 2.\n")
    (request,) = gateway.requests("ValidateEvent")
    assert request["event"]["type"] == TYPE
    assert request["event"]["data"] == {"by": "anna"}


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_an_event_that_does_not_fit_ends_with_one_and_the_reason(certes, gateway, words):
    violations = [{"field": "event.data.bye", "description": "meetly.rooms.v1.Booked has no such field"}]
    problem = {"code": 3, "reason": "UNKNOWN_FIELD", "message": "no field bye", "fieldViolations": violations}
    gateway.answer("ValidateEvent", {"problem": problem})
    result = certes("schemas", "validate", TYPE, "-", *words, "--broker", gateway.address, stdin="{}")
    assert result.exit_code == 1
    assert "(UNKNOWN_FIELD)" in result.stderr
    assert "event.data.bye: meetly.rooms.v1.Booked has no such field" in result.stderr
    assert result.stdout == ("" if not words else json.dumps({"problem": problem}, indent=2) + "\n")


def test_what_is_no_json_is_not_sent(certes, gateway):
    result = certes("schemas", "validate", TYPE, "-", "--broker", gateway.address, stdin="{")
    assert (result.exit_code, gateway.calls) == (2, [])
    assert "line 1, column 2" in result.stderr
