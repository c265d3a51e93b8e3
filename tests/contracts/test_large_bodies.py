"""Large bodies are converted in a worker process, and mean what small ones do, whichever way they come and go."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1 import event_service_pb2 as pb
from certes.v1.event_pb2 import Event
from certes_broker.domain.events import Micros
from certes_broker.domain.subscriptions import Format
from tests.contracts.http_gateway import GITHUB, PUSH, Gateway, gateway, refusal

CLOUD_EVENTS = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
COMMITS = 4_000
LONG = 400 * 1024
"""Bytes that each body here has at least."""


def large_push(**changes: Any) -> dict[str, Any]:
    commits = [
        {"id": f"{number:040}", "message": f"Change {number}: größer", "added": [f"src/{number}.txt"] * 3}
        for number in range(COMMITS)
    ]
    return {**PUSH, "commits": commits, **changes}


def data_of(push: dict[str, Any]) -> dict[str, Any]:
    """What a schema knows of a payload."""
    return {name: value for name, value in push.items() if name != "what_no_schema_knows"}


def cloud_event(data: dict[str, Any], event_id: str = "a-1", **changes: Any) -> dict[str, Any]:
    document = {"specversion": "1.0", "id": event_id, "source": "//test", "type": f"{GITHUB}/push", "everyone": True}
    return {**document, "data": data, **changes}


def worked(served: Gateway) -> bool:
    """Whether a worker process was asked for anything."""
    return bool(served.broker._workers.processes)


async def accepted(served: Gateway, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code in {200, 202}, answer.text
    document = answer.json()
    return await served.kept((document.get("results") or [document])[0]["name"])


async def test_a_large_webhook_is_taken_in_as_a_small_one_is():
    payload = large_push()
    body = json.dumps(payload).encode()
    assert len(body) > LONG
    async with gateway() as served:
        answer = await served.webhook(body=body)
        event = await accepted(served, answer)
        assert worked(served)
        assert event["data"]["commits"][-1]["message"] == f"Change {COMMITS - 1}: größer"
        assert len(event["data"]["commits"]) == COMMITS
        original = await served.original(answer.json()["name"])
        assert original is not None
        assert original.body == body
        assert (await served.webhook(body=body)).json() == {**answer.json(), "duplicate": True}
        assert served.broker.conversion.unknown_keys.counts == {f"{GITHUB}/push": 2}
        assert served.broker.drift.waiting <= 1


async def test_a_large_webhook_that_does_not_fit_is_refused_with_the_path():
    payload = large_push()
    payload["commits"][COMMITS - 1]["message"] = 5
    async with gateway() as served:
        answer = await served.webhook(payload)
        assert refusal(answer) == (422, "PAYLOAD_UNMAPPABLE")
        assert answer.json()["error"]["fieldViolations"] == [
            {"field": f"commits[{COMMITS - 1}].message", "description": "must be a string, not 5"}
        ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"x":"' + b"x" * LONG + b'","commits":[{"id":NaN}]}', "commits[0].id"),
        (b'{"x":"' + b"x" * LONG + b'","commits":[{"id":"a","id":"b"}]}', "commits[0].id"),
        (b'{"x":"' + b"x" * LONG + b'","commits":["\xff"]}', "commits[0]"),
    ],
)
async def test_a_large_body_that_is_no_json_is_refused_with_the_path(body, field):
    async with gateway() as served:
        answer = await served.webhook(body=body)
        assert refusal(answer) == (400, "PAYLOAD_MALFORMED")
        assert answer.json()["error"]["fieldViolations"][0]["field"] == field


async def test_a_body_of_very_many_objects_goes_to_a_worker_before_it_is_long():
    body = b'{"commits":[' + b",".join([b"{}"] * 20_000) + b"]}"
    assert len(body) < LONG
    async with gateway() as served:
        event = await accepted(served, await served.webhook(body=body))
        assert worked(served)
        assert len(event["data"]["commits"]) == 20_000


async def test_large_cloud_events_are_taken_in_each_mode():
    data = data_of(large_push())
    async with gateway() as served:
        event = await accepted(served, await served.cloud_event(cloud_event(data)))
        assert len(event["data"]["commits"]) == COMMITS
        again = await served.cloud_event([cloud_event(data), cloud_event(PUSH_DATA, "a-2")], BATCH)
        assert [result["duplicate"] for result in again.json()["results"]] == [True, False]
        headers = {"ce-specversion": "1.0", "ce-id": "a-1", "ce-source": "//test", "ce-type": f"{GITHUB}/push"}
        binary = await served.client.post(
            "/events",
            content=json.dumps(data),
            headers={**headers, "ce-everyone": "true", "content-type": "application/json"},
        )
        assert binary.json()["results"][0]["duplicate"] is True
        assert worked(served)


async def test_a_large_cloud_event_that_does_not_fit_is_refused_with_the_path():
    async with gateway() as served:
        answer = await served.cloud_event([cloud_event(PUSH_DATA), cloud_event(data_of(large_push(nope=1)))], BATCH)
        assert refusal(answer) == (400, "UNKNOWN_FIELD")
        assert answer.json()["error"]["fieldViolations"][0]["field"] == "events[1].data.nope"


async def test_large_requests_and_answers_of_the_api_are_as_small_ones_are():
    data = data_of(large_push())
    event = {"id": "a-1", "source": "//test", "type": f"{GITHUB}/push", "everyone": True, "data": data}
    async with gateway() as served:
        published = await served.call("Publish", {"events": [event]})
        kept = (await accepted(served, published))["data"]["commits"]
        assert [{name: commit[name] for name in ("id", "message", "added")} for commit in kept] == data["commits"]
        bad = await served.call("Publish", {"events": [{**event, "data": {**data, "ref": {}}}]})
        assert refusal(bad) == (400, "DATA_MALFORMED")
        assert bad.json()["details"][1]["debug"]["fieldViolations"][0]["field"] == "events[0].data.ref"
        page = (await served.call("ListEvents", {"parent": "subscribers/any"})).json()
        assert [len(one["event"]["data"]["commits"]) for one in page["events"]] == [COMMITS]


async def test_a_large_event_that_comes_as_bytes_is_validated_as_a_small_one_is():
    push = PushEvent(ref="r", commits=[{"id": str(number), "message": "m" * 100} for number in range(COMMITS)])
    data = AnyMessage()
    data.Pack(push)
    event = Event(id="a", source="//test", type=f"{GITHUB}/push", everyone=True, data=data)
    now = Micros(1_700_000_000_000_000)
    async with gateway() as served:
        reader, intake = served.broker.reader, served.broker.intake
        for made in (event, Event(source="//test", type=f"{GITHUB}/push", subscriber="org_1", data=data)):
            wire = made.SerializeToString()
            assert len(wire) > LONG
            by_worker, at_once = await intake.read(wire, now), reader.read(wire, now)
            assert by_worker._replace(id="", body=b"") == at_once._replace(id="", body=b"")
            assert len(by_worker.body) == len(at_once.body)
        assert worked(served)
        answer = await served.client.post(
            "/api/certes.v1.EventService/Publish",
            content=pb.PublishRequest(
                events=[Event(source="//test", type=f"{GITHUB}/push", data=data)]
            ).SerializeToString(),
            headers={"content-type": "application/proto"},
        )
        assert refusal(answer) == (400, "AUDIENCE_MISSING")
        assert answer.json()["details"][1]["debug"]["fieldViolations"][0]["field"] == "events[0].audience"


@pytest.mark.parametrize("form", [Format.CLOUDEVENTS_JSON, Format.CLOUDEVENTS_BINARY])
async def test_a_large_event_goes_out_as_a_small_one_does(form):
    async with gateway() as served:
        answer = await served.cloud_event(cloud_event(data_of(large_push()), traceparent=TRACEPARENT))
        kept = await served.broker.kept_events.get(answer.json()["results"][0]["name"])
        rendered = await served.broker.conversion.webhook_body(kept.entry.event.body, form)
        document = json.loads(rendered.body)
        data = document["data"] if form is Format.CLOUDEVENTS_JSON else document
        assert len(data["commits"]) == COMMITS
        assert dict(rendered.headers)["traceparent"] == TRACEPARENT
        assert worked(served)


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PUSH_DATA = data_of(PUSH)
