from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from certes_broker.cli.failures import EXIT_MEANINGS, ExitCode
from certes_broker.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[3]
FRAMES = [
    {"opened": {"stream": "s/1"}},
    {
        "batch": {
            "firstOrdinal": "1",
            "deliveries": [
                {
                    "name": "events/1",
                    "acceptTime": "2026-01-02T03:04:05Z",
                    "event": {"id": "a", "type": "a.b/_/1/c", "everyone": True, "data": {}},
                }
            ],
        }
    },
]


def start(*words: str) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "generated")])
    return subprocess.Popen(
        [sys.executable, "-m", "certes_broker", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
    )


def test_every_command_has_help(certes):
    for command in COMMANDS:
        result = certes(command, "--help")
        assert result.exit_code == 0
        assert "Usage: " in result.stdout


def test_every_exit_code_has_a_meaning():
    assert set(EXIT_MEANINGS) == set(ExitCode)


def test_an_unknown_command_is_a_mistake_of_usage(certes):
    assert certes("sevre").exit_code == ExitCode.USAGE


def test_settings_that_cannot_be_used_keep_the_broker_from_starting(certes):
    result = certes("serve", "--http", "0.0.0.0:9600")
    assert result.exit_code == ExitCode.SETTINGS
    assert "no authentication (auth.operator_key, auth.jwt_issuer or [[auth.certificates]]) and no TLS" in result.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:x", "events://", "a b", "ftp://x"])
def test_an_address_that_is_none_is_a_mistake_of_usage(certes, address):
    result = certes("subscriptions", "list", "--broker", address)
    assert result.exit_code == ExitCode.USAGE
    assert "no address of a gateway" in result.stderr


def test_ctrl_c_ends_a_tail_without_a_word(gateway):
    gateway.answer("Acknowledge", {})
    with gateway.hold("Subscribe", *FRAMES):
        tail = start("tail", "a.b/_/1/*", "--json", "--broker", gateway.address)
        assert tail.stdout is not None
        assert tail.stdout.readline().startswith(b"{")
        tail.send_signal(signal.SIGINT)
        _, errors = tail.communicate(timeout=20)
    assert tail.returncode == ExitCode.INTERRUPTED
    assert errors == b"Waiting for events; Ctrl-C ends.\n"


def test_a_reader_that_goes_away_ends_a_tail_without_a_word(gateway):
    gateway.stream("Subscribe", FRAMES[0], *FRAMES[1:] * 2000, end={})
    for _ in range(2000):
        gateway.answer("Acknowledge", {})
    tail = start("tail", "a.b/_/1/*", "--json", "--broker", gateway.address)
    assert tail.stdout is not None
    assert tail.stderr is not None
    tail.stdout.readline()
    tail.stdout.close()
    errors = tail.stderr.read()
    assert tail.wait(20) == ExitCode.PIPE_CLOSED
    assert errors == b"Waiting for events; Ctrl-C ends.\n"
    tail.stderr.close()
