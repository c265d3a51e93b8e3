"""Every rpc by the Connect protocol: JSON and protobuf, unary and server streams, refusals."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from certes.v1 import event_service_pb2 as pb
from tests.contracts.http_gateway import GITHUB, PUSH, Gateway, gateway, refusal

PUBLISH = "/api/certes.v1.EventService/Publish"
SUBSCRIBE = "/api/certes.v1.EventService/Subscribe"


def event(**changes: Any) -> dict[str, Any]:
    document = {
        "id": "a-1",
        "type": f"{GITHUB}/ping",
        "source": "//billing.example.com",
        "subscriber": "org_123",
        "data": {"zen": "Speak like a human.", "hook_id": 42},
    }
    return {name: value for name, value in (document | changes).items() if value is not None}


def envelope(document: Any) -> bytes:
    body = json.dumps(document).encode()
    return struct.pack(">BI", 0, len(body)) + body


class Frames:
    """Reads the envelopes of an answer as they come."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = b""

    async def next(self) -> tuple[int, Any]:
        """Returns the flags of the next envelope, and its document."""
        while len(self._buffer) < 5 or len(self._buffer) < 5 + struct.unpack(">BI", self._buffer[:5])[1]:
            self._buffer += await anext(self._chunks)
        flags, length = struct.unpack(">BI", self._buffer[:5])
        body, self._buffer = self._buffer[5 : 5 + length], self._buffer[5 + length :]
        return flags, json.loads(body)


def subscription_request(**changes: Any) -> dict[str, Any]:
    return {
        "parent": "subscribers/org_123",
        "subscription_id": "app",
        "subscription": {"selectors": [{"pattern": f"{GITHUB}/*"}], "stream": {}} | changes,
    }


async def test_an_event_is_published_with_data_typed_by_its_type_alone():
    async with gateway() as served:
        answer = await served.call("Publish", {"events": [event()]})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        (result,) = answer.json()["results"]
        assert result["id"] == "a-1"
        kept = await served.kept(result["name"])
        assert kept["data"]["zen"] == "Speak like a human."
        assert kept["data"]["hook_id"] == "42"
        assert "@type" not in kept["data"]


@pytest.mark.parametrize("name", ["orderingKey", "ordering_key"])
async def test_fields_may_be_named_as_in_json_or_as_in_the_proto(name):
    async with gateway() as served:
        answer = await served.call("Publish", {"events": [event(**{name: "key"})]})
        kept = await served.kept(answer.json()["results"][0]["name"])
        assert kept["orderingKey"] == "key"


@pytest.mark.parametrize(
    "type_url", ["type.googleapis.com/certes.community.github.v1.PingEvent", "x/certes.community.github.v1.PingEvent"]
)
async def test_data_may_name_its_message_if_it_is_the_right_one(type_url):
    async with gateway() as served:
        good = event(data={"@type": type_url, "zen": "z"})
        assert (await served.call("Publish", {"events": [good]})).status_code == 200
        bad = event(id="a-2", data={"@type": "x/certes.community.github.v1.PushEvent"})
        assert refusal(await served.call("Publish", {"events": [bad]})) == (400, "DATA_TYPE_MISMATCH")


@pytest.mark.parametrize(
    ("request_document", "reason", "fields"),
    [
        ({"events": [event(), event(bogus=1)]}, "UNKNOWN_FIELD", ["events[1].bogus"]),
        ({"event": []}, "UNKNOWN_FIELD", ["event"]),
        (
            {"events": [event(data={"nope": 1, "hook": {"no": 2}})]},
            "UNKNOWN_FIELD",
            ["events[0].data.nope", "events[0].data.hook.no"],
        ),
        ({"events": [event(type=None)]}, "FIELD_REQUIRED", ["events[0].type"]),
        ({"events": [event(type="x")]}, "MALFORMED_URI", ["events[0].type"]),
        ({"events": [event(data={"zen": 7})]}, "DATA_MALFORMED", ["events[0].data.zen"]),
        ({"events": [event(raw={"contentType": "text/plain"})]}, "FIELD_INVALID", ["events[0].raw"]),
        ({"events": [event(subscriber=None)]}, "AUDIENCE_MISSING", None),
        ({"events": []}, "FIELD_REQUIRED", ["events"]),
        ({"events": {"no": "list"}}, "MALFORMED_REQUEST", None),
        ([], "MALFORMED_REQUEST", None),
    ],
)
async def test_a_bad_request_is_refused_with_the_path_of_what_is_wrong(request_document, reason, fields):
    async with gateway() as served:
        answer = await served.call("Publish", request_document)
        assert refusal(answer) == (400, reason)
        document = answer.json()
        assert document["code"] == "invalid_argument"
        if fields is not None:
            violations = document["details"][1]["debug"]["fieldViolations"]
            assert [violation["field"] for violation in violations] == fields


async def test_the_details_of_a_refusal_are_those_of_grpc():
    async with gateway() as served:
        answer = await served.call("Publish", {"events": [event(bogus=1)]})
        info, bad = answer.json()["details"]
        assert (info["type"], bad["type"]) == ("google.rpc.ErrorInfo", "google.rpc.BadRequest")
        decoded = ErrorInfo.FromString(unpadded(info["value"]))
        assert (decoded.reason, decoded.domain) == ("UNKNOWN_FIELD", "certes.dev")
        assert BadRequest.FromString(unpadded(bad["value"])).field_violations[0].field == "events[0].bogus"


def unpadded(text: str) -> bytes:
    from base64 import b64decode

    return b64decode(text + "=" * (-len(text) % 4))


async def test_protobuf_is_carried_as_it_is():
    async with gateway() as served:
        answer = await served.webhook(PUSH)
        request = pb.GetEventRequest(name=answer.json()["name"])
        got = await served.client.post(
            "/api/certes.v1.EventService/GetEvent",
            content=request.SerializeToString(),
            headers={"content-type": "application/proto"},
        )
        assert got.headers["content-type"] == "application/proto"
        response = pb.GetEventResponse.FromString(got.content)
        assert response.event.event.subject == "meetly/meetly"
        assert response.original.body.startswith(b'{"ref"')


async def test_protobuf_that_does_not_decode_is_refused():
    async with gateway() as served:
        answer = await served.client.post(PUBLISH, content=b"\x0a\xff", headers={"content-type": "application/proto"})
        assert refusal(answer)[0] == 400


async def test_a_subscription_is_managed_by_json():
    async with gateway() as served:
        service = "SubscriptionService"
        made = await served.call(f"{service}/CreateSubscription", subscription_request())
        assert made.status_code == 200, made.text
        name = made.json()["subscription"]["name"]
        assert name == "subscribers/org_123/subscriptions/app"
        assert made.json()["subscription"]["state"] == "STATE_ACTIVE"
        paused = await served.call(f"{service}/PauseSubscription", {"name": name})
        assert paused.json()["subscription"]["state"] == "STATE_PAUSED"
        again = await served.call(f"{service}/CreateSubscription", subscription_request())
        assert refusal(again) == (409, "SUBSCRIPTION_EXISTS")
        gone = await served.call(f"{service}/GetSubscription", {"name": f"{name}x"})
        assert refusal(gone) == (404, "SUBSCRIPTION_NOT_FOUND")


async def test_a_stream_of_deliveries_is_read_and_acknowledged_by_json():
    async with gateway() as served:
        request = {"ephemeral": {"parent": "subscribers/org_123", "selectors": [{"pattern": f"{GITHUB}/*"}]}}
        async with open_stream(served, request) as answer:
            frames = Frames(answer.aiter_raw())
            _, first = await frames.next()
            await served.call("Publish", {"events": [event()]})
            flags, second = await frames.next()
            assert flags == 0
            batch = second["batch"]
            assert batch["firstOrdinal"] == "1"
            assert batch["deliveries"][0]["event"]["data"]["zen"] == "Speak like a human."
            settled = await served.call(
                "Acknowledge", {"stream": first["opened"]["stream"], "acked": [{"first": 1, "last": 1}]}
            )
            assert (settled.status_code, settled.json()) == (200, {})


async def test_a_client_that_hangs_up_ends_its_stream():
    async with gateway() as served:
        request = {"ephemeral": {"parent": "subscribers/org_123", "selectors": [{"pattern": f"{GITHUB}/*"}]}}
        async with open_stream(served, request) as answer:
            _, first = await Frames(answer.aiter_raw()).next()
        request = {"stream": first["opened"]["stream"], "acked": [{"first": 1, "last": 1}]}
        # The server hears of it a moment later; if it did not, the test would run out of time.
        while refusal(await served.call("Acknowledge", request)) != (400, "STREAM_ENDED"):
            pass


async def test_a_draining_broker_closes_a_stream_with_a_reason():
    async with gateway() as served:
        request = {"ephemeral": {"parent": "subscribers/org_123", "selectors": [{"pattern": f"{GITHUB}/*"}]}}
        async with open_stream(served, request) as answer:
            frames = Frames(answer.aiter_raw())
            await frames.next()
            await served.broker.drain()
            flags, closing = await frames.next()
            assert (flags, closing["closing"]["reason"]) == (0, "REASON_DRAINING")
            flags, end = await frames.next()
            assert (flags, end) == (2, {})


async def test_a_stream_that_is_refused_says_so_in_its_last_envelope():
    async with gateway() as served:
        for request, reason in (
            ({"subscription": "subscribers/org_123/subscriptions/none"}, "SUBSCRIPTION_NOT_FOUND"),
            ({"nope": 1}, "UNKNOWN_FIELD"),
        ):
            async with open_stream(served, request) as answer:
                assert answer.status_code == 200
                flags, end = await Frames(answer.aiter_raw()).next()
                assert flags == 2
                assert end["error"]["details"][0]["debug"]["reason"] == reason


def open_stream(served: Gateway, request: Any) -> Any:
    return served.client.stream(
        "POST", SUBSCRIBE, content=envelope(request), headers={"content-type": "application/connect+json"}
    )


async def test_a_stream_of_requests_is_refused_with_where_to_go():
    async with gateway() as served:
        answer = await served.call("PublishStream", {})
        assert refusal(answer) == (501, "NOT_BUILT")
        assert "gRPC" in answer.json()["message"]


@pytest.mark.parametrize(
    "path",
    ["/api/certes.v1.EventService/Nope", "/api/certes.v1.NoService/Publish", "/api/", "/api/Publish", PUBLISH + "/"],
)
async def test_a_method_that_is_not_there_is_unimplemented_as_by_grpc(path):
    async with gateway() as served:
        answer = await served.client.post(path, json={})
        assert refusal(answer) == (501, "METHOD_NOT_FOUND")
        assert answer.json()["code"] == "unimplemented"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_method_is_only_posted_to(method):
    async with gateway() as served:
        answer = await served.client.request(method, PUBLISH)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (PUBLISH, "text/plain"),
        (PUBLISH, ""),
        (PUBLISH, "application/x-www-form-urlencoded"),
        (PUBLISH, "application/connect+json"),
        (PUBLISH, "application/grpc"),
        (PUBLISH, "application/grpc-web+proto"),
        (SUBSCRIBE, "application/json"),
    ],
)
async def test_a_content_type_of_another_protocol_is_refused(path, kind):
    async with gateway() as served:
        answer = await served.client.post(path, content=b"{}", headers={"content-type": kind})
        assert refusal(answer) == (415, "CONTENT_TYPE_UNSUPPORTED")


@pytest.mark.parametrize("body", [b"", b"{", b'{"events": NaN}', b"[" * 5000])
async def test_a_body_that_is_no_json_is_refused(body):
    async with gateway() as served:
        answer = await served.client.post(PUBLISH, content=body, headers={"content-type": "application/json"})
        assert refusal(answer) == (400, "MALFORMED_REQUEST")


async def test_a_request_over_the_limit_is_refused():
    async with gateway(max_request_bytes=1000) as served:
        request = {"events": [event(subject="x" * 1000)]}
        assert refusal(await served.call("Publish", request)) == (413, "REQUEST_TOO_LARGE")

        async def undeclared() -> AsyncIterator[bytes]:
            yield json.dumps(request).encode()

        answer = await served.client.post(PUBLISH, content=undeclared(), headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (429, "resource_exhausted")


async def test_a_deadline_that_has_passed_ends_the_call():
    async with gateway() as served:
        request = {"ephemeral": {"parent": "subscribers/org_123", "selectors": [{"pattern": f"{GITHUB}/*"}]}}
        answer = await served.client.post(
            SUBSCRIBE,
            content=envelope(request),
            headers={"content-type": "application/connect+json", "connect-timeout-ms": "20"},
        )
        assert b"deadline_exceeded" in answer.content


async def test_filters_are_made_and_refused_by_json():
    async with gateway() as served:
        create = "SubscriptionService/CreateSubscription"
        request = subscription_request()
        request["subscription"]["filter"] = "event.id != 'x'"
        made = await served.call(create, request)
        assert made.json()["subscription"]["filter"] == "event.id != 'x'"
        request["subscription_id"] = "other"
        request["subscription"]["filter"] = "event.nope"
        refused = await served.call(create, request)
        assert refusal(refused) == (400, "FILTER_INVALID")
        [violation] = refused.json()["details"][1]["debug"]["fieldViolations"]
        assert violation["field"] == "subscription.filter"
        assert "undefined field 'nope'" in violation["description"]
