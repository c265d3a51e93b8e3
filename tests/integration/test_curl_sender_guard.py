"""Where the libcurl sender refuses to go, and to whom it refuses to talk."""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certes_broker.ports.sender import SendFailure, SendResult
from certes_broker.webhook.addresses import AddressPolicy
from certes_broker.webhook.sender import CurlSender
from tests.contracts.sender_contract import outcome, post
from tests.fakes.http_receiver import HttpReceiver, answer, http_receiver, saying

DEV = AddressPolicy(allow_loopback=True)


@pytest.fixture
async def receiver() -> AsyncIterator[HttpReceiver]:
    async with http_receiver() as running:
        running.behave(saying(answer(200)))
        yield running


async def send_once(policy: AddressPolicy, url: str) -> SendResult:
    sender = CurlSender(policy)
    try:
        return await sender.send(post(url))
    finally:
        await sender.close()


SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::1]",
    "localhost",
    "LOCALHOST.",
    "sub.localhost",
    "0.0.0.0",
    "0",
    "[::]",
    "%31%32%37.0.0.1",
    "１２７.0.0.1",
]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_this_machine_is_refused_in_every_spelling(receiver: HttpReceiver, host: str) -> None:
    result = await send_once(AddressPolicy(), f"http://{host}:{receiver.port}/0")
    assert outcome(result) == (None, SendFailure.ADDRESS_REFUSED), result
    assert result.error
    assert receiver.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "localhost"])
async def test_dev_reaches_this_machine(receiver: HttpReceiver, host: str) -> None:
    assert (await send_once(DEV, f"http://{host}:{receiver.port}/0")).status == 200


async def test_an_allowed_range_is_reached(receiver: HttpReceiver) -> None:
    policy = AddressPolicy(allow=(ip_network("127.0.0.1/32"),))
    assert (await send_once(policy, f"http://127.0.0.1:{receiver.port}/0")).status == 200
    assert (await send_once(policy, f"http://127.0.0.2:{receiver.port}/0")).failure is SendFailure.ADDRESS_REFUSED


async def test_the_port_of_another_protocol_is_refused_in_dev_too() -> None:
    for url in ("http://127.0.0.1:25/", "https://localhost:0000587/", "http://[::1]:6667/"):
        result = await send_once(DEV, url)
        assert outcome(result) == (None, SendFailure.ADDRESS_REFUSED), result
        assert "the port of another protocol" in result.error


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "10.0.0.1", "[fd00:ec2::254]", "[64:ff9b::10.0.0.1]", "[2002:a00:1::]"]
)
async def test_private_and_metadata_addresses_are_refused_in_dev_too(host: str) -> None:
    result = await send_once(DEV, f"http://{host}/latest/meta-data/")
    assert outcome(result) == (None, SendFailure.ADDRESS_REFUSED)
    assert "operator can allow" in result.error


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1:{port}/0",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/0",
        "127.0.0.1:{port}/0",
        "http://",
        "http://user:secret@127.0.0.1:{port}/0",
        "http://user@127.0.0.1:{port}/0",
        "http://127.0.0.1:{port}/0\r\nX-Evil: 1",
        "http://127.0.0.1:99999/",
        "http://bücher.example/",
        "",
    ],
)
async def test_a_url_that_is_no_plain_http_url_is_refused_and_reaches_nobody(receiver: HttpReceiver, url: str) -> None:
    result = await send_once(DEV, url.format(port=receiver.port))
    assert outcome(result) == (None, SendFailure.ADDRESS_REFUSED), result
    assert result.error
    assert "secret" not in result.error
    assert receiver.connections == 0


async def test_a_proxy_of_the_environment_is_not_used(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert (await send_once(DEV, f"http://127.0.0.1:{receiver.port}/0")).status == 200


async def test_a_receiver_that_nobody_vouches_for_is_a_tls_failure(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "localhost", "127.0.0.1")
    async with http_receiver(tls=serving(certificate)) as receiver:
        path = receiver.behave(saying(answer(200)))
        result = await send_once(DEV, f"https://127.0.0.1:{receiver.port}{path}")
        assert outcome(result) == (None, SendFailure.TLS)
        assert "certificate" in result.error
        assert receiver.arrivals == []


async def test_a_receiver_with_a_trusted_certificate_is_reached(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "localhost", "127.0.0.1")
    async with http_receiver(tls=serving(certificate)) as receiver:
        path = receiver.behave(saying(answer(200)))
        sender = CurlSender(DEV, authorities=str(certificate))
        result = await sender.send(post(f"https://127.0.0.1:{receiver.port}{path}"))
        assert result.status == 200
        await sender.close()


async def test_a_certificate_for_another_name_is_a_tls_failure(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "elsewhere.example", "192.0.2.1")
    async with http_receiver(tls=serving(certificate)) as receiver:
        sender = CurlSender(DEV, authorities=str(certificate))
        result = await sender.send(post(f"https://127.0.0.1:{receiver.port}/"))
        assert outcome(result) == (None, SendFailure.TLS)
        await sender.close()


async def test_a_receiver_that_speaks_no_tls_at_an_https_url_is_a_tls_failure() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(400))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert outcome(await send_once(DEV, f"https://127.0.0.1:{port}/")) == (None, SendFailure.TLS)


async def test_a_file_of_authorities_that_cannot_be_read_is_our_fault(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "localhost", "127.0.0.1")
    async with http_receiver(tls=serving(certificate)) as receiver:
        sender = CurlSender(DEV, authorities=str(tmp_path / "absent.pem"))
        result = await sender.send(post(f"https://127.0.0.1:{receiver.port}/"))
        assert outcome(result) == (None, SendFailure.OURS)
        await sender.close()


async def test_running_out_of_file_handles_is_our_fault_and_passes(receiver: HttpReceiver) -> None:
    sender = CurlSender(DEV)
    url = f"http://127.0.0.1:{receiver.port}/0"
    await sender.send(post("http://127.0.0.1:9/"))
    with no_file_handles_left():
        result = await sender.send(post(url))
        assert outcome(result) == (None, SendFailure.OURS)
        assert "Too many open files" in result.error
        unresolved = await sender.send(post("http://nonexistent.invalid/"))
        assert outcome(unresolved) == (None, SendFailure.OURS)
    assert (await sender.send(post(url))).status == 200
    await sender.close()


@contextmanager
def no_file_handles_left():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        try:
            while True:
                files.enter_context(Path("/dev/null").open("rb"))
        except OSError:
            pass
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def self_signed(folder: Path, name: str, address: str) -> Path:
    """Writes a certificate that vouches for itself, with its key, to one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address(address))])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path
