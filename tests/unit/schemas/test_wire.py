"""What the broker assembles from stored bytes is what the generated stubs would have written."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from certes.v1.delivery_pb2 import Delivery
from certes.v1.event_pb2 import Event
from certes.v1.event_service_pb2 import SubscribeResponse
from certes_broker.domain.events import Micros
from certes_broker.schemas.wire import (
    Closing,
    batch_frame,
    between_name_and_token,
    closing_frame,
    delivery_in_batch,
    heartbeat_frame,
    opened_frame,
    string_field,
    timestamp_field,
    varint,
)

NAME = "events/" + "0123456789abcdef" * 2
CORRELATION = "gw.1-6745d23d-0123456789abcdef01234567"
TOKEN_LENGTH = 24
TIMES = st.integers(1_000_000, 253_402_300_799_999_999).map(Micros)
EVENTS = st.builds(
    Event,
    id=st.text(max_size=300),
    type=st.just("community.certes.dev/github/1/push"),
    subject=st.text(max_size=20) | st.just("x" * 70_000) | st.just("y" * 16_300),
)
DELIVERIES = st.builds(
    lambda attempt, time, event: Delivery(
        name=NAME,
        attempt=attempt,
        accept_time={"seconds": time // 1_000_000, "nanos": time % 1_000_000 * 1000},
        correlation_ids=[CORRELATION],
        event=event,
    ),
    st.integers(1, 2**31 - 1),
    TIMES,
    EVENTS,
)


def read_varint(encoded: bytes) -> int:
    value = 0
    for index, byte in enumerate(encoded):
        value |= (byte & 0x7F) << 7 * index
        assert (byte >= 0x80) == (index < len(encoded) - 1)
    return value


@given(value=st.integers(0, 2**64 - 1))
@example(0)
@example(0x7F)
@example(0x80)
@example(0x3FFF)
@example(0x4000)
def test_a_varint_is_as_short_as_it_can_be_and_says_its_value(value: int) -> None:
    encoded = varint(value)
    assert read_varint(encoded) == value
    assert len(encoded) == max(1, -(-value.bit_length() // 7))


@given(time=TIMES)
def test_a_timestamp_is_as_the_stubs_write_it(time: Micros) -> None:
    event = Event()
    event.time.FromMicroseconds(time)
    assert timestamp_field(b"\x2a", time) == event.SerializeToString()


@given(text=st.text())
def test_a_string_is_as_the_stubs_write_it(text: str) -> None:
    assert Event.FromString(string_field(b"\x0a", text)) == Event(id=text)


def assembled(delivery: Delivery, event: bytes | None = None) -> tuple[bytes, bytes]:
    time = Micros(delivery.accept_time.ToMicroseconds())
    body = delivery.event.SerializeToString() if event is None else event
    prefix, token = CORRELATION[:-TOKEN_LENGTH], CORRELATION[-TOKEN_LENGTH:]
    between = between_name_and_token(delivery.attempt, time, prefix, TOKEN_LENGTH)
    return delivery_in_batch(delivery.name.encode(), between, token.encode(), body)


@given(first=st.integers(1, 2**62), deliveries=st.lists(DELIVERIES, min_size=1, max_size=5))
def test_a_batch_of_assembled_deliveries_is_byte_for_byte_what_the_stubs_write(
    first: int, deliveries: list[Delivery]
) -> None:
    batch = SubscribeResponse.Batch(first_ordinal=first, deliveries=deliveries)
    frame = batch_frame(first, [part for delivery in deliveries for part in assembled(delivery)])
    assert frame == SubscribeResponse(batch=batch).SerializeToString(deterministic=True)


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_383, 16_384, 1 << 20, 3 << 20])
def test_events_of_any_size_arrive_whole(size: int) -> None:
    delivery = Delivery(
        name=NAME, attempt=1, accept_time={"seconds": 1}, correlation_ids=[CORRELATION], event=Event(subject="x" * size)
    )
    frame = SubscribeResponse.FromString(batch_frame(1, assembled(delivery) * 2))
    assert list(frame.batch.deliveries) == [delivery, delivery]


def test_a_field_that_was_appended_to_an_event_counts_when_it_is_read_again() -> None:
    stored = Event(source="//test").SerializeToString() + string_field(b"\x0a", "appended")
    delivery = Delivery(name=NAME, attempt=1, accept_time={"seconds": 1}, correlation_ids=[CORRELATION])
    frame = SubscribeResponse.FromString(batch_frame(1, assembled(delivery, stored)))
    assert frame.batch.deliveries[0].event == Event(id="appended", source="//test")


def test_the_first_frame_names_the_stream() -> None:
    assert SubscribeResponse.FromString(opened_frame("a/streams/b")).opened.stream == "a/streams/b"


@given(lag=st.floats(0, 10**9))
def test_a_heartbeat_says_the_lag_to_the_microsecond(lag: float) -> None:
    frame = SubscribeResponse.FromString(heartbeat_frame(lag))
    assert frame.heartbeat.lag.ToMicroseconds() == int(lag * 1_000_000)


@pytest.mark.parametrize("reason", Closing.values())
def test_the_last_frame_says_the_reason_and_the_same_for_a_person(reason: Closing.ValueType) -> None:
    closing = SubscribeResponse.FromString(closing_frame(reason, "why")).closing
    assert (closing.reason, closing.message) == (reason, "why")
