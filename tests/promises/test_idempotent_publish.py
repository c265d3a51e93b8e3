"""Idempotent publish.

The same source and id within the dedupe window (a day, if nothing is set) is stored once, and answered as a duplicate with the first name;
the same id with other content is `ALREADY_EXISTS`. A caller publishes only under sources granted to it. `webhook-id` stays the same over
all attempts, so that receivers can tell what they have already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from scripts.broker_process import BrokerProcess
from tests.acceptance import github
from tests.acceptance.client import connected, event, receive_all, refusal
from tests.acceptance.receiver import receiving
from tests.acceptance.retries import SOON_AND_OFTEN
from tests.promises import callers

OTHER_CONTENT = (grpc.StatusCode.ALREADY_EXISTS, "EVENT_ID_REUSED")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One for all: each test has events and subscriptions of its own."""
    directory = tmp_path_factory.mktemp("idempotent")
    config = directory / "broker.toml"
    config.write_text(github.CONFIG)
    with BrokerProcess(directory / "broker", config=config) as process:
        yield process.start()


async def test_the_same_source_and_id_is_stored_once_and_answered_with_the_first_name_also_over_a_kill(
    broker: BrokerProcess,
) -> None:
    async with connected(broker) as client:
        app = await client.create_stream("once")
        [first] = await client.publish([event("order 1")])
        [again] = await client.publish([event("order 1")])
        broker.kill9()
        await asyncio.to_thread(broker.start)
        await client.channel.channel_ready()
        [after] = await client.publish([event("order 1")])
        [elsewhere] = await client.publish([event("order 1", source="another-shop")])
        assert [one.duplicate for one in (first, again, after, elsewhere)] == [False, True, True, False]
        assert again.name == after.name == first.name != elsewhere.name
        await client.publish([event("last")])
        assert await receive_all(client, app, {"last"}) == ["order 1", "order 1", "last"]


async def test_the_same_id_with_other_content_is_refused_and_nothing_of_its_request_is_stored(
    broker: BrokerProcess,
) -> None:
    async with connected(broker) as client:
        await client.publish([event("order 2", text="three loaves")])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.publish([event("order 3"), event("order 2", text="four loaves")])
        assert refusal(refused.value) == OTHER_CONTENT
        [beside] = await client.publish([event("order 3")])
        assert not beside.duplicate


async def test_a_provider_that_sends_a_webhook_again_is_answered_2xx_with_the_first_name(broker: BrokerProcess) -> None:
    body = b'{"zen": "Once is enough."}'
    headers = github.signed("ping", body)
    async with github.http() as http:
        answers = [await http.post(github.url(broker), content=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert [answer.json()["duplicate"] for answer in answers] == [False, True]
    assert answers[0].json()["name"] == answers[1].json()["name"]


async def test_webhook_id_stays_the_same_over_all_attempts_also_over_a_kill(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as receiver:
        name = await client.create_webhook("hook", receiver.url, retry_policy=SOON_AND_OFTEN)
        receiver.status = 503
        await client.publish([event("tried often")])
        await receiver.until(lambda: len(receiver.requests) >= 2)
        broker.kill9()
        receiver.status = 204
        await asyncio.to_thread(broker.start)
        await receiver.until(lambda: len(receiver.taken) == 1)
        await client.channel.channel_ready()
        await client.publish([event("another")])
        await receiver.until(lambda: len(receiver.taken) == 2)
        await client.pause(name)
    *tried, another = [one.arrival.headers["webhook-id"] for one in receiver.requests]
    assert len(tried) >= 3
    assert len(set(tried)) == 1
    assert another not in tried


def test_a_caller_publishes_only_under_sources_granted_to_it_and_nobody_under_those_of_the_ingress(
    tmp_path: Path,
) -> None:
    with callers.asking_for_keys(tmp_path) as operator:
        shop = callers.caller(operator, "shop", "publisher", sources=["//shop"])
        for_somebody = {"subscriber": "org_1"}
        assert shop.publish(callers.ping("own", **for_somebody)).status_code == 200
        not_granted = (403, "SOURCE_NOT_GRANTED")
        assert callers.refusal(shop.publish(callers.ping("x", source="//another", **for_somebody))) == not_granted
        assert (
            callers.refusal(operator.publish(callers.ping("x", source="sources/github", **for_somebody))) == not_granted
        )
