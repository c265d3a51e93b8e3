"""Open namespaces: events without schemas, for those who want to begin without; and what is refused even there."""

from __future__ import annotations

from typing import Any

import pytest

from certes.community.github.v1.ping_event_pb2 import PingEvent
from certes.v1.event_pb2 import Event
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import Micros
from certes_broker.domain.open_namespaces import OpenNamespaces
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.event_content import SAMPLED
from certes_broker.schemas.events import EventReader
from certes_broker.schemas.registry import Registry

NOW = Micros(1_800_000_000_123_456)
OPEN = OpenNamespaces.parse(["Events.Meetly.com/_", "community.certes.dev/github"])
ORDER = "events.meetly.com/_/1/order"
PING = "community.certes.dev/github/1/ping"
RAW = {"content_type": "application/json", "bytes": b'{"id": 1}'}


@pytest.fixture
def registry() -> Registry:
    return Registry(community_versions())


@pytest.fixture
def reader(registry: Registry) -> EventReader:
    return EventReader(registry, max_event_bytes=4096, open_namespaces=OPEN)


def event(**fields: Any) -> bytes:
    given = {"id": "e1", "type": ORDER, "source": "//test", "raw": RAW, "everyone": True, **fields}
    return Event(**{name: value for name, value in given.items() if value is not None}).SerializeToString()


def refusal(reader: EventReader, wire: bytes) -> Invalid:
    with pytest.raises(Invalid) as raised:
        reader.read(wire, NOW)
    return raised.value


def test_raw_content_of_an_unregistered_type_is_taken(reader) -> None:
    accepted = reader.read(event(), NOW)
    assert (accepted.type, accepted.options) == (ORDER, ())
    assert Event.FromString(accepted.body).raw.bytes == RAW["bytes"]


def test_so_is_data_of_any_message(reader) -> None:
    accepted = reader.read(event(raw=None, data={"type_url": "x/meetly.v1.Order", "value": b"\x08\x01"}), NOW)
    assert Event.FromString(accepted.body).data.value == b"\x08\x01"


def test_the_type_is_spelled_canonically_each_time(reader) -> None:
    for _ in range(2):
        assert reader.read(event(type="EVENTS.meetly.com/_/1/order"), NOW).type == ORDER


@pytest.mark.parametrize(
    ("fields", "reason", "path"),
    [
        ({"type": "events.meetly.com/pay/1/order"}, Reason.UNKNOWN_EVENT_TYPE, "event.type"),
        ({"type": "other.meetly.com/_/1/order"}, Reason.UNKNOWN_EVENT_TYPE, "event.type"),
        ({"type": "events.meetly.com/_/1/_order"}, Reason.UNKNOWN_EVENT_TYPE, "event.type"),
        ({"type": "events.meetly.com/_/0/order"}, Reason.MALFORMED_URI, "event.type"),
        ({"raw": None}, Reason.FIELD_REQUIRED, "event.raw"),
        ({"raw": {"bytes": b"x"}}, Reason.FIELD_REQUIRED, "event.raw.content_type"),
        ({"raw": {"content_type": "json"}}, Reason.FIELD_INVALID, "event.raw.content_type"),
        ({"raw": {"content_type": "text/plain\r\nx: y"}}, Reason.FIELD_INVALID, "event.raw.content_type"),
        ({"raw": {"content_type": "a/b" + ";c=d" * 64}}, Reason.FIELD_INVALID, "event.raw.content_type"),
        ({"raw": None, "data": {"value": b"x"}}, Reason.FIELD_REQUIRED, "event.data.type_url"),
        ({"type": PING}, Reason.RAW_NOT_ALLOWED, "event.raw"),
    ],
)
def test_what_is_refused_all_the_same(reader, fields, reason, path) -> None:
    error = refusal(reader, event(**fields))
    assert error.reason is reason
    assert error.violations[0].field == path


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/json; charset=utf-8", 'a/b;c="d e"', "image/svg+xml"]
)
def test_any_media_type_is_taken(reader, content_type) -> None:
    reader.read(event(raw={"content_type": content_type, "bytes": b""}), NOW)


def test_a_type_that_gets_a_schema_takes_raw_content_no_more() -> None:
    other = Registry(community_versions())
    reader = EventReader(fresh := Registry(), max_event_bytes=4096, open_namespaces=OPEN)
    reader.read(event(type=PING), NOW)
    for version in other.versions():
        fresh.put(version)
    assert refusal(reader, event(type=PING)).reason is Reason.RAW_NOT_ALLOWED


class Watch:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def noticed(self, schema, fields, seen_in) -> None:
        self.told.append((schema.type_text, seen_in.source, seen_in.event_id))


def ping(event_id: str, extra: bytes = b"") -> bytes:
    value = PingEvent(zen="keep it simple").SerializeToString() + extra
    data = {"type_url": "type.googleapis.com/certes.community.github.v1.PingEvent", "value": value}
    return event(id=event_id, type=PING, raw=None, data=data)


def test_unknown_fields_are_kept_and_noticed_in_a_sample(registry) -> None:
    watch = Watch()
    reader = EventReader(registry, max_event_bytes=4096, drift=watch)
    unknown = b"\xf8\x3e\x01"
    for number in range(SAMPLED + 1):
        assert unknown in reader.read(ping(f"e{number}", unknown), NOW).body
    assert watch.told == [(PING, "//test", "e0"), (PING, "//test", f"e{SAMPLED}")]


def test_what_the_schema_knows_is_no_drift(registry) -> None:
    watch = Watch()
    reader = EventReader(registry, max_event_bytes=4096, drift=watch)
    reader.read(ping("e1"), NOW)
    assert watch.told == []
