"""Real payloads of GitHub become typed events and come back as they were: the community protos carry all of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.registry import Registry
from scripts.demo_payloads import generate
from scripts.github_reference import EXEMPTIONS, GITHUB

REGISTRY: Final = Registry(version for version in community_versions() if version.name == GITHUB)
TYPES: Final = sorted(event_type.name for event_type in REGISTRY.types())
SHOWN: Final = (
    "branch_protection_rule check_run check_suite code_scanning_alert commit_comment create delete dependabot_alert"
    " deploy_key deployment deployment_review deployment_status discussion discussion_comment fork"
    " github_app_authorization gollum installation installation_repositories issue_comment issues label"
    " marketplace_purchase member membership merge_group meta milestone org_block organization package page_build ping"
    " project project_card project_column projects_v2_item public pull_request pull_request_review"
    " pull_request_review_comment pull_request_review_thread push release repository repository_dispatch"
    " repository_import repository_vulnerability_alert security_advisory sponsorship star status team team_add watch"
    " workflow_dispatch workflow_job workflow_run"
)
"""The events of which GitHub publishes example payloads."""

EVENTS: Final = SHOWN.split()
DEMO_PAYLOADS: Final = sorted(generate.FOLDER.glob("*.json"))
MISSING: Final = object()


def schema_of(event: str) -> EventSchema:
    return REGISTRY.lookup(f"{GITHUB.text}/{event}")


def payloads(folder: Path, event: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / f"{event}.json").read_text(encoding="utf-8"))
    assert found, "an empty file would prove nothing"
    return found


# What a payload says, leaf by leaf, and what its message says under the payload's own keys.


def leaves(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value without content of its own, with its path: texts, numbers, bools, null, and what is empty."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from leaves(value, (*path, key))
    elif isinstance(document, list) and document:
        for index, value in enumerate(document):
            yield from leaves(value, (*path, index))
    else:
        yield path, document


def payload_key(field: FieldDescriptor) -> str:
    """The key of the payload that a field is read from: `+1` for `plus_one`."""
    first, *rest = field.name.split("_")
    derived = first + "".join(part.capitalize() for part in rest)
    return field.name if field.json_name == derived else field.json_name


def told(schema: EventSchema, payload: dict[str, Any]) -> dict[str, Any]:
    """What the message of a payload tells, once it has been to storage and back."""
    message = schema.from_json_strict(payload)
    received = schema.parse(schema.type_url, message.SerializeToString())
    assert received == message
    assert not schema.has_unknown(received)
    return schema.to_json(received)


def at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return MISSING
    return document


def represents(written: Any, value: Any) -> bool:
    """Says whether what was written says what the payload said; absence says null, and that something is empty."""
    if value is None:
        return written in (None, MISSING)
    if value in ({}, []):
        return written is MISSING or all(one in ({}, []) for _, one in leaves(written))
    if type(value) is int and isinstance(written, str):
        return written == str(value)  # proto3 JSON writes 64-bit integers as texts
    return isinstance(written, bool) == isinstance(value, bool) and bool(written == value)


def lost(payload: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """The paths, without indices, of the leaves that a document does not have or has otherwise."""
    return [
        ".".join(step for step in path if isinstance(step, str))
        for path, value in leaves(payload)
        if not represents(at(document, path), value)
    ]


def invented(payload: dict[str, Any], document: dict[str, Any]) -> list[tuple[str | int, ...]]:
    """The paths of what a document says and the payload does not."""
    return [
        path
        for path, value in leaves(document)
        if value not in ([], {}) and at(payload, path) in (MISSING, None) and value is not None
    ]


# The payloads that GitHub publishes.


def test_every_event_of_github_is_an_event_type() -> None:
    assert len(EVENTS) == 58
    assert set(EVENTS) <= set(TYPES)


def test_all_examples_are_read(shared_payloads: Path) -> None:
    assert sorted(path.stem for path in shared_payloads.glob("[a-z]*.json")) == EVENTS
    assert sum(len(payloads(shared_payloads, event)) for event in EVENTS) == 181


@pytest.mark.parametrize("event", EVENTS)
def test_nothing_of_a_real_payload_is_lost_but_what_is_listed(event: str, shared_payloads: Path) -> None:
    schema = schema_of(event)
    losses: Counter[str] = Counter()
    for payload in payloads(shared_payloads, event):
        document = told(schema, payload)
        losses.update(lost(payload, document))
        assert invented(payload, document) == []
    assert set(losses) == {exemption.path for exemption in EXEMPTIONS if exemption.event == event}


def test_of_all_leaves_at_least_99_percent_are_represented(shared_payloads: Path) -> None:
    total = missing = 0
    for event in EVENTS:
        for payload in payloads(shared_payloads, event):
            total += sum(1 for _ in leaves(payload))
            missing += len(lost(payload, told(schema_of(event), payload)))
    assert total > 30_000
    assert missing / total < 0.01


@pytest.mark.parametrize("event", EVENTS)
def test_a_real_payload_is_read_without_json_format(event: str, shared_payloads: Path) -> None:
    schema = schema_of(event)
    for payload in payloads(shared_payloads, event):
        type(schema.new())(**schema._tables.table(schema.descriptor).clean(payload, 0))


@pytest.mark.parametrize("event", EVENTS)
def test_a_real_payload_can_be_selected_by_repo_org_action_and_sender(event: str, shared_payloads: Path) -> None:
    schema = schema_of(event)
    for payload in payloads(shared_payloads, event):
        options = dict(schema.options_of(schema.from_json(payload)))
        expected = {
            "repo": payload.get("repository", {}).get("full_name"),
            "org": payload.get("organization", {}).get("login"),
            "action": payload.get("action"),
            "sender": payload.get("sender", {}).get("login"),
        }
        assert {name: options.get(name) for name in expected} == expected


# Every event type, with and without example payloads: a document that says something under every key.

BIG: Final = 2**53 + 1
"""The first whole number that a double cannot hold."""


def full_document(descriptor: Descriptor, around: tuple[Descriptor, ...] = ()) -> dict[str, Any]:
    """A document with a value for each field that a message has, but for messages nested too deep or in themselves."""
    document = {}
    for field in descriptor.fields:
        child = field.message_type
        is_own = child is not None and child.file.package == descriptor.file.package
        if is_own and (child in around or child is descriptor or len(around) > 2):
            continue
        value = full_document(child, (*around, descriptor)) if is_own and child else plain_value(field)
        document[payload_key(field)] = [value] if field.is_repeated and not is_map(field) else value
    return document


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def plain_value(field: FieldDescriptor) -> Any:
    if is_map(field):
        return {"key": "value"}
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return f"a {field.name}"
        case FieldDescriptor.TYPE_BOOL:
            return True
        case FieldDescriptor.TYPE_INT64:
            return BIG
        case FieldDescriptor.TYPE_INT32:
            return 2**31 - 1
        case FieldDescriptor.TYPE_DOUBLE:
            return 9.5
        case _:
            assert field.message_type is not None
            return {"Struct": {"free": [1, None, "form"]}, "Value": "anything"}[field.message_type.name]


@pytest.mark.parametrize("event", TYPES)
def test_every_key_of_an_event_is_read_and_told_under_its_own_name(event: str) -> None:
    schema = schema_of(event)
    document = full_document(schema.descriptor)
    assert lost(document, told(schema, document)) == []


@pytest.mark.parametrize("event", TYPES)
def test_any_key_of_an_event_may_be_null(event: str) -> None:
    schema = schema_of(event)
    document = told(schema, dict.fromkeys(map(payload_key, schema.descriptor.fields)))
    assert [value for _, value in leaves(document) if value not in (None, "", [], {}, 0, "0", False)] == []


@pytest.mark.parametrize("event", TYPES)
def test_an_event_has_the_options_that_its_fields_allow(event: str) -> None:
    schema = schema_of(event)
    paths = {"repo": "repository", "org": "organization", "action": "action", "sender": "sender"}
    present = {option for option, field in paths.items() if field in schema.descriptor.fields_by_name}
    assert present <= set(schema.options)
    assert "sender" in present


# Single values that are told apart.


def test_a_pushed_repository_keeps_its_times_as_numbers_and_others_as_texts() -> None:
    push: Any = schema_of("push").from_json({"repository": {"created_at": 1557933565, "pushed_at": None}})
    assert schema_of("push").to_json(push)["repository"]["created_at"] == 1557933565
    assert push.repository.pushed_at.WhichOneof("kind") == "null_value"
    issues: Any = schema_of("issues").from_json({"repository": {"created_at": "2019-05-15T15:19:25Z"}})
    assert issues.repository.created_at.string_value == "2019-05-15T15:19:25Z"


def test_a_team_among_the_requested_reviewers_is_kept() -> None:
    team = {
        "id": 1,
        "node_id": "T_1",
        "name": "Editors",
        "slug": "editors",
        "privacy": "closed",
        "url": "u",
        "html_url": "h",
    }
    payload = {"pull_request": {"requested_reviewers": [team]}}
    assert lost(payload, told(schema_of("pull_request"), payload)) == []


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        pytest.param("deployment", {"deployment": {"payload": ""}}, id="a deployment's payload is a text"),
        pytest.param("deployment", {"deployment": {"payload": {"a": [1]}}}, id="a deployment's payload is an object"),
        pytest.param("package", {"package": {"package_version": {"body": "text"}}}, id="a package's body is a text"),
        pytest.param(
            "package", {"package": {"package_version": {"body": {"a": 1}}}}, id="a package's body is an object"
        ),
        pytest.param("workflow_dispatch", {"inputs": None}, id="a workflow takes no inputs"),
        pytest.param("workflow_dispatch", {"inputs": {"level": "warn", "dry": True}}, id="a workflow takes inputs"),
        pytest.param("repository_dispatch", {"client_payload": {"a": {"b": [1.5, None]}}}, id="a sender's own payload"),
        pytest.param(
            "installation", {"installation": {"created_at": 1557933591}}, id="an installation's time in seconds"
        ),
        pytest.param(
            "installation",
            {"installation": {"permissions": {"a_new_product": "write"}}},
            id="a permission nobody knows",
        ),
        pytest.param(
            "projects_v2_item",
            {"changes": {"field_value": {"from": None, "to": 2.5}}},
            id="a project's field is set to a number",
        ),
        pytest.param(
            "projects_v2_item",
            {"changes": {"field_value": {"from": {"name": "Todo"}, "to": "2026-01-01"}}},
            id="a project's field is set to something else",
        ),
        pytest.param("issues", {"issue": {"reactions": {"+1": 0, "-1": 3}}}, id="thumbs up and down"),
        pytest.param(
            "issues", {"issue": {"id": BIG, "number": 7.0}}, id="a large number, and one written with a point"
        ),
        pytest.param("repository", {"changes": {"topics": {"from": ["a"]}}}, id="a list that was edited"),
        pytest.param(
            "repository", {"repository": {"custom_properties": {"tier": None}}}, id="a property without value"
        ),
        pytest.param("push", {"repository": {"organization": "acme"}}, id="a repository's organization is a handle"),
        pytest.param(
            "security_and_analysis",
            {"repository": {"organization": {"login": "acme", "id": BIG - 1}}},
            id="a repository's organization is an object",
        ),
        pytest.param("ping", {"hook": {"config": {"insecure_ssl": "0"}}}, id="a webhook's setting is a text"),
        pytest.param("ping", {"hook": {"config": {"insecure_ssl": 0}}}, id="a webhook's setting is a number"),
        pytest.param("project", {"project": {"created_at": 1483567089}}, id="a project's time in seconds"),
        pytest.param("project_card", {"project_card": {"updated_at": 1483569391}}, id="a card's time in seconds"),
        pytest.param("project_column", {"project_column": {"created_at": 1483569138}}, id="a column's time in seconds"),
    ],
)
def test_what_github_leaves_free_is_kept_as_it_came(event: str, payload: dict[str, Any]) -> None:
    document = told(schema_of(event), payload)
    assert [path for path in lost(payload, document) if path != "issue.number"] == []


@pytest.mark.parametrize(
    ("issue", "place"),
    [
        pytest.param({"assignees": [None]}, "issue.assignees[0]", id="null in a list"),
        pytest.param({"labels": ["bug"]}, "issue.labels[0]", id="a label as a text"),
    ],
)
def test_what_the_reference_says_is_refused_is_refused_with_its_path(issue: dict[str, Any], place: str) -> None:
    with pytest.raises(Invalid) as refusal:
        schema_of("issues").from_json({"issue": issue})
    assert (refusal.value.reason, refusal.value.violations[0].field) == (Reason.DATA_MALFORMED, place)


# The payloads of the demo, which are written for it.


@pytest.mark.parametrize("path", DEMO_PAYLOADS, ids=lambda path: path.stem)
def test_the_payloads_of_the_demo_are_carried_entirely(path: Path) -> None:
    payload = json.loads(path.read_text())
    document = told(schema_of(path.stem.partition("-")[0]), payload)
    assert lost(payload, document) == []


def test_the_demo_has_pushes_as_large_as_github_sends_them() -> None:
    pushes = [path for path in DEMO_PAYLOADS if path.stem.startswith("push-")]
    assert len(pushes) >= 3
    for path in pushes:
        assert 7 * 1024 < len(json.dumps(json.loads(path.read_text()), separators=(",", ":"))) < 10 * 1024


def test_the_payloads_of_the_demo_are_what_their_generator_writes() -> None:
    written = {name: generate.text_of(payload) for name, payload in generate.payloads().items()}
    assert {path.stem: path.read_text(encoding="utf-8") for path in DEMO_PAYLOADS} == written
