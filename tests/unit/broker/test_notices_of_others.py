"""Notices of several brokers: each tells what came about at it, and what one that ended had not told another tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from certes.v1.operational_events_pb2 import DeliveryExhausted, SubscriptionDisabled
from certes_broker.broker.notices import INTERVAL
from certes_broker.domain.errors import CertesError
from certes_broker.domain.names import SubscriberName
from certes_broker.domain.notices import DisableCause, Disabling
from certes_broker.domain.settlement import Nack, NackAction
from certes_broker.domain.subscriptions import State
from tests.fakes.broker_world import ORG, URL, OpenEngine, Reader, World, one_memory_engine, ping
from tests.unit.broker.test_notices import DISABLED, EXHAUSTED, documents, kept, told
from tests.unit.broker.worlds import opened

DEAD_LETTER = Nack(1, 1, NackAction.DEAD_LETTER, None, "")

Two = tuple[World, World]


@pytest.fixture
def engine() -> OpenEngine:
    return one_memory_engine()


@pytest.fixture
async def two(engine: OpenEngine) -> AsyncIterator[Two]:
    """Two brokers on one engine, the one that looks after what others leave first."""
    async with opened(engine) as one, opened(engine) as other:
        first, second = sorted((one, other), key=lambda world: world.engine.members.own)
        yield first, second


@pytest.fixture(params=["the first", "the second"])
def teller(request: pytest.FixtureRequest, two: Two) -> Two:
    """The broker at which it happens, and the other one."""
    return two if request.param == "the first" else (two[1], two[0])


async def reading(world: World, other: World) -> Reader:
    """A reader at one broker that has been handed one event."""
    await world.create()
    await other.quiet()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    return reader


async def crash(world: World, *held: asyncio.Event) -> None:
    """Ends a broker as `kill -9` would, with the calls that are held."""
    world.engine.crash()
    for gate in held:
        gate.set()
    await world.crash()


async def test_a_broker_that_starts_leaves_alone_what_a_living_one_is_about_to_tell(
    engine: OpenEngine, two: Two
) -> None:
    other, world = two
    reader = await reading(world, other)
    settling = world.engine.hold("cursors.settle")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reader.nack(DEAD_LETTER))
        await world.quiet()
        [intent] = await documents(world)
        # Whichever of the two is the first now looks at what there is.
        async with opened(engine) as third:
            await third.quiet()
            await other.quiet()
            assert await documents(other) == [intent]
            assert await kept(other, EXHAUSTED) == []
        appending = world.engine.hold("journal.append")
        settling.set()
    assert len(await world.dead_letters(world.name())) == 1
    await crash(world, appending)
    [dead] = await told(other, EXHAUSTED, DeliveryExhausted)
    assert [one.id for one in dead.deliveries] == ["p1"]
    assert await documents(other) == []


async def test_of_a_dead_letter_that_a_broker_had_not_told_another_tells_when_it_has_ended(teller: Two) -> None:
    world, other = teller
    reader = await reading(world, other)
    appending = world.engine.hold("journal.append")
    await reader.nack(DEAD_LETTER)
    await world.quiet()
    assert await told(other, EXHAUSTED, DeliveryExhausted) == []
    await crash(world, appending)
    [dead] = await told(other, EXHAUSTED, DeliveryExhausted)
    assert [one.id for one in dead.deliveries] == ["p1"]
    assert await documents(other) == []


async def test_of_a_disabled_subscription_that_a_broker_had_not_told_another_tells(teller: Two) -> None:
    world, other = teller
    subscription = await world.create_webhook()
    await other.quiet()
    appending = world.engine.hold("journal.append")
    await world.broker.receivers.disable(subscription.name.text, URL, Disabling(DisableCause.GONE, "Gone."))
    await world.quiet()
    await crash(world, appending)
    [disabled] = await told(other, DISABLED, SubscriptionDisabled)
    assert (disabled.subscription, disabled.message) == (subscription.name.text, "Gone.")
    assert await documents(other) == []


async def test_what_did_not_come_about_at_a_broker_that_ended_nobody_tells(teller: Two) -> None:
    world, other = teller
    reader = await reading(world, other)
    settling = world.engine.hold("cursors.settle")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reader.nack(DEAD_LETTER))
        await world.quiet()
        assert len(await documents(other)) == 1
        world.engine.crash()
        settling.set()
    await world.crash()
    assert await told(other, EXHAUSTED, DeliveryExhausted) == []
    assert await other.dead_letters(other.name()) == []
    assert await documents(other) == []


async def test_what_waits_for_the_minute_to_be_over_is_told_by_another_when_it_is(teller: Two) -> None:
    world, other = teller
    reader = await reading(world, other)
    await reader.nack(DEAD_LETTER)
    assert len(await told(other, EXHAUSTED, DeliveryExhausted)) == 1
    await world.publish(ping("p2"))
    [second] = await reader.take(1)
    await reader.nack(Nack(second.ordinal, second.ordinal, NackAction.DEAD_LETTER, None, ""))
    await world.quiet()
    assert len(await documents(other)) == 1
    await crash(world)
    [_, dead] = await told(other, EXHAUSTED, DeliveryExhausted)
    assert [one.id for one in dead.deliveries] == ["p2"]
    assert await documents(other) == []


async def test_what_a_broker_was_still_to_tell_a_subscriber_it_does_not_when_another_has_erased_that(
    teller: Two,
) -> None:
    world, other = teller
    reader = await reading(world, other)
    await reader.nack(DEAD_LETTER)
    assert len(await told(other, EXHAUSTED, DeliveryExhausted)) == 1
    await world.publish(ping("p2"))
    [second] = await reader.take(1)
    await reader.nack(Nack(second.ordinal, second.ordinal, NackAction.DEAD_LETTER, None, ""))
    await world.quiet()
    await other.broker.erasure.erase(SubscriberName(ORG))
    await world.quiet()
    assert await documents(other) == []
    await world.advance(INTERVAL + 1)
    await other.quiet()
    assert await kept(other, EXHAUSTED) == []


# A broker that stood still, and goes on when it has ended already.


def end(world: World) -> None:
    """Lets the others have taken a broker for gone, which does not know."""
    world.engine.behind.members.end()


async def give_up(reader: Reader) -> None:
    """Says of a delivery that it is to become a dead letter; what becomes of that is not waited for."""
    with suppress(CertesError):
        await reader.nack(DEAD_LETTER)


async def test_a_dead_letter_that_is_settled_while_another_looks_is_told_or_is_none(teller: Two) -> None:
    world, other = teller
    reader = await reading(world, other)
    settling, appending = world.engine.hold("cursors.settle"), world.engine.hold("journal.append")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(give_up(reader))
        await world.quiet()
        assert len(await documents(other)) == 1
        end(world)
        await other.quiet()
        settling.set()
        await other.quiet()
        await crash(world, appending)
    letters = [letter.event.id for letter in await other.dead_letters(other.name())]
    deliveries = [one.id for dead in await told(other, EXHAUSTED, DeliveryExhausted) for one in dead.deliveries]
    assert deliveries == letters
    if not letters:
        # What was not given up is delivered again.
        again = await other.open()
        assert [one.id for one in await again.take(1)] == ["p1"]
    assert await documents(other) == []


async def test_a_dead_letter_that_is_intended_after_another_has_looked_is_told_by_its_next_look(teller: Two) -> None:
    world, other = teller
    reader = await reading(world, other)
    intending, appending = world.engine.hold("settings.put"), world.engine.hold("journal.append")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(give_up(reader))
        await other.quiet()
        end(world)
        await other.quiet()
        intending.set()
        await other.quiet()
        await crash(world, appending)
    assert len(await other.dead_letters(other.name())) == 1
    await other.advance(INTERVAL)
    [dead] = await told(other, EXHAUSTED, DeliveryExhausted)
    assert [one.id for one in dead.deliveries] == ["p1"]
    assert await documents(other) == []


async def test_a_subscription_that_is_disabled_while_another_looks_is_told(teller: Two) -> None:
    world, other = teller
    subscription = await world.create_webhook()
    await other.quiet()
    intended, appending = world.engine.hold_answer("settings.put"), world.engine.hold("journal.append")
    gone = Disabling(DisableCause.GONE, "Gone.")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.broker.receivers.disable(subscription.name.text, URL, gone))
        await other.quiet()
        assert len(await documents(other)) == 1
        end(world)
        await other.quiet()
        intended.set()
        await other.quiet()
        assert other.broker.subscriptions.get(subscription.name).state is State.DISABLED
    await crash(world, appending)
    for _ in range(4):
        await other.advance(INTERVAL)
    [disabled] = await told(other, DISABLED, SubscriptionDisabled)
    assert (disabled.subscription, disabled.message) == (subscription.name.text, "Gone.")
    assert await documents(other) == []


async def test_what_is_intended_while_another_tells_of_what_was_before_is_told_too(teller: Two) -> None:
    world, other = teller
    subscription = await world.create_webhook()
    await other.quiet()
    appending = world.engine.hold("journal.append")
    await world.broker.receivers.disable(subscription.name.text, URL, Disabling(DisableCause.GONE, "Gone."))
    telling = other.engine.hold_answer("journal.append")
    end(world)
    await other.quiet()
    await other.broker.subscriptions.resume(subscription.name)
    await other.quiet()
    await world.broker.receivers.disable(subscription.name.text, URL, Disabling(DisableCause.GONE, "Gone again."))
    await crash(world, appending)
    telling.set()
    await other.quiet()
    for _ in range(3):
        await other.advance(INTERVAL)
    messages = [disabled.message for disabled in await told(other, DISABLED, SubscriptionDisabled)]
    assert messages == ["Gone.", "Gone again."]
    assert await documents(other) == []


async def test_a_dead_letter_that_joins_others_while_another_takes_them_on_is_told_with_them(teller: Two) -> None:
    world, other = teller
    reader = await reading(world, other)
    await reader.nack(DEAD_LETTER)
    assert len(await told(other, EXHAUSTED, DeliveryExhausted)) == 1
    await world.publish(ping("p2"), ping("p3"))
    second, third = await reader.take(2)
    await reader.nack(Nack(second.ordinal, second.ordinal, NackAction.DEAD_LETTER, None, ""))
    taking = other.engine.hold("leases.lease")
    end(world)
    await other.quiet()
    await reader.nack(Nack(third.ordinal, third.ordinal, NackAction.DEAD_LETTER, None, ""))
    await crash(world)
    taking.set()
    await other.quiet()
    await other.advance(INTERVAL)
    [_, dead] = await told(other, EXHAUSTED, DeliveryExhausted)
    assert [one.id for one in dead.deliveries] == ["p2", "p3"]
    await other.advance(INTERVAL)
    assert await documents(other) == []
