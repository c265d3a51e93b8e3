"""At least once.

Every accepted event reaches every subscription that existed when it was accepted and whose selectors it matches, until it is settled or a
dead letter. Nothing is dropped silently: full buffers push back, what was tried too often becomes a dead letter with a copy of its event,
and where retention trims what was not read, the subscriber is told. Paused and disabled subscriptions gather their backlog.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from certes.community.github.v1 import push_event_pb2
from certes.v1 import delivery_service_pb2 as deliveries_pb
from certes.v1 import event_service_pb2 as pb
from certes.v1 import operational_events_pb2
from certes.v1 import subscription_pb2 as resources
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import (
    Client,
    closing_reason,
    connected,
    event,
    ordinals,
    read_events,
    receive_all,
    refusal,
    retry_delay,
)
from tests.acceptance.conftest import StartBroker
from tests.acceptance.consumer import Consumer
from tests.acceptance.receiver import receiving
from tests.acceptance.retries import ONCE, SOON_AND_OFTEN
from tests.promises.disks import DISK, FULL, RESERVE, UNAVAILABLE, fill, publish_until, until_accepted
from tests.promises.hooks import PATIENCE, Hook
from tests.promises.phases import Scene, killed_in_each_phase
from tests.promises.readers import open_reader

PUSH = "community.certes.dev/github/1/push"
GAP = "localhost/_/1/_gap"
EVENTS = 50
GATHERED = 10_000
KEYS = 100
"""Half of the events have one of these; the others have none, and come once, in no promised order."""
TINY_BUFFERS = "[limits]\nevent_bytes = 1048576\nrequest_bytes = 1048576\nin_flight_bytes = 1048576\n"
BIG_EVENT = 600_000
PUBLISHERS = 8
MORE_THAN_IS_KEPT = [event(f"big {number}", text="x" * 500_000) for number in range(4)]
"""More than the smallest `retention.bytes` there can be."""

in_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """A broker that was killed while something of every kind was under way, and runs again."""
    async with killed_in_each_phase(tmp_path_factory.mktemp("phases")) as scene:
        yield scene


async def test_every_subscription_that_existed_and_matches_gets_an_event_also_over_a_kill_and_no_other_does(
    broker: BrokerProcess,
) -> None:
    push = event("push")
    push.type = PUSH
    push.data.Pack(push_event_pb2.PushEvent())
    async with connected(broker) as client, receiving() as receiver:
        receiver.status = None
        await client.create_webhook("hook", receiver.url, retry_policy=SOON_AND_OFTEN)
        everything = await client.create_stream("everything")
        pushes = await client.create_stream("pushes", PUSH)
        await client.publish([event("before the kill")])
        broker.kill9()
        receiver.status = 204
        receiver.answer_all()
        await asyncio.to_thread(broker.start)
        await client.channel.channel_ready()
        late = await client.create_stream("late")
        await client.publish([push])
        both = {"before the kill", "push"}
        await receiver.until(lambda: {one.event_id for one in receiver.taken} == both)
        assert set(await receive_all(client, everything, both)) == both
        assert await receive_all(client, pushes, {"push"}) == ["push"]
        assert await receive_all(client, late, {"push"}) == ["push"]


@in_one_loop
async def test_a_request_that_was_under_way_is_made_once_more_and_counts_as_no_attempt(scene: Scene) -> None:
    hook = scene.requesting
    await hook.has_asked({"1", "2", "3"})
    # One attempt is all that its policy allows: had the broken one been counted, it would be a dead letter.
    assert hook.requested == ["1", "1", "2", "3"]
    assert [one.number for one in await hook.client.attempts(hook.name, 3)] == [1, 1, 1]
    assert await hook.letters(0) == []


@in_one_loop
async def test_what_was_answered_is_at_most_repeated_and_its_key_goes_on_in_order(scene: Scene) -> None:
    hook = scene.answered
    await hook.has_asked({"1", "2", "3"})
    # It came to the first, or further, if the kill was late; and went on from there, or from what was not durable yet.
    before_and_after = [(range(1, last + 1), range(first, 4)) for last in (1, 2, 3) for first in range(1, last + 2)]
    assert [int(one) for one in hook.requested] in [[*before, *after] for before, after in before_and_after]


@in_one_loop
async def test_of_a_stream_what_was_acknowledged_does_not_come_again_and_the_rest_does_in_order(scene: Scene) -> None:
    came = await receive_all(scene.client, scene.stream, {"s3", "s4", "s5", "s6", "s7"})
    assert came == ["s3", "s4", "s5", "s6", "s7"]


@in_one_loop
async def test_a_retry_comes_when_it_is_due_and_attempts_are_counted_on(scene: Scene) -> None:
    hook = scene.waiting
    await hook.receiver.until(lambda: {one.event_id for one in hook.receiver.taken} >= {"1", "2", "3"}, PATIENCE)
    assert list(dict.fromkeys(hook.requested)) == ["1", "2", "3"]
    before, *attempts = await hook.client.attempts(hook.name, 2, event_name=hook.names["1"])
    assert before.number == 1
    due = before.next_attempt_time.ToDatetime()
    assert all(one.attempt_time.ToDatetime() >= due for one in attempts)
    # As many as there were requests, but for one that may have been under way when the broker was killed.
    requests = hook.requested.count("1")
    assert requests - 1 <= attempts[-1].number <= requests
    assert attempts[-1].number > 1


async def test_a_cancelled_streams_deliveries_go_to_the_other_stream_at_once(broker: BrokerProcess) -> None:
    ids = {str(number) for number in range(EVENTS)}
    async with connected(broker) as client:
        name = await client.create_stream("shared")
        leaving = await open_reader(client, name, EVENTS)
        await client.publish(event(one) for one in sorted(ids))
        await leaving.has(ids)
        staying = await open_reader(client, name, EVENTS)
        leaving.cancel()
        await staying.has(ids)
        assert set(staying.attempts.values()) == {2}
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.acknowledge(leaving.stream, ordinals(1, EVENTS))
        assert refusal(refused.value) == (grpc.StatusCode.FAILED_PRECONDITION, "STREAM_ENDED")
        await client.acknowledge(staying.stream, ordinals(1, EVENTS))


async def test_a_client_that_vanishes_gives_back_what_it_had(broker: BrokerProcess) -> None:
    ids = {str(number) for number in range(EVENTS)}
    async with connected(broker) as client:
        name = await client.create_stream("shared")
        async with connected(broker) as vanishing:
            reader = await open_reader(vanishing, name, EVENTS)
            await client.publish(event(one) for one in sorted(ids))
            await reader.has(ids)
        staying = await open_reader(client, name, EVENTS)
        await staying.has(ids)
        await client.acknowledge(staying.stream, ordinals(1, EVENTS))
        staying.cancel()


async def test_two_streams_share_the_work_and_nothing_goes_to_both(broker: BrokerProcess) -> None:
    ids = {str(number) for number in range(EVENTS)}
    async with connected(broker) as client:
        name = await client.create_stream("shared")
        readers = [await open_reader(client, name, EVENTS // 2) for _ in range(2)]
        await client.publish(event(one) for one in sorted(ids))
        for reader in readers:
            await reader.fills(EVENTS // 2)
        assert sorted([*readers[0].held.values(), *readers[1].held.values()]) == sorted(ids)


async def test_a_full_queue_pushes_back_with_a_delay_and_takes_everything_in_the_end(start_broker: StartBroker) -> None:
    broker = start_broker(TINY_BUFFERS)
    delays: list[float | None] = []

    async def publish(client: Client, number: int) -> None:
        one = event(f"big {number}", text="x" * BIG_EVENT)
        while True:
            try:
                await client.publish([one])
            except grpc.aio.AioRpcError as error:
                if refusal(error) != (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUFFER_FULL"):
                    raise
                delays.append(retry_delay(error))
            else:
                return

    async with connected(broker) as client, asyncio.timeout(60):
        call = client.subscribe(await client.create_stream("all"))
        stream = (await call.read()).opened.stream
        # Of events this large only one fits; how often two meet is up to the disk, so it is tried until some have.
        for attempt in range(100):
            async with asyncio.TaskGroup() as tasks:
                for number in range(PUBLISHERS):
                    tasks.create_task(publish(client, attempt * PUBLISHERS + number))
            if delays:
                break
        assert delays
        assert all(delay is not None and delay > 0 for delay in delays)
        arrived: list[str] = []
        while len(arrived) < (attempt + 1) * PUBLISHERS:
            batch = (await call.read()).batch
            arrived += [delivery.event.id for delivery in batch.deliveries]
            last = batch.first_ordinal + len(batch.deliveries) - 1
            await client.acknowledge(stream, ordinals(batch.first_ordinal, last))
    assert sorted(arrived) == sorted(f"big {number}" for number in range((attempt + 1) * PUBLISHERS))


async def test_what_was_tried_too_often_is_a_dead_letter_and_keeps_its_event_when_retention_has_trimmed_it(
    start_broker: StartBroker,
) -> None:
    broker = start_broker("")
    async with connected(broker) as client, receiving() as receiver:
        receiver.status = 500
        hook = Hook("given-up", client, receiver)
        await hook.subscribe(ONCE)
        await hook.publish("given up")
        [letter] = await hook.letters(1)
        await client.publish(MORE_THAN_IS_KEPT)
        await keep_less(broker, client, hook.names["given up"])
        kept = await client.deliveries.GetDeadLetter(deliveries_pb.GetDeadLetterRequest(name=letter))
        assert kept.event.id == "given up"
        assert kept.dead_letter.attempts == 1


async def test_what_retention_trims_unread_is_told_as_a_gap(start_broker: StartBroker) -> None:
    broker = start_broker("")
    async with connected(broker) as client:
        sleeper = await client.create_stream("sleeper")
        told = await client.create_stream("told", GAP)
        published = await client.publish(MORE_THAN_IS_KEPT)
        await keep_less(broker, client, published[0].name)
        assert "big 0" not in await receive_all(client, sleeper, {"big 3"})
        frames = client.subscribe(told)
        await frames.read()
        [gap] = await read_events(frames, 1)
        unread = operational_events_pb2.BacklogGap()
        assert gap.data.Unpack(unread)
        assert unread.subscription == sleeper
        assert [(one.first_event, one.reason) for one in unread.gaps] == [(published[0].name, "retention")]
        frames.cancel()


async def keep_less(broker: BrokerProcess, client: Client, name: str) -> None:
    """Lets the broker keep less than it has; returns when this event is no longer kept."""
    broker.kill9()
    broker.data_dir.with_name("broker.toml").write_text('[retention]\nbytes = "1MiB"\n')
    await asyncio.to_thread(broker.start)
    await client.channel.channel_ready()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            while True:
                await client.events.GetEvent(pb.GetEventRequest(name=name))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_ten_thousand_events_gathered_while_paused_come_once_and_in_each_keys_order(
    broker: BrokerProcess,
) -> None:
    async with connected(broker) as client:
        name = await client.create_stream("sleeper")
        call = client.subscribe(name)
        assert (await call.read()).HasField("opened")
        await client.pause(name)
        assert closing_reason(await call.read()) == "REASON_PAUSED"
        ids = [f"k{number % KEYS}:{number // KEYS + 1}" for number in range(GATHERED // 2)]
        ids += [f"-none:{number + 1}" for number in range(GATHERED // 2)]
        random.Random(7).shuffle(ids)
        ids.sort(key=lambda one: int(one.rpartition(":")[2]))
        for first in range(0, GATHERED, 1_000):
            await client.publish(
                event(one, key="" if one.startswith("-") else one.partition(":")[0])
                for one in ids[first : first + 1_000]
            )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.subscribe(name).read()
        assert refusal(refused.value) == (grpc.StatusCode.FAILED_PRECONDITION, "SUBSCRIPTION_NOT_STREAMABLE")
        await client.resume(name)
        consumer = Consumer(client, name, random.Random(7))
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(consumer.run())
            await consumer.has(set(ids))
            reading.cancel()
    assert consumer.delivered.total() == GATHERED, "each comes once"
    by_key: dict[str, list[int]] = {}
    for session in consumer.sessions:
        for key, number in session.delivered:
            by_key.setdefault(key, []).append(number)
    assert sorted(by_key.pop("-none")) == list(range(1, GATHERED // 2 + 1))
    assert by_key == {f"k{key}": list(range(1, GATHERED // 2 // KEYS + 1)) for key in range(KEYS)}


async def test_a_disabled_subscription_is_sent_nothing_and_gets_what_gathered_when_it_is_resumed(
    broker: BrokerProcess,
) -> None:
    async with connected(broker) as client, receiving() as gone, receiving() as other:
        name = await client.create_webhook("gone", gone.url, retry_policy=SOON_AND_OFTEN)
        await client.create_webhook("other", other.url)
        gone.status = 410
        await client.publish([event("first")])
        await gone.until(lambda: len(gone.requests) == 1)
        await client.until_state(name, resources.Subscription.STATE_DISABLED)
        await client.publish([event("second")])
        await other.until(lambda: len(other.taken) == 2)
        assert [request.event_id for request in gone.requests] == ["first"]
        gone.status = 204
        await client.resume(name)
        await gone.until(lambda: len(gone.taken) == 2)
    assert sorted(request.event_id for request in gone.taken) == ["first", "second"]


@pytest.mark.mounts
async def test_events_are_refused_before_the_disk_is_full_while_deliveries_go_on_and_taken_again_with_room(
    broker_on_the_disk: BrokerProcess, disk: Path
) -> None:
    async with connected(broker_on_the_disk) as client:
        name = await client.create_stream("app")
        accepted = await publish_until(client, {FULL})
        space = os.statvfs(disk)
        assert accepted
        assert space.f_bavail * space.f_frsize > RESERVE // 2, "it was refused long before the disk was full"
        await receive_all(client, name, set(accepted))
        # The events themselves fill it: a larger disk is what makes room for more.
        await asyncio.to_thread(subprocess.run, ["mount", "-o", f"remount,size={2 * DISK}", str(disk)], check=True)
        await until_accepted(client, "after")
        await receive_all(client, name, {"after"})


@pytest.mark.mounts
async def test_a_disk_that_somebody_else_fills_to_the_last_byte_loses_nothing(
    broker_on_the_disk: BrokerProcess, disk: Path
) -> None:
    async with connected(broker_on_the_disk) as client:
        name = await client.create_stream("app")
        before = [event(f"b{number}", text="x" * 1_000) for number in range(50)]
        await client.publish(before)
        filler = fill(disk, 0)
        await publish_until(client, {FULL, UNAVAILABLE})
        filler.unlink()
        await until_accepted(client, "after")
        broker_on_the_disk.kill9()
        await asyncio.to_thread(broker_on_the_disk.start)
        await receive_all(client, name, {one.id for one in before} | {"after"})
