"""The registry finds schemas by event type, and refuses selectors that could never match."""

from __future__ import annotations

import pytest

from certes_broker.domain.errors import Internal, Invalid, Reason
from certes_broker.domain.schemas import Origin, VersionName
from certes_broker.domain.uris import parse_pattern
from certes_broker.schemas.catalogue import community_versions, versions_of
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.schema_version import link
from tests.unit.schemas.version_makers import BOOKED, IMPORTED, MEETLY, meetly_file, meetly_version

GITHUB = "community.certes.dev/github/1"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(community_versions())


def refusal_of(registry: Registry, pattern: str, options: dict[str, str]) -> Invalid:
    with pytest.raises(Invalid) as refusal:
        registry.check_selector(parse_pattern(pattern), options)
    assert refusal.value.reason is Reason.UNKNOWN_OPTION
    return refusal.value


def test_the_community_catalogue_has_the_event_types_that_its_protos_say(registry):
    names = {event_type.name for event_type in registry.types() if event_type.text.startswith(f"{GITHUB}/")}
    assert names >= {"issues", "membership", "ping", "pull_request", "push"}


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


def test_two_messages_of_generated_code_for_one_event_type_are_a_fault_of_the_broker():
    pool = link(
        [
            *IMPORTED,
            *(meetly_file({"booked": []}, path=f"{one}.proto", package=one).SerializeToString() for one in "ab"),
        ]
    )
    with pytest.raises(
        Internal, match=r"a\.Booked and b\.Booked are both the schema of events\.meetly\.com/_/1/booked"
    ):
        list(versions_of(pool.FindFileByName(f"{one}.proto") for one in "ab"))


def test_a_version_that_is_put_is_found_at_once_and_replaces_the_one_before():
    registry = Registry([meetly_version({"booked": ["room"], "moved": []})])
    changes = registry.changes
    assert registry.lookup(BOOKED.replace("events", "EVENTS")).options == ("room",)
    registry.put(meetly_version({"booked": ["room", "seat"]}, revision=2))
    assert registry.changes == changes + 1
    assert registry.lookup(BOOKED.replace("events", "EVENTS")).options == ("room", "seat")
    assert [event_type.text for event_type in registry.types()] == [BOOKED]
    with pytest.raises(Invalid, match="no schema is registered"):
        registry.lookup("events.meetly.com/_/1/moved")


def test_a_selector_is_checked_against_what_is_registered_by_now():
    registry = Registry([meetly_version({"booked": ["room"]})])
    pattern = parse_pattern("events.meetly.com/**")
    registry.check_selector(pattern, {"room": "blue"})
    refusal_of(registry, pattern.text, {"seat": "12"})
    registry.put(meetly_version({"booked": ["room", "seat"]}, revision=2))
    registry.check_selector(pattern, {"seat": "12"})


def test_versions_are_found_by_name_and_told_in_order():
    second, first = meetly_version({"booked": []}, MEETLY._replace(version=2)), meetly_version({"booked": []})
    registry = Registry([second, first])
    assert registry.versions() == [first, second]
    assert registry.version(MEETLY) is first
    assert registry.version(MEETLY._replace(version=3)) is None
    assert registry.domains() == ["events.meetly.com"]


@pytest.mark.parametrize(("name", "message"), [("_version", "VersionUpdate"), ("_drift", "SchemaDrift")])
def test_every_version_has_system_events_without_declaring_them(registry, name, message):
    schema = registry.lookup(f"{GITHUB}/{name}")
    assert schema.message_name == f"certes.v1.{message}"
    assert schema.is_system
    version = registry.version_of(schema.type)
    assert version.origin is Origin.SYSTEM
    assert version.name == VersionName("community.certes.dev", "github", 1)
    assert registry.version_of(schema.type) is version
    assert [path for path, _ in version.files.sources][-1] == "certes/v1/system_events.proto"


@pytest.mark.parametrize("text", ["community.certes.dev/github/2/_version", f"{GITHUB}/_other"])
def test_other_system_events_are_unknown(registry, text):
    with pytest.raises(Invalid, match="no schema is registered"):
        registry.lookup(text)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("events.meetly.com/_/1/booked", ["_/1/booked"]),
        ("events.meetly.com/_/1/book", []),
        ("events.meetly.com/_/*/booked", ["_/1/booked", "_/2/booked"]),
        ("events.meetly.com/_/1/*", ["_/1/booked", "_/1/moved"]),
        ("events.meetly.com/**", ["_/1/booked", "_/1/moved", "_/2/booked", "rooms/1/closed"]),
        ("events.meetly.com/_/*/_drift", ["_/1/_drift", "_/2/_drift"]),
        ("events.meetly.com/rooms/1/_version", ["rooms/1/_version"]),
        ("example.org/**", []),
    ],
)
def test_a_pattern_finds_what_it_matches(pattern, found):
    events: dict[VersionName, dict[str, list[str]]] = {
        MEETLY: {"booked": [], "moved": []},
        MEETLY._replace(version=2): {"booked": []},
        MEETLY._replace(namespace="rooms"): {"closed": []},
        MEETLY._replace(domain="events.meetly.community"): {"booked": []},
    }
    registry = Registry(meetly_version(types, name) for name, types in events.items())
    expected = [f"events.meetly.com/{one}" for one in found]
    assert [event_type.text for event_type in registry.matching(parse_pattern(pattern))] == expected


def test_the_community_catalogue_has_its_files_and_their_sources(registry):
    version = registry.version(VersionName("community.certes.dev", "github", 1))
    assert (version.origin, version.revision, version.register_time) == (Origin.COMMUNITY, 1, None)
    link(version.files.files)
    sources = dict(version.files.sources)
    assert "message PushEvent {" in sources["certes/community/github/v1/push_event.proto"]
    assert all(path.startswith("certes/community/github/v1/") for path in sources)


def test_an_unknown_event_type_among_thousands_is_compared_with_its_neighbours():
    registry = Registry([meetly_version({f"event_{number:04}": [] for number in range(5_000)})])
    with pytest.raises(Invalid) as refusal:
        registry.lookup("events.meetly.com/_/1/event_2050x")
    assert refusal.value.hint.startswith("Did you mean events.meetly.com/_/1/event_2050 ")


def test_a_very_long_unknown_event_type_is_not_compared(registry):
    with pytest.raises(Invalid) as refusal:
        registry.lookup(f"{GITHUB}/push{'h' * 1000}")
    assert refusal.value.hint == "Register its schema first."


@pytest.fixture(scope="module")
def meetings() -> Registry:
    """Three event types: `booked` has the options room and guest, `moved` room alone, `closed` none."""
    return Registry([meetly_version({"booked": ["room", "guest"], "moved": ["room"], "closed": []})])


@pytest.mark.parametrize(
    ("pattern", "options"),
    [
        ("_/1/booked", {"room": "blue"}),
        ("_/1/booked", {"room": "blue", "guest": "anna"}),
        ("_/1/moved", {"room": "blue"}),
        ("_/1/*", {"guest": "anna"}),
        ("**", {"room": "blue", "guest": "anna"}),
        ("_/1/_drift", {"type": BOOKED}),
    ],
)
def test_options_that_one_event_type_of_the_pattern_declares_are_accepted(meetings, pattern, options):
    meetings.check_selector(parse_pattern(f"events.meetly.com/{pattern}"), options)


@pytest.mark.parametrize("pattern", ["_/1/cancelled", "_/1/_version", "other/1/*"])
def test_a_pattern_without_options_may_be_ahead_of_the_registry(meetings, pattern):
    meetings.check_selector(parse_pattern(f"events.meetly.com/{pattern}"), {})


def test_an_option_that_nothing_declares_is_refused_with_those_that_are_known(meetings):
    pattern = "events.meetly.com/_/1/*"
    refusal = refusal_of(meetings, pattern, {"room": "blue", "rom": "blue"})
    assert "'rom'" in refusal.message
    assert refusal.hint == "Known options: guest, room."
    assert refusal.metadata == {"pattern": pattern, "options": "rom", "known": "guest,room"}


def test_an_option_of_another_event_type_does_not_help(meetings):
    refusal = refusal_of(meetings, "events.meetly.com/_/1/moved", {"guest": "anna"})
    assert refusal.hint == "Known options: room."


def test_options_that_no_single_event_type_declares_are_refused():
    registry = Registry([meetly_version({"booked": ["room"], "invited": ["guest"]})])
    refusal = refusal_of(registry, "events.meetly.com/**", {"room": "blue", "guest": "anna"})
    assert refusal.hint == "Use a selector for each."


def test_an_event_type_without_options_takes_none(meetings):
    assert refusal_of(meetings, "events.meetly.com/_/1/closed", {"room": "blue"}).hint == "It takes no options."


def test_options_of_event_types_that_are_not_there_cannot_be_known(meetings):
    refusal = refusal_of(meetings, "events.meetly.com/_/1/cancelled", {"room": "blue"})
    assert "no event type is registered that it matches" in refusal.message
