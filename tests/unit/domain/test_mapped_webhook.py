from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.mapped_webhook import MappedWebhook, Webhook, map_webhook, read_time
from certes_broker.domain.webhook_headers import WebhookHeaders
from certes_broker.domain.webhook_mapping import HeaderPlace, PathPlace, WebhookMapping

SHOP = "events.meetly.com/shop/1"
MAPPING = WebhookMapping(
    f"{SHOP}/{{event}}",
    event=HeaderPlace("x-topic"),
    id=PathPlace(("id",)),
    time=PathPlace(("created",)),
    subjects=(PathPlace(("order", "name")), PathPlace(("shop",)), HeaderPlace("x-shop")),
    subscriber=PathPlace(("account",)),
    types=(("orders/create", f"{SHOP}/order_placed"),),
)
HEADERS = (("x-topic", "orders/paid"), ("x-shop", "s-1"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def mapped(values, headers=HEADERS, mapping=MAPPING, body=b"{}") -> MappedWebhook:
    paths = {tuple(path.split(".")): value for path, value in values.items()}
    return map_webhook(mapping, dict(mapping.types), Webhook(WebhookHeaders(tuple(headers)), body, paths))


def refused(values, headers=HEADERS, mapping=MAPPING) -> Invalid:
    with pytest.raises(Invalid) as caught:
        mapped(values, headers, mapping)
    return caught.value


def test_a_webhook_is_read_where_its_mapping_says():
    values = {"id": "e-1", "created": 1700000000, "order.name": "#1", "shop": "s-2", "account": 42}
    assert mapped(values) == MappedWebhook(
        event="orders/paid",
        type=f"{SHOP}/orders_paid",
        id="e-1",
        time=1700000000_000000,
        subject="#1",
        subscriber="42",
    )


def test_what_a_webhook_need_not_say_may_be_missing():
    assert mapped({"id": 7}) == MappedWebhook("orders/paid", f"{SHOP}/orders_paid", "7", None, "s-1", None)


def test_the_first_subject_that_is_there_counts():
    assert mapped({"id": 7, "order.name": "", "shop": "s-2"}).subject == "s-2"
    assert mapped({"id": 7, "order.name": None, "shop": True}).subject == "s-1"


def test_a_webhook_without_an_id_of_its_own_gets_one_made_of_its_body():
    mapping = WebhookMapping(f"{SHOP}/order")
    first, again, other = (mapped({}, (), mapping, body) for body in (b"{}", b"{}", b"{ }"))
    assert first.id == again.id == f"sha256-{sha256(b'{}').hexdigest()}"
    assert other.id != first.id


@pytest.mark.parametrize("value", [None, "", {}, [], True, 1.5, 2**65])
def test_a_body_without_an_id_cannot_be_mapped(value):
    refusal = refused({"id": value})
    assert refusal.reason is Reason.PAYLOAD_UNMAPPABLE
    assert refusal.violations[0].field == refusal.metadata["field"] == "id"


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"id": "x" * 257}, "id"),
        ({"id": "é" * 129}, "id"),
        ({"id": "a\x00b"}, "id"),
        ({"id": 1, "order.name": "x" * 1025}, "order.name"),
        ({"id": 1, "order.name": "two\r\nlines"}, "order.name"),
        ({"id": 1, "order.name": "\x9f"}, "order.name"),
    ],
)
def test_what_no_event_can_have_cannot_be_mapped(values, place):
    refusal = refused(values)
    assert refusal.reason is Reason.PAYLOAD_UNMAPPABLE
    assert refusal.violations[0].field == refusal.metadata["field"] == place


def test_what_just_fits_is_mapped():
    webhook = mapped({"id": "x" * 256, "order.name": "é" * 512})
    assert (len(webhook.id), len(webhook.subject)) == (256, 512)


@pytest.mark.parametrize(("header", "value"), [("x-id", "x" * 257), ("x-shop", "x" * 1025)])
def test_a_header_that_no_event_can_have_is_refused(header, value):
    mapping = WebhookMapping(f"{SHOP}/order", id=HeaderPlace("x-id"), subjects=(HeaderPlace("x-shop"),))
    refusal = refused({}, [("x-id", "1"), (header, value)][header == "x-id" :], mapping)
    assert (refusal.reason, refusal.violations[0].field) == (Reason.FIELD_INVALID, header)


def test_an_id_that_is_there_but_no_text_is_not_called_missing():
    assert "neither a text nor a whole number" in refused({"id": 1.5}).message
    assert "is missing" in refused({"id": None}).message


@pytest.mark.parametrize("headers", [(), (("x-topic", ""),)])
def test_a_missing_header_is_named(headers):
    refusal = refused({"id": 1}, headers)
    assert refusal.reason is Reason.FIELD_REQUIRED
    assert refusal.violations[0].field == "x-topic"


def test_a_header_that_came_twice_is_refused():
    refusal = refused({"id": 1}, (*HEADERS, HEADERS[0]))
    assert refusal.reason is Reason.FIELD_INVALID
    assert refusal.violations[0].field == "x-topic"


@pytest.mark.parametrize("event", ["_version", "-version", "/x", "*"])
def test_no_webhook_becomes_a_system_event(event):
    refusal = refused({"id": 1}, [("x-topic", event)])
    assert refusal.reason is Reason.PAYLOAD_UNMAPPABLE
    assert refusal.metadata["event"] == event


def test_a_webhook_without_a_name_has_the_type_that_needs_none():
    mapping = WebhookMapping(f"{SHOP}/other", PathPlace(("kind",)), types=(("a", f"{SHOP}/first"),))
    assert mapped({"kind": "a"}, (), mapping).type == f"{SHOP}/first"
    assert mapped({}, (), mapping).type == f"{SHOP}/other"


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (0, 0),
        (1700000000, 1700000000_000000),
        (1531420618.000023, 1531420618_000023),
        ("1531420618.000023", 1531420618_000023),
        ("1531420618.0000239999", 1531420618_000023),
        ("1970-01-01T00:00:00Z", 0),
        ("2020-11-23T17:51:18.341657Z", 1606153878_341657),
        ("2020-11-23t17:51:18z", 1606153878_000000),
        ("2020-11-23 17:51:18.5+00:00", 1606153878_500000),
        ("2020-11-23T18:51:18+01:00", 1606153878_000000),
        ("2020-11-23T07:51:18.123456789-10:00", 1606153878_123456),
        ("2016-12-31T23:59:60Z", 1483228800_000000),
        ("9999-12-31T23:59:59.999999Z", 253402300799_999999),
    ],
)
def test_a_time_is_rfc_3339_or_seconds(value, micros):
    assert read_time(value) == micros


@pytest.mark.parametrize(
    "value",
    [
        None, True, -1, 1700000000000, 1e300, float("inf"), [], {}, "-5", "1e9", "١٧٠٠", "", "now", "2020-11-23", "17:51:18Z",
        "2020-11-23T17:51:18", "2020-11-23T17:51Z", "2020-13-23T17:51:18Z", "2020-02-30T17:51:18Z", "2020-11-23T24:00:00Z",
        "2020-11-23T17:51:18.Z", "2020-11-23T17:51:18+1:00", "2020-11-23T17:51:18+24:00", "2020-11-23T17:51:18+00:60",
        "1969-12-31T23:59:59Z", "20201123T175118Z", "2020-11-23T17:51:18Z ", "10000-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00",
    ],
)  # fmt: skip
def test_what_is_no_time_is_not_guessed(value):
    assert read_time(value) is None


def test_a_time_that_cannot_be_read_makes_a_webhook_unmappable():
    refusal = refused({"id": 1, "created": 1700000000000})
    assert refusal.reason is Reason.PAYLOAD_UNMAPPABLE
    assert refusal.violations[0].field == "created"


@given(
    st.integers(86_400_000_000, 253402200000_000000),
    st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_what_the_standard_library_writes_is_read(micros, zone):
    moment = (EPOCH + timedelta(microseconds=micros)).astimezone(zone)
    assert read_time(moment.isoformat()) == micros


@given(st.integers(0, 253402300799))
def test_seconds_are_the_same_as_a_number_and_as_text(seconds):
    assert read_time(seconds) == read_time(str(seconds)) == seconds * 1_000_000


@given(
    st.dictionaries(
        st.sampled_from(["id", "created", "order.name", "shop", "account"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    ),
    st.lists(st.tuples(st.sampled_from(["x-topic", "x-shop"]), st.text())),
)
def test_any_webhook_is_mapped_or_refused_naming_a_place(values, headers):
    try:
        found = mapped(values, headers)
    except Invalid as refusal:
        places = {"x-topic", "x-shop", "id", "created"}
        assert {violation.field for violation in refusal.violations} <= places and refusal.violations  # noqa: PT017, PT018
        return
    assert found.id
    assert not found.type.rpartition("/")[2].startswith("_")
