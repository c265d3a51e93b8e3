"""Subscriptions: created, changed, deleted and restored, by several callers at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from certes_broker.broker.subscription_documents import read_document, write_document
from certes_broker.domain.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, Reason, Unavailable
from certes_broker.domain.matching import Selector
from certes_broker.domain.retry import Exponential, Linear, Logarithmic, RetryPolicy, Schedule
from certes_broker.domain.seeking import SeekBeginning
from certes_broker.domain.subscriptions import Format, Scope, State, StoredSecret, StreamDelivery, WebhookDelivery
from certes_broker.domain.uris import parse_pattern
from certes_broker.ports.engine import Document
from tests.fakes.broker_world import PUSH, SECRET, URL, World, ids, ping, pings, push
from tests.fakes.scripted_sender import Holds


async def test_a_subscription_is_as_it_was_made_after_a_restart(either_world: World) -> None:
    world = either_world
    made = await world.create(labels=(("team", "a"),), retry_policy=RetryPolicy(Linear(1.0, 2.0)), generation=7)
    await world.restart()
    assert world.broker.subscriptions.get(made.name) == made


@pytest.mark.parametrize("backoff", [Exponential(1.5), Linear(1.0, 2.0), Logarithmic(3.0, 1.0), Schedule((0.0, 9.0))])
@pytest.mark.parametrize(
    "delivery",
    [StreamDelivery(12.0), WebhookDelivery(URL, (StoredSecret(SECRET, 5), StoredSecret(SECRET)), Format.ORIGINAL, 3.0)],
)
async def test_a_document_says_everything_of_a_subscription(world: World, backoff, delivery) -> None:
    made = world.subscription(
        delivery=delivery,
        retry_policy=RetryPolicy(backoff, 3, 60.0, 0.5),
        selectors=(Selector(parse_pattern(PUSH), (("repo", "a/b"),)),),
        scope=Scope.ALL_SUBSCRIBERS,
        state=State.DELETED,
        state_reason="why",
        delete_time=3,
        labels=(("a", "b"),),
        generation=4,
    )
    read = read_document(Document("key", write_document(made), 9))
    assert read == replace(made, revision=9, etag=read.etag)


async def test_an_etag_changes_with_every_change_and_is_made_of_nothing_that_is_stored(world: World) -> None:
    made, same = await world.create(), await world.create("same")
    assert made.etag != same.etag
    changed = await world.update(made.name, labels=(("a", "1"),))
    back = await world.update(made.name, labels=())
    assert len({made.etag, changed.etag, back.etag}) == 3
    assert (await world.update(made.name, labels=())).etag == back.etag


async def test_of_concurrent_creates_one_wins(either_world: World) -> None:
    world = either_world
    outcomes = await asyncio.gather(*[world.create() for _ in range(5)], return_exceptions=True)
    refusals = [one for one in outcomes if isinstance(one, AlreadyExists)]
    assert len(refusals) == 4
    assert {one.reason for one in refusals} == {Reason.SUBSCRIPTION_EXISTS}


async def test_an_etag_of_before_a_change_is_refused_and_changes_nothing(world: World) -> None:
    made = await world.create()
    changed = await world.update(made.name, labels=(("a", "1"),), etag=made.etag)
    assert changed.etag != made.etag
    with pytest.raises(Aborted) as refusal:
        await world.update(made.name, labels=(("a", "2"),), etag=made.etag)
    assert refusal.value.reason is Reason.ETAG_MISMATCH
    assert refusal.value.metadata["etag"] == changed.etag
    with pytest.raises(Aborted):
        await world.broker.subscriptions.delete(made.name, etag=made.etag)
    assert world.broker.subscriptions.get(made.name) == changed


async def test_of_concurrent_changes_with_one_etag_one_wins(world: World) -> None:
    made = await world.create()
    changes = [world.update(made.name, labels=(("a", str(one)),), etag=made.etag) for one in range(5)]
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    assert sum(isinstance(one, Aborted) for one in outcomes) == 4


async def test_an_older_generation_cannot_undo_a_newer_list(world: World) -> None:
    made = await world.create(generation=3)
    await world.update(made.name, generation=4, labels=(("a", "4"),))
    with pytest.raises(FailedPrecondition) as refusal:
        await world.update(made.name, generation=3, labels=(("a", "3"),))
    assert refusal.value.reason is Reason.STALE_GENERATION
    assert refusal.value.metadata == {"generation": "4"}
    await world.update(made.name, generation=4, labels=(("a", "again"),))
    assert world.broker.subscriptions.get(made.name).labels == (("a", "again"),)


async def test_a_change_that_changes_nothing_writes_nothing(world: World) -> None:
    made = await world.create()
    world.clock.advance(10)
    world.engine.calls.clear()
    assert await world.update(made.name, selectors=made.selectors, labels=()) == made
    assert await world.broker.subscriptions.resume(made.name) == made
    assert world.engine.calls == {}


async def test_a_change_says_when_it_was_made_and_leaves_the_time_of_creation(world: World) -> None:
    made = await world.create()
    world.clock.advance(10)
    changed = await world.update(made.name, labels=(("a", "1"),))
    assert changed.create_time == made.create_time == made.update_time
    assert changed.update_time == world.clock.now()


async def test_a_deleted_subscription_refuses_changes_and_is_restored_with_its_backlog(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    await world.publish(*pings(2))
    await reader.take(2)
    await reader.ack(1)
    deleted = await world.broker.subscriptions.delete(world.name(), etag="")
    assert (deleted.state, deleted.delete_time) == (State.DELETED, world.clock.now())
    await reader.ended()
    await world.publish(ping("p3"))
    for change in (world.update(world.name(), labels=()), world.broker.subscriptions.pause(world.name())):
        with pytest.raises(FailedPrecondition) as refusal:
            await change
        assert refusal.value.reason is Reason.SUBSCRIPTION_DELETED
    await world.restart()
    restored = await world.update(world.name(), restore=True)
    assert (restored.state, restored.delete_time) == (State.ACTIVE, None)
    assert set(ids(await (await world.open()).take(2))) == {"p2", "p3"}


async def test_the_name_of_a_deleted_subscription_is_free_and_its_past_is_forgotten(either_world: World) -> None:
    world = either_world
    await world.create()
    await world.publish(*pings(2))
    await world.broker.subscriptions.delete(world.name(), etag="")
    await world.create()
    await world.publish(ping("p3"))
    await world.restart()
    reader = await world.open()
    assert ids(await reader.take(1)) == ["p3"]
    await reader.nothing_more()


async def test_a_webhook_deleted_and_made_again_while_a_request_is_under_way_begins_anew(either_world: World) -> None:
    world = either_world
    held = Holds()
    world.sender.script(URL, held)
    await world.create_webhook()
    await world.publish(ping("p1"))
    await world.sent(1)
    await world.broker.subscriptions.delete(world.name("hook"), etag="")
    await world.create_webhook()
    held.until.set()
    await world.quiet()
    await world.publish(ping("p2"))
    await world.sent(2)
    await world.quiet()
    assert len(world.sender.requests) == 2


async def test_a_paused_webhook_gets_nothing_until_it_is_resumed_and_then_everything(either_world: World) -> None:
    world = either_world
    await world.create_webhook()
    await world.broker.subscriptions.pause(world.name("hook"))
    await world.publish(*pings(3))
    await world.quiet()
    assert world.sender.requests == []
    await world.restart()
    await world.quiet()
    assert world.sender.requests == []
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.sent(3)


async def test_pausing_while_requests_are_under_way_lets_them_end_and_settles_them(either_world: World) -> None:
    world = either_world
    held = Holds()
    world.sender.script(URL, held)
    await world.create_webhook()
    await world.publish(*pings(2))
    await world.sent(2)
    await world.broker.subscriptions.pause(world.name("hook"))
    await world.publish(ping("p3"))
    held.until.set()
    await world.attempted(world.name("hook"), 2)
    await world.quiet()
    assert len(world.broker.lanes) == 0
    assert (await world.cursor(world.name("hook"))).state.floor >= 2
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.sent(3)


async def test_resuming_while_requests_are_under_way_sends_none_of_them_twice(world: World) -> None:
    held = Holds()
    world.sender.script(URL, held)
    await world.create_webhook()
    await world.publish(*pings(2))
    await world.sent(2)
    await world.broker.subscriptions.pause(world.name("hook"))
    await world.broker.subscriptions.resume(world.name("hook"))
    held.until.set()
    await world.publish(ping("p3"))
    await world.sent(3)
    await world.quiet()
    assert len(world.sender.requests) == 3


@pytest.mark.parametrize("change", ["update", "delete", "pause", "seek", "create"])
async def test_a_caller_that_gives_up_in_the_middle_finds_the_change_made(world: World, change: str) -> None:
    readers = []
    if change != "create":
        await world.create()
        readers.append(await world.open())
    await world.quiet()
    subscriptions = world.broker.subscriptions
    held = "cursors.settle" if change == "seek" else "settings.put"
    calls = {
        "update": lambda: world.select(world.name(), PUSH),
        "delete": lambda: subscriptions.delete(world.name(), etag=""),
        "pause": lambda: subscriptions.pause(world.name()),
        "seek": lambda: subscriptions.seek(world.name(), SeekBeginning()),
        "create": world.create,
    }
    world.engine.calls.clear()
    gate = world.engine.hold(held)
    async with asyncio.TaskGroup() as group:
        changing = group.create_task(calls[change]())
        await world.eventually(lambda: world.engine.calls[held] > 0)
        changing.cancel()
    gate.set()
    await world.quiet()
    states = {"delete": State.DELETED, "pause": State.PAUSED}
    assert subscriptions.get(world.name()).state is states.get(change, State.ACTIVE)
    if change == "delete":
        await world.update(world.name(), restore=True)
    elif change == "pause":
        await subscriptions.resume(world.name())
    for reader in readers:
        await reader.close()
    await world.publish(push("p1"))
    assert ids(await (await world.open()).take(1)) == ["p1"]


async def test_a_stream_whose_end_is_cancelled_in_the_middle_leaves_its_subscription_usable(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    await reader.take(1)
    reader.vanish()
    await world.quiet()
    world.engine.calls.clear()
    gate = world.engine.hold("cursors.settle")
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(reader.stream.close())
        await world.eventually(lambda: world.engine.calls["cursors.settle"] > 0)
        closing.cancel()
    gate.set()
    again = await world.open()
    assert ids(await again.take(1)) == ["p1"]
    await world.publish(ping("p2"))
    assert ids(await again.take(1)) == ["p2"]


async def test_a_create_that_could_not_be_stored_leaves_nothing(world: World) -> None:
    world.engine.fail("settings.put", 1)
    with pytest.raises(Unavailable):
        await world.create()
    with pytest.raises(NotFound):
        world.broker.subscriptions.get(world.name())
    await world.create()


async def test_a_webhook_that_was_stored_and_could_not_take_effect_does_so_when_it_is_resumed(
    either_world: World,
) -> None:
    world = either_world
    world.engine.fail("cursors.load", 1)
    with pytest.raises(Unavailable):
        await world.create_webhook()
    await world.publish(ping("p1"))
    await world.broker.subscriptions.resume(world.name("hook"))
    await world.sent(1)


async def test_lists_are_by_name_in_pages_and_of_one_subscriber(world: World) -> None:
    for number in range(5):
        await world.create(f"app{number}")
    await world.create("other", subscriber="org_2")
    found, token = [], ""
    while True:
        page = world.broker.subscriptions.list("org_1", show_deleted=False, page_size=2, page_token=token)
        assert len(page.subscriptions) <= 2
        found += [one.name.id for one in page.subscriptions]
        token = page.next_page_token
        if not token:
            break
    assert found == [f"app{number}" for number in range(5)]
    everybody = world.broker.subscriptions.list(None, show_deleted=False, page_size=10, page_token="")
    assert len(everybody.subscriptions) == 6


async def test_deleted_subscriptions_are_listed_only_where_asked_for(world: World) -> None:
    await world.create()
    await world.broker.subscriptions.delete(world.name(), etag="")
    listed = world.broker.subscriptions.list
    assert listed("org_1", show_deleted=False, page_size=9, page_token="").subscriptions == []
    assert len(listed("org_1", show_deleted=True, page_size=9, page_token="").subscriptions) == 1


async def test_a_change_that_was_stored_without_an_answer_does_not_stand_in_the_way_of_the_next(world: World) -> None:
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"))
    assert ids(await reader.take(1)) == ["p1"]
    world.engine.lose_answer("settings.put")
    with pytest.raises(Unavailable):
        await world.select(world.name(), PUSH)
    changed = await world.broker.subscriptions.update(
        world.name(), lambda one: replace(one, labels=(("a", "b"),)), etag="", generation=None, restore=False
    )
    assert [selector.pattern.text for selector in changed.selectors] == [PUSH]
    assert changed.labels == (("a", "b"),)
    await world.publish(ping("p2"), push("q1"))
    assert ids(await reader.take(1)) == ["q1"]


async def test_a_creation_that_was_stored_without_an_answer_is_known_when_it_is_repeated(world: World) -> None:
    world.engine.lose_answer("settings.put")
    with pytest.raises(Unavailable):
        await world.create_webhook()
    with pytest.raises(AlreadyExists):
        await world.create_webhook()
    await world.publish(ping("p1"))
    await world.attempted(world.name("hook"), 1)
