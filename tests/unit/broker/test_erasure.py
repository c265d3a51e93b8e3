"""Erasing a subscriber: nothing of it is kept, nothing of others goes, and a crash is mended by saying it again."""

from __future__ import annotations

import asyncio

import pytest

from certes_broker.broker.memory import Memory
from certes_broker.broker.notices import INTERVAL
from certes_broker.broker.router import Router
from certes_broker.domain.errors import CertesError, NotFound
from certes_broker.domain.events import BEGINNING, Position
from certes_broker.domain.names import SubscriberName, SubscriptionName
from certes_broker.domain.retry import RetryPolicy, Schedule
from certes_broker.domain.settlement import Nack, NackAction
from certes_broker.domain.subscriptions import Format, Scope, StoredSecret, WebhookDelivery
from tests.fakes.broker_world import ORG, PATIENCE, SECRET, URL, World, ids, ping
from tests.fakes.scripted_sender import Answers, Holds
from tests.unit.broker.test_notices import documents, give_up

OTHER = "org_2"
THEIRS = SubscriberName(ORG)


async def kept(world: World) -> list[str]:
    """The ids of the events that are kept, but for what the others are told of their own dead letters."""
    page = await world.engine.journal.read(Position(0), 100, 1 << 20)
    assert not any(entry.event.subscriber == ORG for entry in page.entries)
    return [entry.event.id for entry in page.entries if not entry.event.id.startswith("notice-")]


async def filled(world: World) -> None:
    """Gives two subscribers a subscription, an event and a dead letter each, and everyone an event."""
    for subscriber in (ORG, OTHER):
        await world.create(subscriber=subscriber)
    await world.publish(ping("a", subscriber=ORG), ping("b", subscriber=OTHER), ping("c"))
    for subscriber in (ORG, OTHER):
        reader = await world.open(subscriber=subscriber)
        await reader.take(2)
        await reader.nack(Nack(1, 1, NackAction.DEAD_LETTER, None, "no"))
        await reader.ack(2)
        await reader.close()
    await world.quiet()


async def test_all_that_is_kept_of_a_subscriber_goes_and_nothing_of_others(either_world: World) -> None:
    world = either_world
    await filled(world)
    report = await world.broker.erasure.erase(THEIRS)
    # Its own, and what it was told of its dead letter.
    assert (report.subscriptions, report.events) == (1, 2)
    assert report.remains
    assert await kept(world) == ["b", "c"]
    with pytest.raises(NotFound):
        world.broker.subscriptions.get(world.name())
    assert await world.dead_letters(world.name()) == []
    assert [one.event.id for one in await world.dead_letters(world.name(subscriber=OTHER))] == ["b"]
    await world.restart()
    with pytest.raises(NotFound):
        world.broker.subscriptions.get(world.name())
    reader = await world.open(subscriber=OTHER)
    await world.publish(ping("d"))
    assert ids(await reader.take(1)) == ["d"]


async def test_erasing_again_and_erasing_nobody_finds_nothing(world: World) -> None:
    await filled(world)
    await world.broker.erasure.erase(THEIRS)
    for name in (THEIRS, SubscriberName("nobody")):
        report = await world.broker.erasure.erase(name)
        assert (report.subscriptions, report.events, report.dead_letters, report.attempts, report.rejected) == (0,) * 5


async def test_a_subscription_that_was_deleted_and_could_be_restored_goes_too(world: World) -> None:
    await filled(world)
    await world.broker.subscriptions.delete(world.name(), etag="")
    assert (await world.broker.erasure.erase(THEIRS)).subscriptions == 1
    with pytest.raises(NotFound):
        world.broker.subscriptions.get(world.name())


@pytest.mark.parametrize("status", [200, 500])
async def test_what_was_under_way_when_a_subscriber_was_erased_is_kept_no_more_when_it_ends(
    either_world: World, status: int
) -> None:
    world = either_world
    held = Holds(then=Answers(status))
    world.sender.script(URL, Answers(500), held)
    await world.create_webhook(policy=RetryPolicy(Schedule((0.0,))))
    await world.publish(ping("a", subscriber=ORG), ping("b", subscriber=ORG))
    await world.sent(2)
    await world.broker.erasure.erase(THEIRS)
    held.until.set()
    async with asyncio.timeout(PATIENCE):
        while (await world.broker.stats()).webhooks_in_flight:  # noqa: ASYNC110  it waits for no time
            await asyncio.sleep(0)
    await world.advance(5)
    name = world.name("hook")
    assert await world.dead_letters(name) == []
    assert list(await world.attempts(name)) == []
    assert list(await world.engine.cursors.load([name.text])) == [None]
    await world.create_webhook()
    await world.publish(ping("c"))
    await world.sent(3)
    await world.attempted(name, 1)
    await world.quiet()
    assert len(world.sender.requests) == 3


async def test_what_it_was_still_to_be_told_of_its_dead_letters_goes_with_it(either_world: World) -> None:
    world = either_world
    await world.create()
    for name in ("a", "b"):
        await give_up(world, name)
        await world.quiet()
    # The second waits until the minute is over.
    assert len(await documents(world)) == 1
    await world.broker.erasure.erase(THEIRS)
    assert await documents(world) == []
    await world.advance(INTERVAL + 1)
    assert await kept(world) == ["a", "b"], "which were for everyone"


async def test_a_subscription_to_the_events_of_all_goes_on_without_what_was_erased(either_world: World) -> None:
    world = either_world
    await world.create("audit", subscriber=OTHER, scope=Scope.ALL_SUBSCRIBERS)
    await world.publish(ping("a", subscriber=ORG), ping("b", subscriber=OTHER), ping("c", subscriber=ORG))
    reader = await world.open("audit", subscriber=OTHER)
    await reader.take(3)
    await reader.nack(Nack(1, 1, NackAction.DEAD_LETTER, None, "no"))
    await reader.ack(2)
    await reader.nack(Nack(3, 3, NackAction.RETRY, 60.0, ""))
    report = await world.broker.erasure.erase(THEIRS)
    assert (report.events, report.dead_letters) == (2, 1)
    await world.advance(61)
    await world.publish(ping("d", subscriber=ORG))
    assert ids(await reader.take(1)) == ["d"]
    name = world.name("audit", OTHER)
    assert await world.dead_letters(name) == []
    async with asyncio.timeout(PATIENCE):
        while not await world.gaps(name):  # noqa: ASYNC110  it waits for no time
            await asyncio.sleep(0)
    assert [(gap.first, gap.last) for gap in await world.gaps(name)] == [(3, 3)]


async def audited_by_webhook(world: World, form: Format = Format.CLOUDEVENTS_JSON) -> SubscriptionName:
    """Gives another subscriber a webhook for the events of all, which tries twice."""
    delivery = WebhookDelivery(URL, (StoredSecret(SECRET),), form)
    policy = RetryPolicy(Schedule((0.0, 1.0)), jitter=0.0)
    made = await world.create(
        "audit", subscriber=OTHER, scope=Scope.ALL_SUBSCRIBERS, delivery=delivery, retry_policy=policy
    )
    return made.name


@pytest.mark.parametrize("answer", [Answers(500), Answers(400, headers={"webhook-delivery": "abort"})])
@pytest.mark.parametrize("attempt", [1, 2])
async def test_nothing_is_made_of_what_was_under_way_to_somebody_else_when_it_was_erased(
    either_world: World, attempt: int, answer: Answers
) -> None:
    world = either_world
    held = Holds(then=answer)
    world.sender.script(URL, *[Answers(500)] * (attempt - 1), held)
    audit = await audited_by_webhook(world)
    await world.publish(ping("a", subscriber=ORG))
    await world.sent(1)
    if attempt > 1:
        await world.attempted(audit, 1)
        await world.advance(1)
    await world.sent(attempt)
    await world.broker.erasure.erase(THEIRS)
    held.until.set()
    await world.attempted(audit, attempt)
    await world.advance(60)
    assert await world.dead_letters(audit) == []
    assert len(world.sender.requests) == attempt
    assert (await world.cursor(audit)).owed == ()
    await world.publish(ping("b", subscriber=ORG))
    await world.sent(attempt + 1)


async def test_what_was_being_rendered_when_it_was_erased_is_not_sent(either_world: World) -> None:
    world = either_world
    audit = await audited_by_webhook(world, Format.ORIGINAL)
    held = world.engine.hold("journal.original")
    await world.publish(ping("a", subscriber=ORG), ping("b", subscriber=OTHER))
    await world.eventually(lambda: world.engine.calls["journal.original"] == 2)
    await world.broker.erasure.erase(THEIRS)
    held.set()
    await world.sent(1)
    await world.quiet()
    assert len(world.sender.requests) == 1
    assert (await world.broker.stats()).webhooks_in_flight == 0
    assert await world.gaps(audit) == []


async def test_what_a_stream_has_when_it_is_erased_may_be_settled_and_does_not_come_again(either_world: World) -> None:
    world = either_world
    await world.create("audit", subscriber=OTHER, scope=Scope.ALL_SUBSCRIBERS)
    reader = await world.open("audit", subscriber=OTHER, most=6)
    theirs = [ping(one, subscriber=ORG) for one in "abcdef"]
    await world.publish(*theirs[:5], ping("x"), theirs[5], ping("y"))
    assert ids(await reader.take(6)) == ["a", "b", "c", "d", "e", "x"]
    await world.broker.erasure.erase(THEIRS)
    await reader.ack(1)
    await reader.nack(Nack(2, 2, NackAction.DEAD_LETTER, None, "no"))
    await reader.nack(Nack(3, 3, NackAction.RETRY, 0.0, "no"))
    assert ids(await reader.take(1)) == ["y"]
    await reader.close()
    other = await world.open("audit", subscriber=OTHER)
    assert ids(await other.take(2)) == ["x", "y"]
    await other.ack(1, 2)
    await other.nothing_more()
    name = world.name("audit", OTHER)
    assert await world.dead_letters(name) == []
    cursor = await world.cursor(name)
    assert (cursor.owed, cursor.state.settled) == ((), ())


async def test_what_waited_behind_a_key_when_it_was_erased_does_not_come_and_the_next_does(either_world: World) -> None:
    world = either_world
    await world.create("audit", subscriber=OTHER, scope=Scope.ALL_SUBSCRIBERS)
    reader = await world.open("audit", subscriber=OTHER)
    await world.publish(
        ping("a", ordering_key="k"),
        ping("b", subscriber=ORG, ordering_key="k"),
        ping("c", subscriber=ORG, ordering_key="k"),
        ping("d", ordering_key="k"),
    )
    assert ids(await reader.take(1)) == ["a"]
    await world.broker.erasure.erase(THEIRS)
    await reader.ack(1)
    assert ids(await reader.take(1)) == ["d"]


async def test_a_dead_letter_that_was_being_stored_during_an_erasure_is_erased_too(either_world: World) -> None:
    world = either_world
    await world.create("audit", subscriber=OTHER, scope=Scope.ALL_SUBSCRIBERS)
    reader = await world.open("audit", subscriber=OTHER)
    await world.publish(ping("a", subscriber=ORG), ping("b", subscriber=ORG))
    await reader.take(2)
    held = world.engine.hold("cursors.settle")
    before = world.engine.calls["cursors.settle"]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reader.nack(Nack(1, 1, NackAction.DEAD_LETTER, None, "no")))
        await world.eventually(lambda: world.engine.calls["cursors.settle"] > before)
        tasks.create_task(reader.nack(Nack(2, 2, NackAction.DEAD_LETTER, None, "no")))
        erasing = tasks.create_task(world.broker.erasure.erase(THEIRS))
        await world.eventually(lambda: world.engine.calls["erasure.events"] > 0)
        await world.quiet()
        held.set()
    assert (await erasing).dead_letters == 2
    await world.quiet()
    assert await world.dead_letters(world.name("audit", OTHER)) == []


async def test_what_was_being_read_when_it_was_erased_reaches_nobody(either_world: World) -> None:
    world = either_world
    await world.create("audit", subscriber=OTHER, scope=Scope.ALL_SUBSCRIBERS)
    await world.publish(ping("a", subscriber=ORG), ping("b"))
    await world.quiet()
    held = world.engine.hold_answer("journal.read")
    before = world.engine.calls["journal.read"]
    reader = await world.open("audit", subscriber=OTHER)
    await world.eventually(lambda: world.engine.calls["journal.read"] > before)
    await world.broker.erasure.erase(THEIRS)
    held.set()
    assert ids(await reader.take(1)) == ["b"]
    await reader.nothing_more()


async def test_what_was_on_its_way_to_the_router_when_it_was_erased_reaches_nobody(world: World) -> None:
    router = Router(world.engine.journal, world.broker.names, BEGINNING, world.broker.filtering, Memory())
    lane = world.broker.lanes.ephemeral(world.subscription(subscriber=OTHER, scope=Scope.ALL_SUBSCRIBERS))
    router.put(lane)
    await world.publish(ping("a", subscriber=ORG), ping("b"), ping("c", subscriber=ORG))
    entries = (await world.engine.journal.read(BEGINNING, 10, 1 << 20)).entries
    router.erase(ORG, entries[1].position)
    router.route(entries[:1])
    assert lane.cursor.ready == 0
    router.route(entries)
    assert lane.cursor.ready == 2


async def test_what_was_read_again_for_a_retry_when_it_was_erased_reaches_nobody(either_world: World) -> None:
    world = either_world
    await world.create("audit", subscriber=OTHER, scope=Scope.ALL_SUBSCRIBERS)
    reader = await world.open("audit", subscriber=OTHER)
    await world.publish(ping("a", subscriber=ORG))
    await reader.take(1)
    await reader.nack(Nack(1, 1, NackAction.RETRY, 60.0, "no"))
    held = world.engine.hold_answer("journal.get")
    world.clock.advance(60)
    await world.eventually(lambda: world.engine.calls["journal.get"] > 0)
    await world.broker.erasure.erase(THEIRS)
    held.set()
    await reader.nothing_more()
    assert [(gap.first, gap.last) for gap in await world.gaps(world.name("audit", OTHER))] == [(1, 1)]


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("write", range(1, 8))
async def test_an_erasure_that_a_crash_broke_off_is_said_again_and_goes_on(
    either_world: World, write: int, done: bool
) -> None:
    world = either_world
    await filled(world)
    world.engine.crash_at(write, done=done)
    with pytest.raises(CertesError):
        await world.broker.erasure.erase(THEIRS)
        # Where it has fewer writes than that, there is nothing to go on with.
        world.engine.crash()
        await world.broker.erasure.erase(THEIRS)
    await world.restart()
    await world.broker.erasure.erase(THEIRS)
    assert await kept(world) == ["b", "c"]
    with pytest.raises(NotFound):
        world.broker.subscriptions.get(world.name())
    assert await world.dead_letters(world.name()) == []
