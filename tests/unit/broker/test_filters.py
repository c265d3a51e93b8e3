"""Filters of subscriptions: evaluated where events are routed and where they are read, and changed as selectors are."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from certes.v1.operational_events_pb2 import FilterFailed
from certes_broker.broker.filtering import QUIET
from certes_broker.broker.notices import INTERVAL
from certes_broker.broker.stream import StreamLimits
from certes_broker.broker.subscription_documents import key_of, write_document
from certes_broker.domain.errors import Unavailable
from certes_broker.domain.events import Position
from certes_broker.domain.limits import LIMITS
from certes_broker.domain.seeking import SeekBeginning
from certes_broker.domain.settlement import Nack, NackAction
from certes_broker.schemas.filters.evaluation import FailureReason
from tests.fakes.broker_world import ORG, PING, PUSH, SETTINGS, World, ids, ping, pings, push, selectors

WATERMARK = 1.0
MAIN = "data.repository.full_name == 'meetly/meetly'"
FAILING = "event.attributes['nope'] == 'x'"


def failures(world: World) -> dict[str, int]:
    return {reason.value: count for reason, count in world.broker.filtering.failures.items()}


async def test_only_events_that_pass_are_delivered(either_world: World) -> None:
    world = either_world
    await world.create("app", PUSH, filter=MAIN)
    reader = await world.open()
    await world.publish(push("p1"), push("p2", repo="meetly/app"), ping("p3"), push("p4"))
    assert ids(await reader.take(2)) == ["p1", "p4"]
    await reader.nothing_more()
    assert failures(world) == {}


async def test_a_filter_is_asked_of_every_event_type_that_its_selectors_match(world: World) -> None:
    await world.create("app", filter="data.zen == 'p2'")
    reader = await world.open()
    await world.publish(*pings(3), push("p4"))
    assert ids(await reader.take(1)) == ["p2"]
    await reader.nothing_more()
    assert failures(world) == {"unfit": 1}


async def test_an_ephemeral_subscription_has_its_filter(world: World) -> None:
    await world.publish(*pings(3))
    limits = StreamLimits(10, 1 << 20)
    stream = await world.broker.streams.open_ephemeral(
        ORG, selectors(), SeekBeginning(), limits, "event.id != 'p2' && data.zen != 'p5'"
    )
    reader = world.read(stream)
    await world.publish(*pings(3, first=4))
    assert ids(await reader.take(4)) == ["p1", "p3", "p4", "p6"]
    await reader.nothing_more()


async def test_what_is_read_later_is_filtered_as_what_is_routed_at_once(either_world: World) -> None:
    world = either_world
    await world.create("app", PING, filter="event.id.endsWith('7')")
    await world.publish(*pings(40))
    reader = await world.open()
    assert ids(await reader.take(4)) == ["p7", "p17", "p27", "p37"]
    await world.publish(*pings(10, first=41))
    assert ids(await reader.take(1)) == ["p47"]
    await reader.nothing_more()


async def test_a_lane_that_fell_behind_filters_what_it_reads(world: World) -> None:
    await world.create("app", PING, filter="!event.id.endsWith('7')")
    reader = await world.open(most=1)
    expected = [f"p{number}" for number in range(1, LIMITS.loaded.deliveries + 200) if not f"{number}".endswith("7")]
    for first in range(1, LIMITS.loaded.deliveries + 200, 500):
        await world.publish(*pings(min(500, LIMITS.loaded.deliveries + 200 - first), first=first))
    await world.quiet()
    await reader.close()
    reader = await world.open(most=100_000)
    assert ids(await reader.take(len(expected))) == expected
    await reader.nothing_more()


async def test_filters_of_the_same_text_are_evaluated_once_for_an_event(world: World) -> None:
    for number in range(3):
        await world.create(f"app{number}", PING, filter=FAILING)
        await world.open(f"app{number}")
    with capture_logs() as logs:
        await world.publish(ping("p1"))
        await world.quiet()
    assert failures(world) == {"error": 3}
    assert sorted(entry["subscription"] for entry in logs if entry["event"] == "filter_failed") == [
        world.name(f"app{number}").text for number in range(3)
    ]


async def test_a_failing_filter_disturbs_nobody(either_world: World) -> None:
    world = either_world
    await world.create("broken", PING, filter=FAILING)
    await world.create("dear", PING, filter="data.zen.matches('(a|b)*a(a|b){20}c')")
    await world.create("unfit", PING, filter="data.ref == 'x'")
    await world.create("well", PING, filter="event.id == 'p2' || event.id == 'p3'")
    await world.create("plain", PING)
    readers = {name: await world.open(name) for name in ("broken", "dear", "unfit", "well", "plain")}
    long = ping("p2")
    long.data.value = ping("ab" * 50_000).data.value
    await world.publish(ping("p1"), long, ping("p3"))
    assert ids(await readers["plain"].take(3)) == ["p1", "p2", "p3"]
    assert ids(await readers["well"].take(2)) == ["p2", "p3"]
    for name in ("broken", "dear", "unfit"):
        await readers[name].nothing_more()
    assert failures(world) == {"error": 3, "over_budget": 1, "unfit": 3}
    assert world.broker.subscriptions.get(world.name("unfit")).state_reason == ""


async def filter_notices(world: World) -> list[FilterFailed]:
    await world.quiet()
    page = await world.engine.journal.read(Position(0), 10_000, 1 << 30)
    told = [world.event(entry) for entry in page.entries if entry.event.type.endswith("/_filter_failed")]
    return [FilterFailed.FromString(event.data.value) for event in told]


async def test_the_owner_of_a_filter_that_fails_is_told_at_most_once_a_minute(either_world: World) -> None:
    world = either_world
    await world.create("app", PING, filter=FAILING)
    await world.open()
    await world.publish(ping("p1"))
    [first] = await filter_notices(world)
    assert (first.subscription, first.type, first.id) == (world.name().text, PING, "p1")
    assert (first.reason, bool(first.message), first.count) == ("error", True, 1)
    await world.publish(*pings(3, first=2))
    assert await filter_notices(world) == [first]
    await world.advance(INTERVAL)
    [_, second] = await filter_notices(world)
    assert (second.id, second.count) == ("p4", 3)


async def test_nothing_is_told_of_filters_for_operational_events_or_other_types_or_of_one_stream(
    world: World,
) -> None:
    own = f"{SETTINGS.domain}/_/1/_filter_failed"
    await world.create("app", PING, filter=FAILING)
    await world.create("watch", own, PUSH, filter=FAILING)
    await world.open("app")
    await world.open("watch")
    await world.create("wide", filter="data.ref == 'x'")
    await world.open("wide")
    limits = StreamLimits(10, 1 << 20)
    await world.broker.streams.open_ephemeral(ORG, selectors(), SeekBeginning(), limits, FAILING)
    await world.publish(ping("p1"))
    await world.quiet()
    assert failures(world) == {"error": 3, "unfit": 1}
    assert [one.subscription for one in await filter_notices(world)] == [world.name("app").text]


async def test_failures_are_logged_at_first_and_then_once_a_minute(world: World) -> None:
    await world.create("app", PING, filter=FAILING)
    await world.create("other", PING, filter="data.zen.matches('(a|b)*a(a|b){20}c')")
    await world.open("app")
    await world.open("other")
    long = ping("long")
    long.data.value = ping("ab" * 50_000).data.value

    async def logged(*events: object) -> list[tuple[str, str, int]]:
        with capture_logs() as logs:
            await world.publish(*events)
            await world.quiet()
        return [
            (entry["subscription"].rpartition("/")[2], entry["reason"], entry["times"])
            for entry in logs
            if entry["event"] == "filter_failed"
        ]

    assert await logged(*pings(3)) == [("app", "error", 1)]
    assert await logged(ping("p4"), long) == [("other", "over_budget", 1)]
    await world.advance(QUIET - 1)
    assert await logged(ping("p5")) == []
    await world.advance(1)
    assert await logged(ping("p6")) == [("app", "error", 6)]
    assert world.broker.filtering.failures == {FailureReason.ERROR: 7, FailureReason.OVER_BUDGET: 1}


async def test_what_is_logged_tells_nothing_of_what_events_say(world: World) -> None:
    await world.create("app", PING, filter="event.attributes[data.zen] == 'x'")
    await world.open()
    with capture_logs() as logs:
        await world.publish(ping("secret"))
        await world.quiet()
    assert [entry["type"] for entry in logs if entry["event"] == "filter_failed"] == [PING]
    assert "secret" not in json.dumps(logs)


# A change of the filter is a change of what is wanted.


async def test_what_is_published_after_the_change_is_judged_by_the_new_filter(either_world: World) -> None:
    world = either_world
    await world.create("app", PING, filter="event.id < 'p3'")
    reader = await world.open()
    await world.publish(*pings(4))
    assert ids(await reader.take(2)) == ["p1", "p2"]
    await world.update(world.name(), filter="event.id > 'p6'")
    await world.publish(*pings(4, first=5))
    assert ids(await reader.take(2)) == ["p7", "p8"]
    await world.update(world.name(), filter="")
    await world.publish(ping("p9"))
    assert ids(await reader.take(1)) == ["p9"]
    await reader.nothing_more()


@pytest.mark.parametrize("settled", [False, True])
async def test_what_was_read_and_is_unsettled_stays_owed_across_a_crash(either_world: World, settled: bool) -> None:
    world = either_world
    await world.create("app", PING, filter="event.id != 'p3'")
    reader = await world.open()
    await world.publish(*pings(4))
    assert ids(await reader.take(3)) == ["p1", "p2", "p4"]
    await reader.ack(2)
    await world.update(world.name(), filter="event.id == 'p3' || event.id == 'p6'")
    if settled:
        await reader.ack(3)
    await world.publish(*pings(2, first=5))
    await world.advance(WATERMARK)
    await world.restart()
    reader = await world.open()
    expected = {"p1", "p6"} if settled else {"p1", "p4", "p6"}
    assert set(ids(await reader.take(len(expected)))) == expected
    await reader.nothing_more()


async def test_what_a_sleeping_subscription_has_not_read_is_judged_by_the_new_filter(either_world: World) -> None:
    world = either_world
    await world.create("app", PING, filter="event.id == 'p1'")
    await world.publish(*pings(3))
    await world.update(world.name(), filter="event.id == 'p2'")
    assert len(world.broker.lanes) == 0
    await world.restart()
    reader = await world.open()
    assert ids(await reader.take(1)) == ["p2"]
    await reader.nothing_more()


async def test_a_retry_comes_again_though_the_filter_would_no_longer_let_it_pass(either_world: World) -> None:
    world = either_world
    await world.create("app", PING)
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    await reader.nack(Nack(1, 1, NackAction.RETRY, 10.0, ""))
    await world.update(world.name(), filter="event.id == 'p2'")
    await world.restart()
    reader = await world.open()
    await reader.nothing_more()
    await world.advance(10)
    assert ids(await reader.take(1)) == ["p1"]


async def test_a_crash_before_the_change_is_stored_leaves_the_filter_as_it_was(either_world: World) -> None:
    world = either_world
    await world.create("app", PING, filter="event.id != 'p3'")
    reader = await world.open()
    await world.publish(*pings(2))
    await reader.take(2)
    world.engine.fail("settings.put", 1)
    with pytest.raises(Unavailable):
        await world.update(world.name(), filter="event.id == 'p3'")
    await world.restart()
    await world.publish(*pings(2, first=3))
    reader = await world.open()
    assert set(ids(await reader.take(3))) == {"p1", "p2", "p4"}
    await reader.nothing_more()


async def test_a_webhook_is_filtered_too(world: World) -> None:
    await world.create_webhook()
    await world.update(world.name("hook"), filter="event.id == 'p2'")
    await world.publish(*pings(3))
    await world.sent(1)
    await world.quiet()
    assert [b'"p2"' in request.body for request in world.sender.requests] == [True]


# What is stored.


async def test_a_filter_is_kept_across_restarts(either_world: World) -> None:
    world = either_world
    await world.create("app", PING, filter="event.id == 'p2'")
    await world.restart()
    assert world.broker.subscriptions.get(world.name()).filter == "event.id == 'p2'"


async def test_a_subscription_that_was_stored_without_a_filter_has_none(world: World) -> None:
    made = await world.create("app", PING)
    document = json.loads(write_document(made))
    assert "filter" not in document
    await world.engine.settings.put(key_of(made.name), json.dumps(document).encode())
    await world.restart()
    assert world.broker.subscriptions.get(world.name()).filter == ""
    reader = await world.open()
    await world.publish(ping("p1"))
    assert ids(await reader.take(1)) == ["p1"]
