"""Both ports of the real broker speak TLS, ask for certificates of clients, and follow the files."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from grpc import aio
from grpc_health.v1 import health_pb2

from certes_broker.domain.errors import Invalid
from certes_broker.gateway.certificates import CertificateFiles, Certificates
from scripts.broker_process import BrokerFailed, BrokerProcess
from tests.certificates import Authority
from tests.command import certes

Serve = Callable[..., BrokerProcess]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def serve(tmp_path: Path, authority: Authority) -> Iterator[Serve]:
    """Starts a broker that serves TLS with a certificate of the authority."""
    with ExitStack() as stack:

        def start(**settings: str | Path) -> BrokerProcess:
            certificate, key = authority.issue("broker")
            given = {"CERTIFICATE": certificate, "KEY": key} | {name.upper(): value for name, value in settings.items()}
            environ = {f"CERTES_TLS_{name}": str(value) for name, value in given.items()}
            return stack.enter_context(BrokerProcess(tmp_path / "data", environ=environ)).start()

        yield start


def context(authority: Authority, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    if certificate is not None:
        trusting.load_cert_chain(*certificate)
    return trusting


def get(broker: BrokerProcess, trusting: ssl.SSLContext, path: str = "/healthz") -> httpx.Response:
    with httpx.Client(verify=trusting, trust_env=False) as client:
        return client.get(f"https://{broker.http}{path}")


async def check(channel: aio.Channel) -> None:
    """Calls the health service of the broker. Raises `AioRpcError`."""
    call = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    await call(health_pb2.HealthCheckRequest(), timeout=20)


def session_with(
    address: str, trusting: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLSession | None:
    """Has a session with a port, maybe one that is resumed, until the server has said something. Raises `OSError`."""
    host, port = address.rsplit(":", 1)
    with (
        socket.create_connection((host, int(port)), timeout=60) as raw,
        trusting.wrap_socket(raw, server_hostname=host, session=session) as connection,
    ):
        is_grpc = connection.selected_alpn_protocol() == "h2"
        connection.sendall(_HTTP2 if is_grpc else b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        if not connection.recv(1):
            raise ConnectionResetError("reset: the server said nothing")
        return connection.session


_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


async def grpc_answers(
    broker: BrokerProcess, authority: Authority, certificate: tuple[Path, Path] | None = None
) -> bool:
    """Calls the health service; whether TLS let the call through."""
    chain, key = (None, None) if certificate is None else (path.read_bytes() for path in certificate)
    credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes(), key, chain)
    async with aio.secure_channel(broker.grpc, credentials) as channel:
        try:
            await check(channel)
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
    return True


def cli(broker: BrokerProcess, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return certes("subscriptions", "list", "--broker", f"https://{broker.http}", **environ)


async def test_both_ports_speak_tls_and_nothing_else(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    broker = serve()
    assert get(broker, context(authority)).status_code == 200
    assert await grpc_answers(broker, authority)
    stranger = Authority(tmp_path / "theirs")
    assert not await grpc_answers(broker, stranger)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        get(broker, context(stranger))
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{broker.http}/healthz", trust_env=False)  # noqa: ASYNC210
    async with aio.insecure_channel(broker.grpc) as channel:
        with pytest.raises(aio.AioRpcError):
            await check(channel)


def test_discovery_says_that_grpc_speaks_tls(serve: Serve, authority: Authority) -> None:
    found = get(serve(), context(authority), "/.well-known/certes").json()["grpc"]
    assert (found["tls"], found["clientCertificate"]) == (True, False)


async def test_a_renewed_certificate_is_served_without_a_restart(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    broker = serve()
    next_one = Authority(tmp_path / "next")
    renewed = next_one.issue("broker")
    served = tmp_path / "ours" / "broker.pem", tmp_path / "ours" / "broker.key"

    # Between the two writes they do not fit together: the last pair that did is served on.
    served[0].write_bytes(renewed[0].read_bytes())
    assert get(broker, context(authority)).status_code == 200
    assert await grpc_answers(broker, authority)
    served[1].write_bytes(renewed[1].read_bytes())

    assert get(broker, context(next_one)).status_code == 200
    assert await grpc_answers(broker, next_one)
    assert not await grpc_answers(broker, authority)
    assert broker.log.count("certificates_refused") == 1
    assert "certificates_renewed" in broker.log


async def test_clients_must_show_a_certificate_where_an_authority_for_them_is_named(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    clients, others = Authority(tmp_path / "clients"), Authority(tmp_path / "others")
    broker = serve(client_ca=clients.ca)
    known, unknown = clients.issue("application"), others.issue("application")
    assert "certificates_name_nobody" in broker.log  # nobody is asked who they are, so each of them may do everything
    assert await grpc_answers(broker, authority, known)
    assert not await grpc_answers(broker, authority)
    assert not await grpc_answers(broker, authority, unknown)
    assert get(broker, context(authority, known)).status_code == 200
    for certificate in (None, unknown):
        with pytest.raises(httpx.TransportError):
            get(broker, context(authority, certificate))
    trusting = {"SSL_CERT_FILE": str(authority.ca)}
    without = await asyncio.to_thread(cli, broker, trusting)
    assert without.returncode != 0
    assert "--certificate" in without.stderr
    shown = {"CERTES_CERTIFICATE": str(known[0]), "CERTES_CERTIFICATE_KEY": str(known[1])}
    assert (await asyncio.to_thread(cli, broker, trusting | shown)).returncode == 0


async def test_http_clients_may_be_let_in_without_a_certificate_but_never_with_a_bad_one(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    clients, others = Authority(tmp_path / "clients"), Authority(tmp_path / "others")
    broker = serve(client_ca=clients.ca, http_clients="optional")
    found = get(broker, context(authority), "/.well-known/certes").json()
    assert found["grpc"]["clientCertificate"] is True
    assert get(broker, context(authority, clients.issue("application"))).status_code == 200
    with pytest.raises(httpx.TransportError):
        get(broker, context(authority, others.issue("application")))
    assert not await grpc_answers(broker, authority)


async def test_a_renewed_authority_of_clients_holds_for_the_next_handshake(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    clients, others = Authority(tmp_path / "clients"), Authority(tmp_path / "others")
    broker = serve(client_ca=clients.ca)
    leaving, coming = clients.issue("application"), others.issue("application")
    assert await grpc_answers(broker, authority, leaving)
    sessions = []
    for address in (broker.http, broker.grpc):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            trusting = context(authority, leaving)
            trusting.maximum_version = version
            trusting.set_alpn_protocols(["h2", "http/1.1"])
            sessions.append((address, trusting, await asyncio.to_thread(session_with, address, trusting)))
    clients.ca.write_bytes(others.ca.read_bytes())
    for address, trusting, session in sessions:
        # Who resumes a session is not asked for a certificate again.
        with pytest.raises(OSError, match=r"UNKNOWN_CA|EOF|reset"):
            await asyncio.to_thread(session_with, address, trusting, session)
    assert await grpc_answers(broker, authority, coming)
    assert not await grpc_answers(broker, authority, leaving)
    assert get(broker, context(authority, coming)).status_code == 200
    with pytest.raises(httpx.TransportError):
        get(broker, context(authority, leaving))


async def test_who_connects_and_says_nothing_holds_up_nobody(serve: Serve, authority: Authority) -> None:
    broker = serve()
    writers = [
        (await asyncio.open_connection(*address.rsplit(":", 1)))[1]
        for address in (broker.http, broker.grpc)
        for _ in range(50)
    ]
    assert await grpc_answers(broker, authority)
    assert (await asyncio.to_thread(get, broker, context(authority))).status_code == 200
    for writer in writers:
        writer.close()


async def test_handshakes_at_once_all_succeed_also_while_certificates_are_renewed(
    serve: Serve, authority: Authority
) -> None:
    broker = serve()
    trusting = context(authority)
    trusting.set_alpn_protocols(["h2"])
    for number in range(60):
        if number % 10 == 0:
            authority.issue("broker")  # The files that are served are written anew, one after the other.
        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(greeted(broker.grpc, trusting))
    assert broker.is_running
    assert "certificates_renewed" in broker.log


async def greeted(address: str, trusting: ssl.SSLContext) -> None:
    """Shakes hands with the port of gRPC and waits for its first words."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, port, ssl=trusting)
    writer.write(_HTTP2)
    await reader.readexactly(1)
    writer.transport.abort()


def test_the_command_calls_over_tls_and_says_what_is_wrong_with_a_certificate(
    serve: Serve, authority: Authority
) -> None:
    broker = serve()
    assert cli(broker, {"SSL_CERT_FILE": str(authority.ca)}).returncode == 0
    refused = cli(broker, {})
    assert refused.returncode != 0
    assert "is not to be trusted" in refused.stderr
    assert "SSL_CERT_FILE" in refused.stderr


def test_files_that_do_not_fit_together_end_the_start_with_the_reason(serve: Serve, authority: Authority) -> None:
    with pytest.raises(BrokerFailed, match="KEY_VALUES_MISMATCH"):
        serve(key=authority.issue("another")[1])


def test_a_file_that_is_missing_or_is_no_pem_is_named(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("broker")
    with pytest.raises(Invalid, match=r"absent\.pem: No such file"):
        Certificates(CertificateFiles(tmp_path / "absent.pem", key))
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    with pytest.raises(Invalid, match=r"empty\.pem"):
        Certificates(CertificateFiles(certificate, key, empty))


def test_a_key_with_a_passphrase_is_refused_rather_than_asked_for(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("broker")
    locked = tmp_path / "locked.key"
    opened = serialization.load_pem_private_key(key.read_bytes(), password=None)
    locked.write_bytes(
        opened.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    with pytest.raises(Invalid, match="passphrase"):
        Certificates(CertificateFiles(certificate, locked))
