"""What all SDKs decide alike: every vector of tests/vectors but those of webhooks."""

from __future__ import annotations

from base64 import b64decode

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc.status_pb2 import Status

from certes.v1 import options_pb2
from certes.v1.problem_pb2 import Problem
from certes_sdk.coalescing import Entry, PublishQueue
from certes_sdk.discovery import Found, check, judge, loopback_literal
from certes_sdk.errors import CertesError, code_name, from_problem, from_status
from certes_sdk.event_types import read_binding
from certes_sdk.handlers import Handlers
from certes_sdk.ranges import cut, ranges_of
from certes_sdk.reconnecting import wait_before
from certes_sdk.settings import Arguments, read_settings
from certes_sdk.signatures import read_key, verify
from certes_sdk.uris import parse_event_type, parse_gateway, parse_pattern
from tests.fakes.sdk_vectors import body_of, vectors

URIS, PATTERNS, SIGNATURES = vectors("uris"), vectors("patterns"), vectors("signatures")
SETTINGS, DISCOVERY, ERRORS = vectors("settings"), vectors("discovery"), vectors("errors")
STANDARD = [one for one in SIGNATURES["verify"] if one["scheme"]["scheme"] == "standard_webhooks"]


def why(vector) -> str:
    return str(vector.get("why") or vector.get("text") or vector.get("pattern") or "")


def refusal(call, *args) -> CertesError:
    with pytest.raises(CertesError) as caught:
        call(*args)
    return caught.value


@pytest.mark.parametrize("vector", URIS["event_types"]["valid"], ids=why)
def test_an_event_uri_is_read(vector):
    assert parse_event_type(vector["text"]) == vector["canonical"]


@pytest.mark.parametrize("vector", URIS["event_types"]["invalid"], ids=why)
def test_a_malformed_event_uri_is_refused_with_the_place(vector):
    error = refusal(parse_event_type, vector["text"])
    assert (error.reason, error.metadata["position"]) == ("MALFORMED_URI", str(vector["position"]))


@pytest.mark.parametrize("vector", URIS["gateways"]["valid"], ids=why)
def test_a_gateway_uri_is_read(vector):
    gateway = parse_gateway(vector["text"])
    assert (gateway.host, gateway.port) == (vector["host"], vector["port"])


@pytest.mark.parametrize("vector", URIS["gateways"]["invalid"], ids=why)
def test_a_malformed_gateway_uri_is_refused_with_the_place(vector):
    error = refusal(parse_gateway, vector["text"])
    assert (error.reason, error.metadata["position"]) == ("MALFORMED_URI", str(vector["position"]))


@pytest.mark.parametrize("vector", PATTERNS["valid"], ids=why)
def test_a_pattern_matches_what_it_should(vector):
    pattern = parse_pattern(vector["pattern"])
    assert pattern.text == vector.get("canonical", vector["pattern"])
    assert [text for text in vector["matches"] if not pattern.matches(parse_event_type(text))] == []
    assert [text for text in vector["misses"] if pattern.matches(parse_event_type(text))] == []


@pytest.mark.parametrize("vector", PATTERNS["invalid"], ids=why)
def test_a_malformed_pattern_is_refused_with_the_place(vector):
    error = refusal(parse_pattern, vector["pattern"])
    assert (error.reason, error.metadata["position"]) == (vector["reason"], str(vector["position"]))


@pytest.mark.parametrize("vector", vectors("handlers")["handlers"], ids=why)
def test_the_most_specific_pattern_decides(vector):
    handlers = Handlers()
    calls = [lambda raw, number=number: number for number in range(len(vector["patterns"]))]
    for pattern, call in zip(vector["patterns"], calls, strict=True):
        handlers.add(pattern, call)
    for one in vector["events"]:
        assert [found.call(None) for found in handlers.of(one["type"])] == one["run"]


@pytest.mark.parametrize("vector", SETTINGS["settings"], ids=why)
def test_settings_are_arguments_then_the_environment_then_defaults(vector):
    arguments, expect = Arguments(**vector["arguments"]), vector["expect"]
    if "reason" in expect:
        error = refusal(read_settings, arguments, vector["environment"])
        assert error.reason == expect["reason"]
        assert error.metadata.get("field") == expect.get("field")
        assert error.metadata.get("position") == (str(expect["position"]) if "position" in expect else None)
        secrets = [vector["arguments"].get("token"), vector["environment"].get("CERTES_WEBHOOK_KEYS")]
        assert not [secret for secret in secrets if secret and secret in str(error)]
        return
    settings = read_settings(arguments, vector["environment"])
    gateway = {"host": settings.gateway.host, "port": settings.gateway.port}
    found = {name: getattr(settings, name) for name in expect}
    assert found | {"gateway": gateway, "webhook_keys": list(settings.webhook_keys)} == expect
    assert not settings.token or settings.token not in repr(settings)


@pytest.mark.parametrize("vector", SETTINGS["names"], ids=lambda vector: vector["subscription"])
def test_a_subscription_is_named_for_its_application(vector):
    settings = read_settings(Arguments("events://d", app=vector["app"], subscriber=vector["subscriber"]), {})
    assert settings.subscription(vector["name"]) == vector["subscription"]


@pytest.mark.parametrize("vector", DISCOVERY["answers"], ids=why)
def test_what_a_gateway_says_is_judged(vector):
    def find():
        found = judge(vector["body"].encode(), found_on_loopback=vector["found_on_loopback"])
        check(found)
        return found

    if "reason" in vector["expect"]:
        assert refusal(find).reason == vector["expect"]["reason"]
    else:
        found = find()
        asks = {"asks_certificate": True} if found.asks_certificate else {}
        assert {"address": found.address, "tls": found.tls, "domain": found.domain, **asks} == vector["expect"]


@pytest.mark.parametrize("vector", DISCOVERY["loopback"], ids=lambda vector: vector["host"])
def test_loopback_is_known_by_its_spelling(vector):
    assert bool(loopback_literal(vector["host"])) == vector["loopback"]


def shown(error: CertesError):
    return {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "text": str(error),
        "hint": error.hint,
        "metadata": dict(error.metadata),
        "violations": [{"field": one.field, "description": one.description} for one in error.violations],
        "retryable": error.retryable,
        "retry_after": error.retry_after,
    }


@pytest.mark.parametrize("vector", ERRORS["refusals"], ids=why)
def test_a_refusal_is_the_same_from_a_status_and_from_a_stream(vector):
    details = b64decode(vector["status"])
    status = Status.FromString(details)
    assert shown(from_status(code_name(status.code), status.message, details)) == vector["expect"]
    assert shown(from_problem(Problem.FromString(b64decode(vector["problem"])))) == vector["expect"]


@pytest.mark.parametrize("vector", ERRORS["plain"], ids=lambda vector: vector["code"])
def test_a_status_without_details_has_its_code_as_its_reason(vector):
    assert shown(from_status(code_name(vector["number"]), vector["message"], b"")) == vector["expect"]
    assert shown(from_status(vector["code"], vector["message"], b"\xff no status")) == vector["expect"]


@pytest.mark.parametrize("vector", vectors("event_types")["types"], ids=why)
def test_the_event_type_of_a_message_is_in_its_descriptor(vector):
    file = FileDescriptorProto(name="vector.proto", package=vector["package"], syntax="proto3")
    message = file.message_type.add(name=vector["message"])
    if vector["event"] is not None:
        message.options.Extensions[options_pb2.event].CopyFrom(options_pb2.EventBinding(**vector["event"]))
    if vector["schema"] is not None:
        file.options.Extensions[options_pb2.schema].CopyFrom(options_pb2.SchemaBinding(**vector["schema"]))
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName(f"{vector['package']}.{vector['message']}".lstrip("."))

    def find():
        return read_binding(descriptor).event_type(vector["broker_domain"], descriptor.full_name)

    if isinstance(vector["expect"], dict):
        assert refusal(find).reason == vector["expect"]["reason"]
    else:
        assert find() == vector["expect"]


@pytest.mark.parametrize("vector", vectors("ranges")["ranges"], ids=lambda vector: str(vector["ranges"]))
def test_ordinals_are_told_as_the_fewest_ranges(vector):
    assert ranges_of(vector["ordinals"]) == [tuple(span) for span in vector["ranges"]]


@pytest.mark.parametrize("vector", vectors("ranges")["cut"], ids=lambda vector: str(vector["now"]))
def test_more_ranges_than_fit_are_told_later(vector):
    now, later = cut(ranges_of(vector["ordinals"]), vector["maximum"])
    assert now == [tuple(span) for span in vector["now"]]
    assert later == vector["later"]


@pytest.mark.parametrize(
    "vector", vectors("reconnecting")["waits"], ids=lambda vector: f"{vector['try']}-{vector['chance']}"
)
def test_the_back_off_doubles_up_to_ten_seconds_with_chance(vector):
    assert wait_before(vector["try"], vector["chance"]) == pytest.approx(vector["wait"], abs=1e-6)


@pytest.mark.parametrize("vector", vectors("coalescing")["queues"], ids=why)
def test_the_next_request_takes_what_it_may(vector):
    queue = PublishQueue()
    under_way = {}
    for step in vector["steps"]:
        for one in step.get("add", []):
            queue.add(Entry(b"x", one["bytes"], one["key"], one["id"]))
        if "take" in step:
            taken = queue.take()
            assert [entry.id for entry in taken] == step["take"]
            under_way[tuple(step["take"])] = taken
        if "answered" in step:
            queue.answered(under_way.pop(tuple(step["answered"])))


@pytest.mark.parametrize("vector", SIGNATURES["secrets"]["valid"], ids=lambda vector: vector["text"][:20])
def test_a_secret_is_read(vector):
    key = read_key(vector["text"])
    assert key is not None
    assert key.key.hex() == vector["hex"]
    assert vector["hex"] not in repr(key)


@pytest.mark.parametrize("vector", SIGNATURES["secrets"]["invalid"], ids=why)
def test_what_is_no_secret_is_none(vector):
    assert read_key(vector["text"]) is None


@pytest.mark.parametrize("vector", STANDARD, ids=why)
def test_a_signature_is_accepted_or_refused_with_the_problem(vector):
    keys = [key for text in vector["secrets"] if (key := read_key(text)) is not None]
    headers = [tuple(pair) for pair in vector["headers"]]

    def judged() -> None:
        verify(keys, headers, body_of(vector), vector["now"])

    if vector["problem"] is None:
        judged()
    else:
        error = refusal(judged)
        assert (error.code, error.reason) == ("UNAUTHENTICATED", "SIGNATURE_INVALID")
        assert error.metadata["problem"] == vector["problem"]
        assert not [secret for secret in vector["secrets"] if len(secret) > 3 and secret in str(error)]


def test_what_was_given_up_is_let_go_of_where_nothing_can_be_sent():
    queue = PublishQueue()
    entries = [Entry(b"x", 1, key, str(number)) for number, key in enumerate(("", "k", "k", "", "k"))]
    for entry in entries[:2]:
        queue.add(entry)
    queue.answered(queue.take()[:1])
    for entry in entries[2:]:
        queue.add(entry)
    queue.put_back(queue.take())
    for entry in entries[2:]:
        queue.give_up(entry)
    queue.purge()
    assert list(queue.waiting()) == []
    assert (list(queue._line), queue._before, queue._held) == ([], [], {})


def test_a_name_of_this_machine_is_looked_up_once():
    """A name that leads elsewhere when it is connected to would have the token in clear."""
    place = check(Found("localhost:9601", tls=False, domain="d")).address
    assert loopback_literal(place.rpartition(":")[0].strip("[]"))
    assert place.endswith(":9601")
    assert "localhost" not in place
    assert check(Found("grpc.example.com:443", tls=True, domain="d")).address == "grpc.example.com:443"
