"""Finding the gateway: over TLS, on loopback, and what is refused."""

from __future__ import annotations

import asyncio
import datetime as dt
import http.server
import ipaddress
import json
import ssl
import threading
from contextlib import contextmanager

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc import aio

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1 import event_service_pb2_grpc as events_rpc
from certes_sdk import CertesError, Client
from certes_sdk.connection import Connection
from certes_sdk.discovery import Found, discover
from certes_sdk.errors import unavailable
from certes_sdk.uris import Gateway
from tests.fakes.sdk_broker import FakeBroker

DOCUMENT = {"grpc": {"address": "127.0.0.1:1", "tls": False}, "protocolVersions": ["certes.v1"], "domain": "D.example"}


class GatewayServer(http.server.ThreadingHTTPServer):
    answer: tuple[int, dict[str, str], bytes]
    asked: list[tuple[str, ...]]


class Answers(http.server.BaseHTTPRequestHandler):
    server: GatewayServer

    def do_GET(self) -> None:
        status, headers, body = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.server.asked.append((self.path, self.headers["host"], self.headers["authorization"]))
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        pass


@contextmanager
def gateway(body: bytes | dict, status: int = 200, context: ssl.SSLContext | None = None, **headers: str):
    with GatewayServer(("127.0.0.1", 0), Answers) as server:
        server.answer = status, headers, json.dumps(body).encode() if isinstance(body, dict) else body
        server.asked = []
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server, Gateway("127.0.0.1", server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A certificate for localhost names that is its own authority: its file, and its key's."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway.test")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("gateway.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    return folder / "ca.pem", folder / "key.pem"


def reason(call, *args) -> str:
    with pytest.raises(CertesError) as caught:
        call(*args)
    return caught.value.reason


def test_a_gateway_on_loopback_is_asked_in_clear():
    with gateway(DOCUMENT) as (server, place):
        assert discover(place, None) == Found("127.0.0.1:1", tls=False, domain="d.example")
    assert server.asked == [("/.well-known/certes", place.authority, None)]


@pytest.mark.parametrize(
    ("status", "body", "headers", "expect"),
    [
        (404, b"", {}, "GATEWAY_UNREACHABLE"),
        (302, b"", {"location": "http://127.0.0.1:1/"}, "GATEWAY_UNREACHABLE"),
        (200, b"x" * 70_000, {}, "GATEWAY_UNREACHABLE"),
        (200, b"\xff", {}, "PROTOCOL_UNSUPPORTED"),
        (200, b"[" * 60_000, {}, "PROTOCOL_UNSUPPORTED"),
        (200, b"{}", {"content-length": "5"}, "GATEWAY_UNREACHABLE"),
    ],
)
def test_what_is_no_answer_of_a_gateway_is_refused(status, body, headers, expect):
    with gateway(body, status, **headers) as (_, place):
        assert reason(discover, place, None) == expect


def test_where_nobody_listens_the_gateway_is_unreachable():
    with gateway(DOCUMENT) as (_, place):
        pass
    assert reason(discover, place, None) == "GATEWAY_UNREACHABLE"


def tls_context(authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority)
    return context


def resolving(monkeypatch, host: str) -> None:
    """Lets a name that is not loopback's lead to this machine, as a resolver would."""
    import socket

    real = socket.getaddrinfo

    def getaddrinfo(name, *args, **kwargs):
        return real("127.0.0.1" if name == host else name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr("certes_sdk.discovery.loopback_addresses", lambda name: [name] if name == "127.0.0.1" else [])


def test_a_certificate_of_nobody_known_is_refused(authority, monkeypatch):
    resolving(monkeypatch, "gateway.test")
    secure = {**DOCUMENT, "grpc": {"address": "gateway.test:443", "tls": True}}
    with gateway(secure, context=tls_context(authority)) as (_, place):
        there = Gateway("gateway.test", place.port)
        assert reason(discover, there, None) == "GATEWAY_UNREACHABLE"
        assert discover(there, ssl.create_default_context(cafile=str(authority[0]))).tls


def test_what_was_found_over_tls_is_not_spoken_to_in_clear(authority, monkeypatch):
    resolving(monkeypatch, "gateway.test")
    with gateway(DOCUMENT, context=tls_context(authority)) as (_, place):
        trusting = ssl.create_default_context(cafile=str(authority[0]))
        assert reason(discover, Gateway("gateway.test", place.port), trusting) == "GATEWAY_INSECURE"


async def test_events_are_published_over_tls(authority):
    ca, key = authority
    broker = FakeBroker()
    server = aio.server()
    events_rpc.add_EventServiceServicer_to_server(broker, server)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), ca.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    found = Found(f"127.0.0.1:{port}", tls=True, domain="d.example")
    async with Client("events://d.example", app="a", ca_file=str(ca), token="t")._with(finder=lambda: found) as client:
        await client.publish(PushEvent(), everyone=True)
    assert broker.metadata["authorization"] == "Bearer t"
    await server.stop(None)


async def test_a_broker_that_has_moved_is_found_again(clock):
    first, second = FakeBroker(), FakeBroker()
    await first.start()
    await second.start()
    places = [first.find(), second.find()]
    client = Client("events://d.example", app="a")._with(finder=lambda: places[0] if len(places) > 1 else places[-1])
    await client.publish(PushEvent(), everyone=True, id="a")
    await first.stop()
    places.pop(0)
    async with asyncio.timeout(50):
        await client.publish(PushEvent(), everyone=True, id="b")
        assert [event.id for event in (await second.published.get()).events] == ["b"]
    await client.close()
    await second.stop()


async def test_where_the_gateway_does_not_answer_any_more_what_was_found_holds(clock):
    broker = FakeBroker()
    answers = [broker.find()]

    def find() -> Found:
        if not answers:
            raise unavailable("GATEWAY_UNREACHABLE", "gone")
        return answers.pop()

    connection = Connection(Client("events://d.example").settings, clock, find)
    channel = await connection.channel()
    connection.doubt()
    assert await connection.channel() is channel
    await connection.close()
