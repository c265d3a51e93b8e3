"""Limits, retry policies and what webhooks say, by the command, against the real broker."""

from __future__ import annotations

import json

from tests.integration.conftest import Certes

PING = "community.certes.dev/github/1/ping"
HOOK = ("--pattern", PING, "--webhook", "https://example.com/hook")


def told(certes: Certes, *words: str):
    done = certes(*words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_limits_that_are_set_are_kept_over_updates_of_others_and_taken_back(certes):
    limits = ("--retry", "schedule:1s/2s,jitter=0", "--timeout", "2s", "--max-in-flight", "4", "--rate-limit", "100/1m")
    told(certes, "subscriptions", "create", "hook", *HOOK, *limits, "--priority", "9", "--json")
    told(certes, "subscriptions", "update", "hook", "--priority", "0", "--json")
    kept = told(certes, "subscriptions", "get", "hook", "--json")
    assert kept["retryPolicy"] == {"schedule": {"delays": ["0s", "1s", "2s"]}, "jitter": 0}
    assert kept["webhook"]["rateLimit"] == {"count": 100, "interval": "60s"}
    assert (kept["webhook"]["timeout"], kept["webhook"]["maxInFlight"], kept["priority"]) == ("2s", 4, 0)
    shown = certes("subscriptions", "get", "hook").stdout
    assert "schedule:1s/2s,jitter=0" in shown
    assert "100/1m" in shown
    words = ("--retry", "default", "--timeout", "default", "--max-in-flight", "default", "--rate-limit", "default")
    changed = told(certes, "subscriptions", "update", "hook", *words, "--priority", "default", "--json")
    assert "retryPolicy" not in changed
    assert not {"rateLimit", "maxInFlight"} & changed["webhook"].keys()
    assert (changed["webhook"]["timeout"], changed.get("priority")) == ("15s", None)


def test_what_webhooks_say_is_changed_by_the_command_and_no_value_of_a_header_shown(certes):
    given = ("--header", "authorization: Bearer s3cret", "--header", "x-team: blue", "--require-consent")
    hook = ("--pattern", PING, "--webhook", "http://127.0.0.1:1/")
    created = told(certes, "subscriptions", "create", "hook", *hook, *given, "--json")
    assert created["webhook"]["headers"] == {"authorization": "", "x-team": ""}
    headers = ("--header", "x-new: 1", "--remove-header", "X-Team")
    changed = told(certes, "subscriptions", "update", "hook", *headers, "--json")
    assert changed["webhook"]["headers"] == {"authorization": "", "x-new": ""}
    newest, older = told(certes, "subscriptions", "rotate-secret", "hook", "--kind", "key-pair", "--json")
    assert newest["secret"].startswith("whpk_")
    assert older["secret"].startswith("whsec_")
    assert "expireTime" in older
    asked = certes("subscriptions", "request-consent", "hook")
    assert asked.returncode == 1
    assert "does not consent" in asked.stderr
    shown = certes("subscriptions", "get", "hook", "--secrets").stdout
    assert "withheld" in shown
    assert "s3cret" not in shown


def test_default_policies_are_set_asked_for_and_deleted(certes):
    told(certes, "subscriptions", "create", "hook", *HOOK, "--json")
    for target, policy in (
        ("global", "linear:1m"),
        (f"types/{PING}", "exponential:1s"),
        ("sources///shop", "linear:2m"),
    ):
        assert certes("backoffs", "set", target, policy).returncode == 0
    listed = certes("backoffs", "list").stdout.splitlines()[1:]
    assert [line.split("\t")[0] for line in listed] == ["global", "sources///shop", f"types/{PING}"]
    held = certes("subscriptions", "policies", "hook").stdout.splitlines()[1:]
    assert [line.split("\t")[:3] for line in held] == [
        ["event type", PING, ""],
        ["source", "", "//shop"],
        ["global", "", ""],
    ]
    assert certes("backoffs", "delete", "global").returncode == 0
    refused = certes("backoffs", "delete", "global")
    assert refused.returncode == 1
    assert "BACKOFF_NOT_FOUND" in refused.stderr
    assert certes("subscriptions", "policies", "hook").stdout.splitlines()[-1].startswith("built in")


def test_what_a_subscription_gets_and_where_is_changed_by_the_command(certes):
    told(certes, "subscriptions", "create", "hook", *HOOK, "--priority", "7", "--json")
    words = (
        "--pattern",
        "community.certes.dev/github/1/push",
        "--option",
        "repo=meetly/app",
        "--filter",
        "data.ref != ''",
    )
    changed = told(certes, "subscriptions", "update", "hook", *words, "--json")
    assert changed["selectors"] == [
        {"pattern": "community.certes.dev/github/1/push", "options": {"repo": "meetly/app"}}
    ]
    assert (changed["filter"], changed["webhook"]["url"], changed["priority"]) == (words[-1], HOOK[-1], 7)
    moved = ("--webhook", "https://example.com/other", "--format", "original", "--filter", "")
    changed = told(certes, "subscriptions", "update", "hook", *moved, "--json")
    assert (changed["webhook"]["url"], changed["webhook"]["format"]) == (moved[1], "FORMAT_ORIGINAL")
    assert "filter" not in changed
    refused = certes("subscriptions", "update", "hook", "--option", "repo=meetly/app")
    assert refused.returncode != 0
    assert "--pattern" in refused.stderr


def test_a_subscription_is_moved_by_the_command(certes, tmp_path):
    data = tmp_path / "ping.json"
    data.write_text("{}")
    told(certes, "subscriptions", "create", "app", "--pattern", PING, "--json")
    published = told(certes, "publish", PING, "--json", str(data), "--everyone", "--print-json")
    for point in ("beginning", published["name"], "2026-01-01T00:00:00Z", "end"):
        assert told(certes, "subscriptions", "seek", "app", point, "--json") == {"discardedDeliveries": 0}
    assert "Moved subscribers/default/subscriptions/app to end." in certes("subscriptions", "seek", "app", "end").stdout
    refused = certes("subscriptions", "seek", "app", "yesterday")
    assert refused.returncode != 0
    assert "time" in refused.stderr
