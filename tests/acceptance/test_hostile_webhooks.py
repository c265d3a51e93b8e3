"""Webhooks that would harm a broker, sent to the real process by somebody who knows the secret, and by somebody who does not."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.broker_process import BrokerProcess
from tests.acceptance import github
from tests.acceptance.conftest import StartBroker

KEEPING = github.CONFIG + "keep_rejected = true\n"
MEBIBYTE = 1 << 20
PATIENCE = 50.0
ROUNDS = 15
"""As many before the first measurement, since the database has caches to fill, and as many between it and the second."""
GROWTH = 64 * MEBIBYTE
"""What the allocator may take for itself. The rounds send twice as much, and say that they send a gigabyte more."""
KILLS = 6
SEED = 91

HOSTILE = [
    ("deep arrays", b"[" * MEBIBYTE, "PAYLOAD_MALFORMED", "[0][0]"),
    ("deep objects", b'{"a":' * 200 + b"1" + b"}" * 200, "PAYLOAD_MALFORMED", "a.a.a"),
    ("a key twice", b'{"repository":{"id":1,"id":2}}', "PAYLOAD_MALFORMED", "repository.id"),
    ("a key twice, spelled otherwise", b'{"ref":"a","r\\u0065f":"b"}', "PAYLOAD_MALFORMED", "ref"),
    ("a key twice in a long body", b'{"x":[' + b'{"a":1},' * 100_000 + b'{"a":1,"a":2}]}', "PAYLOAD_MALFORMED", "x[100000]"),
    ("no number", b'{"commits":[{"id":NaN}]}', "PAYLOAD_MALFORMED", "commits[0].id"),
    ("bytes that are no text", b'{"ref":"\xff\xfe"}', "PAYLOAD_MALFORMED", "ref"),
    ("half a surrogate pair", b'{"ref":"\\ud800"}', "PAYLOAD_MALFORMED", "ref"),
    ("a number of 100,000 digits", b'{"repository":{"size":' + b"9" * 100_000 + b"}}", "PAYLOAD_MALFORMED", "repository.size"),
    ("half a document", b'{"x":[' + b'{"a":1},' * 120_000, "PAYLOAD_MALFORMED", ""),
    ("no object", b"[]", "PAYLOAD_MALFORMED", ""),
    ("no type of this", b'{"repository":{"id":{}}}', "PAYLOAD_UNMAPPABLE", "repository.id"),
    ("null in a list", b'{"commits":[{"added":[null]}]}', "PAYLOAD_UNMAPPABLE", "commits[0].added[0]"),
    ("more than there may be", b'{"ref":"' + b"x" * MEBIBYTE + b'"}', "PAYLOAD_TOO_LARGE", ""),
]  # fmt: skip
"""What is wrong, the body, the reason of its refusal, and how the path of the field begins."""
TAKEN = [
    ("a key of 900 KB", b'{"' + b"k" * 900_000 + b'":1}'),
    ("50,000 keys that nobody knows", json.dumps({f"key_{number}": 1 for number in range(50_000)}).encode()),
    ("100,000 objects", b'{"commits":[' + b",".join([b"{}"] * 100_000) + b"]}"),
]


def memory(broker: BrokerProcess) -> int:
    """What the process holds in memory, in bytes."""
    status = Path(f"/proc/{broker.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def told(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    return error


@pytest.mark.parametrize(("body", "reason", "field"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
async def test_a_body_that_cannot_be_meant_is_refused_with_its_place(
    broker: BrokerProcess, body: bytes, reason: str, field: str
) -> None:
    async with github.http() as http, asyncio.timeout(PATIENCE):
        answer = await http.post(github.url(broker), content=body, headers=github.signed("push", body))
        assert 400 <= answer.status_code < 500
        assert told(answer)["reason"] == reason
        violations = told(answer).get("fieldViolations", [{"field": ""}])
        assert violations[0]["field"].startswith(field)


async def test_no_body_makes_the_process_grow_or_fail(broker: BrokerProcess, report: Callable[[str], None]) -> None:
    bomb = gzip.compress(b" " * 50 * MEBIBYTE)

    async def send(http: httpx.AsyncClient, body: bytes, **more: str) -> int:
        headers = {**github.signed("push", body), **{name.replace("_", "-"): value for name, value in more.items()}}
        return (await http.post(github.url(broker), content=body, headers=headers)).status_code

    async def one_round(http: httpx.AsyncClient) -> None:
        for _, body in TAKEN:
            assert await send(http, body) == 202
        for _, body, _, _ in HOSTILE:
            assert 400 <= await send(http, body) < 500
            assert await send(http, body, x_hub_signature_256="sha256=" + "0" * 64) in (401, 413)
        assert await send(http, bomb, content_encoding="gzip") == 413

    async with github.http() as http, asyncio.timeout(20 * PATIENCE):
        for _ in range(ROUNDS):
            await one_round(http)
        before = memory(broker)
        for _ in range(ROUNDS):
            await one_round(http)
        grown = memory(broker) - before
        assert await send(http, b'{"ref": "refs/heads/main"}') == 202
    report(f"after {ROUNDS} rounds of hostile bodies the process holds {grown / MEBIBYTE:+.0f} MiB")
    assert grown < GROWTH
    assert '"level": "error"' not in broker.log
    assert github.SECRET not in broker.log


async def test_killed_while_payloads_are_kept_and_ingested_again_it_loses_nothing_that_was_taken(
    start_broker: StartBroker,
) -> None:
    broker, chance = start_broker(KEEPING), random.Random(SEED)
    taken: dict[str, str] = {}
    again: dict[str, set[str]] = {}
    body = b'{"ref": "refs/heads/main"}'

    async def call(http: httpx.AsyncClient, method: str, request: dict[str, Any]) -> dict[str, Any]:
        answer = await http.post(f"http://{broker.http}/api/certes.v1.{method}", json=request)
        document: dict[str, Any] = answer.json()
        assert answer.status_code == 200, document
        return document

    async def deliver(http: httpx.AsyncClient, *, lane: int) -> None:
        for number in range(1_000_000):
            for sender, secret in (("own", github.SECRET), ("another", "another")):
                delivery = f"{lane}-{number}-{sender}"
                headers = github.signed("push", body, delivery_id=delivery, secret=secret)
                answer = await http.post(github.url(broker), content=body, headers=headers)
                if answer.status_code == 202:
                    taken[delivery] = answer.json()["name"]

    async def ingest(http: httpx.AsyncClient) -> None:
        while True:
            listed = await call(http, "SourceService/ListRejected", {"parent": "sources/github", "pageSize": 20})
            names = [one["name"] for one in listed.get("rejected", [])]
            if names:
                request = {"names": names, "trustUnverified": True}
                for result in (await call(http, "SourceService/Reingest", request))["results"]:
                    if result.get("reason") != "REJECTED_NOT_FOUND":  # the other one was faster
                        again.setdefault(result["rejected"], set()).add(result["event"])

    async def until_it_is_gone(work: Callable[[httpx.AsyncClient], Any]) -> None:
        async with github.http() as http:
            try:
                await work(http)
            except httpx.TransportError:
                return  # as it does for whoever speaks to a process that is killed

    for kill in range(KILLS):
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            for lane in range(4):
                tasks.create_task(until_it_is_gone(partial(deliver, lane=kill * 4 + lane)))
            for _ in range(2):
                tasks.create_task(until_it_is_gone(ingest))
            wanted = len(taken) + chance.randrange(20, 200)
            while len(taken) < wanted:  # noqa: ASYNC110  every turn of the loop may bring another
                await asyncio.sleep(0)
            broker.kill9()
        broker.start()

    assert again
    async with github.http() as http:
        for delivery, name in taken.items():
            shown = await call(http, "EventService/GetEvent", {"name": name})
            assert shown["event"]["event"]["id"] == delivery
        for names in again.values():
            (name,) = names
            assert (await call(http, "EventService/GetEvent", {"name": name}))["event"]["event"]["id"].endswith(
                "-another"
            )
