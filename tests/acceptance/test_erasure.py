"""A subscriber is erased at the real process, by the command: its data is in no file once the broker has been stopped."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.broker_process import BrokerProcess
from tests import command
from tests.acceptance.conftest import StartBroker

PING = "community.certes.dev/github/1/ping"
THEIRS = "the name of somebody who wants to be forgotten"
OTHERS = "the name of another"


def certes(broker: BrokerProcess, *words: str, stdin: str = "") -> str:
    done = command.certes(*words, stdin=stdin, CERTES_BROKER=broker.http)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kept(directory: Path, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in directory.rglob("*") if path.is_file())


def test_what_was_erased_is_in_no_file_once_the_broker_has_been_stopped(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = start_broker("")
    for subscriber, name in (("org_1", THEIRS), ("org_2", OTHERS)):
        certes(broker, "subscriptions", "create", "app", "--subscriber", subscriber, "--pattern", PING)
        words = ["publish", PING, "--json", "-", "--subscriber", subscriber]
        certes(broker, *words, stdin=json.dumps({"zen": name}))
    broker.kill9()
    assert kept(tmp_path, THEIRS)
    broker.start()
    report = json.loads(certes(broker, "subscribers", "erase", "org_1", "--yes", "--json"))
    assert (report["subscriptions"], report["events"]) == ("1", "1")
    assert broker.terminate() == 0
    assert not kept(tmp_path, THEIRS)
    assert kept(tmp_path, OTHERS)
    broker.start()
    listed = json.loads(certes(broker, "subscriptions", "list", "--json"))
    assert [one["name"] for one in listed] == ["subscribers/org_2/subscriptions/app"]
