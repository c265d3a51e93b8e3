"""Filters over gRPC: checked when a subscription is made or changed, and true of what is delivered."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1 import event_service_pb2 as pb
from certes.v1 import subscription_pb2
from tests.contracts.grpc_callers import PUSH, TIMEOUT, Caller, OpenStream, Refusal, call, refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT
GITHUB = "community.certes.dev/github/1"
MAIN = "data.ref == 'refs/heads/main'"


def push_to(caller: Caller, ref: str, **fields: Any) -> Any:
    data = AnyMessage()
    data.Pack(PushEvent(ref=ref, commits=[{"author": {"name": "Ann"}, "added": ["docs/a.md"]}]))
    return caller.event(data=data, **fields)


def update(caller: Caller, subscription: Any, *paths: str, **fields: Any) -> subscription_pb2.Subscription:
    request = {"subscription": subscription, "update_mask": {"paths": paths} if paths else None, **fields}
    return caller.subscriptions.UpdateSubscription(**call(request, "UpdateSubscriptionRequest")).subscription


def got(caller: Caller, name: str) -> subscription_pb2.Subscription:
    return caller.subscriptions.GetSubscription(**call({"name": name}, "GetSubscriptionRequest")).subscription


def is_invalid(refusal: Refusal, field: str = "subscription.filter") -> bool:
    return (refusal.code, refusal.reason, refusal.fields) == (INVALID, "FILTER_INVALID", [field])


def test_what_passes_is_delivered_and_what_does_not_is_not(caller: Caller) -> None:
    text = "data.commits.exists(c, c.author.name == 'Ann' && 'docs/a.md' in c.added) && event.attributes['team'] == 'a'"
    caller.create(filter=f"{MAIN} && {text}")
    stream = caller.open()
    main = push_to(caller, "refs/heads/main", attributes={"team": "a"})
    other = push_to(caller, "refs/heads/other", attributes={"team": "a"})
    third = push_to(caller, "refs/heads/main", attributes={"team": "b"})
    last = push_to(caller, "refs/heads/main", attributes={"team": "a"})
    caller.publish(other, main, third, last)
    assert list(stream.take(2).values()) == [main.id, last.id]


def test_a_filter_is_shown_and_listed_as_it_was_given(caller: Caller) -> None:
    created = caller.create(filter=MAIN)
    assert created.filter == MAIN
    assert got(caller, created.name).filter == MAIN
    listed = caller.subscriptions.ListSubscriptions(**call({"parent": caller.parent}, "ListSubscriptionsRequest"))
    assert [one.filter for one in listed.subscriptions] == [MAIN]


def test_a_filter_is_changed_and_cleared_by_masks(caller: Caller) -> None:
    created = caller.create(filter=MAIN, labels={"a": "b"})
    given = {"name": created.name, "filter": "data.forced", "labels": {"c": "d"}}
    changed = update(caller, given, "filter")
    assert (changed.filter, dict(changed.labels)) == ("data.forced", {"a": "b"})
    assert changed.etag != created.etag
    assert update(caller, {"name": created.name, "labels": {"e": "f"}}).filter == "data.forced"
    assert update(caller, {"name": created.name}, "filter").filter == ""


def test_a_changed_filter_judges_what_comes_next(caller: Caller) -> None:
    created = caller.create(filter=MAIN)
    stream = caller.open()
    first = push_to(caller, "refs/heads/main")
    caller.publish(first)
    assert list(stream.take(1).values()) == [first.id]
    update(caller, {"name": created.name, "filter": "data.ref == 'refs/heads/next'"}, "filter")
    second, third = push_to(caller, "refs/heads/main"), push_to(caller, "refs/heads/next")
    caller.publish(second, third)
    assert list(stream.take(1).values()) == [third.id]


def test_an_ephemeral_subscription_has_a_filter(caller: Caller) -> None:
    wanted = {"parent": caller.parent, "selectors": [{"pattern": PUSH}], "filter": MAIN}
    stream = OpenStream(caller.events.Subscribe(pb.SubscribeRequest(ephemeral=wanted), timeout=TIMEOUT))
    other, main = push_to(caller, "refs/heads/other"), push_to(caller, "refs/heads/main")
    caller.publish(other, main)
    assert list(stream.take(1).values()) == [main.id]
    stream.cancel()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data.reff == 'x'", f"does not fit {PUSH}: line 1, column 5: undefined field 'reff'"),
        ("event.nope == 'x'", "line 1, column 6: undefined field 'nope'"),
        ("data.ref", "is of type STRING, not bool"),
        ("data.ref ==", "line 1, column 12: Syntax error"),
        ("data.ref.matches(event.id)", "line 1, column 23: the regular expression must be written out"),
        ("data.ref.matches('x{1000}')", "costs more than an evaluation may"),
        ("true || " + "(" * 100, "recursion limit"),
    ],
)
def test_a_filter_that_does_not_fit_is_refused_with_the_place(caller: Caller, text: str, said: str) -> None:
    refusal = refused(lambda: caller.create(filter=text))
    assert is_invalid(refusal)
    assert said in refusal.message
    wanted = {"parent": caller.parent, "selectors": [{"pattern": PUSH}], "filter": text}
    request = pb.SubscribeRequest(ephemeral=wanted)
    assert is_invalid(refused(lambda: caller.events.Subscribe(request, timeout=TIMEOUT)), "ephemeral.filter")
    created = caller.create("sound", filter=MAIN)
    refusal = refused(lambda: update(caller, {"name": created.name, "filter": text}, "filter"))
    assert is_invalid(refusal)
    assert got(caller, created.name) == created


def test_a_filter_has_at_most_4096_characters(caller: Caller) -> None:
    text = "data.ref != '" + "ü" * (4096 - 14) + "'"
    assert len(text) == 4096
    assert caller.create(filter=text).filter == text
    refusal = refused(lambda: caller.create("longer", filter=text + " "))
    assert is_invalid(refusal)
    assert refusal.metadata["limit"] == "4096"


def test_a_filter_must_fit_each_event_type_that_is_spelled_and_one_of_those_that_a_pattern_matches(
    caller: Caller,
) -> None:
    spelled = [{"pattern": PUSH}, {"pattern": f"{GITHUB}/issues"}]
    refusal = refused(lambda: caller.create(filter=MAIN, selectors=spelled))
    assert is_invalid(refusal)
    assert refusal.metadata["type"] == f"{GITHUB}/issues"
    assert caller.create(filter=MAIN, selectors=[{"pattern": f"{GITHUB}/*"}]).filter == MAIN
    refusal = refused(lambda: caller.create("b", filter="data.nope == 1", selectors=[{"pattern": f"{GITHUB}/*"}]))
    assert is_invalid(refusal)
    assert refusal.metadata["pattern"] == f"{GITHUB}/*"


def test_where_nothing_is_registered_any_data_may_be_asked_for(caller: Caller) -> None:
    selectors = [{"pattern": "events.nobody.com/_/1/x"}]
    assert caller.create(filter="data.what.ever == 1", selectors=selectors).filter
    assert is_invalid(refused(lambda: caller.create("b", filter="event.what == 1", selectors=selectors)))


def test_new_selectors_must_fit_the_filter_that_is_there(caller: Caller) -> None:
    created = caller.create(filter=MAIN)
    given = {"name": created.name, "selectors": [{"pattern": PUSH}, {"pattern": f"{GITHUB}/issues"}]}
    assert is_invalid(refused(lambda: update(caller, given, "selectors")))
    assert got(caller, created.name) == created
    changed = update(caller, given | {"filter": "data.sender.login != 'bot'"}, "selectors", "filter")
    assert (len(changed.selectors), changed.filter) == (2, "data.sender.login != 'bot'")


def test_a_missing_subscription_is_created_with_its_filter_checked(caller: Caller) -> None:
    given = {"name": caller.name("new"), "selectors": [{"pattern": PUSH}], "stream": {}, "filter": "data.nope"}
    assert is_invalid(refused(lambda: update(caller, given, allow_missing=True)))
    assert update(caller, given | {"filter": MAIN}, allow_missing=True).filter == MAIN


def test_everything_that_is_wrong_is_said_at_once(caller: Caller) -> None:
    refusal = refused(lambda: caller.create(filter="data.nope", labels={"Key": "value"}, selectors=[{"pattern": PUSH}]))
    assert refusal.fields == ["subscription.labels['Key']", "subscription.filter"]
