"""The Go SDK, as Go programmers have it: formatted, vetted, tested, its examples against a broker, and used from outside this tree."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.broker_process import ROOT, BrokerProcess
from scripts.ports import HeldPorts
from tests.integration.conftest import Asking, Certes
from tests.program import running
from tests.toolchains import BUILDING, GO_CONTRIB, GO_SDK, run, tool

SDK = ROOT / "sdk" / "go"
MODULES = [SDK, SDK / "examples", ROOT / "benchmarks" / "sdk" / "go"]
PUSH = "community.certes.dev/github/1/push"
READ_ONLY = {"GOFLAGS": "-mod=readonly"}

pytestmark = pytest.mark.timeout(BUILDING)  # the modules that it stands on are downloaded and compiled the first time


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_module_is_formatted_and_vetted(module: Path) -> None:
    """Generated code is formatted as its generator does it."""
    go = tool("go")
    written = [str(path) for path in module.rglob("*.go") if not path.name.endswith(".pb.go")]
    assert run(tool("gofmt"), "-l", *written, cwd=module) == ""
    run(go, "vet", "./...", cwd=module, environ=READ_ONLY)


def test_its_own_tests_pass() -> None:
    """With the race detector, where there is a compiler of C that it can be built with."""
    go = tool("go")
    race = ["-race"] if shutil.which(os.environ.get("CC", "gcc")) else []
    environ = READ_ONLY | ({"CGO_ENABLED": "1"} if race else {})
    run(go, "test", *race, "-count=1", "-timeout=300s", "./...", cwd=SDK, environ=environ)


def test_its_tests_of_a_broker_pass(broker: BrokerProcess) -> None:
    """Ten replicas at once, a refused release, and events that are stored together or not at all."""
    environ = READ_ONLY | {"CERTES_TEST_GATEWAY": f"events://{broker.http}"}
    against = ["-run", "TenReplicas|OlderRelease|StoresAllOrNone|FromTheBroker", "-v"]
    printed = run(tool("go"), "test", "-count=1", "-timeout=120s", *against, ".", cwd=SDK, environ=environ)
    assert printed.count("--- PASS") == 4, printed
    assert "--- SKIP" not in printed, printed


def test_it_shows_its_certificate_to_a_broker_that_asks_for_one(asking: Asking) -> None:
    environ = READ_ONLY | asking.environ | asking.shown | {"CERTES_TEST_ASKING_GATEWAY": asking.uri}
    against = ["-run", "WithItsCertificate", "-v"]
    printed = run(tool("go"), "test", "-count=1", "-timeout=120s", *against, ".", cwd=SDK, environ=environ)
    assert printed.count("--- PASS") == 1, printed


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port of loopback that nobody has."""
    with HeldPorts(1) as held:
        yield held.numbers[0]


def build(example: str, directory: Path) -> Path:
    program = directory / example
    run(tool("go"), "build", "-o", str(program), f"./{example}", cwd=SDK / "examples", environ=READ_ONLY)
    return program


def publish(certes: Certes, ref: str, repository: str) -> None:
    data = json.dumps({"ref": ref, "repository": {"full_name": repository}})
    done = certes("publish", PUSH, "--json", "-", "--everyone", stdin=data)
    assert done.returncode == 0, done.stderr


async def test_the_consumer_prints_what_it_selects_and_nothing_again_after_a_crash(
    broker: BrokerProcess, certes: Certes, tmp_path: Path
) -> None:
    program = build("consumer", tmp_path)
    command = [program, f"events://{broker.http}"]
    async with running(command, {"CERTES_APP": "meetly"}) as first:
        await first.until(lambda one: "subscribed" in one.lines)
        publish(certes, "refs/heads/other", "meetly/other")
        publish(certes, "refs/heads/main", "meetly/app")
        await first.until(lambda one: "refs/heads/main of meetly/app" in one.lines)
        assert await first.terminate() == 0, first.printed
    assert "refs/heads/other of meetly/other" not in first.lines
    broker.kill9()
    broker.start()
    async with running(command, {"CERTES_APP": "meetly"}) as second:
        await second.until(lambda one: "subscribed" in one.lines)
        broker.kill9()
        broker.start()
        publish(certes, "refs/heads/next", "meetly/app")
        await second.until(lambda one: "refs/heads/next of meetly/app" in one.lines)
        assert second.lines == ["subscribed", "refs/heads/next of meetly/app"]


async def test_the_webhook_example_verifies_what_the_broker_posts(
    broker: BrokerProcess, certes: Certes, tmp_path: Path, free_port: int
) -> None:
    address = f"127.0.0.1:{free_port}"
    environ = {"CERTES_APP": "meetly", "CERTES_CALLBACK_URL": f"http://{address}/certes"}
    async with running([build("webhook", tmp_path), f"events://{broker.http}", address], environ) as program:
        await program.until(lambda one: "subscribed" in one.lines)
        publish(certes, "refs/heads/main", "meetly/app")
        await program.until(lambda one: "refs/heads/main of meetly/app" in one.lines)
        assert await program.terminate() == 0, program.printed
    assert program.errors == []


async def test_the_producer_sends_a_message_of_its_own(broker: BrokerProcess, certes: Certes, tmp_path: Path) -> None:
    pushed = certes("schemas", "push", str(SDK / "examples" / "producer" / "proto"))
    assert pushed.returncode == 0, pushed.stderr
    async with running([build("producer", tmp_path), f"events://{broker.http}"], {"CERTES_APP": "meetly"}) as program:
        assert await program.ended() == 0, program.printed
    assert program.lines == ["stored booked-m-2"]
    for subscriber, expected in (("org_123", ["m-1", "m-2"]), ("org_9", ["m-2"])):
        tail = ["tail", "events.meetly.com/**", "--from", "beginning", "--json", "--subscriber", subscriber]
        shown = certes(*tail, "--count", str(len(expected)))
        events = [json.loads(line)["event"] for line in shown.stdout.splitlines()]
        assert [event["data"]["id"] for event in events] == expected
        assert {event["type"] for event in events} == {"events.meetly.com/meetings/1/meeting_booked"}


OUTSIDE = """
package main

import (
	"context"
	"fmt"

	gh "github.com/hookactions/certes-contrib/github"
	certes "github.com/hookactions/certes-sdk/go"
)

func main() {
	ctx := context.Background()
	client, err := certes.NewClient("events://localhost", certes.WithApp("outside"))
	if err != nil {
		panic(err)
	}
	err = client.SendOutgoingEvent(ctx, "", &gh.PushEvent{Ref: "refs/heads/main"})
	fmt.Println(certes.ReasonOf(err))
	fmt.Println(client.Close(ctx))
}
"""


def test_a_module_elsewhere_builds_with_it(tmp_path: Path) -> None:
    """As an unpublished module can be used: `go mod edit -replace` says where it is."""
    go = tool("go")
    (tmp_path / "main.go").write_text(OUTSIDE)
    run(go, "mod", "init", "example.com/outside", cwd=tmp_path)
    for name, folder in ((GO_SDK, "go"), (GO_CONTRIB, "go-contrib")):
        copy = tmp_path / "elsewhere" / folder
        shutil.copytree(ROOT / "sdk" / folder, copy)
        run(go, "mod", "edit", f"-replace={name}={copy}", cwd=tmp_path)
    run(go, "mod", "tidy", cwd=tmp_path, environ={"GOFLAGS": "-mod=mod"})
    run(go, "build", "-o", "outside", ".", cwd=tmp_path, environ=READ_ONLY)
    assert run(tmp_path / "outside", cwd=tmp_path) == "AUDIENCE_MISSING\n<nil>\n"
