"""Brokers on one engine share the lanes: each is awake at one of them, and moves when one comes or goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from certes_broker.broker.elsewhere import Elsewhere
from certes_broker.domain.errors import CertesError, Reason
from certes_broker.domain.placement import owner_of
from certes_broker.domain.seeking import SeekEnd
from certes_broker.domain.settlement import Settlement
from certes_broker.ports.cluster import MemberId
from tests.fakes.broker_world import ORG, PUSH, URL, OpenEngine, World, one_memory_engine, ping, pings, push
from tests.fakes.scripted_sender import Holds
from tests.unit.broker.worlds import opened

Two = tuple[World, World]


@pytest.fixture
def engine() -> OpenEngine:
    return one_memory_engine()


@pytest.fixture
async def two(engine: OpenEngine) -> AsyncIterator[Two]:
    async with opened(engine) as one, opened(engine) as other:
        yield one, other


def member(world: World) -> MemberId:
    return world.engine.members.own


def hook_of(owner: World, members: Sequence[World], taken: str = "") -> str:
    """An id of a subscription that belongs to one of the members."""
    living = [member(world) for world in members]
    ids = (f"hook-{number}" for number in range(1000))
    name = f"subscribers/{ORG}/subscriptions/"
    return next(one for one in ids if one != taken and owner_of(name + one, living) == member(owner))


async def settle_down(*worlds: World) -> None:
    """Lets lanes move, which takes a few looks."""
    for _ in range(4):
        for world in worlds:
            await world.advance(0.5)


async def test_a_webhook_is_delivered_by_the_broker_that_it_belongs_to_wherever_it_was_made(two: Two) -> None:
    one, other = two
    await one.create_webhook(hook_of(other, two))
    await settle_down(*two)
    await one.publish(*pings(3))
    await other.sent(3)
    assert not one.sender.requests


async def test_the_webhooks_of_a_broker_that_ends_are_delivered_by_another(two: Two) -> None:
    one, other = two
    await one.create_webhook(hook_of(other, two))
    await settle_down(*two)
    await one.publish(*pings(2))
    await other.sent(2)
    await settle_down(other)
    await other.crash()
    await settle_down(one)
    await one.publish(*pings(2, first=3))
    await one.sent(2)


async def test_a_broker_that_joins_takes_over_what_belongs_to_it(engine: OpenEngine) -> None:
    async with opened(engine) as one:
        names = [f"hook-{number}" for number in range(12)]
        for name in names:
            await one.create_webhook(name)
        async with opened(engine) as other:
            await settle_down(one, other)
            living = (member(one), member(other))
            awake = [{lane.name for lane in world.broker.lanes.all()} for world in (one, other)]
            owned = [
                {name.text for name in map(one.name, names) if owner_of(name.text, living) == who} for who in living
            ]
            assert awake == owned
            assert all(awake)
            await one.publish(*pings(1))
            await one.sent(len(owned[0]))
            await other.sent(len(owned[1]))
        await settle_down(one)
        assert len(one.broker.lanes) == len(names)


async def test_a_lane_moves_only_when_nothing_of_it_is_under_way(engine: OpenEngine) -> None:
    async with opened(engine) as one:
        names = [f"hook-{number}" for number in range(8)]
        for name in names:
            await one.create_webhook(name)
        gate = Holds()
        one.sender.script(URL, gate)
        await one.publish(*pings(1))
        await one.sent(len(names))
        async with opened(engine) as other:
            await settle_down(one, other)
            await one.publish(*pings(1, first=2))
            await settle_down(one, other)
            assert not other.sender.requests
            assert len(one.broker.lanes) == len(names)
            gate.until.set()
            await settle_down(one, other)
            assert len(one.broker.lanes) + len(other.broker.lanes) == len(names)
            assert len(other.broker.lanes) > 0


async def test_a_stream_subscription_is_where_its_first_stream_was_opened(two: Two) -> None:
    one, other = two
    await one.create("app")
    await other.quiet()
    reader = await other.open("app")
    with pytest.raises(Elsewhere) as refusal:
        await one.open("app")
    assert refusal.value.member == member(other)
    assert refusal.value.reason is Reason.LEASE_LOST
    await reader.close()
    again = await one.open("app")
    await one.publish(ping("p1"))
    [got] = await again.take(1)
    assert got.id == "p1"


async def test_what_a_stream_left_unsettled_another_broker_delivers_next(two: Two) -> None:
    one, other = two
    await one.create("app")
    await other.quiet()
    reader = await one.open("app")
    await one.publish(*pings(3))
    await reader.take(3)
    await reader.ack(1, 2)
    await one.crash()
    await other.quiet()
    [got] = await (await other.open("app")).take(1)
    assert got.id == "p3"


async def test_what_concerns_a_lane_of_another_broker_changes_nothing_here(two: Two) -> None:
    one, other = two
    await one.create("app")
    await other.quiet()
    reader = await one.open("app")
    with pytest.raises(Elsewhere):
        await other.broker.subscriptions.seek(other.name("app"), SeekEnd())
    with pytest.raises(Elsewhere):
        await other.select(other.name("app"), PUSH)
    await one.publish(ping("p1"))
    [got] = await reader.take(1)
    assert got.id == "p1"
    assert (
        one.broker.subscriptions.get(one.name("app")).selectors
        == other.broker.subscriptions.get(other.name("app")).selectors
    )


async def test_a_name_of_a_deleted_subscription_is_free_where_its_lane_is(two: Two) -> None:
    one, other = two
    await one.create("app")
    reader = await one.open("app")
    await one.publish(push("p1"))
    await reader.take(1)
    await one.broker.subscriptions.delete(one.name("app"), etag="")
    await reader.ended()
    await other.quiet()
    await other.create("app")
    await one.quiet()
    await one.publish(push("p2"))
    [got] = await (await other.open("app")).take(1)
    assert got.id == "p2"


async def test_a_stream_of_another_broker_is_found_by_its_name(two: Two) -> None:
    one, other = two
    await one.create("app")
    reader = await one.open("app")
    with pytest.raises(Elsewhere) as refusal:
        await other.broker.streams.acknowledge(reader.stream.name, Settlement(((1, 1),), (), ()))
    assert refusal.value.member == member(one)
    name = reader.stream.name
    await one.crash()
    with pytest.raises(CertesError) as ended:
        await other.broker.streams.acknowledge(name, Settlement(((1, 1),), (), ()))
    assert ended.value.reason is Reason.STREAM_ENDED


async def test_a_broker_that_is_not_current_hands_out_nothing_until_it_is(two: Two) -> None:
    one, _ = two
    hook = hook_of(one, two)
    await one.create_webhook(hook)
    await one.create("app")
    reader = await one.open("app")
    one.engine.behind.members.stand_still()
    await one.publish(*pings(1))
    await settle_down(one)
    await reader.nothing_more()
    assert not one.sender.requests
    one.engine.behind.members.go_on()
    await settle_down(one)
    await reader.take(1)
    await one.sent(1)


async def test_the_streams_of_a_lane_that_another_broker_took_end_and_settle_nothing(two: Two) -> None:
    one, other = two
    await one.create("app")
    await other.quiet()
    reader = await one.open("app")
    await one.publish(*pings(2))
    await reader.take(2)
    one.engine.behind.members.end()
    again = await other.open("app")
    assert [got.id for got in await again.take(2)] == ["p1", "p2"]
    with pytest.raises(CertesError) as refusal:
        await reader.ack(1)
    assert refusal.value.reason is Reason.STREAM_ENDED
    assert "open the stream again" in (await reader.ended()).message
    assert one.broker.lanes.get(one.name("app").text) is None
    await again.ack(1, 2)


async def test_one_of_the_brokers_lets_go_of_what_is_past_its_time(two: Two) -> None:
    trims = [world.engine.calls["journal.forget_ids"] for world in two]
    for world in two:
        await world.advance(31.0)
    later = [world.engine.calls["journal.forget_ids"] for world in two]
    assert sum(now > before for now, before in zip(later, trims, strict=True)) == 1
