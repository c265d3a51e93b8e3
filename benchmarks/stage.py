"""The stage of one round: a broker or several of its own in a fresh directory, and a meter of what they and the clients use."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from grpc import aio
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.conversation import Program
from benchmarks.machine import busy_seconds, cpu_seconds
from benchmarks.measures import Use, Waits
from benchmarks.wire import EVENT_TYPE
from certes.v1 import subscription_pb2, subscription_service_pb2, subscription_service_pb2_grpc
from scripts.broker_process import ROOT, BrokerProcess
from scripts.nats_process import NatsCluster

SUBSCRIBER: Final = "subscribers/default"
SECRET: Final = "benchmark-secret-0123456789abcdef"
PAYLOAD: Final = ROOT / "scripts" / "demo_payloads" / "push-meetly-meetly.json"
_SOURCES: Final = f"""
[[sources]]
name = "github"
provider = "github"
audience = "everyone"
secrets = [{json.dumps(SECRET)}]
"""


class Stage:
    """Running brokers, as a rule one, and their administration."""

    def __init__(self, brokers: Sequence[BrokerProcess], directory: Path, seconds: float, nats: Sequence[int]) -> None:
        self.broker = brokers[0]
        self.brokers = brokers
        self.nats = nats
        """The process ids of the engine's servers."""
        self.directory = directory
        self.seconds = seconds
        """How long a round measures."""

    def meter(self, **others: Program | int) -> Meter:
        """A meter of the brokers, of their engine's servers and of others, from now on."""
        brokers = {f"broker {number}": broker.pid for number, broker in enumerate(self.brokers[1:], 2)}
        servers = {f"nats {number}": pid for number, pid in enumerate(self.nats, 1)}
        return Meter(self.broker, **brokers, **servers, **others)

    def publisher(self, at: BrokerProcess | None = None, **settings: Any) -> Program:
        """A publisher at a broker, to be started."""
        return Program.of_module("benchmarks.publisher", {"address": (at or self.broker).grpc, **settings})

    def consumer(self, subscriptions: Sequence[str], at: BrokerProcess | None = None, **settings: Any) -> Program:
        """A consumer at a broker, to be started."""
        return Program.of_module(
            "benchmarks.consumer", {"address": (at or self.broker).grpc, "subscriptions": subscriptions, **settings}
        )

    def ingress_load(self, connections: int) -> Program:
        """A provider of webhooks, to be started."""
        settings = {"address": self.broker.http, "path": "/events/github", "payload": str(PAYLOAD), "secret": SECRET}
        return Program.of_module("benchmarks.ingress_load", {**settings, "connections": connections})

    async def subscribe(self, identifier: str, webhook: str = "") -> str:
        """Creates a subscription to the benchmark's events, with stream delivery or to a URL; returns its name."""
        subscription = subscription_pb2.Subscription(selectors=[subscription_pb2.Selector(pattern=EVENT_TYPE)])
        if webhook:
            subscription.webhook.url = webhook
            subscription.webhook.format = subscription_pb2.Webhook.FORMAT_CLOUDEVENTS_JSON
        else:
            subscription.stream.SetInParent()
        async with self._service() as service:
            created = await service.CreateSubscription(
                subscription_service_pb2.CreateSubscriptionRequest(
                    parent=SUBSCRIBER, subscription_id=identifier, subscription=subscription
                )
            )
        return str(created.subscription.name)

    async def waits(self) -> Waits:
        """Returns how long the broker says that first attempts waited from when their events were received."""
        text = await asyncio.to_thread(self._metrics)
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        buckets = [one for one in samples if one.name == "certes_delivery_latency_seconds_bucket"]
        return Waits({float(bucket.labels["le"]): bucket.value for bucket in buckets})

    def _metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.broker.http}/metrics") as answer:
            return str(answer.read(), "utf-8")

    async def pause(self, name: str) -> None:
        """Pauses a subscription; when it returns, what was settled is durable."""
        async with self._service() as service:
            await service.PauseSubscription(subscription_service_pb2.PauseSubscriptionRequest(name=name))

    async def resume(self, name: str) -> None:
        """Resumes a subscription."""
        async with self._service() as service:
            await service.ResumeSubscription(subscription_service_pb2.ResumeSubscriptionRequest(name=name))

    @asynccontextmanager
    async def _service(self) -> AsyncIterator[Any]:
        async with aio.insecure_channel(self.broker.grpc) as channel:
            yield subscription_service_pb2_grpc.SubscriptionServiceStub(channel)


@asynccontextmanager
async def stage(directory: Path, seconds: float, nats_servers: int = 0, brokers: int = 1) -> AsyncIterator[Stage]:
    """Starts brokers in a fresh directory below `directory`, with so many NATS servers for their engine; all are gone afterwards.

    Without NATS servers there is one broker.
    """
    scratch = Path(tempfile.mkdtemp(prefix="round-", dir=directory))
    cluster = NatsCluster(scratch / "nats", nats_servers)
    try:
        cluster.start()
        engine = f'engine = "nats://{",".join(cluster.addresses)}"\n' if nats_servers else ""
        config = scratch / "certes.toml"
        config.write_text(engine + _SOURCES, encoding="utf-8")
        async with AsyncExitStack() as stack:
            started = [
                stack.enter_context(BrokerProcess(scratch / f"data-{number}", config=config))
                for number in range(1, brokers + 1)
            ]
            for broker in started:
                broker.start()
            yield Stage(started, scratch, seconds, [server.pid for server in cluster.servers])
    finally:
        cluster.stop()
        shutil.rmtree(scratch, ignore_errors=True)


class Meter:
    """Notes what the broker and the programs use from its making on."""

    def __init__(self, broker: BrokerProcess, **others: Program | int) -> None:
        self._pid = broker.pid
        self._others = others
        self._before = self._now()
        self._busy = busy_seconds()
        self.began = time.monotonic_ns()

    def read(self, events: int) -> Use:
        """Returns what was used since."""
        now = self._now()
        used = {name: now[name] - before for name, before in self._before.items()}
        elsewhere = busy_seconds() - self._busy - sum(used.values())
        seconds = (time.monotonic_ns() - self.began) / 1e9
        return Use({name: one * 1_000_000 / events for name, one in used.items()}, max(0.0, elsewhere / seconds))

    def _now(self) -> dict[str, float]:
        used = {"broker": cpu_seconds(self._pid)}
        for name, one in self._others.items():
            used[name] = cpu_seconds(one) if isinstance(one, int) else one.cpu
        return used | {"benchmark": cpu_seconds(os.getpid())}
