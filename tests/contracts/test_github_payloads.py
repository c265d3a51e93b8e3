"""Real payloads of GitHub become typed events and come back as they were: the community protos carry all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.registry import Registry
from scripts.demo_payloads import generate

REGISTRY = Registry(community_versions())
EVENTS = ("issues", "membership", "ping", "pull_request", "push")
DEMO_PAYLOADS = sorted(generate.FOLDER.glob("*.json"))

RENAMED = {"+1": "plus_one", "-1": "minus_one", "_links": "links", "from": "previous"}
"""The payload keys whose field has another name: they are no names in a proto, or keywords in most languages."""

FREE_FORM = {"custom_properties"}
"""The keys whose content is kept as it is, also where it is null or empty."""


def schema_of(event: str) -> EventSchema:
    return REGISTRY.lookup(f"community.certes.dev/github/1/{event}")


@pytest.fixture(params=EVENTS)
def event(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def payloads(event: str, shared_payloads: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((shared_payloads / f"{event}.json").read_text())
    assert found, "an empty file would prove nothing"
    return found


def carried(payload: dict[str, Any]) -> dict[str, Any]:
    """What of a payload its message tells: nulls and empty lists say no more than absence, some keys are renamed."""
    told: dict[str, Any] = {}
    for key, value in payload.items():
        if key in FREE_FORM:
            told[key] = value
        elif value is not None and value != []:
            told[RENAMED.get(key, key)] = _carried_value(value)
    return told


def _carried_value(value: Any) -> Any:
    if isinstance(value, dict):
        return carried(value)
    return [_carried_value(item) for item in value] if isinstance(value, list) else value


def differences(told: Any, written: Any, path: str = "") -> Iterator[str]:
    """Compares what a payload tells with what was written of its message."""
    if isinstance(told, dict) and isinstance(written, dict):
        for key in told.keys() | written.keys():
            here = f"{path}.{key}"
            if key not in written:
                yield f"{here} is lost"
            elif key in told:
                yield from differences(told[key], written[key], here)
            elif written[key] not in ([], {}):
                yield f"{here} came from nowhere: {written[key]!r}"
    elif isinstance(told, list) and isinstance(written, list) and len(told) == len(written):
        for index, (one, other) in enumerate(zip(told, written, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    # proto3 JSON writes 64-bit integers as strings.
    elif told != written and not (type(told) is int and written == str(told)):
        yield f"{path} was {told!r} and is {written!r}"


def check_round_trip(schema: EventSchema, payload: dict[str, Any]) -> None:
    message = schema.from_json_strict(payload)
    received = schema.parse(schema.type_url, message.SerializeToString())
    assert received == message
    assert not schema.has_unknown(received)
    assert list(differences(carried(payload), schema.to_json(received))) == []
    assert schema.from_json_strict(schema.to_json(received)) == message


def check_options(schema: EventSchema, payload: dict[str, Any]) -> None:
    expected = {}
    if "organization" in payload:
        expected["org"] = payload["organization"]["login"]
    if "repository" in payload:
        expected["repo"] = payload["repository"]["full_name"]
    assert dict(schema.options_of(schema.from_json(payload))) == expected


def test_every_real_payload_is_read_and_nothing_of_it_is_lost(event, payloads):
    for payload in payloads:
        check_round_trip(schema_of(event), payload)


def test_repo_and_org_of_every_real_payload_can_be_selected_by(event, payloads):
    for payload in payloads:
        check_options(schema_of(event), payload)


def test_no_real_payload_needs_json_format(event, payloads):
    schema = schema_of(event)
    for payload in payloads:
        type(schema.new())(**schema._tables.table(schema.descriptor).clean(payload, 0))


def test_a_pushed_repository_keeps_its_times_as_numbers_and_others_as_texts():
    push = schema_of("push").from_json({"repository": {"created_at": 1557933565, "pushed_at": None}})
    assert schema_of("push").to_json(push)["repository"]["created_at"] == 1557933565
    assert push.repository.pushed_at.WhichOneof("kind") == "null_value"  # type: ignore[attr-defined]
    issues = schema_of("issues").from_json({"repository": {"created_at": "2019-05-15T15:19:25Z"}})
    assert issues.repository.created_at.string_value == "2019-05-15T15:19:25Z"  # type: ignore[attr-defined]


def test_a_team_among_the_requested_reviewers_is_kept():
    team = {
        "id": 1,
        "node_id": "T_1",
        "name": "Editors",
        "slug": "editors",
        "privacy": "closed",
        "url": "u",
        "html_url": "h",
    }
    schema = schema_of("pull_request")
    message = schema.from_json_strict({"pull_request": {"requested_reviewers": [team]}})
    written = schema.to_json(message)["pull_request"]["requested_reviewers"]
    assert list(differences([team], written)) == []


@pytest.mark.parametrize("path", DEMO_PAYLOADS, ids=lambda path: path.stem)
def test_the_payloads_of_the_demo_are_carried_entirely(path):
    schema = schema_of(path.stem.partition("-")[0])
    payload = json.loads(path.read_text())
    check_round_trip(schema, payload)
    check_options(schema, payload)


def test_the_demo_has_pushes_as_large_as_github_sends_them():
    pushes = [path for path in DEMO_PAYLOADS if path.stem.startswith("push-")]
    assert len(pushes) >= 3
    for path in pushes:
        assert 7 * 1024 < len(json.dumps(json.loads(path.read_text()), separators=(",", ":"))) < 10 * 1024


def test_the_payloads_of_the_demo_are_what_their_generator_writes():
    written = {name: generate.text_of(payload) for name, payload in generate.payloads().items()}
    assert {path.stem: path.read_text(encoding="utf-8") for path in DEMO_PAYLOADS} == written
