"""Update masks: which fields an update changes."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from certes.v1 import subscription_pb2 as pb
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.update_masks import SOURCE, SUBSCRIPTION, Maskable, mask_paths, merge

STORED = pb.Subscription(
    name="subscribers/a/subscriptions/b",
    labels={"kept": "yes"},
    generation=3,
    webhook=pb.Webhook(url="https://a.b/", format=pb.Webhook.FORMAT_ORIGINAL),
)
CHANGEABLE = {
    "selectors", "filter", "scope", "stream", "webhook", "priority", "retry_policy", "ack_deadline", "generation", "labels"
}  # fmt: skip
CHANGEABLE_OF_SOURCES = {
    "subscriber", "everyone", "subscriber_in_payload", "secrets", "signature", "mapping", "keep_rejected", "labels"
}  # fmt: skip


def paths(subscription: dict[str, Any], *mask: str) -> tuple[str, ...]:
    faults = Faults()
    found = mask_paths(faults, SUBSCRIPTION, pb.Subscription(**subscription), FieldMask(paths=mask))
    faults.check()
    return found


def merged(*mask: str, **given: Any) -> pb.Subscription:
    return merge(mask, pb.Subscription(**given), STORED)


@pytest.mark.parametrize(("resource", "changeable"), [(SUBSCRIPTION, CHANGEABLE), (SOURCE, CHANGEABLE_OF_SOURCES)])
def test_every_field_is_changeable_or_identifies_or_is_the_brokers_to_say(
    resource: Maskable, changeable: set[str]
) -> None:
    assert set(resource.message.fields_by_name) == changeable | resource.output_only | resource.identifying
    assert set(mask_paths(Faults(), resource, pb.Subscription(), FieldMask(paths=["*"]))) == changeable


def test_without_a_mask_the_fields_that_are_set_are_changed() -> None:
    given = {"name": "x", "stream": {}, "labels": {"a": "b"}, "state": pb.Subscription.STATE_PAUSED, "etag": "r1"}
    assert set(paths(given)) == {"stream", "labels"}


def test_a_generation_that_is_sent_is_always_changed() -> None:
    assert paths({"generation": 4}, "labels") == ("labels", "generation")


@pytest.mark.parametrize("path", ["name", "etag"])
def test_what_says_which_subscription_is_meant_changes_nothing(path: str) -> None:
    assert paths({}, path, "labels") == ("labels",)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "colour",
        "delivery",
        "webhook.colour",
        "webhook.",
        "labels.kept",
        "selectors.pattern",
        "selectors[0]",
        "ack_deadline.seconds",
        "webhook.headers.a",
        "webhook.url.host",
        "retry_policy.schedule.delays.seconds",
        "webhook.*",
    ],
)
def test_a_path_that_leads_to_no_field_of_its_own_is_refused(path: str) -> None:
    with pytest.raises(Invalid) as raised:
        paths({}, path)
    assert (raised.value.reason, raised.value.metadata["path"]) == (Reason.FIELD_INVALID, path)


@pytest.mark.parametrize("path", ["webhook.consent", "webhook.consent.state"])
def test_what_the_broker_says_within_a_field_cannot_be_changed_either(path: str) -> None:
    with pytest.raises(Invalid) as raised:
        paths({"webhook": {"consent": {"state": pb.Webhook.Consent.STATE_GRANTED}}}, path)
    assert (raised.value.reason, raised.value.metadata["path"]) == (Reason.FIELD_OUTPUT_ONLY, path)


def test_all_bad_paths_are_refused_at_once() -> None:
    with pytest.raises(Invalid) as raised:
        paths({}, "state", "colour", "labels")
    assert raised.value.reason is Reason.FIELD_OUTPUT_ONLY
    assert len(raised.value.violations) == 2


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("webhook.url", {"webhook": {"url": "https://c.d/"}}),
        ("webhook.secrets", {"webhook": {"secrets": ["s"]}}),
        ("webhook.timeout", {"webhook": {"timeout": {"seconds": 1}}}),
        ("webhook.max_in_flight", {"webhook": {"max_in_flight": 0}}),
        ("retry_policy.exponential.multiplier", {"retry_policy": {"exponential": {"multiplier": 3}}}),
        ("labels", {"labels": {"new": "yes"}}),
        ("selectors", {"selectors": [{"pattern": "a.b/**"}]}),
        ("generation", {"generation": 0}),
        ("scope", {"scope": pb.Subscription.SCOPE_OWN}),
    ],
)
def test_a_path_takes_the_field_as_the_request_has_it_and_no_other(path: str, given: dict[str, Any]) -> None:
    result = merged(path, **given)
    assert value(result, path) == value(pb.Subscription(**given), path)
    for other in ("labels", "webhook.url", "webhook.format", "generation"):
        if other != path:
            assert value(result, other) == value(STORED, other)


@pytest.mark.parametrize("path", ["labels", "generation", "webhook", "webhook.url", "webhook.timeout", "retry_policy"])
def test_a_path_of_a_field_that_the_request_does_not_set_clears_it(path: str) -> None:
    assert value(merged(path), path) == value(pb.Subscription(), path)


def test_an_empty_message_that_is_set_stays_set() -> None:
    assert merged("stream", stream={}).WhichOneof("delivery") == "stream"


def test_a_path_below_a_message_that_neither_side_has_makes_none() -> None:
    assert not merged("retry_policy.exponential.initial").HasField("retry_policy")


def value(message: Any, path: str) -> Any:
    for name in path.split("."):
        message = getattr(message, name)
    return message
