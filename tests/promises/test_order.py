"""Order.

Of an ordering key at most one delivery of a subscription is outstanding, also across retries and crashes, so that events of a key come in
the order in which they were accepted. A dead letter releases its key. Keys do not wait for each other. Without a key there is no
promise, and none for what is replayed.
"""

from __future__ import annotations

import asyncio

from certes.v1 import event_service_pb2 as pb
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import connected, event, ordinals
from tests.acceptance.conftest import StartBroker
from tests.acceptance.keyed import EVENTS, KEYS, events_of, refused_keys, taken_by_key
from tests.acceptance.receiver import receiving
from tests.acceptance.retries import ONCE, SOON_AND_OFTEN
from tests.promises.hooks import Hook
from tests.promises.readers import open_reader

SHORT_PAUSES = "[breaker]\npause = '1s'\n"


async def test_of_a_key_one_delivery_is_outstanding_at_a_time_also_when_it_is_tried_again(
    broker: BrokerProcess,
) -> None:
    async with connected(broker) as client:
        name = await client.create_stream("app")
        reader = await open_reader(client, name, 10)
        await client.publish([event("k1", key="k"), event("k2", key="k"), event("other", key="o"), event("none")])
        await reader.fills(3)
        assert list(reader.held.values()) == ["k1", "other", "none"]
        await client.events.Acknowledge(
            pb.AcknowledgeRequest(
                stream=reader.stream,
                nacked=[{"range": ordinals(1, 1), "action": pb.AcknowledgeRequest.ACTION_RETRY, "delay": {}}],
            )
        )
        await reader.fills(4)
        assert reader.held[4] == "k1"
        assert reader.attempts["k1"] == 2
        await client.acknowledge(reader.stream, ordinals(4, 4))
        await reader.fills(5)
        assert reader.held[5] == "k2"
        reader.cancel()


async def test_a_receiver_that_was_down_gets_everything_once_and_in_each_keys_order(start_broker: StartBroker) -> None:
    broker = start_broker(SHORT_PAUSES)
    async with connected(broker) as client, receiving() as receiver:
        name = await client.create_webhook("hook", receiver.url, retry_policy=SOON_AND_OFTEN)
        secrets = await client.signing_secrets(name)
        receiver.status = 503
        await client.publish(events_of(1, EVENTS))
        # The first of each key is tried again and again, and nothing behind it is tried.
        await receiver.until(lambda: len(refused_keys(receiver)) == KEYS and min(refused_keys(receiver).values()) >= 3)
        assert {one.event_id for one in receiver.requests} == {f"k{key}:1" for key in range(KEYS)}
        await receiver.down()
        await client.publish(events_of(EVENTS + 1, 2 * EVENTS))
        receiver.status = 204
        await receiver.up()
        await receiver.until(lambda: len(receiver.taken) >= 2 * EVENTS * KEYS)
    assert taken_by_key(receiver) == {f"k{key}": list(range(1, 2 * EVENTS + 1)) for key in range(KEYS)}
    message_ids: dict[str, set[str]] = {}
    for request in receiver.requests:
        request.verify(secrets)
        message_ids.setdefault(request.event_id, set()).add(request.arrival.headers["webhook-id"])
    assert {len(ids) for ids in message_ids.values()} == {1}, "webhook-id is the same over all attempts"
    assert len(set.union(*message_ids.values())) == 2 * EVENTS * KEYS


async def test_what_waits_for_its_retry_survives_a_crash_and_still_goes_first(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as receiver:
        await client.create_webhook("hook", receiver.url, retry_policy=SOON_AND_OFTEN)
        receiver.status = 503
        await client.publish(events_of(1, EVENTS))
        await receiver.until(lambda: len(refused_keys(receiver)) == KEYS and min(refused_keys(receiver).values()) >= 2)
        await receiver.down()
        broker.kill9()
        await asyncio.to_thread(broker.start)
        receiver.status = 204
        await receiver.up()
        await receiver.until(lambda: len({one.event_id for one in receiver.taken}) == EVENTS * KEYS)
    assert taken_by_key(receiver) == {f"k{key}": list(range(1, EVENTS + 1)) for key in range(KEYS)}


async def test_a_dead_letter_releases_its_key(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as receiver:
        hook = Hook("app", client, receiver)
        await hook.subscribe(ONCE, max_in_flight=4)
        receiver.status = None
        await hook.publish("1", "2", "3")
        await hook.publish("other", key="another")
        await hook.has_asked({"1", "other"})
        assert sorted(hook.requested) == ["1", "other"]
        receiver.status = 500
        receiver.answer_all()
        await hook.letters(4)
        assert [one for one in hook.requested if one != "other"] == ["1", "2", "3"]
