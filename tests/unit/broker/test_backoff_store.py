"""Default retry policies: which one a delivery that fails is tried again by, and what is kept of them."""

from __future__ import annotations

import asyncio

import pytest

from certes_broker.domain.backoff_defaults import EVERYTHING, MAXIMUM_DEFAULTS, Origin, Target
from certes_broker.domain.errors import Aborted, Exhausted, NotFound
from certes_broker.domain.retry import Exponential, RetryPolicy
from certes_broker.domain.settlement import Nack, NackAction
from tests.fakes.broker_world import PING, PUSH, URL, World, ping, push
from tests.fakes.scripted_sender import Answers

TYPE, SOURCE = Target(Origin.EVENT_TYPE, PING), Target(Origin.SOURCE, "//test")


def policy(seconds: float) -> RetryPolicy:
    return RetryPolicy(Exponential(seconds), jitter=0.0)


async def wait_after_failure(world: World, subscription_id: str) -> float:
    """Lets a webhook fail once, and returns in how many seconds it is tried again."""
    before = len(await world.attempts(world.name(subscription_id)))
    await world.publish(ping())
    attempt = (await world.attempted(world.name(subscription_id), before + 1))[-1]
    assert attempt.next_try is not None
    return (attempt.next_try - attempt.time) / 1_000_000


async def test_a_failure_is_tried_again_by_the_first_policy_in_rank(either_world: World) -> None:
    world, store = either_world, either_world.broker.backoffs
    world.sender.script(URL, Answers(500))
    await world.create_webhook()
    await store.set(EVERYTHING, policy(100), etag="")
    assert await wait_after_failure(world, "hook") == 100
    await store.set(SOURCE, policy(200), etag="")
    assert await wait_after_failure(world, "hook") == 200
    await store.set(TYPE, policy(300), etag="")
    assert await wait_after_failure(world, "hook") == 300
    await world.update(world.name("hook"), retry_policy=policy(400))
    assert await wait_after_failure(world, "hook") == 400


async def test_what_is_deleted_holds_no_more_and_what_is_set_survives_a_crash(either_world: World) -> None:
    world = either_world
    world.sender.script(URL, Answers(500))
    await world.create_webhook()
    await world.broker.backoffs.set(EVERYTHING, policy(100), etag="")
    await world.broker.backoffs.set(TYPE, policy(300), etag="")
    await world.broker.backoffs.delete(TYPE, etag="")
    await world.restart()
    assert await wait_after_failure(world, "hook") == 100
    with pytest.raises(NotFound):
        world.broker.backoffs.get(TYPE)


async def test_a_stream_s_deliveries_are_tried_again_by_it_too(world: World) -> None:
    await world.broker.backoffs.set(TYPE, policy(300), etag="")
    await world.create()
    reader = await world.open()
    await world.publish(ping("p1"), push("p2"))
    await reader.take(2)
    await reader.nack(Nack(1, 2, NackAction.RETRY, None, "not now"))
    await world.advance(10)
    assert [one.id for one in await reader.take(1)] == ["p2"]
    await reader.ack(3)
    await world.advance(289)
    await reader.nothing_more()
    await world.advance(1)
    assert [one.id for one in await reader.take(1)] == ["p1"]


async def test_a_change_that_another_broker_makes_is_followed(world: World) -> None:
    store = world.broker.backoffs
    await store.set(EVERYTHING, policy(100), etag="")
    document = await world.engine.settings.get(EVERYTHING.name)
    assert document is not None
    await world.engine.settings.put(TYPE.name, document.body)
    await world.engine.settings.delete(EVERYTHING.name)
    await world.quiet()
    assert store.get(TYPE).policy == policy(100)
    with pytest.raises(NotFound):
        store.get(EVERYTHING)


async def test_an_etag_that_is_old_changes_nothing(either_world: World) -> None:
    store = either_world.broker.backoffs
    first = await store.set(EVERYTHING, policy(100), etag="")
    second = await store.set(EVERYTHING, policy(200), etag=first.etag)
    with pytest.raises(Aborted):
        await store.set(EVERYTHING, policy(300), etag=first.etag)
    with pytest.raises(Aborted):
        await store.delete(EVERYTHING, etag=first.etag)
    assert store.get(EVERYTHING) == second
    await store.delete(EVERYTHING, etag=second.etag)


async def test_of_two_who_read_the_same_etag_one_is_told_that_it_is_old(either_world: World) -> None:
    store = either_world.broker.backoffs
    first = await store.set(EVERYTHING, policy(100), etag="")
    outcomes = await asyncio.gather(
        *(store.set(EVERYTHING, policy(seconds), etag=first.etag) for seconds in (200, 300)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Aborted) for outcome in outcomes) == 1


async def test_there_is_an_end_to_how_many_there_can_be(world: World) -> None:
    store = world.broker.backoffs
    for number in range(MAXIMUM_DEFAULTS):
        await store.set(Target(Origin.SOURCE, f"//{number}"), policy(1), etag="")
    with pytest.raises(Exhausted):
        await store.set(EVERYTHING, policy(1), etag="")
    await store.set(Target(Origin.SOURCE, "//1"), policy(2), etag="")


async def test_pages_hold_each_once_by_name(world: World) -> None:
    store = world.broker.backoffs
    for target in (TYPE, SOURCE, EVERYTHING):
        await store.set(target, policy(1), etag="")
    first = store.list(page_size=2, page_token="")
    second = store.list(page_size=2, page_token=first.next_page_token)
    names = [one.target.name for one in (*first.defaults, *second.defaults)]
    assert names == sorted(target.name for target in (TYPE, SOURCE, EVERYTHING))
    assert second.next_page_token == ""


async def test_a_subscription_s_policies_are_those_that_its_events_can_have(world: World) -> None:
    store = world.broker.backoffs
    for target in (TYPE, Target(Origin.EVENT_TYPE, PUSH), SOURCE):
        await store.set(target, policy(1), etag="")
    await world.create("app", PING)
    found = store.policies(world.broker.subscriptions.get(world.name()))
    assert [(one.origin, one.event_type, one.source) for one in found] == [
        (Origin.EVENT_TYPE, PING, ""),
        (Origin.SOURCE, "", "//test"),
        (Origin.BUILT_IN, "", ""),
    ]
