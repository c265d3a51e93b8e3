"""Default retry policies: their names, and which policy holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.backoff_defaults import (
    EVERYTHING,
    BackoffDefault,
    Origin,
    Target,
    effective,
    parse_target,
    ranked,
)
from certes_broker.domain.errors import Invalid
from certes_broker.domain.events import Micros
from certes_broker.domain.retry import DEFAULT_RETRY_POLICY, Exponential, RetryPolicy

PUSH, PING = "community.certes.dev/github/1/push", "community.certes.dev/github/1/ping"
SOURCES = ("//shop", "sources/github")


def policy(seconds: float) -> RetryPolicy:
    return RetryPolicy(Exponential(seconds))


OWN = policy(1)
KNOWN = {
    target: BackoffDefault(target, policy(seconds), Micros(0))
    for seconds, target in enumerate(
        (EVERYTHING, Target(Origin.EVENT_TYPE, PUSH), Target(Origin.SOURCE, SOURCES[0])), start=2
    )
}


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("backoffs/global", EVERYTHING),
        (f"backoffs/types/{PUSH}", Target(Origin.EVENT_TYPE, PUSH)),
        ("backoffs/sources///shop", Target(Origin.SOURCE, "//shop")),
        ("backoffs/sources/sources/github", Target(Origin.SOURCE, "sources/github")),
    ],
)
def test_a_name_says_what_a_default_is_for(name: str, target: Target) -> None:
    assert parse_target(name) == target
    assert target.name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "global",
        "backoffs/",
        "backoffs/sources/",
        "backoffs/other/x",
        "backoffs/sources/a\nb",
        "backoffs/types/push",
        f"backoffs/types/{PUSH}/",
        "backoffs/types/a.example/*",
        "backoffs/sources/" + "x" * 513,
    ],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        parse_target(name)


@pytest.mark.parametrize(
    ("own", "kept", "origin"),
    [
        (OWN, list(KNOWN), Origin.SUBSCRIPTION),
        (None, list(KNOWN), Origin.EVENT_TYPE),
        (None, [EVERYTHING, Target(Origin.SOURCE, SOURCES[0])], Origin.SOURCE),
        (None, [EVERYTHING], Origin.GLOBAL),
        (None, [], Origin.BUILT_IN),
    ],
)
def test_the_first_in_rank_holds(own: RetryPolicy | None, kept: list[Target], origin: Origin) -> None:
    defaults = {target: KNOWN[target] for target in kept}
    found = effective(own, defaults, PUSH, SOURCES[0])
    assert found.origin is origin
    expected = {Origin.SUBSCRIPTION: OWN, Origin.BUILT_IN: DEFAULT_RETRY_POLICY}
    assert found.policy == expected.get(origin) or found.policy in [one.policy for one in defaults.values()]


def test_what_is_for_another_type_or_source_does_not_hold() -> None:
    assert effective(None, KNOWN, PING, SOURCES[1]).origin is Origin.GLOBAL


@given(
    st.sampled_from([None, OWN]),
    st.sets(st.sampled_from(list(KNOWN))),
    st.sampled_from([PUSH, PING]),
    st.sampled_from(SOURCES),
)
def test_the_first_of_the_ranked_that_fits_is_the_one_that_holds(
    own: RetryPolicy | None, kept: set[Target], event_type: str, source: str
) -> None:
    defaults = {target: KNOWN[target] for target in kept}
    fitting = [
        one
        for one in ranked(own, defaults.values())
        if one.event_type in ("", event_type) and one.source in ("", source)
    ]
    assert fitting[0] == effective(own, defaults, event_type, source)
