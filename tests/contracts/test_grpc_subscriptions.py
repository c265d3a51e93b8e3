"""SubscriptionService, all of it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from certes.v1 import subscription_pb2 as pb
from certes_broker.ports.sender import Method, SendFailure
from tests.contracts.grpc_callers import PUSH, Caller, call, refused
from tests.fakes.scripted_sender import Answers, Fails

INVALID = grpc.StatusCode.INVALID_ARGUMENT
URL = "https://example.com/hook"
SECRET = "whsec_" + "A" * 32


def ask(caller: Caller, rpc: str, **fields: Any) -> Any:
    return getattr(caller.subscriptions, rpc)(**call(fields, f"{rpc}Request"))


def update(caller: Caller, subscription: Any, *paths: str, **fields: Any) -> pb.Subscription:
    mask = {"paths": paths} if paths else None
    return ask(caller, "UpdateSubscription", subscription=subscription, update_mask=mask, **fields).subscription


def test_a_subscription_is_created_with_its_defaults_spelled_out(caller: Caller) -> None:
    created = caller.create()
    assert created.name == caller.name("app")
    assert created.scope == pb.Subscription.SCOPE_OWN
    assert created.state == pb.Subscription.STATE_ACTIVE
    assert created.WhichOneof("delivery") == "stream"
    assert created.ack_deadline.seconds == 30
    assert created.create_time == created.update_time
    assert created.etag
    assert ask(caller, "GetSubscription", name=created.name).subscription == created


def test_an_id_is_made_where_none_is_given(caller: Caller) -> None:
    made = caller.create("").name.rpartition("/")[2]
    assert made == made.lower()
    assert made.isalnum()


def test_the_subscriptions_own_name_may_say_the_id(caller: Caller) -> None:
    assert caller.create("", name=caller.name("mine")).name == caller.name("mine")


def test_names_that_disagree_are_refused(caller: Caller) -> None:
    refusal = refused(lambda: caller.create("mine", name=caller.name("yours")))
    assert (refusal.code, refusal.fields) == (INVALID, ["subscription.name"])


def test_a_name_that_is_taken_is_refused(caller: Caller) -> None:
    caller.create()
    refusal = refused(caller.create)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "SUBSCRIPTION_EXISTS")


def test_creation_can_begin_in_the_past(caller: Caller) -> None:
    sent = caller.event()
    published = caller.publish(sent)
    ask(
        caller,
        "CreateSubscription",
        parent=caller.parent,
        subscription_id="app",
        subscription={"selectors": [{"pattern": PUSH}], "stream": {}},
        start={"event": published[0].name},
    )
    assert caller.open().take(1) == {1: sent.id}


def test_subscriptions_are_listed_by_name_in_pages(caller: Caller) -> None:
    for name in ("b", "a", "c"):
        caller.create(name)
    ask(caller, "DeleteSubscription", name=caller.name("b"))
    first = ask(caller, "ListSubscriptions", parent=caller.parent, page_size=1)
    second = ask(caller, "ListSubscriptions", parent=caller.parent, page_size=1, page_token=first.next_page_token)
    assert [one.name for page in (first, second) for one in page.subscriptions] == [caller.name("a"), caller.name("c")]
    assert second.next_page_token == ""
    everything = ask(caller, "ListSubscriptions", parent=caller.parent, show_deleted=True)
    assert len(everything.subscriptions) == 3


def test_secrets_are_given_away_by_their_own_rpc_alone(caller: Caller) -> None:
    created = caller.create(webhook={"url": URL, "secrets": [SECRET]})
    assert not created.webhook.secrets
    listed = ask(caller, "ListSubscriptions", parent=caller.parent)
    assert SECRET not in str(listed)
    assert [one.secret for one in ask(caller, "GetSigningSecrets", name=created.name).secrets] == [SECRET]


def test_a_webhook_without_a_secret_gets_one_and_rotating_lets_the_old_one_sign_on(caller: Caller) -> None:
    name = caller.create(webhook={"url": URL}).name
    [old] = ask(caller, "GetSigningSecrets", name=name).secrets
    assert not old.HasField("expire_time")
    new, still = ask(caller, "RotateSecret", name=name, overlap={"seconds": 60}).secrets
    assert not new.HasField("expire_time")
    assert (still.secret, still.HasField("expire_time")) == (old.secret, True)


def test_a_mask_changes_what_it_names_and_nothing_else(caller: Caller) -> None:
    before = caller.create(webhook={"url": URL, "timeout": {"seconds": 3}}, labels={"a": "b"})
    given = {"name": before.name, "webhook": {"url": URL + "/2"}, "labels": {"c": "d"}}
    after = update(caller, given, "webhook.url")
    assert (after.webhook.url, after.webhook.timeout.seconds, dict(after.labels)) == (URL + "/2", 3, {"a": "b"})
    assert after.etag != before.etag


def test_without_a_mask_what_is_set_is_changed_as_a_whole(caller: Caller) -> None:
    before = caller.create(webhook={"url": URL, "timeout": {"seconds": 3}, "secrets": [SECRET]}, labels={"a": "b"})
    after = update(caller, {"name": before.name, "webhook": {"url": URL + "/2"}})
    assert (after.webhook.url, after.webhook.timeout.seconds, dict(after.labels)) == (URL + "/2", 15, {"a": "b"})
    assert [one.secret for one in ask(caller, "GetSigningSecrets", name=before.name).secrets] == [SECRET]


def test_a_star_clears_what_is_not_set(caller: Caller) -> None:
    before = caller.create(labels={"a": "b"}, ack_deadline={"seconds": 5}, generation=4)
    given = {"name": before.name, "selectors": [{"pattern": PUSH}], "stream": {}}
    after = update(caller, given, "*")
    assert (dict(after.labels), after.ack_deadline.seconds, after.HasField("generation")) == ({}, 30, False)


def test_what_was_read_can_be_changed_and_sent_back(caller: Caller) -> None:
    read = caller.create(labels={"a": "b"})
    read.labels["a"] = "c"
    assert dict(update(caller, read).labels) == {"a": "c"}


def test_an_update_that_changes_nothing_leaves_the_etag(caller: Caller) -> None:
    before = caller.create(labels={"a": "b"})
    assert update(caller, before) == before


@pytest.mark.parametrize("path", ["state", "create_time", "update_time.seconds", "delete_time", "state_reason"])
def test_output_only_fields_are_refused_in_a_mask(caller: Caller, path: str) -> None:
    name = caller.create().name
    refusal = refused(lambda: update(caller, {"name": name}, path))
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "FIELD_OUTPUT_ONLY", ["update_mask"])
    assert refusal.metadata["path"] == path


def test_a_stale_etag_is_refused_with_the_present_one(caller: Caller) -> None:
    before = caller.create()
    now = update(caller, {"name": before.name, "labels": {"a": "b"}})
    refusal = refused(lambda: update(caller, {"name": before.name, "labels": {"c": "d"}, "etag": before.etag}))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert refusal.metadata["etag"] == now.etag


def test_an_older_generation_cannot_undo_a_newer_list(caller: Caller) -> None:
    name = caller.create(generation=7).name
    selectors = [{"pattern": "community.certes.dev/github/1/*"}]
    newer = update(caller, {"name": name, "selectors": selectors, "generation": 8}, "selectors")
    assert newer.generation == 8
    refusal = refused(lambda: update(caller, {"name": name, "selectors": [{"pattern": PUSH}], "generation": 7}))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STALE_GENERATION")
    assert refusal.metadata["generation"] == "8"
    assert update(caller, {"name": name, "selectors": selectors, "generation": 8}).generation == 8


def test_the_kind_of_delivery_cannot_be_changed(caller: Caller) -> None:
    name = caller.create().name
    refusal = refused(lambda: update(caller, {"name": name, "webhook": {"url": URL}}))
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "FIELD_INVALID", ["subscription.webhook"])


def test_a_missing_subscription_is_created_where_that_is_allowed(caller: Caller) -> None:
    given = {"name": caller.name("new"), "selectors": [{"pattern": PUSH}], "stream": {}, "labels": {"a": "b"}}
    refusal = refused(lambda: update(caller, given))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SUBSCRIPTION_NOT_FOUND")
    created = update(caller, given, "selectors", allow_missing=True)
    assert dict(created.labels) == {"a": "b"}
    assert update(caller, given, allow_missing=True) == created


def test_an_etag_of_a_missing_subscription_is_refused(caller: Caller) -> None:
    given = {"name": caller.name("new"), "selectors": [{"pattern": PUSH}], "stream": {}, "etag": "r1"}
    refusal = refused(lambda: update(caller, given, allow_missing=True))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


def test_a_deleted_subscription_is_restored_where_that_is_allowed(caller: Caller) -> None:
    name = caller.create(labels={"a": "b"}).name
    deleted = ask(caller, "DeleteSubscription", name=name).subscription
    assert deleted.state == pb.Subscription.STATE_DELETED
    assert deleted.HasField("delete_time")
    refusal = refused(lambda: update(caller, {"name": name, "labels": {"c": "d"}}))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SUBSCRIPTION_DELETED")
    restored = update(caller, {"name": name, "labels": {"c": "d"}}, allow_missing=True)
    assert (restored.state, restored.HasField("delete_time")) == (pb.Subscription.STATE_ACTIVE, False)
    assert [one.pattern for one in restored.selectors] == [PUSH]


def test_deleting_what_is_gone_succeeds_where_that_is_allowed(caller: Caller) -> None:
    name = caller.create().name
    ask(caller, "DeleteSubscription", name=name)
    assert refused(lambda: ask(caller, "DeleteSubscription", name=name)).reason == "SUBSCRIPTION_DELETED"
    again = ask(caller, "DeleteSubscription", name=name, allow_missing=True).subscription
    assert again.state == pb.Subscription.STATE_DELETED
    missing = caller.name("never_there")
    assert refused(lambda: ask(caller, "DeleteSubscription", name=missing)).reason == "SUBSCRIPTION_NOT_FOUND"
    assert not ask(caller, "DeleteSubscription", name=missing, allow_missing=True).HasField("subscription")


def test_deleting_with_a_stale_etag_is_refused(caller: Caller) -> None:
    name = caller.create().name
    refusal = refused(lambda: ask(caller, "DeleteSubscription", name=name, etag="r0"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


def test_pausing_gathers_backlog_and_resuming_delivers_it(caller: Caller) -> None:
    name = caller.create().name
    for _ in range(2):
        assert ask(caller, "PauseSubscription", name=name).subscription.state == pb.Subscription.STATE_PAUSED
    assert refused(caller.open).reason == "SUBSCRIPTION_NOT_STREAMABLE"
    sent = caller.event()
    caller.publish(sent)
    for _ in range(2):
        assert ask(caller, "ResumeSubscription", name=name).subscription.state == pb.Subscription.STATE_ACTIVE
    assert caller.open().take(1) == {1: sent.id}


def test_a_webhook_is_tested_by_one_request_now(caller: Caller) -> None:
    url = f"{URL}/{caller.subscriber}"
    name = caller.create(webhook={"url": url}).name
    caller.server.sender.script(url, Answers(204), Fails(SendFailure.CONNECT, "refused"))
    passed = ask(caller, "TestSubscription", name=name)
    assert (passed.success, passed.status, passed.error) == (True, 204, "")
    failed = ask(caller, "TestSubscription", name=name)
    assert (failed.success, failed.status, failed.error) == (False, 0, "refused")


def test_a_deleted_webhook_is_not_tested(caller: Caller) -> None:
    name = caller.create(webhook={"url": f"{URL}/{caller.subscriber}"}).name
    ask(caller, "DeleteSubscription", name=name)
    refusal = refused(lambda: ask(caller, "TestSubscription", name=name))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SUBSCRIPTION_DELETED")


def test_a_receiver_that_must_consent_is_asked_and_its_answer_shown(caller: Caller) -> None:
    url = f"{URL}/{caller.subscriber}"
    script = caller.server.sender.script
    script(url, Answers(405), method=Method.OPTIONS)
    name = caller.create(webhook={"url": url, "require_consent": True}).name
    assert refused(lambda: ask(caller, "TestSubscription", name=name)).reason == "CONSENT_MISSING"
    asked = ask(caller, "RequestConsent", name=name).subscription.webhook
    assert asked.consent.state == pb.Webhook.Consent.STATE_WITHHELD
    assert "HTTP 405" in asked.consent.reason
    script(url, Answers(200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "600"}), method=Method.OPTIONS)
    granted = ask(caller, "RequestConsent", name=name).subscription
    assert granted.webhook.consent.state == pb.Webhook.Consent.STATE_GRANTED
    assert granted.webhook.consent.allowed_per_minute == 600
    assert ask(caller, "TestSubscription", name=name).success
    changed = {"name": name, "webhook": {"require_consent": False}, "etag": granted.etag}
    stored = ask(caller, "UpdateSubscription", subscription=changed, update_mask={"paths": ["webhook.require_consent"]})
    assert not stored.subscription.webhook.HasField("consent")
    assert refused(lambda: ask(caller, "RequestConsent", name=name)).reason == "CONSENT_NOT_REQUIRED"


@pytest.mark.parametrize("rpc", ["RotateSecret", "GetSigningSecrets", "TestSubscription", "RequestConsent"])
def test_a_stream_subscription_has_neither_secrets_nor_a_webhook_to_test(caller: Caller, rpc: str) -> None:
    name = caller.create().name
    assert refused(lambda: ask(caller, rpc, name=name)).code == grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("rpc", "fields", "reason", "at_fault"),
    [
        ("CreateSubscription", {}, "FIELD_REQUIRED", ["subscription", "parent"]),
        ("GetSubscription", {}, "FIELD_REQUIRED", ["name"]),
        ("GetSubscription", {"name": "subscribers/a/b/c"}, "MALFORMED_NAME", ["name"]),
        ("ListSubscriptions", {"parent": "a"}, "MALFORMED_NAME", ["parent"]),
        ("UpdateSubscription", {}, "FIELD_REQUIRED", ["subscription"]),
        ("UpdateSubscription", {"subscription": {"name": "a"}}, "MALFORMED_NAME", ["subscription.name"]),
        ("SeekSubscription", {"name": "subscribers/a/subscriptions/b"}, "FIELD_REQUIRED", ["target"]),
        (
            "SeekSubscription",
            {"name": "subscribers/a/subscriptions/b", "target": {}},
            "FIELD_REQUIRED",
            ["target"],
        ),
        (
            "RotateSecret",
            {"name": "subscribers/a/subscriptions/b", "overlap": {"seconds": -1}},
            "FIELD_INVALID",
            ["overlap"],
        ),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(
    caller: Caller, rpc: str, fields: dict, reason: str, at_fault: list[str]
) -> None:
    refusal = refused(lambda: ask(caller, rpc, **fields))
    assert (refusal.code, refusal.reason) == (INVALID, reason)
    assert refusal.fields[: len(at_fault)] == at_fault
