from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.uris import parse_event_type
from certes_broker.domain.webhook_mapping import (
    Challenge,
    HeaderPlace,
    PathPlace,
    WebhookMapping,
    event_segment,
    event_type_of,
    parse_path,
)

EVENT = HeaderPlace("x-topic")
SHOP = "events.meetly.com/shop/1"


def refused(make) -> Invalid:
    with pytest.raises(Invalid) as caught:
        make()
    return caught.value


@pytest.mark.parametrize(
    ("name", "segment"),
    [("push", "push"), ("orders/create", "orders_create"), ("invitee.created", "invitee_created"), ("Über", "_ber")],
)
def test_the_name_of_an_event_becomes_a_segment(name, segment):
    assert event_segment(name) == segment


@given(st.text(min_size=1))
def test_every_name_becomes_a_segment_that_can_stand_in_an_event_uri(name):
    assert parse_event_type(f"a.example/n/1/{event_segment(name)}").name == event_segment(name)


def test_single_names_come_before_the_template():
    mapping = WebhookMapping(f"{SHOP}/{{event}}", EVENT, types=(("a", f"{SHOP}/first"),))
    assert event_type_of(mapping, dict(mapping.types), "a") == f"{SHOP}/first"
    assert event_type_of(mapping, dict(mapping.types), "A") == f"{SHOP}/a"


def test_a_mapping_of_one_event_type_needs_no_name():
    assert event_type_of(WebhookMapping(f"{SHOP}/order"), {}, "") == f"{SHOP}/order"


def test_a_mapping_knows_what_it_reads():
    mapping = WebhookMapping(
        f"{SHOP}/{{event}}",
        EVENT,
        id=PathPlace(("id",)),
        time=PathPlace(("at",)),
        subjects=(PathPlace(("id",)), HeaderPlace("x-shop")),
        subscriber=PathPlace(("a", "b")),
    )
    assert mapping.headers == {"x-topic", "x-shop"}
    assert sorted(mapping.paths) == [("a", "b"), ("at",), ("id",)]


@pytest.mark.parametrize(
    ("make", "field", "reason"),
    [
        (lambda: WebhookMapping("shop"), "type", Reason.FIELD_INVALID),
        (lambda: WebhookMapping(f"{SHOP}/*"), "type", Reason.FIELD_INVALID),
        (lambda: WebhookMapping(f"{SHOP}/_drift"), "type", Reason.FIELD_INVALID),
        (lambda: WebhookMapping(f"{SHOP}/{{name}}", EVENT), "type", Reason.FIELD_INVALID),
        (lambda: WebhookMapping(f"{SHOP}/{{event}}"), "event", Reason.FIELD_REQUIRED),
        (lambda: WebhookMapping(f"{SHOP}/x", types=(("a", f"{SHOP}/a"),)), "event", Reason.FIELD_REQUIRED),
        (lambda: WebhookMapping(f"{SHOP}/x", EVENT, types=(("a", "nothing"),)), "types['a']", Reason.FIELD_INVALID),
        (
            lambda: WebhookMapping(f"{SHOP}/x", EVENT, types=tuple((str(n), f"{SHOP}/a") for n in range(1001))),
            "types",
            Reason.FIELD_INVALID,
        ),
        (lambda: WebhookMapping(f"{SHOP}/x", subjects=(EVENT,) * 17), "subjects", Reason.FIELD_INVALID),
        (lambda: HeaderPlace("X-Topic"), "header", Reason.FIELD_INVALID),
        (lambda: HeaderPlace("a b"), "header", Reason.FIELD_INVALID),
        (lambda: HeaderPlace("authorization"), "header", Reason.FIELD_INVALID),
        (lambda: HeaderPlace("x-gitlab-token"), "header", Reason.FIELD_INVALID),
        (lambda: PathPlace(()), "path", Reason.FIELD_INVALID),
        (lambda: PathPlace(("a",) * 17), "path", Reason.FIELD_INVALID),
        (lambda: PathPlace(("a" * 257,)), "path", Reason.FIELD_INVALID),
        (lambda: parse_path(""), "path", Reason.FIELD_INVALID),
        (lambda: parse_path("a."), "path", Reason.FIELD_INVALID),
    ],
)
def test_what_could_map_nothing_is_refused_by_the_name_of_its_field(make, field, reason):
    refusal = refused(make)
    assert refusal.reason is reason
    assert refusal.violations[0].field == field


def test_a_path_is_read_and_written_with_dots():
    assert parse_path("data.object.id") == PathPlace(("data", "object", "id"))
    assert parse_path("data.object.id").text == "data.object.id"


CHALLENGE = Challenge("type", "url_verification", "challenge")


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({("type",): "url_verification", ("challenge",): "3eZbrw1a"}, "3eZbrw1a"),
        ({("type",): "event_callback", ("challenge",): "3eZbrw1a"}, None),
        ({("challenge",): "3eZbrw1a"}, None),
        ({("type",): "url_verification"}, ""),
        ({("type",): "url_verification", ("challenge",): 7}, ""),
    ],
)
def test_a_challenge_is_told_by_its_field_and_answered_with_its_text(values, answer):
    assert CHALLENGE.paths == (("type",), ("challenge",))
    assert CHALLENGE.answer_to(values) == answer
