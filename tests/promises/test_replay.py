"""Replay.

Kept events can be read again from any point, per subscription. A seek discards what was pending, and says how much. Dead letters can be
replayed, by the way and within the limits of all deliveries.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from certes.v1 import event_service_pb2 as pb
from certes.v1 import subscription_service_pb2 as subscriptions_pb
from scripts.broker_process import BrokerProcess
from tests import command
from tests.acceptance.client import Client, connected, error_metadata, event, ordinals, receive_all, refusal
from tests.acceptance.conftest import StartBroker
from tests.acceptance.receiver import receiving
from tests.acceptance.retries import ONCE
from tests.promises.hooks import Hook
from tests.promises.readers import open_reader

LETTERS = 5
PATIENCE = 60


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One for all: each test has a subscriber of its own."""
    with BrokerProcess(tmp_path_factory.mktemp("replay") / "broker") as process:
        yield process.start()


async def test_kept_events_can_be_read_again_from_any_point_and_no_other_subscription_notices(
    broker: BrokerProcess,
) -> None:
    async with connected(broker) as client:
        other = await client.create_stream("other", parent="subscribers/reader")
        shelf = await Shelf(client, "reader").fill()
        await shelf.seek(beginning=True)
        assert await shelf.read("d") == ["a", "b", "c", "d"]
        await shelf.seek(event=shelf.names["c"])
        assert await shelf.read("d") == ["c", "d"]
        at = await shelf.accepted("b")
        await shelf.seek(time=at)
        since = [one for one in "abcd" if (await shelf.accepted(one)).ToNanoseconds() >= at.ToNanoseconds()]
        assert await shelf.read("d") == since
        await shelf.seek(end=True)
        await shelf.publish("e")
        assert await shelf.read("e") == ["e"]
        assert await receive_all(client, other, {"e"}) == ["a", "b", "c", "d", "e"]


async def test_a_seek_discards_what_was_pending_and_says_how_much(broker: BrokerProcess) -> None:
    async with connected(broker) as client:
        shelf = await Shelf(client, "seeker").fill()
        reader = await open_reader(client, shelf.subscription, 10)
        for one in ("e", "f", "g"):
            await shelf.publish(one)
        await reader.has({"e", "f", "g"})
        await client.acknowledge(reader.stream, ordinals(1, 1))
        assert await shelf.seek(end=True) == 2
        await shelf.publish("h")
        assert await shelf.read("h") == ["h"]


async def test_a_point_that_is_no_longer_kept_is_refused_with_the_earliest_that_is(start_broker: StartBroker) -> None:
    broker = start_broker("")
    async with connected(broker) as client:
        shelf = Shelf(client, "late", await client.create_stream("app", parent="subscribers/late"))
        stored = await client.publish(
            [event(f"big {number}", subscriber="late", text="x" * 500_000) for number in range(4)]
        )
        broker.kill9()
        broker.data_dir.with_name("broker.toml").write_text('[retention]\nbytes = "1MiB"\n')
        await asyncio.to_thread(broker.start)
        await client.channel.channel_ready()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                while True:
                    await shelf.seek(event=stored[0].name)
        assert refusal(refused.value) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
        earliest = error_metadata(refused.value)["earliest"]
        assert earliest in [one.name for one in stored[1:]]
        await shelf.seek(event=earliest)
        assert f"big {[one.name for one in stored].index(earliest)}" in await shelf.read("big 3")


async def test_a_replay_of_dead_letters_goes_on_by_itself_after_a_kill_and_may_be_asked_for_again(
    broker: BrokerProcess,
) -> None:
    first, *rest = letters = [f"l{number}" for number in range(1, LETTERS)]
    async with connected(broker) as client, receiving() as receiver:
        hook = Hook("replaying", client, receiver)
        await hook.subscribe(ONCE)
        receiver.status = 500
        await hook.publish(*letters, key="")
        [one, *_] = await hook.letters(len(letters))
        receiver.status = 204
        await hook.replay(one)
        await hook.letters(len(rest))
        receiver.status = None
        replayed = await hook.replay()
        assert (replayed.replayed_count, replayed.replaying_count) == (len(rest), 0)
        await receiver.until(lambda: len(receiver.requests) == len(letters) + 2, PATIENCE)
        in_hand = hook.requested[-1]
        broker.kill9()
        await asyncio.to_thread(broker.start)
        await client.channel.channel_ready()
        again = await hook.replay()
        assert (again.replayed_count, again.replaying_count) == (0, len(rest))
        receiver.status = 204
        receiver.answer_all()
        assert await hook.letters(0) == []
    # Failed, replayed; what had been in hand came again.
    assert Counter(hook.requested) == {first: 2} | {one: 3 if one == in_hand else 2 for one in rest}


async def test_dead_letters_survive_a_crash_and_go_when_their_replay_is_settled(broker: BrokerProcess) -> None:
    async with receiving() as receiver:
        async with connected(broker) as client:
            await client.create_webhook("hook", receiver.url, retry_policy=ONCE)
            receiver.status = 500
            await client.publish([event(f"e{number}") for number in range(LETTERS)])
            await receiver.until(lambda: len(receiver.requests) == LETTERS)
            async with asyncio.timeout(PATIENCE):
                while len(await listed(broker)) < LETTERS:
                    """The last answers are being written."""
        broker.kill9()
        broker.start()
        letters = await listed(broker, "--reason", "attempts-exhausted")
        assert [one["eventId"] for one in letters] == [f"e{number}" for number in range(LETTERS)]
        code, output = await certes(broker, "dead-letters", "get", "hook", letters[0]["name"], "--json")
        assert (code, json.loads(output)["event"]["id"]) == (0, "e0")
        assert [one["status"] for one in json.loads(output)["attempts"]] == [500]

        code, output = await certes(broker, "dead-letters", "replay", "hook", "--all", "--wait", "--json")
        assert (code, json.loads(output)["replayedCount"], json.loads(output)["deadAgain"]) == (1, LETTERS, LETTERS)
        code, _ = await certes(broker, "dead-letters", "purge", "hook", letters[0]["name"], "--yes")
        assert code == 0
        receiver.status = 204
        code, output = await certes(broker, "dead-letters", "replay", "hook", "--all", "--wait")
        assert (code, await listed(broker)) == (0, []), output
        assert sorted(one.event_id for one in receiver.taken) == [f"e{number}" for number in range(1, LETTERS)]

        code, _ = await certes(broker, "redeliver", letters[0]["event"], "hook")
        assert code == 0
        await receiver.until(lambda: len(receiver.taken) == LETTERS)
        code, output = await certes(broker, "deliveries", "attempts", "hook", "--event", letters[0]["event"], "--json")
        assert code == 0
        assert {one["number"] for one in json.loads(output)} == {1}


async def certes(broker: BrokerProcess, *words: str) -> tuple[int, str]:
    # In a thread: the receiver must go on answering.
    done = await asyncio.to_thread(command.certes, *words, timeout=PATIENCE, CERTES_BROKER=broker.http)
    return done.returncode, done.stdout


async def listed(broker: BrokerProcess, *words: str) -> list[dict[str, Any]]:
    code, output = await certes(broker, "dead-letters", "list", "hook", *words, "--json")
    assert code == 0
    found: list[dict[str, Any]] = json.loads(output)
    return found


@dataclass
class Shelf:
    """Four events of a subscriber, a to d, that its subscription has read and settled."""

    client: Client
    of: str
    subscription: str = ""
    names: dict[str, str] = field(default_factory=dict)

    async def fill(self) -> Self:
        self.subscription = await self.client.create_stream("app", parent=f"subscribers/{self.of}")
        for one in "abcd":
            await self.publish(one)
        assert await self.read("d") == ["a", "b", "c", "d"]
        return self

    async def publish(self, event_id: str) -> None:
        [stored] = await self.client.publish([event(event_id, subscriber=self.of, source=self.of)])
        self.names[event_id] = stored.name

    async def read(self, last: str) -> list[str]:
        """Reads and settles deliveries until this one has come."""
        return await receive_all(self.client, self.subscription, {last})

    async def seek(self, **point: Any) -> int:
        """Moves the subscription; returns how many deliveries were discarded."""
        request = subscriptions_pb.SeekSubscriptionRequest(name=self.subscription, target=point)
        return (await self.client.subscriptions.SeekSubscription(request)).discarded_deliveries

    async def accepted(self, event_id: str) -> Timestamp:
        kept = await self.client.events.GetEvent(pb.GetEventRequest(name=self.names[event_id]))
        return kept.event.accept_time
