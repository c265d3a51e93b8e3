"""The registry finds schemas by event type, and refuses selectors that could never match."""

from __future__ import annotations

import pytest

from certes_broker.domain.errors import Internal, Invalid, Reason
from certes_broker.domain.uris import parse_pattern
from certes_broker.schemas.catalogue import community_schemas
from certes_broker.schemas.registry import Registry

GITHUB = "community.certes.dev/github/1"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(community_schemas())


def refusal_of(registry: Registry, pattern: str, options: dict[str, str]) -> Invalid:
    with pytest.raises(Invalid) as refusal:
        registry.check_selector(parse_pattern(pattern), options)
    assert refusal.value.reason is Reason.UNKNOWN_OPTION
    return refusal.value


def test_the_community_catalogue_has_the_event_types_that_its_protos_say(registry):
    assert [event_type.text for event_type in registry.types()] == [
        f"{GITHUB}/issues",
        f"{GITHUB}/membership",
        f"{GITHUB}/ping",
        f"{GITHUB}/pull_request",
        f"{GITHUB}/push",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("issues", "IssuesEvent"),
        ("membership", "MembershipEvent"),
        ("ping", "PingEvent"),
        ("pull_request", "PullRequestEvent"),
        ("push", "PushEvent"),
    ],
)
def test_an_event_type_is_found_with_its_message(registry, name, message):
    schema = registry.lookup(f"{GITHUB}/{name}")
    assert schema.message_name == f"certes.community.github.v1.{message}"
    assert schema.type_url == f"type.googleapis.com/{schema.message_name}"


def test_the_domain_of_an_event_type_may_be_spelled_in_capitals(registry):
    assert registry.lookup("Community.Certes.DEV/github/1/push") is registry.lookup(f"{GITHUB}/push")


def test_an_unknown_event_type_is_refused_with_the_nearest_that_are_known(registry):
    with pytest.raises(Invalid) as refusal:
        registry.lookup(f"{GITHUB}/pul_request")
    assert refusal.value.reason is Reason.UNKNOWN_EVENT_TYPE
    assert refusal.value.hint.startswith(f"Did you mean {GITHUB}/pull_request")


def test_an_unknown_event_type_far_from_all_others_is_refused_without_guessing(registry):
    with pytest.raises(Invalid) as refusal:
        registry.lookup("example.org/_/1/x")
    assert refusal.value.reason is Reason.UNKNOWN_EVENT_TYPE
    assert "mean" not in refusal.value.hint


def test_a_text_that_is_no_event_uri_is_refused_as_such(registry):
    with pytest.raises(Invalid) as refusal:
        registry.lookup("push")
    assert refusal.value.reason is Reason.MALFORMED_URI


def test_two_schemas_of_one_event_type_are_a_fault_of_the_broker():
    with pytest.raises(Internal, match="are both the schema of"):
        Registry([*community_schemas(), *community_schemas()])


@pytest.mark.parametrize(
    ("pattern", "options"),
    [
        (f"{GITHUB}/push", {"repo": "meetly/meetly"}),
        (f"{GITHUB}/push", {"repo": "meetly/meetly", "org": "meetly"}),
        (f"{GITHUB}/membership", {"org": "meetly"}),
        (f"{GITHUB}/*", {"repo": "meetly/meetly"}),
        ("community.certes.dev/**", {"repo": "meetly/meetly", "org": "meetly"}),
    ],
)
def test_options_that_one_event_type_of_the_pattern_declares_are_accepted(registry, pattern, options):
    registry.check_selector(parse_pattern(pattern), options)


@pytest.mark.parametrize("pattern", [f"{GITHUB}/deployment", f"{GITHUB}/_version", "events.meetly.com/_/1/*"])
def test_a_pattern_without_options_may_be_ahead_of_the_registry(registry, pattern):
    registry.check_selector(parse_pattern(pattern), {})


def test_an_option_that_nothing_declares_is_refused_with_those_that_are_known(registry):
    refusal = refusal_of(registry, f"{GITHUB}/*", {"repo": "meetly/meetly", "rep": "meetly/meetly"})
    assert "'rep'" in refusal.message
    assert refusal.hint == "Known options: org, repo."
    assert refusal.metadata == {"pattern": f"{GITHUB}/*", "options": "rep", "known": "org,repo"}


def test_an_option_of_another_event_type_does_not_help(registry):
    refusal = refusal_of(registry, f"{GITHUB}/membership", {"repo": "meetly/meetly"})
    assert refusal.hint == "Known options: org."


def test_options_of_event_types_that_are_not_there_cannot_be_known(registry):
    refusal = refusal_of(registry, f"{GITHUB}/deployment", {"repo": "meetly/meetly"})
    assert "no event type is registered that it matches" in refusal.message
