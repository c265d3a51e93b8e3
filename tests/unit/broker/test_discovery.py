"""Discovery asks other gateways, believes little of what they answer, and remembers it for a while."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from certes.v1.schema_pb2 import Schema, SchemaVersion
from certes.v1.schema_service_pb2 import ListSchemasRequest, ListSchemasResponse
from certes_broker.broker.conversion import WIRE_BYTES, Conversion
from certes_broker.broker.discovery import LIFETIME, PAGE_BYTES, PAGES, REMEMBERED, Discovery
from certes_broker.domain.discovery import DiscoveryUri, parse_discovery_uri
from certes_broker.domain.errors import Invalid, PermissionDenied, Reason, Unavailable
from certes_broker.domain.schemas import VersionName
from certes_broker.ports.sender import SendFailure
from certes_broker.schemas.registry import Registry
from tests.fakes.inline_workers import InlineWorkers
from tests.fakes.manual_clock import ManualClock
from tests.fakes.scripted_sender import Answers, Fails, Holds, ScriptedSender

GATEWAY = parse_discovery_uri("events://events.meetly.com")
URL = "https://events.meetly.com:9600/api/certes.v1.SchemaService/ListSchemas"
PROTO = {"content-type": "application/proto"}


@pytest.fixture
def sender() -> ScriptedSender:
    return ScriptedSender()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def workers() -> InlineWorkers:
    return InlineWorkers(Registry())


@pytest.fixture
def discovery(sender: ScriptedSender, clock: ManualClock, workers: InlineWorkers) -> Discovery:
    return Discovery(sender, clock, Conversion(workers.documents, workers.as_workers()))


def listing(*types: str, token: str = "", **fields: object) -> Answers:
    answer = ListSchemasResponse(
        schemas=[Schema(type=text, message="m.M", origin=Schema.ORIGIN_REGISTERED, **fields) for text in types],
        versions=[SchemaVersion(domain="events.meetly.com", namespace="_", version=1, revision=3)],
        next_page_token=token,
    )
    return Answers(200, PROTO, answer.SerializeToString())


def bulky(domain: str, descriptors: FileDescriptorSet) -> Answers:
    """A gateway's answer that is one event type, and the descriptors of its version."""
    answer = ListSchemasResponse(
        schemas=[Schema(type=f"{domain}/_/1/a")],
        versions=[SchemaVersion(domain=domain, namespace="_", version=1, descriptor_set=descriptors)],
    )
    return Answers(200, PROTO, answer.SerializeToString())


def types_of(found) -> list[str]:
    return [schema.type.text for schema in found.schemas]


async def test_schemas_are_fetched_page_by_page_and_marked_as_foreign(discovery, sender) -> None:
    sender.script(URL, listing("events.meetly.com/_/1/b", token="more"), listing("events.meetly.com/_/1/a"))
    found = await discovery.find(GATEWAY)
    assert types_of(found) == ["events.meetly.com/_/1/a", "events.meetly.com/_/1/b"]
    assert list(found.versions) == [VersionName("events.meetly.com", "_", 1)]
    for schema in found.schemas:
        told = Schema.FromString(schema.body)
        assert (told.origin, told.gateway) == (Schema.ORIGIN_FOREIGN, "events://events.meetly.com")
    asked = [ListSchemasRequest.FromString(request.body) for request in sender.requests]
    assert [request.page_token for request in asked] == ["", "more"]


async def test_only_the_namespace_that_is_wanted_is_asked_for(discovery, sender) -> None:
    sender.script(URL, listing("events.meetly.com/pay/cards/1/a"))
    await discovery.find(parse_discovery_uri("events://events.meetly.com/pay/cards"))
    assert ListSchemasRequest.FromString(sender.requests[0].body).namespace == "pay/cards"


async def test_an_answer_is_remembered_until_its_lifetime_ends(discovery, sender, clock) -> None:
    sender.script(URL, listing("events.meetly.com/_/1/a"), listing("events.meetly.com/_/1/b"))
    first = await discovery.find(GATEWAY)
    assert await discovery.find(GATEWAY) is first
    clock.advance(LIFETIME)
    assert types_of(await discovery.find(GATEWAY)) == ["events.meetly.com/_/1/b"]


async def test_a_refresh_asks_again(discovery, sender) -> None:
    sender.script(URL, listing("events.meetly.com/_/1/a"), listing("events.meetly.com/_/1/b"))
    await discovery.find(GATEWAY)
    assert types_of(await discovery.find(GATEWAY, refresh=True)) == ["events.meetly.com/_/1/b"]


async def test_who_asks_at_the_same_time_shares_one_fetch(discovery, sender) -> None:
    held = Holds(then=listing("events.meetly.com/_/1/a"))
    sender.script(URL, held)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(discovery.find(GATEWAY)) for _ in range(5)]
        await sender.sent(1)
        held.until.set()
    assert len(sender.requests) == 1
    assert len({id(one.result()) for one in asked}) == 1


async def test_when_the_one_who_fetches_goes_away_another_goes_on(discovery, sender) -> None:
    held = Holds(then=listing("events.meetly.com/_/1/a"))
    sender.script(URL, held)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(discovery.find(GATEWAY))
        await sender.sent(1)
        second = group.create_task(discovery.find(GATEWAY))
        await asyncio.sleep(0)
        first.cancel()
        await sender.sent(2)
        held.until.set()
    assert types_of(second.result()) == ["events.meetly.com/_/1/a"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Fails(SendFailure.CONNECT, "connection refused"), "connection refused"),
        (Answers(404, {"content-type": "text/html"}, b"<html>"), "HTTP 404"),
        (
            Answers(503, {"content-type": "application/json"}, b'{"code":"unavailable","message":"draining"}'),
            "draining",
        ),
        (Answers(200, {"content-type": "text/html"}, b"<html>"), "no gateway"),
        (Answers(200, PROTO, b"\xff\xff\xff"), "no list of schemas"),
        (Answers(200, PROTO, b"\0" * (PAGE_BYTES + 1)), "more than"),
        (listing("no uri"), "no event URI"),
        (listing("events.meetly.com/_/1/a", token="for ever"), "more than this broker reads"),
        (bulky("a.b", FileDescriptorSet(file=[FileDescriptorProto()] * 1001)), "more than 1000 files"),
        (listing(*["a.b/_/1/x"] * 1001), "more than 1000 schemas"),
        (listing(*[f"a.b/_/1/x{number}" for number in range(1000)], token="t"), "more than this broker reads"),
        (listing("a.b/_/1/x", comment="x" * (128 << 10)), "more than 131072 bytes"),
        (bulky("a.b", FileDescriptorSet(file=[FileDescriptorProto(name="x" * (3 << 20))])), "more than 3145728 bytes"),
    ],
)
async def test_what_answers_otherwise_is_unreachable_and_not_remembered(discovery, sender, answer, said) -> None:
    sender.script(URL, answer)
    with pytest.raises(Unavailable, match=said) as refusal:
        await discovery.find(GATEWAY)
    assert refusal.value.reason is Reason.GATEWAY_UNREACHABLE
    assert len(sender.requests) <= PAGES
    assert discovery.remembered_bytes == 0
    sender.script(URL, listing("events.meetly.com/_/1/a"))
    assert types_of(await discovery.find(GATEWAY)) == ["events.meetly.com/_/1/a"]


async def test_a_long_answer_is_read_by_a_worker(discovery, sender, workers) -> None:
    sender.script(URL, listing("a.b/_/1/a"))
    await discovery.find(GATEWAY)
    assert not workers.done
    sender.script(URL, bulky("a.b", FileDescriptorSet(file=[FileDescriptorProto(name="x" * WIRE_BYTES)])))
    await discovery.find(GATEWAY, refresh=True)
    assert workers.done == ["read_foreign_page"]


async def test_what_was_not_asked_for_and_what_cannot_be_shown_is_left_out(discovery, sender) -> None:
    answer = ListSchemasResponse(
        schemas=[
            Schema(type="a.b/other/1/x"),
            Schema(type="A.b/pay/1/x", message="m\x1b[2J", file="\u202ea.proto", comment="one\r\ntwo\x07"),
        ],
        versions=[SchemaVersion(domain="a.b", namespace=name, version=1) for name in ("other", "pay", "more")],
    )
    sender.script(URL, Answers(200, PROTO, answer.SerializeToString()))
    found = await discovery.find(parse_discovery_uri("events://events.meetly.com/pay"))
    assert types_of(found) == ["a.b/pay/1/x"]
    assert list(found.versions) == [VersionName("a.b", "pay", 1)]
    told = Schema.FromString(found.schemas[0].body)
    assert (told.message, told.file, told.comment) == ("m [2J", " a.proto", "one \ntwo ")


async def test_an_address_that_the_guard_refuses_is_not_asked(discovery, sender) -> None:
    sender.script(URL, Fails(SendFailure.ADDRESS_REFUSED, "10.0.0.1 is private"))
    with pytest.raises(PermissionDenied, match="private") as refusal:
        await discovery.find(GATEWAY)
    assert refusal.value.reason is Reason.ADDRESS_NOT_ALLOWED


async def test_what_is_remembered_is_bounded_by_count_and_the_oldest_goes_first(discovery, sender) -> None:
    sizes = []
    for number in range(REMEMBERED + 5):
        uri = parse_discovery_uri(f"events://gateway{number}.example.com")
        url = f"https://gateway{number}.example.com:9600/api/certes.v1.SchemaService/ListSchemas"
        sender.script(url, listing(f"gateway{number}.example.com/_/1/a"))
        await discovery.find(uri)
        sizes.append(discovery.remembered_bytes)
    assert max(sizes[-5:]) <= max(sizes[:REMEMBERED]) * 1.1
    asked = len(sender.requests)
    await discovery.find(parse_discovery_uri("events://gateway0.example.com"))
    assert len(sender.requests) == asked + 1


async def test_what_is_remembered_is_bounded_by_bytes(discovery, sender) -> None:
    big = FileDescriptorSet(file=[FileDescriptorProto(name="x" * (2 << 20))])
    for number in range(30):
        url = f"https://gateway{number}.example.com:9600/api/certes.v1.SchemaService/ListSchemas"
        sender.script(url, bulky(f"gateway{number}.example.com", big))
        await discovery.find(parse_discovery_uri(f"events://gateway{number}.example.com"))
        assert discovery.remembered_bytes <= 64 << 20
    asked = len(sender.requests)
    await discovery.find(parse_discovery_uri("events://gateway29.example.com"))
    assert len(sender.requests) == asked


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("events://events.meetly.com", "events://events.meetly.com"),
        ("EVENTS://Events.Meetly.com:9600/", "events://events.meetly.com"),
        ("events://127.0.0.1:9700/github", "events://127.0.0.1:9700/github"),
        ("events://[::1]:9700/a/b", "events://[::1]:9700/a/b"),
        ("events://h/_", "events://h/_"),
    ],
)
def test_a_discovery_uri_names_a_gateway_and_perhaps_a_namespace(text: str, canonical: str) -> None:
    assert parse_discovery_uri(text).text == canonical


@pytest.mark.parametrize(
    "text",
    ["", "http://h", "events://", "events://h/a b", "events://h//a", "events://h/A", "h/a", "events://h/" + "a/" * 200],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_discovery_uri(text)
    assert refusal.value.reason is Reason.MALFORMED_URI
    assert "position" in refusal.value.metadata


async def test_a_gateway_on_this_machine_is_asked_without_tls(discovery, sender) -> None:
    url = "http://127.0.0.1:9700/api/certes.v1.SchemaService/ListSchemas"
    sender.script(url, listing("events.meetly.com/_/1/a"))
    found = await discovery.find(DiscoveryUri(parse_discovery_uri("events://127.0.0.1:9700").gateway))
    assert [request.url for request in sender.requests] == [url]
    assert types_of(found) == ["events.meetly.com/_/1/a"]
