from __future__ import annotations

import re

import pytest

from certes_broker.cli.subscription_limits import parse_rate, spell_rate
from certes_broker.config.quantities import Unfit

NAME = "subscribers/default/subscriptions/billing"
URL = "https://x.y/z"
SAID = [
    "--retry",
    "linear:1s,attempts=3",
    "--timeout",
    "2s",
    "--max-in-flight",
    "4",
    "--rate-limit",
    "100/1m",
    "--priority",
    "9",
]
WEBHOOK = {"timeout": "2s", "maxInFlight": 4, "rateLimit": {"count": 100, "interval": "60s"}}
SENT = {"webhook": WEBHOOK, "retryPolicy": {"linear": {"initial": "1s"}, "maxAttempts": 3}, "priority": 9}
STORED = {"name": NAME, **SENT, "webhook": {"url": URL, **WEBHOOK}}


def shown(text: str) -> dict[str, str]:
    return dict(re.split(r" {2,}|\t", line, maxsplit=1) for line in text.splitlines())


def test_a_subscription_is_created_with_its_limits(certes, gateway):
    gateway.answer("CreateSubscription", {"subscription": STORED})
    words = ["--pattern", "a.b/_/1/*", "--webhook", URL, *SAID]
    assert certes("subscriptions", "create", "billing", *words, "--broker", gateway.address).exit_code == 0
    [request] = gateway.requests("CreateSubscription")
    wanted = request["subscription"]
    assert wanted["webhook"] == {"url": URL, "format": "FORMAT_CLOUDEVENTS_JSON", **WEBHOOK}
    assert {name: wanted[name] for name in ("retryPolicy", "priority")} == {
        name: SENT[name] for name in ("retryPolicy", "priority")
    }


def test_the_time_that_a_stream_has_is_said_and_taken_back(certes, gateway):
    for words, sent in ((["--ack-deadline", "1m"], {"ackDeadline": "60s"}), (["--ack-deadline", "default"], {})):
        gateway.answer("UpdateSubscription", {"subscription": {"name": NAME, **sent}})
        certes("subscriptions", "update", "billing", *words, "--broker", gateway.address)
        assert gateway.requests("UpdateSubscription")[-1] == {
            "subscription": {"name": NAME, "etag": "", **sent},
            "updateMask": "ackDeadline",
        }


def test_limits_are_changed_and_nothing_else_and_shown(certes, gateway):
    gateway.answer("UpdateSubscription", {"subscription": STORED})
    result = certes("subscriptions", "update", "billing", *SAID, "--broker", gateway.address)
    [request] = gateway.requests("UpdateSubscription")
    assert request == {
        "subscription": {"name": NAME, "etag": "", **SENT},
        "updateMask": "priority,retryPolicy,webhook.maxInFlight,webhook.rateLimit,webhook.timeout",
    }
    facts = shown(result.stdout)
    assert (facts["max in flight"], facts["rate limit"], facts["priority"]) == ("4", "100/1m", "9")
    assert facts["retry"] == "linear:1s,attempts=3"


def test_default_takes_a_setting_back(certes, gateway):
    gateway.answer("UpdateSubscription", {"subscription": STORED})
    words = ["--retry", "default", "--rate-limit", "default"]
    assert certes("subscriptions", "update", "billing", *words, "--broker", gateway.address).exit_code == 0
    [request] = gateway.requests("UpdateSubscription")
    assert request == {"subscription": {"name": NAME, "etag": ""}, "updateMask": "retryPolicy,webhook.rateLimit"}


@pytest.mark.parametrize(
    "words",
    [
        ["update", "billing"],
        ["update", "billing", "--priority", "first"],
        ["update", "billing", "--rate-limit", "5"],
        ["update", "billing", "--retry", "often"],
        ["update", "billing", "--timeout", "soon"],
        ["create", "billing", "--pattern", "a.b/_/1/*", "--rate-limit", "5/s"],
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(certes, gateway, words):
    assert certes("subscriptions", *words, "--broker", gateway.address).exit_code == 2
    assert gateway.calls == []


def test_the_policies_that_hold_are_listed_with_where_they_come_from(certes, gateway):
    policy = {"linear": {"initial": "1s"}}
    policies = [
        {"origin": "ORIGIN_EVENT_TYPE", "eventType": "a.b/_/1/c", "retryPolicy": policy},
        {"origin": "ORIGIN_BUILT_IN", "retryPolicy": policy},
    ]
    gateway.answer("GetEffectiveRetryPolicy", {"policies": policies})
    result = certes("subscriptions", "policies", "billing", "--broker", gateway.address)
    assert result.stdout.splitlines()[1:] == ["event type\ta.b/_/1/c\t\tlinear:1s", "built in\t\t\tlinear:1s"]


@pytest.mark.parametrize(("text", "count", "interval"), [("5/s", 5, "1s"), ("100/1m", 100, "60s"), ("1/h", 1, "3600s")])
def test_a_rate_is_read(text, count, interval):
    assert parse_rate(text) == {"count": count, "interval": interval}
    assert parse_rate(spell_rate(parse_rate(text))) == parse_rate(text)


@pytest.mark.parametrize("text", ["", "5", "/s", "5/", "x/s", "5/fortnight"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(Unfit):
        parse_rate(text)
