"""The JavaScript SDK: its own tests, its examples with a real broker, and its packages in an empty folder."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from scripts.broker_process import BrokerProcess
from tests.integration.conftest import Asking
from tests.program import Program, running
from tests.toolchains import BUILDING, NPM_QUIET, run, tool

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(BUILDING)


@pytest.fixture(scope="module")
def workspace(node_packages: Path) -> Path:
    return node_packages


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data").start() as started:
        yield started


def example(workspace: Path, name: str, *arguments: str) -> AbstractAsyncContextManager[Program]:
    return running([tool("node"), f"examples/{name}.js", *arguments], {}, workspace / "js")


def seen(program: Program) -> list[str]:
    """The lines about what was pushed."""
    return [line for line in program.lines if "meetly/app" in line]


def test_its_own_tests_and_types_hold(workspace: Path) -> None:
    run(tool("npm"), "test", cwd=workspace)


def test_it_behaves_against_a_real_broker(workspace: Path, broker: BrokerProcess) -> None:
    """Ten replicas at once, a refused release, events that are stored together or not at all, a paused subscription."""
    gateway = {"GATEWAY": f"events://{broker.http}"}
    run(tool("node"), "--test", "test/against_broker.js", cwd=workspace / "js", environ=gateway)


def test_it_shows_its_certificate_to_a_broker_that_asks_for_one(workspace: Path, asking: Asking) -> None:
    environ = asking.environ | asking.shown | {"GATEWAY": asking.uri}
    run(tool("node"), "--test", "test/against_asking_broker.js", cwd=workspace / "js", environ=environ)


def test_the_lock_holds_no_addresses() -> None:
    locked = json.loads((ROOT / "sdk" / "package-lock.json").read_text())["packages"]
    addresses = {name: one["resolved"] for name, one in locked.items() if "resolved" in one and not one.get("link")}
    assert addresses == {}


async def test_the_examples_of_a_stream_and_of_a_producer_run(workspace: Path, broker: BrokerProcess) -> None:
    gateway = f"events://{broker.http}"
    async with example(workspace, "consumer", gateway) as consumer:
        await consumer.until(lambda one: "subscribed" in one.lines)
        stored = run(tool("node"), "examples/producer.js", gateway, "3", cwd=workspace / "js").splitlines()
        assert [line.partition(" ")[0] for line in stored] == ["stored", "stored", "stored", "refused:"]
        assert stored[-1] == "refused: AUDIENCE_MISSING"
        await consumer.until(lambda one: len(seen(one)) == 3)
        for number, line in enumerate(seen(consumer)):
            assert line.startswith(f"meetly/app: refs/heads/main-{number} (attempt 1 of ")
        assert await consumer.terminate() == 0


async def test_the_example_of_a_webhook_runs(workspace: Path, broker: BrokerProcess) -> None:
    gateway = f"events://{broker.http}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    async with example(workspace, "webhook", gateway, port) as receiver:
        await receiver.until(lambda one: "subscribed" in one.lines)
        run(tool("node"), "examples/producer.js", gateway, "2", cwd=workspace / "js")
        await receiver.until(lambda one: len(seen(one)) == 2)
        # Webhooks overtake one another: these have no ordering key.
        for number, line in enumerate(sorted(seen(receiver))):
            assert line.startswith(f"meetly/app: refs/heads/main-{number} (")
        assert await receiver.terminate() == 0


@pytest.fixture(scope="module")
def installed(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder into which the packed packages were installed, and nothing else of this tree."""
    npm = tool("npm")
    packed = tmp_path_factory.mktemp("packed")
    for name in ("js", "js-contrib"):
        run(npm, "pack", *NPM_QUIET, "--pack-destination", packed, cwd=workspace / name)
    folder = tmp_path_factory.mktemp("empty")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    archives = sorted(str(path) for path in packed.glob("*.tgz"))
    assert len(archives) == 2
    locked = json.loads((workspace / "package-lock.json").read_text())["packages"]
    compiler = f"typescript@{locked['node_modules/typescript']['version']}"
    run(npm, "install", *NPM_QUIET, *archives, compiler, cwd=folder)
    return folder


def test_a_package_holds_what_is_needed_and_nothing_else(installed: Path) -> None:
    package = installed / "node_modules" / "@certes" / "sdk"
    assert {path.name for path in package.iterdir()} == {"LICENSE", "README.md", "dist", "gen", "package.json"}
    compiled = {path.name.partition(".")[0] for path in (package / "dist").iterdir()}
    assert compiled == {path.stem for path in (ROOT / "sdk" / "js" / "src").iterdir()}


PROGRAM = """
import certes, {CertesError, Client} from "@certes/sdk";
import {github as gh} from "@certes/contrib";
import {EventSchema} from "@certes/sdk/gen/certes/v1/event_pb.js";

certes.init(process.argv[2]!, {app: "empty"});
const handled = new Promise<string>((resolve) => {
  certes.on("community.certes.dev/github/1/push", (raw) => resolve((raw as gh.PushEvent).ref));
});
await certes.ensureSubscriptions([certes.event("community.certes.dev/github/1/push", {} satisfies gh.Opts)]);
await certes.publish(gh.PushEventSchema, {ref: "refs/heads/main"}, {everyone: true});
console.log(await handled, new Client() instanceof Client, CertesError.name, EventSchema.typeName);
await certes.close();
"""


def test_the_packages_work_in_an_empty_folder_and_a_program_ends_by_itself(
    installed: Path, broker: BrokerProcess
) -> None:
    (installed / "program.ts").write_text(PROGRAM)
    compiler = installed / "node_modules" / "typescript" / "bin" / "tsc"
    options = ("--strict", "--module", "nodenext", "--target", "es2022", "--types", "node", "--skipLibCheck", "false")
    run(tool("node"), compiler, *options, "program.ts", cwd=installed)
    printed = run(tool("node"), "program.js", f"events://{broker.http}", cwd=installed)
    assert printed.strip() == "refs/heads/main true CertesError certes.v1.Event"
