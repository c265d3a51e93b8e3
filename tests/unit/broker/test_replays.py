"""Replays of dead letters, and redeliveries of kept events: by the lane, within its limits, and never lost by a crash."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from certes_broker.broker.dead_letters import DeadLetterFilter, Selection
from certes_broker.domain.errors import CertesError, Exhausted, FailedPrecondition, NotFound
from certes_broker.domain.events import AcceptedEvent, Position
from certes_broker.domain.notices import DisableCause, Disabling
from certes_broker.domain.retry import RetryPolicy, Schedule
from certes_broker.domain.seeking import SeekBeginning, SeekEnd
from certes_broker.domain.settlement import Nack, NackAction
from certes_broker.domain.subscriptions import State
from tests.fakes.broker_world import PATIENCE, PUSH, URL, Reader, World, ids, ping, pings
from tests.fakes.scripted_sender import Answers, Holds

ONCE = RetryPolicy(Schedule((0.0,)))
HOOK = "hook"


def everything(_: AcceptedEvent) -> bool:
    return True


def all_of_them(token: str = "") -> Selection:
    return Selection(DeadLetterFilter(), everything, token)


async def dead_on_a_stream(world: World, count: int, **fields: str) -> None:
    """Lets deliveries p1, p2, … become dead letters."""
    await world.create()
    reader = await world.open()
    await world.publish(*pings(count, **fields))
    await settle_all(reader, count, NackAction.DEAD_LETTER)
    await reader.close()


async def settle_all(reader: Reader, count: int, action: NackAction) -> None:
    left = count
    while left:
        got = await reader.take(1)
        for one in got:
            await reader.nack(Nack(one.ordinal, one.ordinal, action, None, "no"))
        left -= len(got)


async def dead_at_a_webhook(world: World, count: int) -> None:
    world.sender.script(URL, *[Answers(500)] * count, Answers())
    await world.create_webhook(policy=ONCE)
    await world.publish(*pings(count))
    await world.attempted(world.name(HOOK), count)
    await world.quiet()
    assert len(await world.dead_letters(world.name(HOOK))) == count


async def test_replayed_dead_letters_are_delivered_with_attempts_counted_anew_and_go_when_settled(
    either_world: World,
) -> None:
    world = either_world
    await dead_on_a_stream(world, 2)
    done = await world.broker.replays.replay(world.name(), all_of_them())
    assert (done.replayed, done.replaying, done.next_page_token) == (2, 0, "")
    assert len(await world.dead_letters(world.name())) == 2
    reader = await world.open()
    got = await reader.take(2)
    assert [(one.id, one.attempt) for one in got] == [("p1", 1), ("p2", 1)]
    await reader.ack(got[0].ordinal)
    assert [one.event.id for one in await world.dead_letters(world.name())] == ["p2"]
    await reader.ack(got[1].ordinal)
    assert await world.dead_letters(world.name()) == []
    assert (await world.cursor(world.name())).owed == ()


async def test_what_is_replayed_already_is_not_handed_over_twice(either_world: World) -> None:
    world = either_world
    await dead_on_a_stream(world, 2)
    await world.broker.replays.replay(world.name(), all_of_them())
    again = await world.broker.replays.replay(world.name(), all_of_them())
    assert (again.replayed, again.replaying) == (0, 2)
    reader = await world.open()
    assert sorted(ids(await reader.take(2))) == ["p1", "p2"]
    await world.quiet()
    assert len(reader.got) == 2
    assert (await world.broker.replays.replay(world.name(), all_of_them())).replaying == 2


async def test_a_replay_survives_a_crash_between_its_hand_over_and_its_settling(either_world: World) -> None:
    world = either_world
    await dead_on_a_stream(world, 2)
    await world.broker.replays.replay(world.name(), all_of_them())
    await world.restart()
    reader = await world.open()
    assert sorted(ids(await reader.take(2))) == ["p1", "p2"]
    await world.restart()
    assert len(await world.dead_letters(world.name())) == 2
    reader = await world.open()
    for one in await reader.take(2):
        await reader.ack(one.ordinal)
    await world.restart()
    assert await world.dead_letters(world.name()) == []
    reader = await world.open()
    await world.publish(ping("next"))
    assert ids(await reader.take(1)) == ["next"]


async def test_a_replay_that_is_not_stored_leaves_the_dead_letter_and_can_be_asked_for_again(world: World) -> None:
    await dead_on_a_stream(world, 1)
    world.engine.crash()
    with pytest.raises(Exception, match="fails, as ordered"):
        await world.broker.replays.replay(world.name(), all_of_them())
    await world.restart()
    assert len(await world.dead_letters(world.name())) == 1
    assert (await world.cursor(world.name())).owed == ()
    assert (await world.broker.replays.replay(world.name(), all_of_them())).replayed == 1


async def test_a_replay_whose_event_the_journal_has_forgotten_sends_the_copy(either_world: World) -> None:
    world = either_world
    await dead_on_a_stream(world, 2)
    await world.publish(ping("later"))
    await world.engine.journal.trim(Position(2))
    await world.broker.replays.replay(world.name(), all_of_them())
    reader = await world.open()
    assert sorted(ids(await reader.take(3))) == ["later", "p1", "p2"]
    await reader.ack(1, 3)
    assert await world.dead_letters(world.name()) == []
    assert await world.gaps(world.name()) == []


async def test_a_replay_that_is_given_up_on_is_one_new_dead_letter(either_world: World) -> None:
    world = either_world
    await dead_at_a_webhook(world, 1)
    world.sender.script(URL, Answers(502), Answers())
    await world.advance(60)
    await world.broker.replays.replay(world.name(HOOK), all_of_them())
    await world.attempted(world.name(HOOK), 2)
    await world.quiet()
    [letter] = await world.dead_letters(world.name(HOOK))
    assert (letter.attempts, letter.error) == (1, "HTTP 502")
    await world.broker.replays.replay(world.name(HOOK), all_of_them())
    await world.sent(3)
    await world.quiet()
    assert await world.dead_letters(world.name(HOOK)) == []


async def test_a_replay_is_retried_as_the_policy_says_and_stays_a_replay(world: World) -> None:
    await dead_at_a_webhook(world, 1)
    await world.update(world.name(HOOK), retry_policy=RetryPolicy(Schedule((0.0, 5.0)), jitter=0.0))
    world.sender.script(URL, Answers(500), Answers())
    await world.broker.replays.replay(world.name(HOOK), all_of_them())
    await world.attempted(world.name(HOOK), 2)
    await world.restart()
    await world.advance(6)
    await world.sent(3)
    await world.quiet()
    assert [one.number for one in await world.attempts(world.name(HOOK))] == [1, 1, 2]
    assert await world.dead_letters(world.name(HOOK)) == []


async def test_replays_keep_to_the_limits_of_their_subscription(world: World) -> None:
    await dead_at_a_webhook(world, 6)
    hold = Holds()
    world.sender.script(URL, hold)
    webhook = world.broker.subscriptions.get(world.name(HOOK)).delivery
    from dataclasses import replace

    await world.update(world.name(HOOK), delivery=replace(webhook, max_in_flight=2))
    await world.broker.replays.replay(world.name(HOOK), all_of_them())
    await world.sent(8)
    await world.quiet()
    assert len(world.sender.requests) == 8
    hold.until.set()
    await world.sent(12)


async def test_a_backlog_of_replays_does_not_delay_fresh_events(world: World) -> None:
    await dead_on_a_stream(world, 50)
    await world.broker.replays.replay(world.name(), all_of_them())
    reader = await world.open(most=2)
    await reader.take(2)
    await world.publish(ping("fresh"))
    await world.quiet()
    await reader.ack(1, 2)
    assert "fresh" in ids(await reader.take(2))


async def test_a_replay_has_no_part_in_the_order_of_its_key(world: World) -> None:
    await dead_on_a_stream(world, 1, ordering_key="k")
    await world.broker.replays.replay(world.name(), all_of_them())
    await world.publish(ping("p2", ordering_key="k"))
    reader = await world.open()
    assert sorted(ids(await reader.take(2))) == ["p1", "p2"]


@pytest.mark.parametrize("state", [State.PAUSED, State.DISABLED])
async def test_what_is_replayed_to_a_subscription_that_stands_still_goes_out_when_it_is_resumed(
    either_world: World, state: State
) -> None:
    world = either_world
    await dead_at_a_webhook(world, 1)
    if state is State.PAUSED:
        await world.broker.subscriptions.pause(world.name(HOOK))
    else:
        await world.broker.receivers.disable(world.name(HOOK).text, URL, Disabling(DisableCause.GONE, "Gone."))
    assert world.broker.subscriptions.get(world.name(HOOK)).state is state
    assert (await world.broker.replays.replay(world.name(HOOK), all_of_them())).replayed == 1
    await world.quiet()
    assert len(world.sender.requests) == 1
    await world.restart()
    await world.broker.subscriptions.resume(world.name(HOOK))
    await world.sent(2)
    await world.quiet()
    assert await world.dead_letters(world.name(HOOK)) == []


async def test_nothing_is_replayed_or_redelivered_to_a_deleted_subscription(world: World) -> None:
    await dead_on_a_stream(world, 1)
    await world.broker.subscriptions.delete(world.name(), etag="")
    with pytest.raises(FailedPrecondition, match="deleted"):
        await world.broker.replays.replay(world.name(), all_of_them())
    with pytest.raises(FailedPrecondition, match="deleted"):
        await world.broker.replays.redeliver(world.name(), Position(1))


async def test_a_seek_discards_replays_and_their_dead_letters_stay(either_world: World) -> None:
    world = either_world
    await dead_on_a_stream(world, 2)
    await world.broker.replays.replay(world.name(), all_of_them())
    _, discarded = await world.broker.subscriptions.seek(world.name(), SeekEnd())
    assert discarded == 2
    assert len(await world.dead_letters(world.name())) == 2
    reader = await world.open()
    await world.publish(ping("next"))
    assert ids(await reader.take(1)) == ["next"]
    assert (await world.broker.replays.replay(world.name(), all_of_them())).replayed == 2


async def test_after_a_seek_back_an_event_that_is_replayed_too_comes_once(either_world: World) -> None:
    world = either_world
    await dead_on_a_stream(world, 2)
    await world.broker.subscriptions.seek(world.name(), SeekBeginning())
    await world.broker.replays.replay(world.name(), all_of_them())
    reader = await world.open()
    assert sorted(ids(await reader.take(2))) == ["p1", "p2"]
    await world.quiet()
    assert len(reader.got) == 2
    await reader.ack(1, 2)
    assert await world.dead_letters(world.name()) == []


async def test_an_event_that_is_out_again_after_a_seek_back_does_for_its_replay_also_over_a_crash(
    either_world: World,
) -> None:
    world = either_world
    await dead_on_a_stream(world, 2)
    await world.broker.subscriptions.seek(world.name(), SeekBeginning())
    reader = await world.open()
    assert sorted(ids(await reader.take(2))) == ["p1", "p2"]
    done = await world.broker.replays.replay(world.name(), all_of_them())
    assert (done.replayed, done.replaying) == (0, 2)
    await world.quiet()
    assert len(reader.got) == 2
    await reader.ack(reader.got[0].ordinal)
    assert len(await world.dead_letters(world.name())) == 1
    await world.restart()
    reader = await world.open()
    [got] = await reader.take(1)
    await reader.ack(got.ordinal)
    assert await world.dead_letters(world.name()) == []
    assert (await world.cursor(world.name())).owed == ()


async def test_dead_letters_that_are_replayed_are_neither_purged_nor_past_their_time(either_world: World) -> None:
    world = either_world
    await dead_on_a_stream(world, 3)
    first, second, _ = [world.broker.names.name(one.position) for one in await world.dead_letters(world.name())]
    chosen = [name.removeprefix("events/") for name in (first, second)]
    await world.broker.replays.replay_named(world.name(), chosen, everything)
    await world.days_pass(40)
    async with asyncio.timeout(PATIENCE):
        while len(await world.dead_letters(world.name())) > 2:  # noqa: ASYNC110  it waits for no time
            await asyncio.sleep(0)
    assert [one.event.id for one in await world.dead_letters(world.name())] == ["p1", "p2"]
    purged = await world.broker.dead_letters.purge(world.name(), all_of_them())
    assert (purged.purged, purged.replaying) == (0, 2)
    reader = await world.open()
    assert sorted(ids(await reader.take(2))) == ["p1", "p2"]


async def test_replays_of_names_of_which_one_is_none_hand_nothing_over(world: World) -> None:
    await dead_on_a_stream(world, 1)
    one = world.broker.names.name((await world.dead_letters(world.name()))[0].position).removeprefix("events/")
    with pytest.raises(NotFound, match="dead letter"):
        await world.broker.replays.replay_named(world.name(), [one, "e" * 32], everything)
    assert (await world.cursor(world.name())).owed == ()
    assert (await world.broker.replays.replay_named(world.name(), [one, one], everything)).replayed == 1


async def test_no_more_is_replayed_than_a_subscription_may_be_owed(world: World) -> None:
    await dead_on_a_stream(world, 3)
    world.broker.replays.limit = 2
    first = await world.broker.replays.replay(world.name(), all_of_them())
    assert first.replayed == 2
    with pytest.raises(Exhausted, match="owed"):
        await world.broker.replays.replay(world.name(), all_of_them(first.next_page_token))
    reader = await world.open()
    await reader.take(2)
    await reader.ack(1, 2)
    last = await world.broker.replays.replay(world.name(), all_of_them(first.next_page_token))
    assert (last.replayed, last.next_page_token) == (1, "")


async def test_an_event_that_was_settled_is_redelivered_whatever_the_selectors_say(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    [receipt] = await world.publish(ping("p1"))
    await reader.take(1)
    await reader.ack(1)
    await reader.close()
    await world.select(world.name(), PUSH)
    assert await world.broker.replays.redeliver(world.name(), receipt.position)
    reader = await world.open()
    [got] = await reader.take(1)
    assert (got.id, got.attempt) == ("p1", 1)
    await reader.ack(1)
    assert (await world.cursor(world.name())).owed == ()


async def test_an_event_that_is_on_its_way_is_not_redelivered_beside_that(either_world: World) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    [receipt] = await world.publish(ping("p1"))
    await reader.take(1)
    assert not await world.broker.replays.redeliver(world.name(), receipt.position)


@pytest.mark.parametrize("wait", [5.0, 36_000.0], ids=["its event in memory", "its event in storage"])
async def test_a_redelivery_of_what_waits_for_its_next_attempt_makes_that_now_also_over_a_crash(
    either_world: World, wait: float
) -> None:
    world = either_world
    await world.create()
    reader = await world.open()
    [receipt, _] = await world.publish(ping("p1", ordering_key="k"), ping("p2", ordering_key="k"))
    await reader.take(1)
    await reader.nack(Nack(1, 1, NackAction.RETRY, wait, ""))
    assert not await world.broker.replays.redeliver(world.name(), receipt.position)
    [got] = await reader.take(1)
    assert (got.id, got.attempt) == ("p1", 2)
    await world.restart()
    reader = await world.open()
    [got] = await reader.take(1)
    assert (got.id, got.attempt) == ("p1", 2)
    await reader.ack(1)
    assert ids(await reader.take(1)) == ["p2"]


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("write", range(1, 7))
async def test_a_crash_at_any_write_of_a_replay_loses_none_and_settles_each_in_the_end(
    either_world: World, write: int, done: bool
) -> None:
    world = either_world
    await dead_on_a_stream(world, 3)
    world.engine.crash_at(write, done=done)
    with suppress(CertesError):
        await world.broker.replays.replay(world.name(), all_of_them())
        reader = await world.open()
        for one in await reader.take(3):
            await reader.ack(one.ordinal)
    await world.quiet_or_dead()
    await world.restart()
    left = {one.event.id for one in await world.dead_letters(world.name())}
    owed = {row.position for row in (await world.cursor(world.name())).owed}
    assert len(owed) <= len(left)
    again = await world.broker.replays.replay(world.name(), all_of_them())
    assert (again.replayed, again.replaying) == (len(left) - len(owed), len(owed))
    reader = await world.open()
    got = await reader.take(len(left)) if left else []
    assert set(ids(got)) == left
    for one in got:
        await reader.ack(one.ordinal)
    assert await world.dead_letters(world.name()) == []
    assert (await world.cursor(world.name())).owed == ()
