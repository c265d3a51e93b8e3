"""SchemaService as JSON: what curl and the command see of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.http_gateway import Gateway, gateway, refusal

TYPE = "events.meetly.com/_/1/invited"
SOURCE = """syntax = "proto3";
import "certes/v1/options.proto";
option (certes.v1.schema) = {domain: "events.meetly.com"};
message Invited {
  option (certes.v1.event) = {};
  string email = 1;
  Room room = 2;
}
message Room { int64 floor = 1; }
"""


def files(text: str = SOURCE) -> dict[str, Any]:
    return {"files": {"files": [{"path": "meetly/invited.proto", "content": text}]}}


async def register(served: Gateway) -> dict[str, Any]:
    answer = await served.call("SchemaService/RegisterSchemas", files())
    assert answer.status_code == 200, answer.text
    return answer.json()


def event(**data: Any) -> dict[str, Any]:
    return {"type": TYPE, "source": "//test", "everyone": True, "data": data}


async def test_schemas_are_registered_as_sources_and_listed():
    async with gateway() as served:
        registered = await register(served)
        assert registered["schemas"][0]["type"] == TYPE
        assert registered["comparisons"][0]["compatible"] is True
        listed = await served.call("SchemaService/ListSchemas", {"domain": "events.meetly.com"})
        assert [(one["type"], one["origin"]) for one in listed.json()["schemas"]] == [(TYPE, "ORIGIN_REGISTERED")]
        shown = (await served.call("SchemaService/GetSchema", {"type": TYPE})).json()
        assert shown["version"]["sources"] == files()["files"]["files"]
        assert shown["messages"][1] == {"name": "Room", "fields": [{"name": "floor", "number": 1, "type": "int64"}]}


async def test_the_descriptors_of_an_answer_are_taken_as_json_too():
    async with gateway() as served:
        registered = await register(served)
        descriptors = registered["versions"][0]["descriptorSet"]
        again = await served.call("SchemaService/RegisterSchemas", {"descriptorSet": descriptors, "dryRun": True})
        assert again.status_code == 200, again.text
        assert again.json()["versions"][0]["descriptorSet"] == descriptors


async def test_a_registered_type_is_published_as_json_and_as_a_cloudevent_at_once():
    async with gateway() as served:
        assert refusal(await served.call("Publish", {"events": [event(email="a@b.c")]})) == (400, "UNKNOWN_EVENT_TYPE")
        await register(served)
        published = await served.call("Publish", {"events": [event(email="a@b.c", room={"floor": "7"})]})
        kept = await served.kept(published.json()["results"][0]["name"])
        assert kept["data"] == {"email": "a@b.c", "room": {"floor": "7"}}
        cloud = {"specversion": "1.0", "id": "1", "source": "//test", "type": TYPE, "everyone": True}
        answer = await served.cloud_event({**cloud, "data": {"email": "a@b.c"}})
        assert answer.status_code == 202, answer.text


async def test_discovery_tells_a_domain_as_soon_as_it_is_registered():
    async with gateway() as served:
        before = (await served.client.get("/.well-known/certes")).json()["domains"]
        await register(served)
        after = (await served.client.get("/.well-known/certes")).json()["domains"]
        assert set(after) - set(before) == {"events.meetly.com"}


async def test_an_incompatible_change_is_refused_with_its_violations():
    async with gateway() as served:
        await register(served)
        text = SOURCE.replace("string email", "bytes email")
        answer = await served.call("SchemaService/RegisterSchemas", files(text))
        assert refusal(answer) == (400, "SCHEMA_INCOMPATIBLE")
        [violation] = answer.json()["details"][1]["debug"]["fieldViolations"]
        assert violation["field"] == "Invited.email"
        assert violation["description"].startswith("FIELD_TYPE_CHANGED: `string email = 1;` -> `bytes email = 1;`. ")


@pytest.mark.parametrize(
    ("changed", "reason", "field"),
    [
        ({"data": {"email": 7}}, "DATA_MALFORMED", "event.data.email"),
        ({"data": {"room": {"flor": "7"}}}, "UNKNOWN_FIELD", "event.data.room.flor"),
        ({"type": "events.meetly.com/_/1/unheard_of"}, "UNKNOWN_EVENT_TYPE", "event.type"),
        ({"time": "yesterday"}, "MALFORMED_REQUEST", "event.time"),
        ({"everyone": False}, "FIELD_INVALID", "event.everyone"),
    ],
)
async def test_an_event_that_publishing_would_refuse_is_validated_with_its_problem(changed, reason, field):
    async with gateway() as served:
        await register(served)
        answer = await served.call("SchemaService/ValidateEvent", {"event": {**event(email="a@b.c"), **changed}})
        assert answer.status_code == 200, answer.text
        problem = answer.json()["problem"]
        assert problem["reason"] == reason
        assert [violation["field"] for violation in problem["fieldViolations"]] == [field]


async def test_an_event_that_publishing_would_take_has_no_problem():
    async with gateway() as served:
        await register(served)
        answer = await served.call("SchemaService/ValidateEvent", {"event": event(email="a@b.c")})
        assert answer.json()["schema"]["type"] == TYPE
        assert "problem" not in answer.json()


async def test_a_request_that_is_no_validation_at_all_is_refused():
    async with gateway() as served:
        assert refusal(await served.call("SchemaService/ValidateEvent", {"evnt": {}})) == (400, "UNKNOWN_FIELD")
        assert refusal(await served.call("SchemaService/ValidateEvent", {})) == (400, "FIELD_REQUIRED")
