"""What callers can do wrong, and the code, reason, fields and facts each of it is answered with."""

from __future__ import annotations

import grpc
import pytest

from certes.v1 import event_service_pb2 as pb
from certes.v1.subscription_service_pb2 import GetSubscriptionRequest
from tests.contracts.grpc_callers import PUSH, TIMEOUT, Caller, event, refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNKNOWN = b"\xf8\x06\x01"
"""Field 111 with the value 1."""


def test_a_malformed_uri_is_refused_with_its_position(caller: Caller) -> None:
    refusal = refused(lambda: caller.publish(caller.event(), caller.event(type="community.certes.dev/github/push")))
    assert (refusal.code, refusal.reason) == (INVALID, "MALFORMED_URI")
    assert refusal.fields == ["events[1].type"]
    assert refusal.metadata["position"] == str(len("community.certes.dev/github/push"))


def test_an_unknown_event_type_is_refused_with_the_nearest_known(caller: Caller) -> None:
    refusal = refused(lambda: caller.publish(caller.event(type="community.certes.dev/github/1/pusch")))
    assert (refusal.code, refusal.reason) == (INVALID, "UNKNOWN_EVENT_TYPE")
    assert refusal.fields == ["events[0].type"]
    assert PUSH in refusal.message


@pytest.mark.parametrize("opening", ["subscribe", "get"])
def test_an_unknown_subscription_is_not_found(caller: Caller, opening: str) -> None:
    if opening == "subscribe":
        refusal = refused(lambda: caller.open("nobody"))
    else:
        request = GetSubscriptionRequest(name=caller.name("nobody"))
        refusal = refused(lambda: caller.subscriptions.GetSubscription(request, timeout=TIMEOUT))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SUBSCRIPTION_NOT_FOUND")
    assert refusal.metadata["name"] == caller.name("nobody")


def test_an_event_for_nobody_is_refused(caller: Caller) -> None:
    refusal = refused(lambda: caller.publish(event(everyone=None)))
    assert (refusal.code, refusal.reason) == (INVALID, "AUDIENCE_MISSING")
    assert refusal.fields == ["events[0].audience"]


def test_an_event_for_an_empty_subscriber_is_refused(caller: Caller) -> None:
    refusal = refused(lambda: caller.publish(event(subscriber="")))
    assert (refusal.code, refusal.reason) == (INVALID, "AUDIENCE_MISSING")
    assert refusal.fields == ["events[0].subscriber"]


def test_an_event_over_1_mib_is_refused_with_limit_and_setting(caller: Caller) -> None:
    large = caller.event(attributes={"a": "x" * (1 << 20)})
    refusal = refused(lambda: caller.publish(caller.event(), large))
    assert (refusal.code, refusal.reason) == (INVALID, "EVENT_TOO_LARGE")
    assert refusal.fields == ["events[1]"]
    assert refusal.metadata["limit"] == "1048576"
    assert refusal.metadata["setting"]


def test_1001_events_are_refused_with_the_limit(caller: Caller) -> None:
    refusal = refused(lambda: caller.publish(*[caller.event()] * 1_001))
    assert (refusal.code, refusal.reason) == (INVALID, "TOO_MANY_EVENTS")
    assert refusal.fields == ["events"]
    assert refusal.metadata["limit"] == "1000"


def test_1000_events_are_taken(caller: Caller) -> None:
    assert len(caller.publish(*[caller.event() for _ in range(1_000)])) == 1_000


def test_no_events_are_refused(caller: Caller) -> None:
    refusal = refused(caller.publish)
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "FIELD_REQUIRED", ["events"])


def test_a_request_over_4_mib_is_refused_with_the_limit(caller: Caller) -> None:
    large = [caller.event(attributes={"a": "x" * 900_000}) for _ in range(5)]
    refusal = refused(lambda: caller.publish(*large))
    assert (refusal.code, refusal.reason) == (INVALID, "REQUEST_TOO_LARGE")
    assert refusal.metadata["limit"] == "4194304"


def test_an_unknown_field_of_an_event_is_refused(caller: Caller) -> None:
    strange = caller.event()
    strange.MergeFromString(UNKNOWN)
    refusal = refused(lambda: caller.publish(caller.event(), strange))
    assert (refusal.code, refusal.reason) == (INVALID, "UNKNOWN_FIELD")
    assert refusal.fields[0].startswith("events[1]")
    assert "111" in refusal.message


def test_an_unknown_field_of_a_request_is_refused(caller: Caller) -> None:
    request = pb.SubscribeRequest(ephemeral={"parent": caller.parent, "selectors": [{"pattern": PUSH}]})
    request.ephemeral.selectors[0].MergeFromString(UNKNOWN)
    refusal = refused(lambda: caller.events.Subscribe(request, timeout=TIMEOUT))
    assert (refusal.code, refusal.reason) == (INVALID, "UNKNOWN_FIELD")
    assert refusal.fields == ["ephemeral.selectors[0].111"]


def test_the_same_id_with_other_content_is_refused_and_nothing_of_the_request_stored(caller: Caller) -> None:
    first = caller.event(subject="one")
    caller.publish(first)
    other, beside = caller.event(id=first.id, subject="two"), caller.event()
    refusal = refused(lambda: caller.publish(beside, other))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EVENT_ID_REUSED")
    assert refusal.fields == ["events[1].id"]
    assert (refusal.metadata["source"], refusal.metadata["id"]) == ("//test", first.id)
    [again] = caller.publish(beside)
    assert not again.duplicate


def test_the_same_id_with_the_same_content_is_a_duplicate_of_the_first(caller: Caller) -> None:
    sent = caller.event()
    [first], [second] = caller.publish(sent), caller.publish(sent)
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.name == second.name


@pytest.mark.parametrize("character", ["\n", "\x7f", "\x85"])
def test_a_control_character_is_refused(caller: Caller, character: str) -> None:
    refusal = refused(lambda: caller.publish(event(id=f"a{character}b")))
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "FIELD_INVALID", ["events[0].id"])


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("community.certes.dev/github/x/push", "UNMATCHABLE_PATTERN"),
        ("community.certes.dev/git*/1/push", "MALFORMED_PATTERN"),
    ],
)
def test_a_pattern_that_no_uri_can_match_is_refused(caller: Caller, pattern: str, reason: str) -> None:
    refusal = refused(lambda: caller.create(selectors=[{"pattern": PUSH}, {"pattern": pattern}]))
    assert (refusal.code, refusal.reason) == (INVALID, reason)
    assert refusal.fields == ["subscription.selectors[1].pattern"]
    assert refusal.metadata["position"]


def test_an_option_that_no_matching_type_declares_is_refused(caller: Caller) -> None:
    refusal = refused(lambda: caller.create(selectors=[{"pattern": PUSH, "options": {"colour": "blue"}}]))
    assert (refusal.code, refusal.reason) == (INVALID, "UNKNOWN_OPTION")
    assert refusal.fields == ["subscription.selectors[0].options"]


def test_all_that_is_wrong_with_a_subscription_is_said_at_once(caller: Caller) -> None:
    refusal = refused(
        lambda: caller.create(
            selectors=[{"pattern": "a"}],
            webhook={"url": "ftp://example.com/", "timeout": {"seconds": 100}},
            labels={"Key": "value"},
            priority=10,
        )
    )
    assert refusal.code == INVALID
    assert refusal.fields == [
        "subscription.priority",
        "subscription.selectors[0].pattern",
        "subscription.webhook.url",
        "subscription.webhook.timeout",
        "subscription.labels['Key']",
    ]


def test_a_page_token_of_another_list_is_refused(caller: Caller) -> None:
    caller.publish(caller.event(), caller.event())
    page = caller.events.ListEvents(pb.ListEventsRequest(parent=caller.parent, page_size=1), timeout=TIMEOUT)
    other = pb.ListEventsRequest(parent="subscribers/-", page_size=1, page_token=page.next_page_token)
    refusal = refused(lambda: caller.events.ListEvents(other, timeout=TIMEOUT))
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "PAGE_TOKEN_INVALID", ["page_token"])


def test_a_guessed_event_name_is_not_found(caller: Caller) -> None:
    request = pb.GetEventRequest(name="events/" + "0" * 32)
    refusal = refused(lambda: caller.events.GetEvent(request, timeout=TIMEOUT))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "EVENT_NOT_FOUND")
