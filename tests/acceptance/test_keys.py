"""A broker that asks callers who they are: keys are made, used by the command and an SDK, and revoked."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from certes.community.github.v1.ping_event_pb2 import PingEvent
from certes_broker.domain.api_keys import KeyId, spell_key
from certes_sdk import CertesError, Client
from scripts.broker_process import BrokerProcess
from tests import command
from tests.acceptance.conftest import StartBroker

OPERATOR = spell_key(KeyId("operator"), os.urandom(32))
PING = "community.certes.dev/github/1/ping"


def certes(broker: BrokerProcess, key: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return command.certes(*words, stdin=stdin, CERTES_BROKER=broker.http, CERTES_TOKEN=key)


def made(broker: BrokerProcess, key_id: str, *words: str) -> str:
    answer = certes(broker, OPERATOR, "keys", "create", key_id, *words, "--json")
    assert answer.returncode == 0, answer.stderr
    key: str = json.loads(answer.stdout)["key"]
    return key


def publish(broker: BrokerProcess, key: str, subscriber: str = "org_1") -> subprocess.CompletedProcess[str]:
    words = ["publish", PING, "--json", "-", "--source", "//shop", "--subscriber", subscriber]
    return certes(broker, key, *words, stdin='{"zen": "Who goes there?"}')


def files(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


@pytest.fixture
def broker(start_broker: StartBroker) -> BrokerProcess:
    return start_broker(f'[auth]\noperator_key = "{OPERATOR}"\n[log]\nlevel = "debug"\n')


async def test_a_key_is_made_used_and_revoked_and_its_secret_is_nowhere(broker: BrokerProcess) -> None:
    refused = publish(broker, "")
    assert refused.returncode == 1
    assert "CREDENTIALS_MISSING" in refused.stderr
    shop = made(broker, "shop", "--role", "publisher", "--source", "//shop", "--subscriber", "org_1")
    reader = made(broker, "org-1", "--role", "subscriber", "--subscriber", "org_1")
    assert publish(broker, shop).returncode == 0
    assert "NOT_BOUND_TO" in publish(broker, shop, "org_2").stderr
    assert "ROLE_MISSING" in publish(broker, reader).stderr

    words = ["tail", "community.certes.dev/**", "--from", "beginning", "--json", "--subscriber", "org_1"]
    with command.started(*words, CERTES_BROKER=broker.http, CERTES_TOKEN=reader) as reading:
        assert reading.stdout is not None
        first = reading.stdout.readline()
        assert json.loads(first)["event"]["subscriber"] == "org_1"
        assert certes(broker, OPERATOR, "keys", "revoke", "org-1").returncode == 0
        rest, errors = reading.communicate(timeout=30)
    command.look_at_printed(words, first + rest, errors)
    assert reading.returncode == 1
    assert "CREDENTIALS_INVALID" in errors
    assert "CREDENTIALS_INVALID" in certes(broker, reader, *words).stderr
    assert "apiKeys/shop" in certes(broker, OPERATOR, "keys", "list").stdout

    everything = broker.log.encode() + files(broker.data_dir)
    assert b"apiKeys/shop" in everything
    for key in (OPERATOR, shop, reader):
        assert key.rpartition("_")[2].encode() not in everything


async def test_an_sdk_shows_its_token_and_tells_its_refusal(broker: BrokerProcess) -> None:
    shop = made(broker, "shop", "--role", "publisher", "--source", "//shop")
    async with Client(f"events://{broker.http}", token=shop, app="shop", source="//shop") as client:
        receipt = await client.send_outgoing_event("org_1", PingEvent(zen="Who goes there?"))
        assert not receipt.duplicate
    certes(broker, OPERATOR, "keys", "revoke", "shop")
    async with Client(f"events://{broker.http}", token=shop, app="shop", source="//shop") as client:
        with pytest.raises(CertesError) as raised:
            await client.send_outgoing_event("org_1", PingEvent(zen="Who goes there?"))
    assert raised.value.reason == "CREDENTIALS_INVALID"


def test_a_key_survives_a_crash_and_a_revoked_one_does_not_come_back(broker: BrokerProcess) -> None:
    kept = made(broker, "kept", "--role", "publisher")
    gone = made(broker, "gone", "--role", "publisher")
    certes(broker, OPERATOR, "keys", "revoke", "gone")
    broker.kill9()
    broker.start()
    assert publish(broker, kept).returncode == 0
    assert "CREDENTIALS_INVALID" in publish(broker, gone).stderr
