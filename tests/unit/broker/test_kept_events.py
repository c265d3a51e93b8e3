"""The kept events: found by name, by source and id, and in lists; each subscriber sees its own and everyone's."""

from __future__ import annotations

import base64
import json

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from certes.community.github.v1.ping_event_pb2 import PingEvent
from certes_broker.broker.kept_events import ANSWER_BYTES
from certes_broker.domain.errors import Invalid, NotFound, Reason
from certes_broker.domain.events import Original
from certes_broker.domain.uris import parse_pattern
from tests.fakes.broker_world import PUSH, World, ids, ping, pings, push


async def listed(world: World, subscriber: str | None, size: int = 100, **fields) -> list[str]:
    """All pages of a list."""
    found: list[str] = []
    token = ""
    while True:
        page = await world.broker.kept_events.list(
            subscriber, fields.get("pattern"), fields.get("start_time"), size, token
        )
        found += [kept.entry.event.id for kept in page.events]
        token = page.next_page_token
        if not token:
            return found


async def test_an_event_is_found_by_its_name_and_by_its_source_and_id(either_world: World) -> None:
    world = either_world
    [receipt] = await world.publish(ping("p1"))
    name = world.broker.names.name(receipt.position)
    kept = await world.broker.kept_events.get(name)
    assert kept == await world.broker.kept_events.find("//test", "p1")
    assert (kept.name, kept.entry.event.id) == (name, "p1")


async def test_an_event_comes_with_the_webhook_it_was_made_of(either_world: World) -> None:
    world = either_world
    original = Original("application/json", (("x-github-event", "ping"),), b"{}")
    read = world.broker.reader.read(ping("p1").SerializeToString(), world.clock.now(), original=original)
    await world.broker.publisher.publish([read])
    kept = await world.broker.kept_events.find("//test", "p1")
    assert await world.broker.kept_events.original(kept) == original


async def test_what_is_not_kept_is_not_found(world: World) -> None:
    [receipt] = await world.publish(ping("p1"))
    await world.engine.journal.trim(receipt.position)
    for looking in (
        world.broker.kept_events.get(world.broker.names.name(receipt.position)),
        world.broker.kept_events.find("//test", "p1"),
        world.broker.kept_events.find("//test", "never"),
    ):
        with pytest.raises(NotFound) as refusal:
            await looking
        assert refusal.value.reason is Reason.EVENT_NOT_FOUND


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_list_has_a_subscriber_s_events_and_everyone_s_and_nobody_else_s(
    either_world: World, size: int
) -> None:
    world = either_world
    await world.publish(
        ping("mine1", subscriber="org_1"),
        ping("theirs", subscriber="org_2"),
        ping("all"),
        ping("mine2", subscriber="org_1"),
    )
    assert await listed(world, "org_1", size) == ["mine1", "all", "mine2"]
    assert await listed(world, "org_2", size) == ["theirs", "all"]
    assert await listed(world, None, size) == ["mine1", "theirs", "all", "mine2"]


async def test_a_list_can_be_of_a_pattern_and_from_a_time_on(world: World) -> None:
    await world.publish(push("p1"))
    world.clock.advance(10)
    start = world.clock.now()
    await world.publish(ping("p2"), push("p3"))
    assert await listed(world, None, pattern=parse_pattern(PUSH)) == ["p1", "p3"]
    assert await listed(world, None, start_time=start) == ["p2", "p3"]


async def test_a_long_list_that_concerns_nobody_ends(world: World) -> None:
    for first in range(1, 25_001, 5000):
        await world.publish(*pings(5000, first, subscriber="org_2"))
    assert await listed(world, "org_1") == []


async def test_a_token_of_another_list_is_refused(world: World) -> None:
    await world.publish(*pings(3))
    page = await world.broker.kept_events.list("org_1", None, None, 1, "")
    with pytest.raises(Invalid) as refusal:
        await world.broker.kept_events.list("org_2", None, None, 1, page.next_page_token)
    assert refusal.value.reason is Reason.PAGE_TOKEN_INVALID


async def test_a_subscriber_gets_its_own_events_and_everyone_s_only(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    await world.publish(ping("theirs", subscriber="org_2"), ping("mine", subscriber="org_1"), ping("all"))
    assert ids(await reader.take(2)) == ["mine", "all"]
    await reader.nothing_more()


async def test_what_others_get_shows_neither_in_ordinals_nor_in_names(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("mine1", subscriber="org_1"))
    await world.publish(*pings(100, subscriber="org_2"))
    await world.publish(ping("mine2", subscriber="org_1"))
    assert [one.ordinal for one in await reader.take(2)] == [1, 2]
    names = [delivery.name for frame in reader.frames for delivery in frame.batch.deliveries]
    assert len({len(name) for name in names}) == 1
    assert not any(str(position) in names for position in (1, 102))


async def test_the_etag_of_a_subscription_does_not_count_what_others_do(world: World) -> None:
    first = await world.create()
    for number in range(3):
        await world.create(f"other{number}", subscriber="org_2")
    changed = await world.update(first.name, labels=(("a", "b"),))
    assert str(changed.revision) not in {changed.etag, changed.etag.removeprefix("r")}


async def test_a_page_that_is_cut_for_its_size_goes_on_after_its_own_last_event(world: World) -> None:
    large = AnyMessage()
    large.Pack(PingEvent(zen="x" * (ANSWER_BYTES // 4 - 1_000)))
    for number in range(5):
        await world.publish(ping(f"mine{number}", data=large, subscriber="org_1"))
        await world.publish(ping(f"theirs{number}", subscriber="org_2"))
    page = await world.broker.kept_events.list("org_1", None, None, 100, "")
    assert [kept.entry.event.id for kept in page.events] == ["mine0", "mine1", "mine2", "mine3"]
    (after, *_) = json.loads(base64.urlsafe_b64decode(page.next_page_token + "=="))
    assert world.broker.names.position_of_place(after) == page.events[-1].entry.position
    assert (await listed(world, "org_1"))[4:] == ["mine4"]
