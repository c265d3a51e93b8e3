"""The JavaScript SDK: its own tests, its examples with a real broker, and its packages in an empty folder."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scripts.broker_process import BrokerProcess

ROOT = Path(__file__).resolve().parents[2]
BUILDING = 600
"""Seconds. What the packages stand on is downloaded the first time."""
QUIET = ("--no-audit", "--no-fund", "--loglevel=error")

pytestmark = pytest.mark.timeout(BUILDING)


def tool(name: str) -> str:
    """The path of a toolchain's command; skips where it is missing, which CI does not allow."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CERTES_")}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, check=False, cwd=cwd, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    return done.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and what their tests read, in a folder of their own, with what is locked: others may use the tree's."""
    node, npm = tool("node"), tool("npm")
    if int(run(node, "--print", "process.versions.node.split('.')[0]", cwd=ROOT)) < 20:
        pytest.skip("Node.js is older than 20")
    folder = tmp_path_factory.mktemp("js")
    leave_out = shutil.ignore_patterns("node_modules", "dist")
    for name in ("js", "js-contrib"):
        shutil.copytree(ROOT / "sdk" / name, folder / "sdk" / name, ignore=leave_out)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(ROOT / "sdk" / name, folder / "sdk")
    shutil.copytree(ROOT / "tests" / "vectors", folder / "tests" / "vectors")
    run(npm, "ci", *QUIET, cwd=folder / "sdk")
    return folder / "sdk"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data").start() as started:
        yield started


class Example:
    """A program that runs; its lines are read as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self, pattern: str) -> str:
        """Returns the next line that matches; fails if the program ends before."""
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            if re.search(pattern, raw.decode()):
                return raw.decode().strip()
        raise AssertionError(f"the program ended without a line like {pattern!r}")

    async def terminate(self) -> int:
        """Asks it to end, and returns its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()


@asynccontextmanager
async def example(workspace: Path, name: str, *arguments: str) -> AsyncIterator[Example]:
    process = await asyncio.create_subprocess_exec(
        tool("node"), f"examples/{name}.js", *arguments, cwd=workspace / "js", stdout=subprocess.PIPE, env=environment()
    )
    try:
        yield Example(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_its_own_tests_and_types_hold(workspace: Path) -> None:
    run(tool("npm"), "test", cwd=workspace)


def test_the_lock_holds_no_addresses() -> None:
    locked = json.loads((ROOT / "sdk" / "package-lock.json").read_text())["packages"]
    addresses = {name: one["resolved"] for name, one in locked.items() if "resolved" in one and not one.get("link")}
    assert addresses == {}


async def test_the_examples_of_a_stream_and_of_a_producer_run(workspace: Path, broker: BrokerProcess) -> None:
    gateway = f"events://{broker.http}"
    async with example(workspace, "consumer", gateway) as consumer:
        await consumer.line("^subscribed$")
        stored = run(tool("node"), "examples/producer.js", gateway, "3", cwd=workspace / "js").splitlines()
        assert [line.partition(" ")[0] for line in stored] == ["stored", "stored", "stored", "refused:"]
        assert stored[-1] == "refused: AUDIENCE_MISSING"
        for number in range(3):
            line = await consumer.line("meetly/app")
            assert line.startswith(f"meetly/app: refs/heads/main-{number} (attempt 1 of ")
        assert await consumer.terminate() == 0


async def test_the_example_of_a_webhook_runs(workspace: Path, broker: BrokerProcess) -> None:
    gateway = f"events://{broker.http}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    async with example(workspace, "webhook", gateway, port) as receiver:
        await receiver.line("^subscribed$")
        run(tool("node"), "examples/producer.js", gateway, "2", cwd=workspace / "js")
        for number in range(2):
            assert (await receiver.line("meetly/app")).startswith(f"meetly/app: refs/heads/main-{number} (")
        assert await receiver.terminate() == 0


@pytest.fixture(scope="module")
def installed(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder into which the packed packages were installed, and nothing else of this tree."""
    npm = tool("npm")
    packed = tmp_path_factory.mktemp("packed")
    for name in ("js", "js-contrib"):
        run(npm, "pack", *QUIET, "--pack-destination", packed, cwd=workspace / name)
    folder = tmp_path_factory.mktemp("empty")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    archives = sorted(str(path) for path in packed.glob("*.tgz"))
    assert len(archives) == 2
    locked = json.loads((workspace / "package-lock.json").read_text())["packages"]
    compiler = f"typescript@{locked['node_modules/typescript']['version']}"
    run(npm, "install", *QUIET, *archives, compiler, cwd=folder)
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
