from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.cli.retry_policies import parse_retry_policy, spell_retry_policy, wire_duration
from certes_broker.config.quantities import Unfit

PUSH = "community.certes.dev/github/1/push"
POLICY = {"exponential": {"initial": "5s", "multiplier": 2, "maximum": "3600s"}, "maxAttempts": 10, "jitter": 0.2}
SPELLED = "exponential:5s,multiplier=2,maximum=1h,attempts=10,jitter=0.2"

waits = st.integers(1, 86_400_000).map(lambda millis: wire_duration(millis / 1000))
kinds = st.one_of(
    st.fixed_dictionaries(
        {
            "exponential": st.fixed_dictionaries(
                {"initial": waits}, optional={"multiplier": st.just(2.5), "maximum": waits}
            )
        }
    ),
    st.fixed_dictionaries(
        {"linear": st.fixed_dictionaries({"initial": waits}, optional={"increment": waits, "maximum": waits})}
    ),
    st.fixed_dictionaries({"logarithmic": st.fixed_dictionaries({"initial": waits}, optional={"scale": waits})}),
    st.fixed_dictionaries(
        {"schedule": st.fixed_dictionaries({"delays": st.lists(waits, max_size=5).map(lambda some: ["0s", *some])})}
    ),
)
shared = st.fixed_dictionaries(
    {}, optional={"maxAttempts": st.integers(1, 100), "maxDuration": waits, "jitter": st.just(0.25)}
)


@given(kinds, shared)
def test_a_policy_that_is_spelled_reads_as_it_was(kind, rest):
    assert parse_retry_policy(spell_retry_policy(kind | rest)) == kind | rest


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("exponential:500ms", {"exponential": {"initial": "0.5s"}}),
        ("linear:1m,increment=30s,maximum=2h", {"linear": {"initial": "60s", "increment": "30s", "maximum": "7200s"}}),
        ("schedule:5s/5m/30m,jitter=0", {"schedule": {"delays": ["0s", "5s", "300s", "1800s"]}, "jitter": 0}),
        ("schedule:", {"schedule": {"delays": ["0s"]}}),
        ("logarithmic:1,duration=30d", {"logarithmic": {"initial": "1s"}, "maxDuration": "2592000s"}),
    ],
)
def test_a_policy_is_read(text, policy):
    assert parse_retry_policy(text) == policy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "often",
        "exponential",
        "exponential:",
        "exponential:soon",
        "quadratic:1s",
        "linear:1s,multiplier=2",
        "exponential:1s,multiplier=x",
        "linear:1s,attempts=few",
        "schedule:1s/",
        "schedule:1s,maximum=1h",
    ],
)
def test_what_is_no_policy_is_refused(text):
    with pytest.raises(Unfit):
        parse_retry_policy(text)


def test_a_default_is_set_and_said_back(certes, gateway):
    name = f"backoffs/types/{PUSH}"
    gateway.answer("SetBackoff", {"backoff": {"name": name, "retryPolicy": POLICY}})
    words = ["exponential:5s,maximum=1h,attempts=10", "--etag", "7"]
    result = certes("backoffs", "set", f"types/{PUSH}", *words, "--broker", gateway.address)
    assert result.stdout == f"Set {name} to {SPELLED}.\n"
    sent = {"exponential": {"initial": "5s", "maximum": "3600s"}, "maxAttempts": 10}
    assert gateway.requests("SetBackoff") == [{"backoff": {"name": name, "retryPolicy": sent, "etag": "7"}}]


@pytest.mark.parametrize("target", ["push", "types/push", "sources/", "everything"])
def test_a_target_that_is_none_is_refused_before_anything_is_sent(certes, gateway, target):
    result = certes("backoffs", "set", target, "linear:1s", "--broker", gateway.address)
    assert result.exit_code == 2
    assert gateway.calls == []


def test_defaults_are_listed_shown_and_deleted(certes, gateway):
    kept = {"name": "backoffs/sources///shop", "retryPolicy": POLICY, "updateTime": "2026-01-01T00:00:00Z"}
    gateway.answer("ListBackoffs", {"backoffs": [kept]})
    listed = certes("backoffs", "list", "--broker", gateway.address)
    assert listed.stdout.splitlines()[1] == f"sources///shop\t{SPELLED}\t2026-01-01T00:00:00Z"
    gateway.answer("GetBackoff", {"backoff": kept})
    shown = certes("backoffs", "get", "sources///shop", "--json", "--broker", gateway.address)
    assert json.loads(shown.stdout) == kept
    gateway.answer("DeleteBackoff", {})
    assert certes("backoffs", "delete", "global", "--missing-ok", "--broker", gateway.address).exit_code == 0
    assert gateway.requests("DeleteBackoff") == [{"name": "backoffs/global", "etag": "", "allowMissing": True}]
