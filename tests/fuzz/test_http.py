"""Bytes that claim to be HTTP, and webhooks that claim to be GitHub's."""

from __future__ import annotations

import json
import socket

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.broker_process import BrokerProcess
from tests.acceptance import github
from tests.fuzz.calls import anything, texts
from tests.fuzz.conftest import EXAMPLES, Fuzz

PATIENCE = 60

EVENTS = ("push", "ping", "issues", "pull_request", "check_run", "workflow_run", "star", "nothing", "", "a/b", "../x")
MEMBERS = (
    "action",
    "ref",
    "zen",
    "hook_id",
    "repository",
    "sender",
    "commits",
    "organization",
    "issue",
    "number",
    "id",
)

payloads = st.one_of(st.dictionaries(st.one_of(st.sampled_from(MEMBERS), texts), anything, max_size=6), anything)
ends = st.sampled_from((b"\r\n", b"\n", b"\r", b"", b"\r\n\r\n", b"\0"))
pieces = st.one_of(
    st.sampled_from(
        (
            b"GET / HTTP/1.1",
            b"POST /v1/events HTTP/1.1",
            b"POST /events/github HTTP/1.1",
            b"POST /events/%00%ff HTTP/1.1",
            b"OPTIONS * HTTP/1.1",
            b"GET http://a:b@localhost:1/../../etc HTTP/1.0",
            b"PRI * HTTP/2.0",
            b"Host: localhost",
            b"Host: localhost, localhost",
            b"Content-Length: 5",
            b"Content-Length: -5",
            b"Content-Length: 5, 5",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Content-Encoding: gzip",
            b"Content-Type: application/cloudevents+json",
            b"Content-Type: application/json; charset=utf-7",
            b"ce-specversion: 1.0",
            b"ce-id: \xff",
            b"ce-type: github.com/_/1/push",
            b"Connection: upgrade",
            b"Upgrade: websocket",
            b"Expect: 100-continue",
            b"5",
            b"0",
            b"{}",
            b"\x1f\x8b\x08\x00",
        )
    ),
    st.binary(max_size=30),
)
requests = st.lists(st.tuples(pieces, ends).map(b"".join), min_size=1, max_size=12).map(b"".join)


def exchange(address: str, sent: bytes) -> bytes:
    """Sends bytes, says that no more come, and returns all that is answered until the broker hangs up."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        answered = bytearray()
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                answered += part
        except ConnectionError:
            pass  # hanging up on such bytes is an answer, too
        return bytes(answered)


def test_bytes_on_the_port_of_http(broker: BrokerProcess, fuzz: Fuzz) -> None:
    @settings(max_examples=EXAMPLES)
    @given(requests)
    def target(sent: bytes) -> None:
        answered = exchange(broker.http, sent)
        assert b"HTTP/1.1 500" not in answered, (sent, answered)

    fuzz(target)


def test_webhooks(broker: BrokerProcess, fuzz: Fuzz) -> None:
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:

        @settings(max_examples=EXAMPLES)
        @given(
            st.one_of(payloads.map(lambda value: json.dumps(value).encode()), st.binary(max_size=200)),
            st.sampled_from(EVENTS),
            st.booleans(),
            st.dictionaries(st.sampled_from(("content-type", "content-encoding", "x-hub-signature-256")), texts),
        )
        def target(body: bytes, event: str, is_plain: bool, more: dict[str, str]) -> None:
            headers = {name: value.encode() for name, value in github.signed(event, body).items()}
            if not is_plain:
                headers |= {name: sendable(value) for name, value in more.items()}
            answer = client.post(github.url(broker), content=body, headers=headers)
            assert answer.status_code < 500, (event, headers, body, answer.text)

        fuzz(target)


def sendable(value: str) -> bytes:
    """What of a text the client library agrees to send in a header."""
    return bytes(byte for byte in value.encode("utf-8", "replace") if byte > 0x1F and byte != 0x7F).strip()
