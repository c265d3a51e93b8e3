"""Killed with -9 while something of every kind is under way: one broker, one kill, and what became of each.

Each phase has a subscriber of its own, so that one kill does for all. It strikes in the step in which a receiver answers, while
others have a request in hand, wait for a retry, are in the middle of a replay, hold deliveries of a stream, or publish.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from certes.v1 import dead_letter_pb2, event_pb2
from certes.v1 import delivery_service_pb2 as deliveries_pb
from certes.v1 import subscription_pb2 as resources
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import Client, Frames, connected, event, ordinals, receive_all
from tests.acceptance.load import is_broken
from tests.acceptance.receiver import Receiver, receiving

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 120
RETRY_AFTER = 3
"""Seconds: longer than a restart takes, so that the retry is still to come then, where the machine is not too busy."""
PHASES = ("requesting", "answered", "waiting", "replaying")
LETTERS = ("l1", "l2", "l3", "l4")
PUBLISHERS = 3
BATCH = 20
MOST_BATCHES = 50
"""Of each publisher, if the kill is late."""

LATER = resources.RetryPolicy(
    linear=resources.LinearBackoff(initial=Duration(seconds=RETRY_AFTER), increment=Duration()),
    max_attempts=100,
    jitter=0,
)
ONCE = resources.RetryPolicy(schedule=resources.ScheduleBackoff(delays=[Duration()]), max_attempts=1)


@dataclass
class Hook:
    """A webhook subscription of the subscriber `of`, and its receiver."""

    of: str
    client: Client
    receiver: Receiver
    name: str = ""
    names: dict[str, str] = field(default_factory=dict)
    """Of the events that were published, by their ids."""

    async def subscribe(self, policy: resources.RetryPolicy | None = None) -> None:
        self.name = await self.client.create_webhook(
            "hook",
            self.receiver.url,
            parent=f"subscribers/{self.of}",
            retry_policy=policy,
            max_in_flight=1,
            timeout=Duration(seconds=60),
        )

    async def publish(self, *ids: str, key: str = "k") -> list[str]:
        """Publishes events of one key; returns their names."""
        results = await self.client.publish([event(one, key=key, subscriber=self.of, source=self.of) for one in ids])
        self.names.update({one.id: one.name for one in results})
        return [one.name for one in results]

    async def letters(self, count: int) -> list[str]:
        """Waits until there are so many dead letters, and returns their names."""
        request = deliveries_pb.ListDeadLettersRequest(parent=self.name)
        async with asyncio.timeout(PATIENCE):
            while len(found := (await self.client.deliveries.ListDeadLetters(request)).dead_letters) != count:
                """They are being written."""
        return [one.name for one in found]

    async def replay(self, *names: str) -> deliveries_pb.ReplayDeadLettersResponse:
        """Replays these dead letters, or all."""
        every = None if names else dead_letter_pb2.DeadLetterFilter()
        request = deliveries_pb.ReplayDeadLettersRequest(parent=self.name, names=names, filter=every)
        return await self.client.deliveries.ReplayDeadLetters(request)

    async def has_asked(self, ids: set[str]) -> None:
        """Waits until its receiver has had a request for each of these."""
        await self.receiver.until(lambda: set(self.requested) >= ids, PATIENCE)

    @property
    def requested(self) -> list[str]:
        """The events of the requests that came, in order."""
        return [one.event_id for one in self.receiver.requests]


@dataclass
class Scene:
    """What was under way when the broker was killed. It runs again."""

    requesting: Hook
    """Its receiver had a request, and had not answered."""
    answered: Hook
    """Its receiver had just answered."""
    waiting: Hook
    """A retry was still to come."""
    replaying: Hook
    """Of its dead letters, one had been replayed, one was in hand once more, and the others were to come."""
    stream: str
    """A subscription of which s1 and s2 were acknowledged, s3 to s6 were out, and s7 was parked behind s6."""
    batches: str
    """A subscription to all batches."""
    accepted: set[str] = field(default_factory=set)
    """The batches that the broker had answered for."""
    unanswered: set[str] = field(default_factory=set)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(BrokerProcess(tmp_path_factory.mktemp("phases") / "data"))
        await asyncio.to_thread(broker.start, PATIENCE)
        client = await stack.enter_async_context(connected(broker))
        hooks = [Hook(of, client, await stack.enter_async_context(receiving())) for of in PHASES]
        requesting, answered, waiting, replaying = hooks
        stream, held = await hold_deliveries(client)
        await begin_waiting(waiting)
        await begin_replaying(replaying)
        await begin_requesting(requesting)
        batches = await client.create_stream("stream", parent="subscribers/batches")
        made = Scene(requesting, answered, waiting, replaying, stream, batches)
        await kill(broker, client, made)
        held.cancel()
        for one in (requesting, waiting):
            one.receiver.status = 204
            one.receiver.answer_all()
        await asyncio.to_thread(broker.start, PATIENCE)
        await client.channel.channel_ready()
        yield made


async def begin_replaying(hook: Hook) -> None:
    """Begins a replay of dead letters after another that has ended."""
    await hook.subscribe(ONCE)
    hook.receiver.status = 500
    await hook.publish(*LETTERS, key="")
    [first, *_] = await hook.letters(len(LETTERS))
    hook.receiver.status = 204
    await hook.replay(first)
    await hook.letters(len(LETTERS) - 1)
    hook.receiver.status = None
    replayed = await hook.replay()
    assert (replayed.replayed_count, replayed.replaying_count) == (len(LETTERS) - 1, 0)
    await hook.receiver.until(lambda: len(hook.receiver.requests) == len(LETTERS) + 2, PATIENCE)


async def begin_requesting(hook: Hook) -> None:
    await hook.subscribe(ONCE)
    hook.receiver.status = None
    await hook.publish("1", "2", "3")
    await hook.has_asked({"1"})


async def hold_deliveries(client: Client) -> tuple[str, Frames]:
    """Returns a subscription and the stream that has deliveries of it."""
    name = await client.create_stream("stream", parent="subscribers/stream")
    await client.publish(
        [event(f"s{number}", key=key, subscriber="stream") for number, key in enumerate("abcdeff", start=1)]
    )
    stream = client.subscribe(name)
    opened = await stream.read()
    came = 0
    async with asyncio.timeout(PATIENCE):
        while came < 6:
            came += len((await stream.read()).batch.deliveries)
    await client.acknowledge(opened.opened.stream, ordinals(1, 2))
    return name, stream


async def begin_waiting(hook: Hook) -> None:
    """Lets an attempt fail, and returns once its retry is durable."""
    await hook.subscribe(LATER)
    hook.receiver.status = 503
    await hook.publish("1", "2", "3")
    await hook.client.attempts(hook.name, 1)
    await hook.client.settled(hook.name, hook.names["1"])


async def kill(broker: BrokerProcess, client: Client, scene: Scene) -> None:
    """Kills the broker in the step in which a receiver answers, while batches are published."""
    hook, going, struck = scene.answered, asyncio.Event(), asyncio.Event()

    def strike() -> None:
        if not struck.is_set():
            broker.kill9()
            struck.set()

    await hook.subscribe()
    hook.receiver.on_answered = strike
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        for number in range(PUBLISHERS):
            tasks.create_task(publish_batches(client, str(number), scene, going))
        await going.wait()
        # It is killed when the first of these is delivered, so the answer may not come.
        with suppress(grpc.aio.AioRpcError):
            await hook.publish("1", "2", "3")
        await struck.wait()


async def publish_batches(client: Client, publisher: str, scene: Scene, going: asyncio.Event) -> None:
    """Publishes one batch after the other until the broker is gone."""
    for number in range(MOST_BATCHES):
        name = f"{publisher}.{number}"
        scene.unanswered.add(name)
        try:
            await client.publish(batch(name))
        except grpc.aio.AioRpcError as error:
            if not is_broken(error):
                raise
            return
        scene.unanswered.discard(name)
        scene.accepted.add(name)
        going.set()


def batch(name: str) -> list[event_pb2.Event]:
    return [event(f"{name}.{number}", subscriber="batches") for number in range(BATCH)]


async def test_a_request_that_was_under_way_is_made_once_more_and_counts_as_no_attempt(scene: Scene) -> None:
    hook = scene.requesting
    await hook.has_asked({"1", "2", "3"})
    # One attempt is all that its policy allows: had the broken one been counted, it would be a dead letter.
    assert hook.requested == ["1", "1", "2", "3"]
    assert [one.number for one in await hook.client.attempts(hook.name, 3)] == [1, 1, 1]
    assert await hook.letters(0) == []


async def test_what_was_answered_is_at_most_repeated_and_its_key_goes_on_in_order(scene: Scene) -> None:
    hook = scene.answered
    await hook.has_asked({"1", "2", "3"})
    # It came to the first, or further, if the kill was late; and went on from there, or from what was not durable yet.
    before_and_after = [(range(1, last + 1), range(first, 4)) for last in (1, 2, 3) for first in range(1, last + 2)]
    assert [int(one) for one in hook.requested] in [[*before, *after] for before, after in before_and_after]


async def test_a_replay_goes_on_by_itself_and_may_be_asked_for_again(scene: Scene) -> None:
    hook = scene.replaying
    first, *rest = LETTERS
    in_hand = hook.requested[-1]
    again = await hook.replay()
    assert (again.replayed_count, again.replaying_count) == (0, len(rest))
    hook.receiver.status = 204
    hook.receiver.answer_all()
    assert await hook.letters(0) == []
    asked = Counter(hook.requested)
    # Failed, replayed; what had been in hand came again.
    assert asked == {first: 2} | {one: 3 if one == in_hand else 2 for one in rest}


async def test_of_a_stream_what_was_acknowledged_does_not_come_again_and_the_rest_does_in_order(scene: Scene) -> None:
    came = await receive_all(scene.requesting.client, scene.stream, {"s3", "s4", "s5", "s6", "s7"})
    assert came == ["s3", "s4", "s5", "s6", "s7"]


async def test_a_batch_is_kept_as_a_whole_or_not_at_all_and_surely_if_it_was_answered(scene: Scene) -> None:
    client = scene.requesting.client
    assert scene.accepted
    for name in (*scene.accepted, *scene.unanswered):
        # Whoever has no answer publishes again.
        known = {one.duplicate for one in await client.publish(batch(name))}
        assert known == {True} if name in scene.accepted else len(known) == 1
    wanted = {one.id for name in scene.accepted | scene.unanswered for one in batch(name)}
    came = await receive_all(client, scene.batches, wanted, at_once=500)
    assert sorted(came) == sorted(wanted), "each of them was stored once"


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
