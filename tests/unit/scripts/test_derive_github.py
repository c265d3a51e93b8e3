"""Deriving the GitHub catalogue adds what is missing, and never changes or renumbers what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.derive_github import CATALOGUE, Derivation, sources
from scripts.derive_github_evidence import read_openapi
from scripts.derive_github_messages import gather
from scripts.derive_github_protos import NumberLock, ProtoField, ProtoMessage, read_messages

USER = {"login": "octo", "id": 1, "gravatar_id": ""}


class Workshop:
    """A catalogue that begins empty, and a folder of payloads."""

    def __init__(self, root: Path) -> None:
        self.catalogue = root / "github"
        self.folder = root / "payloads"
        (self.catalogue / "v1").mkdir(parents=True)
        self.folder.mkdir()
        self.schema({})

    def schema(self, definitions: dict[str, Any]) -> None:
        (self.folder / "_schema.json").write_text(json.dumps({"definitions": definitions}))

    def payloads(self, event: str, *payloads: dict[str, Any]) -> None:
        (self.folder / f"{event}.json").write_text(json.dumps(payloads))

    def derivation(self) -> Derivation:
        return Derivation(self.catalogue, gather(sources(self.folder, [])))

    def derive(self, event: str, *payloads: dict[str, Any]) -> None:
        self.payloads(event, *payloads)
        self.derivation().write()

    def findings(self) -> list[str]:
        return self.derivation().findings()

    def proto(self, name: str) -> str:
        return (self.catalogue / "v1" / f"{name}.proto").read_text()

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.catalogue / "v1" / f"{name}.proto"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def field(self, path: str) -> ProtoField:
        message, name = path.split(".")
        return read_messages(self.catalogue / "v1")[message].fields[name]

    def numbers(self, message: str) -> dict[str, int]:
        return {name: one.number for name, one in read_messages(self.catalogue / "v1")[message].fields.items()}

    def everything(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.catalogue.rglob("*") if path.is_file()}


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


# What a payload becomes.


def test_an_event_becomes_a_message_that_is_bound_to_its_type(workshop):
    workshop.derive("star", {"action": "created", "sender": USER})
    proto = workshop.proto("star_event")
    assert 'option (certes.v1.schema) = {\n  domain: "community.certes.dev"' in proto
    assert "message StarEvent {" in proto
    assert 'name: "star"' in proto
    assert 'field: "sender.login"' in proto
    assert "repository.full_name" not in proto
    assert 'import "certes/community/github/v1/user.proto";' in proto
    assert workshop.numbers("StarEvent") == {"action": 1, "sender": 2}


def test_each_kind_of_json_has_its_type(workshop):
    workshop.derive(
        "star",
        {
            "text": "a",
            "flag": True,
            "some_id": 2**60,
            "stars_count": 3,
            "score": 1.5,
            "names": ["a"],
            "people": [USER],
            "mixed": "a",
            "nothing": None,
            "empty": {},
            "part": {"a": 1},
        },
        {"mixed": 1},
    )
    types = {name: one.type for name, one in read_messages(workshop.catalogue / "v1")["StarEvent"].fields.items()}
    assert types == {
        "text": "string",
        "flag": "bool",
        "some_id": "int64",
        "stars_count": "int32",
        "score": "double",
        "names": "repeated string",
        "people": "repeated User",
        "mixed": "google.protobuf.Value",
        "nothing": "google.protobuf.Value",
        "empty": "google.protobuf.Struct",
        "part": "StarPart",
    }
    assert 'import "google/protobuf/struct.proto";' in workshop.proto("star_event")


def test_an_object_with_free_keys_is_a_map_where_the_schema_says_so(workshop):
    labels = {"type": "object", "additionalProperties": {"type": "string"}}
    workshop.schema({"star$created": {"type": "object", "properties": {"marks": labels}}})
    workshop.derivation().write()
    assert workshop.field("StarEvent.marks").type == "map<string, string>"


def test_keys_that_are_no_names_get_one_and_keep_theirs_in_json(workshop):
    reactions = {"+1": 1, "-1": 0, "total_count": 1}
    workshop.derive(
        "star", {"reactions": reactions, "changes": {"title": {"from": "a"}}, "_links": {"self": {"href": ""}}}
    )
    assert workshop.field("Reactions.plus_one").json_name == "+1"
    assert workshop.field("Reactions.minus_one").json_name == "-1"
    assert workshop.field("TextChange.previous").json_name == "from"
    assert workshop.field("StarEvent.links").json_name == "_links"
    assert workshop.field("Reactions.total_count").json_name == ""


def test_one_thing_of_githubs_is_one_message_wherever_it_stands(workshop):
    repository = {"id": 1, "full_name": "octo/app", "owner": USER, "forks_url": ""}
    workshop.payloads("fork", {"repository": repository, "forkee": {"id": 2}, "sender": USER})
    workshop.derive("star", {"repository": repository, "sender": {**USER, "type": "User"}})
    assert workshop.field("ForkEvent.forkee").type == workshop.field("StarEvent.repository").type == "Repository"
    assert set(workshop.numbers("User")) == {"login", "id", "gravatar_id", "type"}


def test_a_schema_that_contains_itself_ends(workshop):
    team = {"type": "object", "properties": {"slug": {"type": "string"}, "parent": {"$ref": "#/definitions/team"}}}
    event = {"type": "object", "properties": {"team": {"$ref": "#/definitions/team"}}, "required": ["team"]}
    workshop.schema({"team$created": event, "team": team})
    workshop.derivation().write()
    assert workshop.field("Team.parent").type == "Team"


def test_an_openapi_document_is_read_by_the_events_it_names(tmp_path):
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/star"}}}}
    operation = {"x-github": {"subcategory": "sub-issues"}, "requestBody": body}
    star = {"type": "object", "properties": {"id": {"type": ["integer", "null"]}}}
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps({"webhooks": {"x": {"post": operation}}, "components": {"schemas": {"star": star}}}))
    messages = gather([read_openapi(path)])
    assert messages["SubIssuesEvent"].fields["id"].type == "int64"
    assert messages["SubIssuesEvent"].fields["id"].is_missing


# Deriving again.


def test_deriving_twice_changes_nothing(workshop):
    workshop.derive("star", {"action": "created", "sender": USER, "part": {"a": 1}})
    before = workshop.everything()
    assert workshop.findings() == []
    workshop.derivation().write()
    assert workshop.everything() == before


def test_a_new_key_is_said_and_added_at_the_end(workshop):
    workshop.derive("star", {"first": 1, "second": 2})
    workshop.payloads("star", {"zeroth": "x", "second": 2, "first": 1})
    assert workshop.findings() == ["star_event.proto: StarEvent lacks optional string zeroth = 3;"]
    workshop.derivation().write()
    assert workshop.numbers("StarEvent") == {"first": 1, "second": 2, "zeroth": 3}


def test_what_was_finished_by_hand_stays(workshop):
    workshop.derive("star", {"some_id": 1})
    workshop.edit("star_event", "The star's some id.", "Which of the stars it is.")
    workshop.derive("star", {"some_id": 1, "new": 2, "sender": USER})
    assert "// Which of the stars it is.\n  optional int64 some_id = 1;" in workshop.proto("star_event")


def test_a_field_that_was_taken_out_comes_back_with_its_number_and_leaves_it_to_no_other(workshop):
    workshop.derive("star", {"first": "a", "second": "b"})
    line = "\n  // The star's first.\n  optional string first = 1;\n"
    workshop.edit("star_event", line.removeprefix("\n"), "")
    workshop.derive("star", {"second": "b", "third": "c"})
    assert workshop.numbers("StarEvent") == {"second": 2, "third": 3}
    workshop.derive("star", {"first": "a", "second": "b", "third": "c"})
    assert workshop.numbers("StarEvent") == {"first": 1, "second": 2, "third": 3}


keys = st.dictionaries(st.sampled_from("abcdefgh"), st.just("text"), max_size=8)


@settings(max_examples=25)  # each derives several times, from files to files
@given(rounds=st.lists(keys, min_size=2, max_size=4))
def test_no_order_of_payloads_ever_renumbers(rounds, tmp_path_factory):
    workshop = Workshop(tmp_path_factory.mktemp("workshop"))
    given_numbers: dict[str, int] = {}
    for payload in rounds:
        workshop.derive("star", {"always": "there", **payload})
        numbers = workshop.numbers("StarEvent")
        assert numbers.items() >= given_numbers.items()
        assert len(set(numbers.values())) == len(numbers)
        given_numbers = numbers
    assert set(given_numbers) == {"always", *(key for payload in rounds for key in payload)}


# What is for a person to decide.


def test_a_value_that_a_field_would_refuse_is_said(workshop):
    workshop.derive("star", {"place": "a text"})
    workshop.payloads("star", {"place": {"a": 1}})
    assert workshop.findings()[0] == "star_event.proto: StarEvent.place is string, but payloads have StarPlace"


def test_a_field_that_payloads_leave_out_must_be_optional(workshop):
    workshop.derive("star", {"action": "created"})
    workshop.payloads("star", {"action": "created"}, {"action": None})
    assert workshop.findings() == ["star_event.proto: StarEvent.action must be optional: payloads leave it out"]


def test_a_number_against_the_lock_is_said(workshop):
    workshop.derive("star", {"first": "a", "second": "b"})
    workshop.edit("star_event", "first = 1", "first = 7")
    assert workshop.findings() == ["StarEvent.first = 7, which is locked: first = 1"]


def test_a_number_of_a_field_that_is_gone_is_said_when_another_takes_it(workshop):
    workshop.derive("star", {"first": "a"})
    workshop.edit("star_event", "string first = 1", "string other = 1")
    assert "StarEvent.other = 1, which is locked: first = 1" in workshop.findings()


def test_an_object_that_is_two_messages_is_said(workshop):
    workshop.derive("star", {"place": {"a": 1}})
    workshop.payloads("star", {"place": {"a": 1}}, {"place": USER})
    said = "star_event.proto: StarEvent.place is StarPlace, but payloads have one of ['StarPlace', 'User']"
    assert workshop.findings()[0] == said


# The lock.


def test_a_lock_reads_what_it_writes():
    lock = NumberLock({"B": {"two": 2, "one": 1}, "A": {"x": 5}})
    assert NumberLock.read(lock.text()).text() == lock.text()
    assert lock.text().index("[A]") < lock.text().index("[B]") < lock.text().index("1 one") < lock.text().index("2 two")


def test_a_lock_passes_over_the_numbers_that_protobuf_keeps():
    lock = NumberLock({"A": {"x": 18_999}})
    assert lock.number("A", "y") == 20_000
    assert lock.number("A", "z") == 20_001


# The committed catalogue.


def test_every_field_of_the_catalogue_is_locked_under_its_number():
    text = (CATALOGUE / "numbers.lock").read_text(encoding="utf-8")
    lock = NumberLock.read(text)
    messages: dict[str, ProtoMessage] = read_messages(CATALOGUE / "v1")
    assert len(messages) > 200
    assert [problem for message in messages.values() for problem in lock.learn(message)] == []
    assert lock.text() == text


def test_deriving_the_catalogue_from_the_published_payloads_finds_nothing_to_do(shared_payloads):
    assert Derivation(CATALOGUE, gather(sources(shared_payloads, []))).findings() == []


def test_the_catalogue_keeps_the_numbers_of_those_who_began_with_five_events():
    messages = read_messages(CATALOGUE / "v1")
    known = {
        "PushEvent": "ref before after created deleted forced base_ref compare commits head_commit repository pusher"
        " sender installation organization",
        "PingEvent": "zen hook_id hook repository sender organization",
        "MembershipEvent": "action scope member sender team organization installation",
        "GitUser": "name email date username",
        "License": "key name spdx_id url node_id",
    }
    for message, names in known.items():
        assert {name: messages[message].fields[name].number for name in names.split()} == {
            name: number for number, name in enumerate(names.split(), 1)
        }
