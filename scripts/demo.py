"""The demo: webhooks of GitHub in, typed events out over streams and signed webhooks, and a crash in between.

Run by `make demo`. Every sentence with a mark is checked while it is printed; the exit code is 0 only if all are true.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Final

import grpc
import httpx

from certes.v1 import event_service_pb2_grpc as events_rpc
from certes.v1 import subscription_pb2 as resources
from certes.v1 import subscription_service_pb2 as pb
from certes.v1 import subscription_service_pb2_grpc as subscriptions_rpc
from scripts import demo_acts
from scripts.broker_process import BrokerFailed, BrokerProcess
from scripts.demo_github import GitHub
from scripts.demo_receiver import WebhookReceiver
from scripts.demo_report import Report
from scripts.demo_stage import HOOK, MEETLY, PUSHES, REPOSITORY, TYPES, Stage
from scripts.demo_subscribers import StreamSubscriber

LIMIT: Final = 55.0
"""Seconds after which the demo gives up."""

PARENT: Final = "subscribers/default"

GRPC_OPTIONS: Final = (
    # The demo kills the broker; by default gRPC would wait a second or more before it tries again.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
)


def main() -> int:
    """Runs the demo and returns its exit code."""
    report = Report()
    report.title("Certes: webhooks in, typed events out")
    began = perf_counter()
    with tempfile.TemporaryDirectory(prefix="certes-demo-") as directory:
        try:
            asyncio.run(_within_limit(report, Path(directory)))
        except* (BrokerFailed, TimeoutError, grpc.RpcError, httpx.HTTPError) as failures:
            # What went wrong is told in one line each; the claims that it kept from being made are missing from the end.
            for failure in failures.exceptions:
                report.claim("The demo came to its end.", False, f"{type(failure).__name__}: {failure}")
        return 0 if report.verdict(perf_counter() - began) else 1


async def _within_limit(report: Report, directory: Path) -> None:
    async with asyncio.timeout(LIMIT):
        await tell(report, directory)


async def tell(report: Report, directory: Path) -> None:
    """Tells the whole story."""
    secret = secrets.token_hex(20)
    config = directory / "certes.toml"
    config.write_text(
        f'[[sources]]\nname = "github"\nprovider = "github"\naudience = "everyone"\nsecrets = ["{secret}"]\n'
    )
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(BrokerProcess(directory / "data", config=config))
        receiver = stack.enter_context(WebhookReceiver())
        client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        report.act("A broker, a source, three subscriptions")
        began = perf_counter()
        await asyncio.to_thread(broker.start)
        report.fact("broker", f"ready in {perf_counter() - began:.2f} s: http://{broker.http}, gRPC {broker.grpc}")
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(broker.grpc, options=GRPC_OPTIONS))
        stage = Stage(
            report,
            broker,
            GitHub(client, f"http://{broker.http}/events/github", secret),
            StreamSubscriber(channel, f"{PARENT}/subscriptions/meetly"),
            StreamSubscriber(channel, f"{PARENT}/subscriptions/pushes"),
            receiver,
            events_rpc.EventServiceStub(channel),
            client,
            {},
        )
        report.fact("source", stage.github.url)
        await subscribe(stage, subscriptions_rpc.SubscriptionServiceStub(channel))
        async with asyncio.TaskGroup() as tasks:
            for subscriber in (stage.meetly, stage.pushes):
                tasks.create_task(subscriber.run())
                await subscriber.connected.wait()
            await demo_acts.deliver(stage)
            await demo_acts.refuse(stage)
            await demo_acts.crash(stage)
            await demo_acts.stop(stage)


async def subscribe(stage: Stage, service: subscriptions_rpc.SubscriptionServiceAsyncStub) -> None:
    """Makes the subscriptions."""
    stream = resources.StreamDelivery()
    webhook = resources.Webhook(url=stage.receiver.url)
    everything = resources.Selector(pattern=f"{TYPES}*")
    of_meetly = resources.Selector(pattern=f"{TYPES}*", options={"repo": REPOSITORY})
    pushes = resources.Selector(pattern=f"{TYPES}push")
    for name, shown, wanted in (
        ("meetly", f"{TYPES}*  repo: {REPOSITORY}", resources.Subscription(selectors=[of_meetly], stream=stream)),
        ("pushes", f"{TYPES}push", resources.Subscription(selectors=[pushes], stream=stream)),
        ("hook", f"{TYPES}*", resources.Subscription(selectors=[everything], webhook=webhook)),
    ):
        await service.CreateSubscription(
            pb.CreateSubscriptionRequest(parent=PARENT, subscription_id=name, subscription=wanted)
        )
        stage.report.fact({"meetly": MEETLY, "pushes": PUSHES, "hook": HOOK}[name], shown)
    answer = await service.GetSigningSecrets(pb.GetSigningSecretsRequest(name=f"{PARENT}/subscriptions/hook"))
    stage.receiver.secrets = [one.secret for one in answer.secrets]
    stage.report.fact("receiver", f"{stage.receiver.url}, verifies with standardwebhooks")


if __name__ == "__main__":
    sys.exit(main())
