"""Nonsense: bytes that mean nothing, in every place where bytes come from outside."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest
from grpc import aio
from hypothesis import given
from hypothesis import strategies as st

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1.delivery_pb2 import Delivery
from certes.v1.event_pb2 import Event
from certes.v1.event_service_pb2 import PublishRequest, PublishStreamRequest
from certes_sdk import CertesError, Client
from certes_sdk.cloudevents import read_event
from certes_sdk.coalescing import Entry, Limits, PublishQueue
from certes_sdk.discovery import Found, judge
from certes_sdk.errors import from_status
from certes_sdk.message_types import KnownMessages
from certes_sdk.outgoing import Outgoing, encode, head_of, publish_request
from certes_sdk.raw_event import RawEvent
from certes_sdk.signatures import read_key, verify
from certes_sdk.uris import parse_event_type, parse_gateway, parse_pattern
from tests.fakes.sdk_broker import PUSH
from tests.fakes.sdk_waiting import until

TYPES = KnownMessages(lambda: "d.example")
KEYS = [key for text in ("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",) if (key := read_key(text))]

texts = st.text(max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def refused(call, *args, **kwargs) -> CertesError | None:
    """Returns the refusal of a call; None if there was none. Anything else that is raised is a fault."""
    try:
        call(*args, **kwargs)
    except CertesError as error:
        return error
    return None


@given(texts)
def test_any_text_is_a_uri_or_is_refused(text):
    for parse in (parse_event_type, parse_pattern, parse_gateway):
        error = refused(parse, text)
        assert error is None or 0 <= int(error.metadata["position"]) <= len(text)


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()), st.booleans())
def test_any_answer_of_a_gateway_is_judged(body, found_on_loopback):
    error = refused(judge, body, found_on_loopback=found_on_loopback)
    assert error is not None
    assert error.reason in ("PROTOCOL_UNSUPPORTED", "GATEWAY_INSECURE")


@given(st.binary(max_size=200))
def test_any_details_of_a_status_make_an_error(details):
    assert str(from_status("UNAVAILABLE", "gone", details)).endswith("gone")


headers = st.dictionaries(
    st.sampled_from(
        [
            "content-type",
            "ce-specversion",
            "ce-id",
            "ce-type",
            "ce-source",
            "ce-time",
            "ce-everyone",
            "ce-x",
            "traceparent",
        ]
    ),
    st.sampled_from(["application/json", "application/cloudevents+json", "1.0", PUSH, "%", "%ff", "%20"])
    | st.text(st.characters(max_codepoint=255), max_size=10),
)
documents = st.fixed_dictionaries(
    {"specversion": st.just("1.0"), "id": texts, "source": texts, "type": st.just(PUSH) | texts},
    optional=dict.fromkeys(
        ("data", "data_base64", "datacontenttype", "time", "subject", "everyone", "subscriber", "x"), json_values
    ),
)


@given(headers, st.binary(max_size=60) | (documents | json_values).map(lambda value: json.dumps(value).encode()))
def test_any_webhook_is_an_event_or_is_refused(given_headers, body):
    structured = {"content-type": "application/cloudevents+json"}
    for all_headers in (given_headers, given_headers | structured):
        try:
            raw = read_event(all_headers, body, TYPES)
        except CertesError as error:
            assert error.reason == "PAYLOAD_MALFORMED"  # noqa: PT017 - one of two outcomes
            continue
        assert raw.id
        assert isinstance(raw.content, bytes)
        refused(raw.to, PushEvent)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), texts | st.just("1764221727")
        )
    )
)
def test_any_signature_is_judged(pairs):
    error = refused(verify, KEYS, pairs, b"", 1764221727.0)
    assert error is not None
    assert error.reason == "SIGNATURE_INVALID"


@given(st.binary(max_size=100))
def test_any_data_is_a_message_or_malformed(data):
    event = Event(id="1", type=PUSH)
    event.data.type_url = "type.googleapis.com/certes.community.github.v1.PushEvent"
    event.data.value = data
    error = refused(RawEvent(Delivery(), event, TYPES).to, PushEvent)
    assert error is None or error.reason == "DATA_MALFORMED"


@given(st.text(max_size=300), st.text(min_size=1, max_size=300), st.text(max_size=300), st.text(max_size=5000))
def test_what_is_encoded_is_what_the_stubs_read(subject, event_id, subscriber, message):
    head = head_of(PUSH, "apps/a", "type.googleapis.com/certes.community.github.v1.PushEvent")
    push = PushEvent(ref=message)
    outgoing = Outgoing(push, subscriber=subscriber, subject=subject, id=event_id)
    entry: Entry | None = None
    try:
        entry = encode(head, outgoing)
    except CertesError as error:
        assert error.reason in ("AUDIENCE_MISSING", "FIELD_INVALID")  # noqa: PT017 - one of two outcomes
        return
    (event,) = PublishStreamRequest.FromString(entry.wire).events
    assert list(PublishRequest.FromString(publish_request([entry])).events) == [event]
    # An empty message is spelled out, which the stubs would not do.
    assert entry.size == event.ByteSize() + (0 if event.data.value else 2)
    assert (event.id, event.subject, event.subscriber, event.source) == (event_id, subject, subscriber, "apps/a")
    assert PushEvent.FromString(event.data.value) == push


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "take", "answer", "back", "give up"]),
        st.sampled_from(["", "a", "b"]),
        st.integers(1, 60),
        st.integers(0, 10),
    ),
    max_size=60,
)


@given(steps)
def test_the_queue_loses_nothing_and_keeps_the_order_of_keys(made):
    queue = PublishQueue(Limits(request_events=4, request_bytes=100, under_way_events=8, under_way_bytes=200))
    added: list[Entry] = []
    under_way: list[list[Entry]] = []
    done: list[Entry] = []
    for kind, key, size, which in made:
        match kind:
            case "add":
                added.append(Entry(b"x", size, key, str(len(added))))
                queue.add(added[-1])
            case "take":
                if taken := queue.take():
                    under_way.append(taken)
            case "answer" | "back" if under_way:
                request = under_way.pop(which % len(under_way))
                if kind == "answer":
                    queue.answered(request)
                    done += request
                else:
                    queue.put_back(request)
            case "give up" if added:
                queue.give_up(added[which % len(added)])
        assert queue.under_way_events == sum(map(len, under_way))
        assert queue.under_way_bytes == sum(entry.size for request in under_way for entry in request)
        keys = [{entry.key for entry in request if entry.key} for request in under_way]
        assert sum(map(len, keys)) == len(set().union(*keys))
    while taken := queue.take() or under_way:
        request = under_way.pop(0) if taken is under_way else taken
        queue.answered(request)
        done += request
    assert queue.waiting_events == queue.waiting_bytes == queue.under_way_events == 0
    assert {entry.id for entry in added if not entry.given_up} <= {entry.id for entry in done}
    assert len(done) == len(set(done))
    for key in ("a", "b"):
        numbers = [entry.number for entry in done if entry.key == key]
        assert numbers == sorted(numbers)


class Nonsense(grpc.GenericRpcHandler):
    """Answers every rpc with bytes that are no message."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def service(self, call_details):
        self.calls.append(call_details.method)

        async def unary(request, context):
            return b"\xff\xff"

        async def stream(request, context):
            yield b"\xff\xff"

        match call_details.method.rpartition("/")[2]:
            case "Subscribe":
                return grpc.unary_stream_rpc_method_handler(stream)
            case "PublishStream":
                return grpc.stream_stream_rpc_method_handler(stream)
            case _:
                return grpc.unary_unary_rpc_method_handler(unary)


async def test_a_broker_that_talks_nonsense_is_asked_again_and_breaks_nothing(clock):
    nonsense = Nonsense()
    server = aio.server()
    server.add_generic_rpc_handlers([nonsense])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    found = Found(f"127.0.0.1:{port}", tls=False, domain="d.example")
    client = Client("events://d.example", app="a")._with(clock=clock, finder=lambda: found)
    run = asyncio.gather(client.run())
    publishing = asyncio.gather(client.publish(PushEvent(), everyone=True), return_exceptions=True)
    for method in ("Subscribe", "PublishStream"):
        for _ in range(3):
            seen = len(nonsense.calls)
            path = f"/certes.v1.EventService/{method}"
            await until(lambda: clock.advance(0.001) or path in nonsense.calls[seen:])  # noqa: B023 - awaited at once
    # What was published is waited for until its time is over.
    closing = asyncio.gather(client.close())
    await until(lambda: clock.advance(0.1) or closing.done())
    await closing
    await run
    (outcome,) = await publishing
    assert isinstance(outcome, CertesError)
    await server.stop(None)


@pytest.mark.parametrize("path", ["", "/other"])
async def test_a_websocket_is_closed(path):
    client = Client("events://d.example")
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    await client.asgi_handler()({"type": "websocket", "path": path}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]
