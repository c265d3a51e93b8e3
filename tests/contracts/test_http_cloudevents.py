"""CloudEvents in: the three modes, what they become, and what is refused."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest

from certes.community.github.v1.ping_event_pb2 import PingEvent
from tests.contracts.http_gateway import GITHUB, Gateway, gateway, refusal

BATCH = "application/cloudevents-batch+json"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def cloud_event(**changes: Any) -> dict[str, Any]:
    document = {
        "specversion": "1.0",
        "id": "a-1",
        "source": "//billing.example.com",
        "type": f"{GITHUB}/ping",
        "subscriber": "org_123",
        "data": {"zen": "Design for failure.", "hook_id": 42},
    }
    return {name: value for name, value in (document | changes).items() if value is not None}


async def published(served: Gateway, document: dict[str, Any]) -> dict[str, Any]:
    answer = await served.cloud_event(document)
    assert answer.status_code == 202, answer.text
    (result,) = answer.json()["results"]
    return await served.kept(result["name"])


async def test_a_structured_event_keeps_all_that_it_says():
    async with gateway() as served:
        event = await published(
            served,
            cloud_event(
                subject="invoice/7",
                time="2026-02-03T04:05:06.7Z",
                datacontenttype="application/json; charset=utf-8",
                orderingkey="customer-9",
                traceparent=TRACEPARENT,
                tracestate="vendor=1",
                dataschema="https://example.com/schema",
                region="eu",
                attempt=3,
                partial=False,
                nothing=None,
            ),
        )
        assert event == {
            "id": "a-1",
            "source": "//billing.example.com",
            "type": f"{GITHUB}/ping",
            "subject": "invoice/7",
            "time": "2026-02-03T04:05:06.700Z",
            "subscriber": "org_123",
            "orderingKey": "customer-9",
            "traceparent": TRACEPARENT,
            "tracestate": "vendor=1",
            "attributes": {
                "dataschema": "https://example.com/schema",
                "region": "eu",
                "attempt": "3",
                "partial": "false",
            },
            "data": event["data"],
        }
        assert event["data"]["zen"] == "Design for failure."
        assert event["data"]["hook_id"] == "42"


async def test_an_event_for_everyone_says_so_as_a_boolean_or_as_text():
    async with gateway() as served:
        for number, everyone in enumerate((True, "true")):
            event = await published(served, cloud_event(id=str(number), subscriber=None, everyone=everyone))
            assert event["everyone"] is True


async def test_an_event_that_is_sent_again_is_a_duplicate_whatever_the_order_of_its_attributes():
    async with gateway() as served:
        document = cloud_event(region="eu", zone="a", shelf="7")
        first = await served.cloud_event(document)
        again = await served.cloud_event(dict(reversed(document.items())))
        assert again.json()["results"] == [first.json()["results"][0] | {"duplicate": True}]


async def test_a_batch_is_answered_in_its_order():
    async with gateway() as served:
        batch = [cloud_event(id=str(number)) for number in range(3)]
        answer = await served.cloud_event([*batch, batch[0]], BATCH)
        assert answer.status_code == 202
        results = answer.json()["results"]
        assert [(result["id"], result["duplicate"]) for result in results] == [
            ("0", False), ("1", False), ("2", False), ("0", True),
        ]  # fmt: skip
        assert results[0]["name"] == results[3]["name"]


async def test_of_a_batch_with_one_bad_event_none_is_stored():
    async with gateway() as served:
        answer = await served.cloud_event([cloud_event(id="1"), cloud_event(id="2", type="no uri")], BATCH)
        assert refusal(answer) == (400, "MALFORMED_URI")
        assert answer.json()["error"]["fieldViolations"][0]["field"] == "events[1].type"
        assert (await served.call("ListEvents", {"parent": "subscribers/-"})).json() == {}


async def test_an_event_in_headers_is_decoded_as_the_binding_says():
    async with gateway() as served:
        headers = {
            "content-type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": "b-1",
            "ce-source": "//billing.example.com",
            "ce-type": f"{GITHUB}/ping",
            "ce-subject": "Euro%20%E2%82%AC%20%F0%9F%98%80",
            "ce-subscriber": "org_123",
            "ce-note": '"quoted \\"text\\""',
        }
        answer = await served.client.post("/events", content=b'{"zen": "z"}', headers=headers)
        assert answer.status_code == 202
        event = await served.kept(answer.json()["results"][0]["name"])
        assert event["subject"] == "Euro € 😀"
        assert event["attributes"] == {"note": 'quoted "text"'}
        assert event["data"]["zen"] == "z"


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"specversion": None}, "FIELD_REQUIRED", "specversion"),
        ({"specversion": "0.3"}, "FIELD_INVALID", "specversion"),
        ({"id": None}, "FIELD_REQUIRED", "id"),
        ({"id": ""}, "FIELD_REQUIRED", "id"),
        ({"source": None}, "FIELD_REQUIRED", "source"),
        ({"type": None}, "FIELD_REQUIRED", "type"),
        ({"type": "com.example.someevent"}, "MALFORMED_URI", "type"),
        ({"type": f"{GITHUB}/no_such"}, "UNKNOWN_EVENT_TYPE", "type"),
        ({"time": "yesterday"}, "FIELD_INVALID", "time"),
        ({"everyone": True}, "FIELD_INVALID", "everyone"),
        ({"everyone": False, "subscriber": None}, "FIELD_INVALID", "everyone"),
        ({"region": {"no": "text"}}, "FIELD_INVALID", "region"),
        ({"region": 1.5}, "FIELD_INVALID", "region"),
        ({"Region": "eu"}, "FIELD_INVALID", "Region"),
        ({"data": {"zen": "z", "nope": {"deep": 1}}}, "UNKNOWN_FIELD", "data.nope"),
        ({"data": {"hook": {"nope": 1}}}, "UNKNOWN_FIELD", "data.hook.nope"),
        ({"data": {"hook_id": "x"}}, "DATA_MALFORMED", "data.hook_id"),
        ({"data": "text"}, "DATA_MALFORMED", "data"),
        ({"data": None}, "FIELD_REQUIRED", "data"),
        ({"traceparent": "00-zz"}, "FIELD_INVALID", "traceparent"),
        ({"subscriber": None}, "AUDIENCE_MISSING", None),
    ],
)
async def test_a_bad_event_is_refused_with_the_path_of_what_is_wrong(changes, reason, field):
    async with gateway() as served:
        answer = await served.cloud_event(cloud_event(**changes))
        assert refusal(answer) == (400, reason)
        if field is not None:
            assert answer.json()["error"]["fieldViolations"][0]["field"] == f"events[0].{field}"


@pytest.mark.parametrize(
    "changes", [{"data": None, "data_base64": "aGk="}, {"data": "hi", "datacontenttype": "text/plain"}]
)
async def test_content_that_is_no_json_is_refused_where_there_is_a_schema(changes):
    async with gateway() as served:
        assert refusal(await served.cloud_event(cloud_event(**changes))) == (400, "RAW_NOT_ALLOWED")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"data_base64": "aGk="}, "data_base64"),
        ({"data": None, "data_base64": "?"}, "data_base64"),
        ({"data": None, "data_base64": 1}, "data_base64"),
        ({"datacontenttype": "text/plain"}, "data"),
    ],
)
async def test_content_that_contradicts_itself_is_refused(changes, field):
    async with gateway() as served:
        answer = await served.cloud_event(cloud_event(**changes))
        assert refusal(answer) == (400, "FIELD_INVALID")
        assert answer.json()["error"]["fieldViolations"][0]["field"] == f"events[0].{field}"


OPEN = ["events.example.com/_"]


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ({"data": {"id": 1}}, ("application/json", b'{"id":1}')),
        ({"data": [1, 2], "datacontenttype": "application/json; charset=utf-8"}, ("application/json", b"[1,2]")),
        ({"data": "hi", "datacontenttype": "text/plain"}, ("text/plain", b"hi")),
        ({"data_base64": "aGk="}, ("application/octet-stream", b"hi")),
        ({"data_base64": "aGk=", "datacontenttype": "image/png"}, ("image/png", b"hi")),
        ({"data_base64": "AAE=", "datacontenttype": "application/protobuf"}, ("application/protobuf", b"\0\1")),
    ],
)
async def test_an_open_namespace_takes_any_content(content, kept):
    document = cloud_event(type="events.example.com/_/1/order", **{"data": None, **content})
    async with gateway(open_namespaces=OPEN) as served:
        raw = (await published(served, document))["raw"]
        assert (raw["contentType"], b64decode(raw["bytes"])) == kept


async def test_data_without_a_schema_is_refused_where_the_namespace_is_not_open():
    async with gateway() as served:
        answer = await served.cloud_event(cloud_event(type="events.example.com/_/1/order"))
        assert refusal(answer) == (400, "UNKNOWN_EVENT_TYPE")
        assert answer.json()["error"]["fieldViolations"][0]["field"] == "events[0].type"


async def test_protobuf_beside_ce_headers_is_the_message_of_the_type():
    async with gateway() as served:
        attributes = {f"ce-{name}": value for name, value in cloud_event(data=None).items()}
        body = PingEvent(zen="Keep it logically awesome.").SerializeToString()
        answer = await served.client.post(
            "/events", content=body, headers={"content-type": "application/protobuf", **attributes}
        )
        assert answer.status_code == 202, answer.text
        (result,) = answer.json()["results"]
        assert (await served.kept(result["name"]))["data"]["zen"] == "Keep it logically awesome."


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("application/cloudevents+protobuf", (501, "NOT_BUILT")),
        ("application/cloudevents-batch+protobuf", (501, "NOT_BUILT")),
        ("application/json", (415, "CONTENT_TYPE_UNSUPPORTED")),
        ("text/plain", (415, "CONTENT_TYPE_UNSUPPORTED")),
        ("application/x-www-form-urlencoded", (415, "CONTENT_TYPE_UNSUPPORTED")),
        ("", (415, "CONTENT_TYPE_UNSUPPORTED")),
    ],
)
async def test_other_content_types_are_refused(kind, expected):
    async with gateway() as served:
        assert refusal(await served.cloud_event(cloud_event(), kind)) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("application/protobuf", (400, "FIELD_REQUIRED")), ("text/plain", (415, "CONTENT_TYPE_UNSUPPORTED"))],
)
async def test_data_of_another_content_type_beside_ce_headers_is_refused(kind, expected):
    async with gateway() as served:
        answer = await served.client.post("/events", headers={"content-type": kind, "ce-specversion": "1.0"})
        assert refusal(answer) == expected


@pytest.mark.parametrize(
    ("document", "kind"),
    [([], "application/cloudevents+json"), ("text", "application/cloudevents+json"), ({}, BATCH), ([1], BATCH)],
)
async def test_a_document_of_the_wrong_shape_is_refused(document, kind):
    async with gateway() as served:
        assert refusal(await served.cloud_event(document, kind)) == (400, "MALFORMED_REQUEST")


async def test_an_empty_batch_and_one_of_too_many_events_are_refused():
    async with gateway() as served:
        assert refusal(await served.cloud_event([], BATCH)) == (400, "FIELD_REQUIRED")
        many = [cloud_event(id=str(number)) for number in range(1001)]
        assert refusal(await served.cloud_event(many, BATCH)) == (400, "TOO_MANY_EVENTS")


async def test_a_body_that_is_no_json_or_too_large_is_refused():
    async with gateway(max_request_bytes=1000) as served:
        for body, expected in ((b"{", (400, "MALFORMED_REQUEST")), (b" " * 1001, (413, "PAYLOAD_TOO_LARGE"))):
            answer = await served.client.post(
                "/events", content=body, headers={"content-type": "application/cloudevents+json"}
            )
            assert refusal(answer) == expected


async def test_a_header_that_is_there_twice_or_no_utf8_is_refused():
    base = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-source", "//x"),
        ("ce-type", f"{GITHUB}/ping"),
    ]
    async with gateway() as served:
        for more in ([("ce-id", "1"), ("ce-id", "2")], [("ce-id", "%FF")]):
            answer = await served.client.post("/events", content=json.dumps({}), headers=[*base, *more])
            assert refusal(answer) == (400, "FIELD_INVALID")
            assert answer.json()["error"]["fieldViolations"][0]["field"] == "events[0].id"
