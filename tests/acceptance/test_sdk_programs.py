"""The SDKs of three languages, each as a program of its own, with a broker that dies and handlers that fail."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from certes.v1 import subscription_pb2 as resources
from certes.v1 import subscription_service_pb2 as subscriptions_pb
from scripts.broker_process import BrokerProcess
from scripts.ports import HeldPorts
from tests.acceptance.client import PING, Client, connected, subscription_name
from tests.acceptance.conftest import StartBroker
from tests.program import Program, running
from tests.toolchains import BUILDING, PROGRAMS, build_go, tool

KEYS = ["a", "b", "c", "d"]
LANGUAGES = ["Go", "JavaScript", "Python"]

SOON = resources.RetryPolicy(
    # A schedule would be at its end after what it lists, whatever `max_attempts` says.
    linear=resources.LinearBackoff(
        initial=Duration(nanos=20_000_000), increment=Duration(nanos=90_000_000), maximum=Duration(nanos=200_000_000)
    ),
    max_attempts=100,
    jitter=0,
)

Command = list[str | Path]


@pytest.fixture(scope="module")
def probe_of(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], Command]:
    """Returns the command of the probe in a language; what has to be built is built once."""
    workshop = tmp_path_factory.mktemp("probes")
    built: dict[str, Command] = {"Python": [sys.executable, PROGRAMS / "python" / "probe.py"]}

    def command(language: str) -> Command:
        if language not in built:
            if language == "Go":
                built[language] = [build_go("example.com/probe", PROGRAMS / "go_probe", workshop)]
            else:
                packages: Path = request.getfixturevalue("node_packages")
                (workshop / "node_modules").symlink_to(packages / "node_modules")
                shutil.copy(PROGRAMS / "js_client" / "probe.mjs", workshop)
                built[language] = [tool("node"), workshop / "probe.mjs"]
        return built[language]

    return command


def probe(
    command: Command, broker: BrokerProcess, *, changed: asyncio.Condition | None = None, **settings: Any
) -> AbstractAsyncContextManager[Program]:
    """Runs a probe against a broker."""
    document = json.dumps({"gateway": f"events://{broker.http}", "pattern": PING, "subscriber": "default", **settings})
    return running([*command, document], {}, changed=changed)


def has_told(what: str, times: float) -> Callable[[Program], bool]:
    """Says whether a probe has told of a thing so many times."""
    return lambda one: len(one.told(what)) >= times


async def retry_soon(client: Client, app: str, **delivery: Any) -> None:
    """Makes the subscription of an application before it does, with a retry policy that the SDK is to leave as it is."""
    wanted = resources.Subscription(
        name=subscription_name(app), selectors=[resources.Selector(pattern=PING)], retry_policy=SOON, **delivery
    )
    await client.subscriptions.UpdateSubscription(
        subscriptions_pb.UpdateSubscriptionRequest(subscription=wanted, allow_missing=True)
    )


def in_order(ids: list[str]) -> dict[str, list[int]]:
    """The numbers of each key in the order in which they came for the first time."""
    found: dict[str, list[int]] = {key: [] for key in KEYS}
    for one in dict.fromkeys(ids):
        key, _, number = one.partition(":")
        found[key].append(int(number))
    return found


@pytest.mark.timeout(BUILDING)
@pytest.mark.parametrize("language", LANGUAGES)
async def test_nothing_is_lost_and_every_key_keeps_its_order_while_the_broker_is_killed(
    broker: BrokerProcess, probe_of: Callable[[str], Command], language: str
) -> None:
    command, events = probe_of(language), 400
    everything = {f"{key}:{number}" for key in KEYS for number in range(1, events + 1)}
    async with AsyncExitStack() as stack:
        consumer = await stack.enter_async_context(probe(command, broker, app="consumer", mode="stream"))
        await consumer.until(lambda one: bool(one.told("ready")))
        producer = await stack.enter_async_context(
            probe(command, broker, app="producer", mode="publish", keys=KEYS, events=events, window=16)
        )
        for share in (0.2, 0.5):
            await producer.until(has_told("accepted", share * len(everything)))
            broker.kill9()
            assert not producer.told("done"), "it was killed in the midst of publishing"
            await asyncio.to_thread(broker.start)
        assert await producer.ended() == 0, producer.printed
        await consumer.until(lambda one: {line["got"] for line in one.told("got")} == everything)
        assert {line["accepted"] for line in producer.told("accepted")} == everything
        assert await consumer.terminate() == 0, consumer.printed
    assert consumer.told("closed")
    whole = list(range(1, events + 1))
    assert in_order([line["got"] for line in consumer.told("got")]) == dict.fromkeys(KEYS, whole)
    assert all(line["zen"] == f"zen of {line['got']}" for line in consumer.told("got"))


@pytest.mark.timeout(BUILDING)
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("mode", ["stream", "webhook"])
async def test_what_fails_twice_comes_a_third_time(
    start_broker: StartBroker, probe_of: Callable[[str], Command], language: str, mode: str
) -> None:
    # A receiver that fails so often would be left alone for a while.
    broker = start_broker("[breaker]\nminimum = 1000\n")
    command, events, held = probe_of(language), 5, HeldPorts(1)
    [port] = held.numbers
    delivery: dict[str, Any] = {"stream": resources.StreamDelivery()}
    if mode == "webhook":
        delivery = {"webhook": resources.Webhook(url=f"http://127.0.0.1:{port}/hook")}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connected(broker))
        await retry_soon(client, "consumer", **delivery)
        consumer = await stack.enter_async_context(
            probe(command, broker, app="consumer", mode=mode, fail_first=2, port=port)
        )
        await consumer.until(lambda one: bool(one.told("ready")))
        producer = await stack.enter_async_context(
            probe(command, broker, app="producer", mode="publish", keys=KEYS, events=events, window=16)
        )
        assert await producer.ended() == 0, producer.printed
        done = len(KEYS) * events
        await consumer.until(lambda one: sum(not line["failed"] for line in one.told("got")) == done)
        assert await consumer.terminate() == 0, consumer.printed
    came = consumer.told("got")
    assert set(Counter(line["got"] for line in came).values()) == {3}
    if mode == "stream":
        assert {(line["attempt"], line["failed"]) for line in came} == {(1, True), (2, True), (3, False)}
    whole = list(range(1, events + 1))
    assert in_order([line["got"] for line in came]) == dict.fromkeys(KEYS, whole)


@pytest.mark.timeout(BUILDING)
async def test_what_one_language_publishes_every_language_reads(
    broker: BrokerProcess, probe_of: Callable[[str], Command]
) -> None:
    events = 5
    async with AsyncExitStack() as stack:
        consumers = [
            await stack.enter_async_context(probe(probe_of(language), broker, app=f"to-{language}", mode="stream"))
            for language in LANGUAGES
        ]
        for consumer in consumers:
            await consumer.until(lambda one: bool(one.told("ready")))
        for language in LANGUAGES:
            producer = await stack.enter_async_context(
                probe(probe_of(language), broker, app=language, mode="publish", keys=KEYS, events=events, window=4)
            )
            assert await producer.ended() == 0, producer.printed
        expected = Counter({f"{key}:{n}": len(LANGUAGES) for key in KEYS for n in range(1, events + 1)})
        for consumer in consumers:
            await consumer.until(lambda one: len(one.told("got")) >= expected.total())
            assert Counter(line["got"] for line in consumer.told("got")) == expected
            assert all(line["zen"] == f"zen of {line['got']}" for line in consumer.told("got"))


@pytest.mark.timeout(BUILDING)
async def test_replicas_of_every_language_that_start_at_once_share_one_subscription(
    broker: BrokerProcess, probe_of: Callable[[str], Command]
) -> None:
    events, changed = 20, asyncio.Condition()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connected(broker))
        replicas = [
            await stack.enter_async_context(
                probe(probe_of(language), broker, app="shared", mode="stream", changed=changed)
            )
            for language in (*LANGUAGES, *LANGUAGES, *LANGUAGES, LANGUAGES[0])
        ]
        for replica in replicas:
            await replica.until(lambda one: bool(one.told("ready")))
        listed = await client.subscriptions.ListSubscriptions(
            subscriptions_pb.ListSubscriptionsRequest(parent="subscribers/default")
        )
        assert [one.name for one in listed.subscriptions] == [subscription_name("shared")]
        assert [selector.pattern for selector in listed.subscriptions[0].selectors] == [PING]
        producer = await stack.enter_async_context(
            probe(probe_of("Go"), broker, app="producer", mode="publish", keys=KEYS, events=events, window=4)
        )
        assert await producer.ended() == 0, producer.printed
        expected = Counter(f"{key}:{number}" for key in KEYS for number in range(1, events + 1))
        handled = lambda: Counter(line["got"] for one in replicas for line in one.told("got"))  # noqa: E731
        await replicas[0].until(lambda _: handled().total() >= expected.total())
        for replica in replicas:
            assert await replica.terminate() == 0, replica.printed
        assert handled() == expected, "each event goes to one of them"
