"""Filters are checked against the event types that selectors match, and follow their schemas as these change."""

from __future__ import annotations

import gc
import weakref

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from certes.v1 import event_pb2
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.schemas import VersionName
from certes_broker.domain.uris import parse_pattern
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.filters.evaluation import Failure, FailureReason
from certes_broker.schemas.filters.filters import Filters
from certes_broker.schemas.registry import Registry
from tests.unit.schemas.version_makers import BOOKED, meetly_version

GITHUB = "community.certes.dev/github/1"
PUSH = f"{GITHUB}/push"
OTHER = VersionName("events.other.com", "_", 1)
COMMUNITY = Registry(community_versions())


async def check(text: str, *patterns: str, registry: Registry = COMMUNITY) -> None:
    await Filters(registry).check(text, [parse_pattern(pattern) for pattern in patterns])


async def refusal_of(text: str, *patterns: str, registry: Registry = COMMUNITY) -> Invalid:
    with pytest.raises(Invalid) as refusal:
        await check(text, *patterns, registry=registry)
    assert refusal.value.reason is Reason.FILTER_INVALID
    return refusal.value


def event_of(registry: Registry, event_type: str, **fields: str) -> tuple[str, bytes]:
    message = registry.lookup(event_type).new()
    for name, value in fields.items():
        setattr(message, name, value)
    return event_type, event_pb2.Event(id="e", type=event_type, data=packed(message)).SerializeToString()


def packed(message: Message) -> AnyMessage:
    data = AnyMessage()
    data.Pack(message)
    return data


async def test_it_must_fit_an_event_type_that_is_spelled():
    await check("data.ref == 'x'", PUSH)
    refusal = await refusal_of("data.nope == 'x'", PUSH)
    assert refusal.message.startswith(f"the filter does not fit {PUSH}: line 1, column 5: undefined field 'nope'")
    assert refusal.metadata["type"] == PUSH


async def test_it_must_fit_each_of_those_that_are_spelled():
    refusal = await refusal_of("data.ref == 'x'", PUSH, f"{GITHUB}/issues")
    assert refusal.metadata["type"] == f"{GITHUB}/issues"


async def test_it_must_fit_one_of_those_that_a_pattern_matches():
    await check("data.commits.exists(c, c.distinct)", f"{GITHUB}/*")
    await check("data.commits.exists(c, c.distinct)", "community.certes.dev/**")


async def test_where_it_fits_none_the_nearest_is_named():
    refusal = await refusal_of("data.commits.exists(c, c.nope) && data.compare != ''", f"{GITHUB}/*")
    types = len(list(COMMUNITY.matching(parse_pattern(f"{GITHUB}/*"))))
    assert refusal.message.startswith(
        f"the filter does not fit any of the {types} event types that {GITHUB}/* matches; "
    )
    assert f"does not fit {PUSH}: line 1, column 25: undefined field 'nope'" in refusal.message
    assert refusal.metadata == {"type": PUSH, "pattern": f"{GITHUB}/*"}


async def test_where_no_type_has_all_the_fields_the_one_that_lacks_fewest_is_named():
    refusal = await refusal_of("data.compare == '' && data.pusher.name == '' && data.issue.id == 1", f"{GITHUB}/*")
    assert refusal.metadata["type"] == PUSH


async def test_of_one_event_type_it_is_said_that_it_is_the_only_one():
    registry = Registry([meetly_version({"booked": ["room"]})])
    refusal = await refusal_of("data.nope == 'x'", "events.meetly.com/**", registry=registry)
    assert "the only event type that events.meetly.com/** matches" in refusal.message


@pytest.mark.parametrize(
    "pattern", ["events.nobody.com/_/1/x", "events.nobody.com/**", f"{GITHUB}/nope", "events.x.com/_/1/_drift"]
)
async def test_where_nothing_is_registered_data_may_be_anything(pattern):
    await check("data.what.ever == 1", pattern)
    await refusal_of("data.what.ever == ", pattern)
    await refusal_of("event.what == 1", pattern)


async def test_system_events_are_types_like_others():
    await check("data.backwards_compatible", f"{GITHUB}/_version")
    await refusal_of("data.nope == 1", f"{GITHUB}/_version")


async def test_what_no_event_type_could_take_is_refused_without_one():
    await refusal_of("event.id")
    await refusal_of("event.id == 1")
    await check("event.id == '1'")


def test_a_new_revision_is_filtered_by_its_own_schema():
    registry = Registry([meetly_version({"booked": ["room"]})])
    filters = Filters(registry)
    text = "data.floor == '3'"
    found = filters.event(*event_of(registry, BOOKED)).passes(text)
    assert isinstance(found, Failure)
    assert found.reason is FailureReason.UNFIT
    registry.put(meetly_version({"booked": ["room", "floor"]}, revision=2))
    assert filters.event(*event_of(registry, BOOKED, floor="3")).passes(text) is True
    assert filters.event(*event_of(registry, BOOKED, room="3")).passes(text) is False


def test_an_event_type_that_is_registered_later_judges_filters_from_then_on():
    registry = Registry()
    filters = Filters(registry)
    body = event_pb2.Event(id="e", type=BOOKED, raw={"content_type": "text/plain"}).SerializeToString()
    assert filters.event(BOOKED, body).passes("event.id == 'e'") is True
    registry.put(meetly_version({"booked": ["room"]}))
    assert filters.event(*event_of(registry, BOOKED, room="blue")).passes("data.room == 'blue'") is True
    found = filters.event(*event_of(registry, BOOKED)).passes("data.nope == 'x'")
    assert isinstance(found, Failure)


def test_two_domains_may_filter_messages_of_one_name():
    registry = Registry([meetly_version({"booked": ["room"]}), meetly_version({"booked": ["seat"]}, OTHER)])
    filters = Filters(registry)
    other = "events.other.com/_/1/booked"
    assert filters.event(*event_of(registry, BOOKED, room="x")).passes("data.room == 'x'") is True
    assert filters.event(*event_of(registry, other, seat="x")).passes("data.seat == 'x'") is True
    assert isinstance(filters.event(*event_of(registry, other)).passes("data.room == 'x'"), Failure)


async def test_what_was_made_of_a_replaced_version_goes_with_it():
    registry = Registry([meetly_version({"booked": ["room"]})])
    filters = Filters(registry)
    await filters.check("data.room == 'x'", [parse_pattern(BOOKED)])
    assert filters.event(*event_of(registry, BOOKED, room="x")).passes("data.room == 'x'") is True
    # A pool cannot be watched itself; its classes go when it does.
    message_class = weakref.ref(type(registry.lookup(BOOKED).new()))
    environment = weakref.ref(filters._compiled[registry.lookup(BOOKED)].environment)
    registry.put(meetly_version({"booked": ["room", "floor"]}, revision=2))
    gc.collect()
    assert (environment(), message_class()) == (None, None)


def test_what_is_kept_is_bounded():
    names = [VersionName("events.example.com", "_", number) for number in range(1, 41)]
    registry = Registry(meetly_version({"booked": ["room"]}, name) for name in names)
    filters = Filters(registry, environments=3, programs=20)
    for number in range(1, 200):
        event_type = f"events.example.com/_/{number % 40 + 1}/booked"
        answer = filters.event(*event_of(registry, event_type, room="x")).passes(f"data.room != '{number}'")
        assert answer is True
    assert len(filters._compiled) <= 3 + 32
    for number in range(64):
        question = filters.event(*event_of(registry, BOOKED.replace("meetly", "example"), room="x"))
        assert question.passes(f"data.room != 'y{number}'") is True
    assert sum(len(compiled.programs) for compiled in filters._compiled.values()) <= 20 + 32
