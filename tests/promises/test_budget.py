"""Budget.

150 ms from received to handed over is what is promised at the 99th percentile. How long it takes on whoever's machine no test can promise:
here it is shown that the broker measures each first attempt, rightly, and tells it, so that everybody sees what is kept where they are.
"""

from __future__ import annotations

import re
import time

import httpx

from certes.v1.admin_service_pb2 import GetStatsRequest
from certes.v1.admin_service_pb2_grpc import AdminServiceStub
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import connected, event
from tests.acceptance.receiver import receiving
from tests.acceptance.retries import SOON_AND_OFTEN
from tests.promises.readers import open_reader

EVENTS = 20
LATENCY = "certes_delivery_latency_seconds"


async def test_each_first_attempt_is_measured_once_and_takes_no_longer_than_its_client_sees(
    broker: BrokerProcess,
) -> None:
    async with connected(broker) as client, receiving() as receiver:
        reader = await open_reader(client, await client.create_stream("app"), EVENTS)
        began = time.monotonic()
        await client.publish([event(str(number)) for number in range(EVENTS)])
        await reader.fills(EVENTS)
        seen = time.monotonic() - began
        measured = await metrics(broker)
        assert measured[f"{LATENCY}_count"] == EVENTS
        assert 0 < measured[f"{LATENCY}_sum"] <= EVENTS * seen

        # A retry is none of its business: it waits as its receiver's policy says.
        receiver.status = 503
        await client.create_webhook("hook", receiver.url, parent="subscribers/slow", retry_policy=SOON_AND_OFTEN)
        await client.publish([event("retried", subscriber="slow")])
        await receiver.until(lambda: len(receiver.requests) >= 3)
        assert (await metrics(broker))[f"{LATENCY}_count"] == EVENTS + 1


async def test_what_was_measured_is_told_to_operators_and_says_how_much_kept_the_promise(broker: BrokerProcess) -> None:
    async with connected(broker) as client:
        reader = await open_reader(client, await client.create_stream("app"), EVENTS)
        await client.publish([event(str(number)) for number in range(EVENTS)])
        await reader.fills(EVENTS)
        measured = await metrics(broker)
        assert 0 <= measured[f'{LATENCY}_bucket{{le="0.15"}}'] <= measured[f'{LATENCY}_bucket{{le="+Inf"}}'] == EVENTS
        stats = await AdminServiceStub(client.channel).GetStats(GetStatsRequest())
        assert stats.first_attempts == EVENTS
        assert stats.delivery_latency_p99.ToNanoseconds() > 0


async def metrics(broker: BrokerProcess) -> dict[str, float]:
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"http://{broker.http}/metrics")).text
    return {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE)}
