"""What a webhook says to its receiver beside its events, by the command."""

from __future__ import annotations

import json
from typing import Any

import pytest

NAME = "subscribers/default/subscriptions/hook"
CREATE = ("subscriptions", "create", "hook", "--pattern", "a.b/_/1/*")
URL = "https://x.y/z"


def webhook(**fields: Any) -> dict[str, Any]:
    return {"subscription": {"name": NAME, "etag": "r1", "webhook": {"url": URL, **fields}}}


def consent(state: str, **fields: Any) -> dict[str, Any]:
    return webhook(requireConsent=True, consent={"state": f"STATE_{state}", **fields})


# Headers.


def test_headers_are_given_when_a_webhook_is_made(certes, gateway):
    gateway.answer("CreateSubscription", webhook())
    given = ("--header", "Authorization: Bearer a:b", "--header", "x-team:blue")
    assert certes(*CREATE, "--webhook", URL, *given, "--broker", gateway.address).exit_code == 0
    [request] = gateway.requests("CreateSubscription")
    assert request["subscription"]["webhook"]["headers"] == {"authorization": "Bearer a:b", "x-team": "blue"}


def test_a_value_that_must_not_be_seen_is_asked_for(certes, gateway):
    gateway.answer("CreateSubscription", webhook())
    given = ("--webhook", URL, "--header", "authorization: -", "--broker", gateway.address)
    result = certes(*CREATE, *given, stdin="Bearer s3cret\n")
    assert result.exit_code == 0
    assert "s3cret" not in result.output
    [request] = gateway.requests("CreateSubscription")
    assert request["subscription"]["webhook"]["headers"] == {"authorization": "Bearer s3cret"}


def test_one_header_is_changed_and_another_removed_while_the_others_keep_their_values(certes, gateway):
    gateway.answer("GetSubscription", webhook(headers={"authorization": "", "x-team": "", "x-old": ""}))
    gateway.answer("UpdateSubscription", webhook())
    words = ("--header", "X-Team: red", "--header", "x-new: 1", "--remove-header", "X-Old")
    assert certes("subscriptions", "update", "hook", *words, "--broker", gateway.address).exit_code == 0
    [request] = gateway.requests("UpdateSubscription")
    headers = {"authorization": "", "x-team": "red", "x-new": "1"}
    assert request == {
        "subscription": {"name": NAME, "etag": "r1", "webhook": {"headers": headers}},
        "updateMask": "webhook.headers",
    }


def test_a_header_that_is_not_there_cannot_be_removed(certes, gateway):
    gateway.answer("GetSubscription", webhook(headers={"authorization": ""}))
    result = certes("subscriptions", "update", "hook", "--remove-header", "x-old", "--broker", gateway.address)
    assert result.exit_code == 2
    assert "x-old" in result.stderr
    assert gateway.requests("UpdateSubscription") == []


@pytest.mark.parametrize("header", ["s3cret", ": s3cret", "authorization:", "authorization: "])
def test_what_is_no_header_is_refused_before_anything_is_sent_and_not_repeated(certes, header):
    result = certes(*CREATE, "--webhook", URL, "--header", header)
    assert result.exit_code == 2
    assert "'NAME: VALUE'" in result.stderr
    assert "s3cret" not in result.output


@pytest.mark.parametrize("words", [("--header", "a: b"), ("--require-consent",), ("--no-require-consent",)])
def test_what_is_about_a_webhook_needs_one(certes, words):
    result = certes(*CREATE, *words)
    assert result.exit_code == 2
    assert "--webhook" in result.stderr


def test_the_names_of_headers_are_shown(certes, gateway):
    gateway.answer("GetSubscription", webhook(headers={"x-team": "", "authorization": ""}))
    shown = certes("subscriptions", "get", "hook", "--broker", gateway.address).stdout
    assert "authorization, x-team" in shown


# Secrets.


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ((), {"overlap": "86400.000s"}),
        (("--kind", "key-pair", "--overlap", "7d"), {"overlap": "604800.000s", "kind": "KIND_KEY_PAIR"}),
        (("--kind", "secret", "--overlap", "0s"), {"overlap": "0.000s", "kind": "KIND_SECRET"}),
    ],
)
def test_a_secret_is_rotated_with_an_overlap(certes, gateway, words, asked):
    secrets = [{"secret": "whpk_new"}, {"secret": "whsec_old", "expireTime": "2026-01-01T00:00:00Z"}]
    gateway.answer("RotateSecret", {"secrets": secrets})
    result = certes("subscriptions", "rotate-secret", "hook", *words, "--broker", gateway.address)
    assert gateway.requests("RotateSecret") == [{"name": NAME} | asked]
    assert "whpk_new" in result.stdout
    assert "whsec_old until 2026-01-01T00:00:00Z" in result.stdout


def test_what_signs_after_a_rotation_can_be_had_as_json(certes, gateway):
    gateway.answer("RotateSecret", {"secrets": [{"secret": "whsec_new"}]})
    result = certes("subscriptions", "rotate-secret", "hook", "--json", "--broker", gateway.address)
    assert json.loads(result.stdout) == [{"secret": "whsec_new"}]


# Consent.


def test_consent_is_required_from_the_beginning_or_later_or_no_more(certes, gateway):
    gateway.answer("CreateSubscription", webhook())
    result = certes(*CREATE, "--webhook", URL, "--require-consent", "--broker", gateway.address)
    assert "consent" in result.stdout
    assert gateway.requests("CreateSubscription")[0]["subscription"]["webhook"]["requireConsent"] is True
    for word, wanted in (("--require-consent", True), ("--no-require-consent", False)):
        gateway.answer("UpdateSubscription", webhook())
        assert certes("subscriptions", "update", "hook", word, "--broker", gateway.address).exit_code == 0
        request = gateway.requests("UpdateSubscription")[-1]
        assert request["updateMask"] == "webhook.requireConsent"
        assert request["subscription"]["webhook"] == {"requireConsent": wanted}


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (consent("UNASKED"), "unasked"),
        (consent("WITHHELD", time="T", reason="HTTP 405."), "withheld · since T · HTTP 405."),
        (consent("GRANTED", time="T", allowedPerMinute=60), "granted · since T · 60 requests a minute"),
    ],
)
def test_what_a_receiver_has_said_is_shown(certes, gateway, answer, shown):
    gateway.answer("GetSubscription", answer)
    assert shown in certes("subscriptions", "get", "hook", "--broker", gateway.address).stdout


def test_a_receiver_is_asked_for_its_consent(certes, gateway):
    gateway.answer("RequestConsent", consent("GRANTED", time="T"))
    result = certes("subscriptions", "request-consent", "hook", "--broker", gateway.address)
    assert (result.exit_code, result.stdout) == (0, f"The receiver of {NAME} consents.\n")
    assert gateway.requests("RequestConsent") == [{"name": NAME}]


def test_a_receiver_that_does_not_consent_fails_the_command_and_says_why(certes, gateway):
    for words in ((), ("--json",)):
        gateway.answer("RequestConsent", consent("WITHHELD", time="T", reason="HTTP 405."))
        result = certes("subscriptions", "request-consent", "hook", *words, "--broker", gateway.address)
        assert result.exit_code == 1
        assert "HTTP 405." in result.stderr
    assert json.loads(result.stdout)["state"] == "STATE_WITHHELD"


def test_a_receiver_is_tried(certes, gateway):
    gateway.answer("TestSubscription", {"success": True, "status": 204, "duration": "0.25s"})
    result = certes("subscriptions", "test", "hook", "--broker", gateway.address)
    assert result.stdout == f"The receiver of {NAME} answered HTTP 204 in 0.25 s.\n"
    assert gateway.requests("TestSubscription") == [{"name": NAME}]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 500, "duration": "1s", "answer": "bm8bWzMxbQ=="}, ["HTTP 500", "\nno"]),
        ({"error": "Could not resolve host", "duration": "0s"}, ["Could not resolve host"]),
    ],
)
def test_a_receiver_that_does_not_accept_fails_the_command_and_says_why(certes, gateway, answer, said):
    gateway.answer("TestSubscription", answer)
    result = certes("subscriptions", "test", "hook", "--broker", gateway.address)
    assert (result.exit_code, result.stdout) == (1, "")
    assert [text for text in said if text not in result.stderr] == []
    assert "\x1b" not in result.stderr
