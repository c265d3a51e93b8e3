"""Webhooks as no library would send them, and sources that change while one is on its way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote_plus

import pytest

from certes_broker.domain.names import SubscriberName
from certes_broker.domain.signature_schemes import HmacScheme
from certes_broker.domain.sources import Everyone, Source, SourceSecret
from certes_broker.domain.webhook_headers import MAXIMUM_KEPT_HEADERS
from certes_broker.domain.webhook_mapping import HeaderPlace, WebhookMapping
from tests.contracts.http_gateway import (
    GITHUB,
    PUSH,
    SECRET,
    Gateway,
    gateway,
    github_headers,
    github_source,
    refusal,
    sign,
)

BODY = json.dumps(PUSH).encode()
FORM = "application/x-www-form-urlencoded"
Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    document: dict[str, Any]

    @property
    def reason(self) -> str:
        return str(self.document["error"]["reason"])


@dataclass(frozen=True, slots=True)
class Request:
    """One request that a test writes byte for byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer:
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        (size,) = (int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        body = await self.reader.readexactly(size)
        return Answer(int(lines[0].split()[1]), json.loads(body) if body else {})


@asynccontextmanager
async def request(served: Gateway, headers: Headers, source: str = "github") -> AsyncIterator[Request]:
    """Begins a request; its body is sent by the test."""
    reader, writer = await asyncio.open_connection("localhost", served.port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    writer.write(f"POST /events/{source} HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n".encode("latin-1"))
    try:
        yield Request(reader, writer)
    finally:
        writer.close()


async def send(served: Gateway, headers: Headers, body: bytes = BODY, source: str = "github") -> Answer:
    async with request(served, [*headers, ("content-length", str(len(body)))], source) as sent:
        sent.send(body)
        return await sent.answer()


def signed(body: bytes = BODY, **more: str) -> list[tuple[str, str]]:
    return list(github_headers(body, **more).items())


@pytest.mark.parametrize("kinds", [("text/plain", "application/json"), ("application/json", "application/json")])
async def test_a_content_type_that_came_twice_is_refused(kinds):
    headers = [pair for pair in signed() if pair[0] != "content-type"]
    async with gateway() as served:
        answer = await send(served, [*headers, *(("content-type", kind) for kind in kinds)])
        assert (answer.status, answer.reason) == (415, "CONTENT_TYPE_UNSUPPORTED")


async def test_a_content_encoding_that_came_twice_is_refused():
    async with gateway() as served:
        answer = await send(served, [*signed(), ("content-encoding", "gzip"), ("content-encoding", "identity")])
        assert (answer.status, answer.reason) == (415, "CONTENT_TYPE_UNSUPPORTED")


async def test_a_content_type_without_end_is_refused():
    async with gateway() as served:
        answer = await send(served, signed(content_type="application/json; x=" + "x" * 300))
        assert (answer.status, answer.reason) == (415, "CONTENT_TYPE_UNSUPPORTED")


async def test_what_follows_a_body_is_no_header():
    async with gateway() as served:
        headers = [pair for pair in signed() if pair[0] != "x-hub-signature-256"]
        async with request(served, [*headers, ("transfer-encoding", "chunked")]) as sent:
            trailers = f"x-hub-signature-256: {sign(BODY)}\r\n".encode()
            sent.send(b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(BODY), BODY, trailers))
            answer = await sent.answer()
        assert (answer.status, answer.reason) == (401, "SIGNATURE_INVALID")
        assert "is missing" in answer.document["error"]["message"]


async def test_thousands_of_empty_headers_are_refused_as_long_ones_are():
    async with gateway() as served:
        async with request(served, [("a", "")] * 6000) as sent:
            head = await sent.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 431 ")
        assert (await served.webhook()).status_code == 202


async def test_an_event_is_kept_with_no_more_headers_than_others_take():
    async with gateway() as served:
        answer = await send(served, [*signed(), *((f"x-github-{number}", "v") for number in range(200))])
        original = await served.original(answer.document["name"])
        assert original is not None
        assert len(original.headers) == MAXIMUM_KEPT_HEADERS


async def test_what_the_connection_was_told_maps_and_is_not_kept():
    mapping = WebhookMapping(f"{GITHUB}/ping", subjects=(HeaderPlace("host"),), id=HeaderPlace("x-id"))
    source = Source("own", "custom", Everyone(), (SourceSecret(SECRET.decode()),), HmacScheme("x-sign"), mapping)
    headers = [("content-type", "application/json"), ("x-id", "1"), ("x-sign", sign(b"{}").removeprefix("sha256="))]
    async with gateway(source) as served:
        answer = await send(served, headers, b"{}", "own")
        assert (await served.kept(answer.document["name"]))["subject"] == "localhost"
        original = await served.original(answer.document["name"])
        assert original is not None
        assert original.headers == (("x-id", "1"),)


@pytest.mark.parametrize("commits", [1, 500], ids=["small", "large"])
async def test_a_form_is_taken_whatever_its_size(commits):
    payload = PUSH | {"commits": [{"id": f"{number:040}", "message": '"größer"'} for number in range(commits)]}
    form = b"payload=" + quote_plus(json.dumps(payload)).encode()
    async with gateway() as served:
        answer = await served.webhook(body=form, content_type=FORM)
        assert answer.status_code == 202
        commits_kept = (await served.kept(answer.json()["name"]))["data"]["commits"]
        assert [commit["message"] for commit in commits_kept] == ['"größer"'] * commits
        assert bool(served.broker._workers.processes) is (commits == 500)


async def test_a_large_form_that_is_none_is_refused():
    async with gateway() as served:
        answer = await served.webhook(body=b"payload=" + b"%ff" * 20_000, content_type=FORM)
        assert refusal(answer) == (400, "PAYLOAD_MALFORMED")


class TestWhileABodyIsOnItsWay:
    """What changes about a source counts for every request that has not arrived yet."""

    async def arrive(self, served: Gateway, sources: list[Source]) -> Answer:
        async with request(served, [*signed(), ("content-length", str(len(BODY)))]) as sent:
            sent.send(BODY[:10])
            assert (await served.client.get("/healthz")).status_code == 200  # by now the head has been read
            served.broker.sources.declare(sources)
            sent.send(BODY[10:])
            return await sent.answer()

    async def test_a_secret_that_was_withdrawn_verifies_no_more(self):
        async with gateway() as served:
            answer = await self.arrive(served, [github_source(secrets=(b"another",))])
            assert (answer.status, answer.reason) == (401, "SIGNATURE_INVALID")

    async def test_a_source_that_was_deleted_takes_nothing_and_keeps_nothing(self):
        async with gateway(replace(github_source(), keep_rejected=True)) as served:
            answer = await self.arrive(served, [github_source("other")])
            assert (answer.status, answer.reason) == (404, "SOURCE_NOT_FOUND")
            page = await served.broker.rejected.list("github", page_size=1, page_token="")
            assert page.rejected == []

    async def test_an_audience_that_was_changed_is_that_of_the_event(self):
        async with gateway() as served:
            answer = await self.arrive(served, [github_source(audience=SubscriberName("org_1"))])
            assert (await served.kept(answer.document["name"]))["subscriber"] == "org_1"
