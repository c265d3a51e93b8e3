"""What the broker says of NATS servers before it relies on them, and how it gets in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certes_broker.cli.main import main
from certes_broker.domain.errors import FailedPrecondition, Reason
from certes_broker.domain.events import BEGINNING
from certes_broker.engines.nats import Access, NatsEngine, Needs, Place, Weakness, examine
from certes_broker.ports.engine import CursorChange
from tests.contracts.engine_harness import event, state
from tests.fakes.manual_clock import ManualClock
from tests.fakes.nats_servers import NatsServer, skip_where_there_is_no_server

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "nats.md").read_text()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that a test may set before it starts it."""
    skip_where_there_is_no_server()
    server = NatsServer(tmp_path / "nats")
    yield server
    server.kill()


def place(server: NatsServer, *, monitored: bool = True, **changes) -> Place:
    access = changes.pop("access", Access((server.url,)))
    return Place(access, needs=Needs(5 << 20, (server.monitoring,) if monitored else ()), **changes)


async def weaknesses(at: Place) -> set[Weakness]:
    async with NatsEngine.open(at, ManualClock()) as engine:
        opened = {finding.weakness for finding in engine.findings}
    assert {finding.weakness for finding in (await examine(at)).findings} == opened
    return opened


async def test_a_single_server_that_syncs_has_the_weakness_of_its_single_copy(server: NatsServer) -> None:
    server.restart()
    assert await weaknesses(place(server)) == {Weakness.SINGLE_COPY}


async def test_a_server_that_syncs_now_and_then_is_told(server: NatsServer) -> None:
    server.sync = '"2m"'
    server.restart()
    assert Weakness.UNSYNCED in await weaknesses(place(server))


@pytest.mark.parametrize("monitored", [True, False], ids=["wrong address", "no address"])
async def test_that_it_is_not_known_whether_a_server_syncs_is_told(server: NatsServer, monitored: bool) -> None:
    server.restart()
    at = place(server, monitored=monitored)
    if monitored:
        server.monitoring_port = server.port
        at = place(server)
    assert Weakness.SYNC_UNKNOWN in await weaknesses(at)


async def test_a_server_that_takes_less_than_the_settings_allow_is_told(server: NatsServer) -> None:
    server.max_payload = "1MB"
    server.restart()
    assert Weakness.SMALL_PAYLOAD in await weaknesses(place(server))


async def test_more_replicas_than_servers_are_refused_with_what_to_do(server: NatsServer) -> None:
    server.restart()
    for attempt in (examine(place(server, replicas=3)), open_once(place(server, replicas=3))):
        with pytest.raises(FailedPrecondition) as refusal:
            await attempt
        assert refusal.value.reason is Reason.STORAGE_UNAVAILABLE
        assert "nats.replicas" in refusal.value.hint


async def open_once(at: Place) -> None:
    async with NatsEngine.open(at, ManualClock()) as engine:
        await engine.journal.append([event("a")])


async def test_a_server_without_jetstream_is_refused(server: NatsServer) -> None:
    server.has_jetstream = False
    server.restart()
    with pytest.raises(FailedPrecondition, match="JetStream"):
        await open_once(place(server))


async def test_no_server_at_all_is_refused_with_the_reason(server: NatsServer) -> None:
    with pytest.raises(FailedPrecondition, match="No connection"):
        await open_once(place(server, access=Access((server.url,), waits=False)))


async def test_a_token_lets_in_and_a_wrong_one_does_not(server: NatsServer) -> None:
    server.settings = 'authorization { token: "s3cret" }'
    server.restart()
    await open_once(place(server, access=Access((server.url,), token="s3cret")))
    with pytest.raises(FailedPrecondition, match=r"(?i)authorization") as refusal:
        await open_once(place(server, access=Access((server.url,), token="wr0ng")))
    assert "wr0ng" not in str(refusal.value)


async def test_the_permissions_that_the_guide_names_are_enough(server: NatsServer) -> None:
    rights = re.findall(r"^(?:publish|subscribe): \[.*\]$", GUIDE, re.MULTILINE)
    assert len(rights) == 2
    server.settings = f"""
        accounts {{ A {{ jetstream: enabled, users: [
            {{ user: certes, password: pw, permissions: {{ {", ".join(rights)} }} }}
        ] }} }}
    """
    server.restart()
    at = place(server, access=Access((server.url.replace("nats://", "nats://certes:pw@"),)))
    await open_once(at)
    async with NatsEngine.open(at, ManualClock()) as engine:
        await engine.settings.put("key", b"")
        await engine.cursors.settle([CursorChange("s", 0, state(1))])
        assert (await engine.journal.append([event("a")]))[0].duplicate
        assert len((await engine.journal.read(BEGINNING, 10, 1000)).entries) == 1


async def test_the_connection_may_be_encrypted_and_the_client_have_a_certificate(
    server: NatsServer, tmp_path: Path
) -> None:
    certificate, key = self_signed(tmp_path)
    server.settings = f'tls {{ cert_file: "{certificate}", key_file: "{key}", ca_file: "{certificate}", verify: true }}'
    server.restart()
    url = server.url.replace("nats://", "tls://")
    await open_once(place(server, access=Access((url,), ca=certificate, certificate=certificate, key=key)))
    with pytest.raises(FailedPrecondition, match="No connection"):
        await open_once(place(server, access=Access((url,), ca=certificate, waits=False)))


def test_doctor_says_what_the_servers_weaken_and_ends_with_success(server: NatsServer, tmp_path: Path) -> None:
    server.sync = '"1m"'
    server.restart()
    config = tmp_path / "certes.toml"
    config.write_text(f'engine = "{server.url}"\n[nats]\nmonitoring = ["{server.monitoring}"]\n')
    ran = CliRunner().invoke(main, ["doctor", "--json", "--config", str(config)])
    assert ran.exit_code == 0, ran.output
    said = [finding for finding in json.loads(ran.stdout) if finding["subject"].startswith("NATS")]
    assert [finding["verdict"] for finding in said] == ["ok", "ok", "warn", "warn"]
    assert "every 60 s only" in said[2]["fact"]
    assert "sync_interval: always" in said[2]["advice"]


def test_doctor_fails_where_there_is_no_server(server: NatsServer) -> None:
    ran = CliRunner().invoke(main, ["doctor", "--json", "--engine", server.url])
    assert ran.exit_code != 0
    (said,) = [finding for finding in json.loads(ran.stdout) if finding["subject"].startswith("NATS")]
    assert said["verdict"] == "fail"


def self_signed(directory: Path) -> tuple[Path, Path]:
    """Makes a certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = (directory / "certificate.pem", directory / "key.pem")
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
