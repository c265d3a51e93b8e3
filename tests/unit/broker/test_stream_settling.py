"""Streams: acknowledgements, negative ones, longer times, and what comes too late."""

from __future__ import annotations

import pytest

from certes_broker.domain.errors import FailedPrecondition, Invalid, Reason
from certes_broker.domain.retry import Exponential, RetryPolicy, Schedule
from certes_broker.domain.settlement import Extension, Nack, NackAction
from certes_broker.domain.subscriptions import StreamDelivery
from tests.fakes.broker_world import Reader, World, ids, ping, pings

ACK_DEADLINE = 30.0


def retried(first: int, last: int | None = None, delay: float | None = None) -> Nack:
    return Nack(first, last or first, NackAction.RETRY, delay, "busy")


async def handed_out(world: World, count: int, **fields: object) -> Reader:
    """Opens a stream on which so many deliveries are out."""
    await world.create(**fields)
    reader = await world.open()
    await world.publish(*pings(count))
    await reader.take(count)
    return reader


async def test_a_range_settles_all_of_its_deliveries_durably(either_world: World) -> None:
    world = either_world
    reader = await handed_out(world, 10)
    await reader.ack(1, 10)
    assert (await world.cursor(world.name())).state.floor == 10
    assert reader.stream.outstanding == 0


async def test_settled_deliveries_leave_no_row_each(either_world: World) -> None:
    world = either_world
    reader = await handed_out(world, 100)
    await reader.say(acked=tuple((number, number) for number in range(2, 101, 2)))
    stored = await world.cursor(world.name())
    assert stored.owed == ()
    assert (stored.state.floor, stored.state.read_mark) == (0, 100)


@pytest.mark.parametrize(
    ("acked", "nacked", "extended", "missing"),
    [
        (((1, 2), (4, 9)), (), (), 6),
        (((1, 1),), (retried(7),), (), 7),
        (((1, 1),), (retried(2),), (Extension(5, 6, 60.0),), 6),
        (((1, 1 << 40),), (), (), 6),
    ],
)
async def test_if_one_ordinal_is_not_outstanding_nothing_is_applied(
    world: World, acked: tuple, nacked: tuple, extended: tuple, missing: int
) -> None:
    reader = await handed_out(world, 5)
    with pytest.raises(Invalid) as refusal:
        await reader.say(acked=acked, nacked=nacked, extended=extended)
    assert refusal.value.reason is Reason.ORDINAL_NOT_OUTSTANDING
    assert refusal.value.metadata == {"ordinal": str(missing), "stream": reader.stream.name}
    assert reader.stream.outstanding == 5
    await reader.ack(1, 5)


async def test_a_delivery_is_settled_once(world: World) -> None:
    reader = await handed_out(world, 2)
    await reader.ack(1)
    with pytest.raises(Invalid):
        await reader.ack(1, 2)
    await reader.ack(2)


async def test_a_negative_acknowledgement_with_a_delay_brings_it_again_after_it(either_world: World) -> None:
    world = either_world
    reader = await handed_out(world, 2)
    await reader.nack(retried(1, delay=10.0))
    await world.advance(9)
    await reader.nothing_more()
    await world.advance(1)
    [again] = await reader.take(1)
    assert again == (3, "p1", 2)


async def test_a_delay_of_nothing_brings_it_again_at_once(world: World) -> None:
    reader = await handed_out(world, 1)
    await reader.nack(retried(1, delay=0.0))
    await world.advance(0)
    [again] = await reader.take(1)
    assert again == (2, "p1", 2)


async def test_without_a_delay_the_policy_says_when(world: World) -> None:
    policy = RetryPolicy(Exponential(initial=2.0, multiplier=3.0), jitter=0.0)
    reader = await handed_out(world, 1, retry_policy=policy)
    for ordinal, wait in enumerate((2, 6, 18), 1):
        await reader.nack(retried(ordinal))
        await world.advance(wait - 0.5)
        await reader.nothing_more()
        await world.advance(0.5)
        [again] = await reader.take(1)
        assert again == (ordinal + 1, "p1", ordinal + 1)


async def test_a_delay_replaces_the_wait_of_the_policy_and_not_its_number_of_attempts(world: World) -> None:
    reader = await handed_out(world, 1, retry_policy=RetryPolicy(Schedule((0.0, 100.0)), jitter=0.0))
    await reader.nack(retried(1, delay=1.0))
    await world.advance(1)
    await reader.take(1)
    await reader.nack(retried(2, delay=1.0))
    await world.advance(200)
    await reader.nothing_more()
    [dead] = await world.dead_letters(world.name())
    assert (dead.event.id, dead.attempts, dead.reason, dead.error) == ("p1", 2, "attempts_exhausted", "busy")


async def test_a_rejected_delivery_becomes_a_dead_letter_with_a_copy_of_its_event(either_world: World) -> None:
    world = either_world
    reader = await handed_out(world, 2)
    await reader.nack(Nack(1, 2, NackAction.DEAD_LETTER, None, "cannot read it"))
    dead = await world.dead_letters(world.name())
    assert [(one.event.id, one.reason, one.error, one.attempts) for one in dead] == [
        ("p1", "rejected", "cannot read it", 1),
        ("p2", "rejected", "cannot read it", 1),
    ]
    kept = await world.engine.journal.get(dead[0].position)
    assert dead[0].event == kept.event
    assert (await world.cursor(world.name())).state.floor == 2


async def test_a_dropped_delivery_is_forgotten(world: World) -> None:
    reader = await handed_out(world, 1)
    await reader.nack(Nack(1, 1, NackAction.DROP, None, ""))
    await world.advance(100)
    await reader.nothing_more()
    assert await world.dead_letters(world.name()) == []


async def test_what_is_not_acknowledged_in_time_goes_to_another_stream_and_a_late_acknowledgement_is_refused(
    world: World,
) -> None:
    await world.create()
    first = await world.open(most=1)
    await world.publish(*pings(2))
    await first.take(1)
    second = await world.open(most=2)
    assert ids(await second.take(1)) == ["p2"]
    await second.say(extended=(Extension(1, 1, 600.0),))
    await first.say(extended=(Extension(1, 1, 10.0),))
    first.vanish()
    await world.quiet()
    await world.advance(10)
    assert await second.take(1) == [(2, "p1", 2)]
    with pytest.raises(Invalid):
        await first.ack(1)
    assert second.stream.outstanding == 2
    await second.ack(2)


async def test_an_extension_keeps_a_delivery_out_and_only_as_long_as_it_says(world: World) -> None:
    reader = await handed_out(world, 2)
    await world.advance(20)
    await reader.say(extended=(Extension(1, 1, 60.0),))
    await world.advance(15)
    assert await reader.take(1) == [(3, "p2", 2)]
    await reader.ack(3)
    await world.advance(40)
    await reader.nothing_more()
    await world.advance(5)
    assert await reader.take(1) == [(4, "p1", 2)]


async def test_an_extension_can_shorten_the_time_too(world: World) -> None:
    reader = await handed_out(world, 1)
    await reader.say(extended=(Extension(1, 1, 5.0),))
    await world.advance(5)
    assert await reader.take(1) == [(2, "p1", 2)]


async def test_the_subscription_says_how_long_the_time_is(world: World) -> None:
    reader = await handed_out(world, 1, delivery=StreamDelivery(ack_deadline=3.0))
    await world.advance(3)
    assert await reader.take(1) == [(2, "p1", 2)]


async def test_a_delivery_whose_time_runs_out_for_the_last_time_becomes_a_dead_letter(world: World) -> None:
    reader = await handed_out(world, 1, retry_policy=RetryPolicy(Schedule((0.0, 1.0)), jitter=0.0))
    await world.advance(ACK_DEADLINE)
    await reader.take(1)
    await world.advance(ACK_DEADLINE)
    await reader.nothing_more()
    [dead] = await world.dead_letters(world.name())
    assert (dead.event.id, dead.attempts, dead.error) == ("p1", 2, "not acknowledged within 30 s")


async def test_deadlines_of_deliveries_handed_out_at_different_times_run_out_at_different_times(world: World) -> None:
    await world.create()
    reader = await world.open()
    for number in (1, 2, 3):
        await world.publish(ping(f"p{number}"))
        await reader.take(1)
        await world.advance(10)
    assert await reader.take(1) == [(4, "p1", 2)]
    await world.advance(10)
    assert await reader.take(1) == [(5, "p2", 2)]
    await reader.ack(3)
    await world.advance(10)
    await reader.nothing_more()


async def test_a_settled_stream_leaves_no_alarm_that_rings_for_ever(world: World) -> None:
    reader = await handed_out(world, 3)
    await reader.say(extended=(Extension(1, 3, 60.0),))
    await reader.ack(1, 3)
    await reader.close()
    before = world.clock.alarms
    await world.advance(120)
    assert world.clock.alarms <= before


async def test_a_stream_that_has_ended_takes_no_acknowledgement(world: World) -> None:
    reader = await handed_out(world, 1)
    await reader.close()
    with pytest.raises(FailedPrecondition) as refusal:
        await reader.ack(1)
    assert refusal.value.reason is Reason.STREAM_ENDED
    assert refusal.value.metadata == {"stream": reader.stream.name}


async def test_a_stream_of_a_former_broker_takes_no_acknowledgement(world: World) -> None:
    reader = await handed_out(world, 1)
    await world.restart()
    with pytest.raises(FailedPrecondition) as refusal:
        await reader.ack(1)
    assert refusal.value.reason is Reason.STREAM_ENDED
    assert ids(await (await world.open()).take(1)) == ["p1"]
