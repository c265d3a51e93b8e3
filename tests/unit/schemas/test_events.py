"""The one door: what is refused, for which reason and under which path; and that bytes stay bytes."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given
from hypothesis import strategies as st

from certes.community.github.v1.ping_event_pb2 import PingEvent
from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1.event_pb2 import Event
from certes_broker.domain.errors import CertesError, Invalid, Reason
from certes_broker.domain.events import Micros, Original
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.events import EventReader
from certes_broker.schemas.registry import Registry

PUSH = "community.certes.dev/github/1/push"
NOW = Micros(1_800_000_000_123_456)
LIMIT = 4096
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER_TRACE = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00"
UNKNOWN_FIELD = b"\xf8\x06\x01"
"""Field 111 with the value 1."""

REGISTRY = Registry(community_versions())
READER = EventReader(REGISTRY, max_event_bytes=LIMIT, new_id=lambda: "made-here")


def packed(message: Any = None) -> AnyMessage:
    data = AnyMessage()
    data.Pack(message or PushEvent(ref="refs/heads/main", repository={"full_name": "meetly/meetly"}))
    return data


def event(**fields: Any) -> Event:
    """A well-formed event with id and time, but for the fields given; None leaves one out."""
    given_fields = {
        "id": "e1",
        "type": PUSH,
        "source": "//test",
        "time": {"seconds": 1_700_000_000},
        "data": None if "raw" in fields else packed(),
        "everyone": None if "subscriber" in fields else True,
        **fields,
    }
    return Event(**{name: value for name, value in given_fields.items() if value is not None})


def refusal(wire: bytes) -> CertesError:
    with pytest.raises(CertesError) as raised:
        READER.read(wire, NOW, "events[3]")
    with pytest.raises(CertesError) as raised_among_others:
        READER.read_all([*[event().SerializeToString()] * 3, wire], NOW)
    assert _told(raised_among_others.value) == _told(raised.value)
    return raised.value


def _told(error: CertesError) -> tuple[Any, ...]:
    return error.reason, error.message, error.violations, error.metadata, error.hint


INVALID, REQUIRED = Reason.FIELD_INVALID, Reason.FIELD_REQUIRED
REFUSALS = [
    ({"type": None}, REQUIRED, "type"),
    ({"type": "community.certes.dev/github/push"}, Reason.MALFORMED_URI, "type"),
    ({"type": "community.certes.dev/github/1/*"}, Reason.MALFORMED_URI, "type"),
    ({"type": "community.certes.dev/github/1/pusch"}, Reason.UNKNOWN_EVENT_TYPE, "type"),
    ({"source": None}, REQUIRED, "source"),
    ({"source": "x" * 513}, INVALID, "source"),
    ({"source": "two words"}, INVALID, "source"),
    ({"source": "a\x07"}, INVALID, "source"),
    ({"everyone": None}, Reason.AUDIENCE_MISSING, "audience"),
    ({"everyone": False}, INVALID, "everyone"),
    ({"subscriber": ""}, Reason.AUDIENCE_MISSING, "subscriber"),
    ({"subscriber": "a/b"}, INVALID, "subscriber"),
    ({"subscriber": "x" * 129}, INVALID, "subscriber"),
    ({"subscriber": "-"}, INVALID, "subscriber"),
    ({"data": None}, REQUIRED, "data"),
    ({"data": packed(PingEvent())}, Reason.DATA_TYPE_MISMATCH, "data"),
    ({"data": AnyMessage()}, Reason.DATA_TYPE_MISMATCH, "data"),
    (
        {"data": AnyMessage(type_url=packed().type_url, value=b"\xff")},
        Reason.DATA_MALFORMED,
        "data",
    ),
    ({"raw": {"content_type": "text/plain", "bytes": b"x"}}, Reason.RAW_NOT_ALLOWED, "raw"),
    ({"id": "x" * 257}, INVALID, "id"),
    ({"id": "ü" * 129}, INVALID, "id"),
    ({"id": "a\nb"}, INVALID, "id"),
    ({"subject": "x" * 1025}, INVALID, "subject"),
    ({"subject": "\x00"}, INVALID, "subject"),
    ({"ordering_key": "x" * 257}, INVALID, "ordering_key"),
    ({"time": {"seconds": 253_402_300_800}}, INVALID, "time"),
    ({"time": {"seconds": -62_135_596_801}}, INVALID, "time"),
    ({"time": {"nanos": -1}}, INVALID, "time"),
    ({"time": {"nanos": 1_000_000_000}}, INVALID, "time"),
    ({"attributes": {f"a{number}": "" for number in range(65)}}, INVALID, "attributes"),
    ({"attributes": {"Upper": "x"}}, INVALID, "attributes['Upper']"),
    ({"attributes": {"": "x"}}, INVALID, "attributes['']"),
    ({"attributes": {"x" * 65: "x"}}, INVALID, f"attributes['{'x' * 65}']"),
    ({"attributes": {"a": "x" * 1025}}, INVALID, "attributes['a']"),
    ({"traceparent": "00-0-0-0"}, INVALID, "traceparent"),
    ({"traceparent": TRACE.replace("00-", "01-", 1)}, INVALID, "traceparent"),
    ({"traceparent": f"00-{'0' * 32}-b7ad6b7169203331-01"}, INVALID, "traceparent"),
    ({"traceparent": TRACE.upper()}, INVALID, "traceparent"),
    ({"tracestate": "a=b"}, INVALID, "tracestate"),
    ({"traceparent": TRACE, "tracestate": "x" * 513}, INVALID, "tracestate"),
    ({"traceparent": TRACE, "tracestate": "a=\N{EURO SIGN}"}, INVALID, "tracestate"),
]


@pytest.mark.parametrize(
    ("fields", "reason", "path"), REFUSALS, ids=[f"{path}-{number}" for number, (_, _, path) in enumerate(REFUSALS)]
)
def test_each_field_is_refused_with_its_reason_under_its_path(
    fields: dict[str, Any], reason: Reason, path: str
) -> None:
    error = refusal(event(**fields).SerializeToString())
    assert error.reason is reason
    assert [violation.field for violation in error.violations] == [f"events[3].{path}"]
    assert error.message.startswith("events[3]")
    assert isinstance(error, Invalid)


def test_an_unknown_field_is_refused_wherever_in_the_event_it_stands() -> None:
    wire = event().SerializeToString()
    for changed in (wire + UNKNOWN_FIELD, UNKNOWN_FIELD + wire):
        error = refusal(changed)
        assert error.reason is Reason.UNKNOWN_FIELD
        assert [violation.field for violation in error.violations] == ["events[3]"]
        assert "111" in error.message


def test_unknown_fields_of_the_payload_are_kept() -> None:
    data = AnyMessage(type_url=packed().type_url, value=packed().value + UNKNOWN_FIELD)
    wire = event(data=data).SerializeToString()
    assert READER.read(wire, NOW).body == wire


def test_what_is_no_event_is_refused() -> None:
    error = refusal(b"\xff\xff")
    assert (error.reason, error.violations[0].field) == (Reason.MALFORMED_REQUEST, "events[3]")


def test_an_event_over_the_limit_is_refused_with_limit_and_setting_before_it_is_parsed() -> None:
    error = refusal(b"\xff" * (LIMIT + 1))
    assert error.reason is Reason.EVENT_TOO_LARGE
    assert error.violations[0].field == "events[3]"
    assert (error.metadata["limit"], error.metadata["setting"]) == (str(LIMIT), "limits.event_bytes")


def test_an_event_of_just_the_limit_is_taken() -> None:
    room = LIMIT - event(data=packed(PushEvent(ref="x" * 200))).ByteSize()
    wire = event(data=packed(PushEvent(ref="x" * (200 + room)))).SerializeToString()
    assert len(wire) == LIMIT
    assert READER.read(wire, NOW).body == wire


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "x" * 512},
        {"id": "x" * 256},
        {"subject": "x" * 1024, "ordering_key": "y" * 256},
        {"time": {"seconds": 253_402_300_799, "nanos": 999_999_999}},
        {"time": {"seconds": -62_135_596_800}},
        {"traceparent": TRACE, "tracestate": "x" * 512},
        {"subscriber": "x" * 128},
        {"attributes": {"x" * 64: "y" * 1024}},
        {"attributes": {f"a{number}": "" for number in range(64)}},
    ],
)
def test_what_is_just_within_its_bounds_is_taken_as_it_is(fields: dict[str, Any]) -> None:
    wire = event(**fields).SerializeToString()
    assert READER.read(wire, NOW).body == wire


def test_bytes_with_id_and_time_are_kept_as_they_are() -> None:
    # In an order of fields that no library writes.
    wire = Event(source="//test", everyone=True).SerializeToString() + event(source=None).SerializeToString()
    assert READER.read(wire, NOW).body is wire


def test_an_absent_id_is_appended_and_nothing_else_touched() -> None:
    wire = event(id=None).SerializeToString()
    read = READER.read(wire, NOW)
    assert read.body == wire + b"\x0a\x09made-here"
    assert Event.FromString(read.body) == event(id="made-here")
    assert (read.id, read.digest) == ("made-here", None)


def test_an_absent_time_is_appended_as_the_time_of_acceptance() -> None:
    wire = event(time=None).SerializeToString()
    read = READER.read(wire, NOW)
    assert read.body.startswith(wire)
    assert Event.FromString(read.body) == event(time={"seconds": NOW // 1_000_000, "nanos": 123_456_000})


def test_ids_that_the_reader_makes_itself_differ() -> None:
    reader = EventReader(REGISTRY, max_event_bytes=LIMIT)
    wire = event(id=None).SerializeToString()
    assert len({reader.read(wire, NOW).id for _ in range(100)}) == 100


def test_what_routing_must_know_is_read_from_the_bytes() -> None:
    original = Original("application/json", (), b"{}")
    read = READER.read(event(subscriber="org_1", ordering_key="k").SerializeToString(), NOW, original=original)
    assert (read.type, read.source, read.subscriber, read.ordering_key) == (PUSH, "//test", "org_1", "k")
    assert ("repo", "meetly/meetly") in read.options
    assert (read.accept_time, read.original) == (NOW, original)


def test_the_type_is_taken_in_its_canonical_spelling_and_the_bytes_as_they_came() -> None:
    wire = event(type=PUSH.replace("community", "Community")).SerializeToString()
    read = READER.read(wire, NOW)
    assert (read.type, read.body) == (PUSH, wire)


def digest(**fields: Any) -> bytes:
    found = READER.read(event(**fields).SerializeToString(), NOW).digest
    assert found is not None
    return found


@pytest.mark.parametrize("attributes", [{}, {"b": "1", "a": "2"}])
def test_the_digest_of_an_event_does_not_depend_on_its_trace_context(attributes: dict[str, str]) -> None:
    plain = digest(attributes=attributes)
    traced = digest(attributes=attributes, traceparent=TRACE)
    assert plain == traced
    assert traced == digest(attributes=attributes, traceparent=OTHER_TRACE, tracestate="a=b")


def test_the_digest_does_not_depend_on_the_order_in_which_a_library_writes_attributes() -> None:
    """A map has no order, and some libraries write the same one in another order each time."""
    rest = event().SerializeToString()
    first, second = (Event(attributes={name: "x"}).SerializeToString() for name in "ab")
    assert READER.read(rest + first + second, NOW).digest == READER.read(rest + second + first, NOW).digest


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": "other"},
        {"subscriber": "org_1"},
        {"time": {"seconds": 5}},
        {"data": packed(PushEvent(ref="other"))},
        {"ordering_key": "k"},
        {"attributes": {"a": "b"}},
    ],
)
def test_the_digest_tells_other_content(fields: dict[str, Any]) -> None:
    assert digest(**fields) != digest()


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
EVENTS = st.builds(
    event,
    id=st.none() | TEXT.filter(bool),
    source=st.text("abcdef/:.", min_size=1, max_size=20),
    subject=st.none() | TEXT,
    ordering_key=st.none() | TEXT,
    time=st.none() | st.builds(dict, seconds=st.integers(-(10**9), 10**10), nanos=st.integers(0, 999_999_999)),
    attributes=st.dictionaries(st.text("abz09_", min_size=1, max_size=10), TEXT, max_size=5),
    traceparent=st.sampled_from([None, TRACE, OTHER_TRACE]),
    subscriber=st.text("abcXYZ019._~:@", min_size=3, max_size=20),
    data=st.builds(lambda ref, after: packed(PushEvent(ref=ref, after=after)), TEXT, TEXT),
)


@given(sent=EVENTS)
def test_any_event_reads_back_equal_to_what_was_sent_with_id_and_time(sent: Event) -> None:
    wire = sent.SerializeToString()
    read = READER.read(wire, NOW)
    assert read.body.startswith(wire)
    kept = Event.FromString(read.body)
    assert (kept.id, kept.HasField("time")) == (read.id, True)
    expected = Event()
    expected.CopyFrom(sent)
    expected.id = read.id
    if not sent.HasField("time"):
        expected.time.FromMicroseconds(NOW)
    assert kept == expected
    # What is kept is accepted again, as it is.
    assert READER.read(read.body, NOW).body == read.body


@given(wire=st.binary(max_size=200))
def test_no_bytes_whatever_make_it_fail_otherwise_than_by_a_refusal(wire: bytes) -> None:
    error = refusal(wire)
    assert isinstance(error, Invalid)
    assert error.violations[0].field.startswith("events[3]")
