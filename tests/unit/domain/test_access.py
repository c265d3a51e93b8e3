"""Who may do what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.access import (
    ALL_ROLES,
    LOCAL_OPERATOR,
    ROLE_SETS,
    Bindings,
    Caller,
    Needs,
    Role,
    check_needs,
    check_patterns,
    check_publish,
    check_subscriber,
    covers,
    exceeds,
    read_roles,
)
from certes_broker.domain.errors import Invalid, PermissionDenied, Reason
from certes_broker.domain.uris import parse_event_type, parse_pattern

PUSH = "community.certes.dev/github/1/push"
WRITER = frozenset({Role.EVENTS_WRITE})


def caller(*roles: Role, **bindings) -> Caller:
    return Caller("apiKeys/k", frozenset(roles), Bindings(**{kind: frozenset(some) for kind, some in bindings.items()}))


def reason(check, *arguments) -> Reason | None:
    try:
        check(*arguments)
    except PermissionDenied as error:
        return error.reason
    return None


def test_a_rpc_needs_its_role_of_everybody() -> None:
    needs = Needs.declared("sources:read", unbound=False)
    assert reason(check_needs, caller(Role.SOURCES_WRITE), needs, "GetSource") is Reason.ROLE_MISSING
    assert reason(check_needs, caller(Role.SOURCES_READ), needs, "GetSource") is None
    assert reason(check_needs, caller(), Needs.declared("any", unbound=False), "Ping") is None


def test_what_belongs_to_nobody_is_not_for_who_is_bound() -> None:
    needs = Needs(Role.SOURCES_READ, unbound=True)
    bound = caller(Role.SOURCES_READ, subscribers={"org_1"})
    assert reason(check_needs, bound, needs, "GetSource") is Reason.NOT_BOUND_TO
    assert reason(check_needs, caller(Role.SOURCES_READ, subscribers=()), needs, "GetSource") is Reason.NOT_BOUND_TO
    assert reason(check_needs, caller(Role.SOURCES_READ, sources={"//a"}), needs, "GetSource") is None


def test_a_role_that_is_none_is_no_need() -> None:
    with pytest.raises(ValueError, match="sources:eat"):
        Needs.declared("sources:eat", unbound=False)


def test_who_is_bound_sees_its_own_subscribers_and_not_all_of_them() -> None:
    bound = caller(subscribers={"org_1"})
    assert reason(check_subscriber, bound, "org_1") is None
    assert reason(check_subscriber, bound, "org_2") is Reason.NOT_BOUND_TO
    assert reason(check_subscriber, bound, "-") is Reason.NOT_BOUND_TO
    assert reason(check_subscriber, caller(), "-") is None
    assert bound.sees_event(None, PUSH)
    assert bound.sees_event("org_1", PUSH)
    assert not bound.sees_event("org_2", PUSH)


def test_an_operator_may_change_the_broker_and_sees_everybody() -> None:
    assert LOCAL_OPERATOR.is_operator
    assert caller(Role.CONFIG_WRITE).is_operator
    assert not caller(Role.CONFIG_WRITE, subscribers={"org_1"}).is_operator
    assert not caller(Role.CONFIG_READ).is_operator


@pytest.mark.parametrize(
    ("granted", "source", "refused"),
    [
        (None, "//shop", None),
        (None, "sources/github", Reason.SOURCE_NOT_GRANTED),
        ({"*"}, "sources/github", Reason.SOURCE_NOT_GRANTED),
        ({"sources/github"}, "sources/github", Reason.SOURCE_NOT_GRANTED),
        ({"//shop"}, "//shop", None),
        ({"//shop"}, "//shop/1", Reason.SOURCE_NOT_GRANTED),
        ({"//shop*"}, "//shop/1", None),
        ({"//shop/*"}, "//shopping", Reason.SOURCE_NOT_GRANTED),
        ((), "//shop", Reason.SOURCE_NOT_GRANTED),
    ],
)
def test_a_source_is_for_those_to_whom_it_is_granted_and_the_ingress_keeps_its_own(granted, source, refused) -> None:
    who = caller(*ALL_ROLES) if granted is None else caller(*ALL_ROLES, sources=granted)
    assert reason(check_publish, who, source, "org_1", PUSH) is refused


def test_who_is_bound_to_subscribers_has_no_source_that_was_not_granted() -> None:
    bound = caller(*ALL_ROLES, subscribers={"org_1"})
    assert reason(check_publish, bound, "//a", "org_1", PUSH) is Reason.SOURCE_NOT_GRANTED


def test_an_event_for_everyone_needs_a_role_of_its_own_and_one_for_a_subscriber_the_binding() -> None:
    assert reason(check_publish, caller(*WRITER), "//a", None, PUSH) is Reason.ROLE_MISSING
    assert reason(check_publish, caller(*WRITER, Role.EVENTS_PUBLISH_EVERYONE), "//a", None, PUSH) is None
    bound = caller(*WRITER, subscribers={"org_1"}, sources={"//a"})
    assert reason(check_publish, bound, "//a", "org_1", PUSH) is None
    assert reason(check_publish, bound, "//a", "org_2", PUSH) is Reason.NOT_BOUND_TO


def test_who_is_bound_to_types_publishes_and_selects_only_those() -> None:
    bound = caller(*ALL_ROLES, types={parse_pattern("community.certes.dev/github/1/*")})
    assert reason(check_publish, bound, "//a", "x", PUSH) is None
    assert reason(check_publish, bound, "//a", "x", "example.com/_/1/other") is Reason.TYPE_NOT_GRANTED
    assert reason(check_patterns, bound, [parse_pattern(PUSH)]) is None
    assert reason(check_patterns, bound, [parse_pattern("community.certes.dev/**")]) is Reason.TYPE_NOT_GRANTED
    assert reason(check_patterns, caller(), [parse_pattern("community.certes.dev/**")]) is None
    assert not bound.sees_event(None, "example.com/_/1/other")


@pytest.mark.parametrize(
    ("granted", "wanted", "covered"),
    [
        ("d.x/a/1/*", "d.x/a/1/*", True),
        ("d.x/a/*/*", "d.x/a/1/*", True),
        ("d.x/a/1/*", "d.x/a/*/*", False),
        ("d.x/**", "d.x/a/1/*", True),
        ("d.x/**", "d.x/a/**", True),
        ("d.x/a/**", "d.x/**", False),
        ("d.x/a/*/*", "d.x/a/**", False),
        ("d.x/**", "e.x/**", False),
        ("d.x/**", "d.x/a/1/_version", False),
        ("d.x/**", "d.x/a/*/_version", False),
        ("d.x/a/*/_version", "d.x/a/1/_version", True),
    ],
)
def test_a_pattern_covers_another(granted: str, wanted: str, covered: bool) -> None:
    assert covers(parse_pattern(granted), parse_pattern(wanted)) is covered


NAMESPACE = st.lists(st.sampled_from(["*", "1", "a"]), min_size=1, max_size=3)
VERSION = st.sampled_from(["*", "1", "2"])
SPELLED = st.tuples(NAMESPACE, VERSION, st.sampled_from(["*", "1", "a", "_a"])).map(lambda p: [*p[0], p[1], p[2]])
PATTERNS = st.one_of(SPELLED, NAMESPACE.map(lambda begin: [*begin, "**"])).map(
    lambda segments: parse_pattern("/".join(["d.x", *segments]))
)
TYPES = st.tuples(
    st.lists(st.sampled_from(["1", "a"]), min_size=1, max_size=3),
    st.sampled_from(["1", "2"]),
    st.sampled_from(["1", "a", "_a"]),
).map(lambda p: parse_event_type("/".join(["d.x", *p[0], p[1], p[2]])))


@given(PATTERNS, PATTERNS, TYPES)
def test_what_is_covered_matches_nothing_more(granted, wanted, found) -> None:
    if covers(granted, wanted) and wanted.matches(found):
        assert granted.matches(found)


def test_roles_are_read_from_their_names_and_from_names_of_sets() -> None:
    assert read_roles(["events:read", "publisher"]) == {Role.EVENTS_READ, *ROLE_SETS["publisher"]}
    assert read_roles(["operator"]) == ALL_ROLES
    with pytest.raises(Invalid, match="'events:eat' is no role; there are operator"):
        read_roles(["events:eat"])


def test_a_caller_gives_away_no_more_than_it_has() -> None:
    giver = caller(Role.EVENTS_READ, Role.CONFIG_WRITE, subscribers={"org_1", "org_2"}, sources={"//a/*"})
    fits = {"subscribers": {"org_1"}, "sources": {"//a/b"}}
    assert exceeds(caller(Role.EVENTS_READ, **fits), giver) == ""
    assert exceeds(caller(Role.EVENTS_WRITE, **fits), giver) == "the role events:write"
    assert "subscribers" in exceeds(caller(Role.EVENTS_READ, sources={"//a/b"}), giver)
    assert "subscribers" in exceeds(caller(Role.EVENTS_READ, **{**fits, "subscribers": {"org_3"}}), giver)
    assert "sources" in exceeds(caller(Role.EVENTS_READ, **{**fits, "sources": {"*"}}), giver)
    assert "sources" in exceeds(caller(Role.EVENTS_READ, subscribers={"org_1"}), giver)
    narrow = caller(*ALL_ROLES, types={parse_pattern("d.x/**")})
    assert exceeds(caller(types={parse_pattern("d.x/a/1/*")}), narrow) == ""
    assert "types" in exceeds(caller(types={parse_pattern("e.x/a/1/*")}), narrow)
    assert "types" in exceeds(caller(), narrow)
    assert exceeds(narrow, LOCAL_OPERATOR) == ""
