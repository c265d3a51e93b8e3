"""`certes migrate` as a process: killed while NATS servers store what it sends, and what it leaves of its source."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import signal
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import nats

from certes_broker.broker.system_clock import SystemClock
from certes_broker.engines.memory import MemoryEngine
from certes_broker.engines.nats import Access, NatsEngine, Place
from certes_broker.engines.nats.subjects import Names
from certes_broker.engines.sealed import SealingKey, sealed
from scripts.emitted_secrets import find_secrets
from tests.command import surroundings
from tests.fakes.nats_servers import NatsServer, running
from tests.fakes.nats_wire import Moment, wire
from tests.integration.test_migration import Data, check_moved, fill, is_finished, migrate

DAY: Final = 86_400.0
"""The dedupe window, as it is where the settings do not say otherwise."""
PATIENCE: Final = 120.0
NAMES: Final = Names("certes")
MOMENTS: Final = (
    Moment("certes.journal.", 3, is_stored=True),
    Moment("certes.attempts.", 1, is_stored=True),
    Moment("$KV.certes-settings.", 3, is_stored=False),
)
"""Each in a run of its own, which goes on where the one before it was killed."""
NEW, OLD = (base64.b64encode(name * 32).decode() for name in (b"n", b"o"))


async def command(data_dir: Path, url: str) -> asyncio.subprocess.Process:
    environ = surroundings(CERTES_SECRETS_KEYS=f"{NEW},{OLD}")
    words = ["-m", "certes_broker", "migrate", "--json", "--from", f"sqlite:{data_dir}", "--to", url]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, *words, env=environ, stdout=pipe, stderr=pipe)


async def killed_at(moment: Moment, data_dir: Path, server: NatsServer) -> None:
    """Runs the command and kills it at a moment, as `kill -9` does."""
    async with asyncio.timeout(PATIENCE), wire(server.port, moment) as passed, asyncio.TaskGroup() as tasks:
        process = await command(data_dir, passed.url)

        async def kill() -> None:
            await passed.reached.wait()
            process.kill()

        killing = tasks.create_task(kill())
        said = await process.communicate()
        killing.cancel()
        assert process.returncode == -signal.SIGKILL, f"It ended before {moment}: {said}"


async def end_members(server: NatsServer) -> None:
    """Ends whoever was killed, as others do after six seconds: they would have to be waited for."""
    client = await nats.connect(server.url)
    try:
        purge = json.dumps({"filter": NAMES.member("*")}).encode()
        answer = await client.request(f"$JS.API.STREAM.PURGE.{NAMES.lanes}", purge, timeout=PATIENCE)
        assert json.loads(answer.data)["success"]
    finally:
        await client.close()


async def sealed_copy(data: Data) -> Data:
    """Copies a source, and seals its settings by a key that is not the first any more."""
    copy = replace(data, directory=data.directory.with_name("sealed"))
    shutil.copytree(data.directory, copy.directory)
    async with copy.open() as engine:
        await sealed(engine, [SealingKey.parse(OLD)])
    return copy


def content(data: Data) -> Sequence[str]:
    """Returns everything that a source holds."""
    with closing(sqlite3.connect(f"file:{data.directory / 'certes.db'}?mode=ro", uri=True)) as db:
        return list(db.iterdump())


async def test_a_migration_that_is_killed_goes_on_where_it_was_counts_all_and_writes_nothing_to_its_source(
    tmp_path: Path,
) -> None:
    data = Data(tmp_path / "data", SystemClock(), DAY)
    async with data.open() as engine:
        await fill(engine)
    wanted = asdict(await migrate(data, MemoryEngine(data.clock, dedupe_window_seconds=DAY)))
    source = await sealed_copy(data)
    before = content(source)
    with running(tmp_path / "nats") as cluster:
        (server,) = cluster.servers
        for moment in MOMENTS:
            await killed_at(moment, source.directory, server)
            await end_members(server)
        async with asyncio.timeout(PATIENCE):
            process = await command(source.directory, server.url)
            said, complained = await process.communicate()
        assert process.returncode == 0, complained
        assert find_secrets((said + complained).decode(), (NEW, OLD)) == []
        assert json.loads(said) == wanted
        assert content(source) == before
        async with NatsEngine.open(Place(Access((server.url,))), data.clock, dedupe_window=DAY) as engine:
            target, renewed = await sealed(engine, [SealingKey.parse(NEW)])
            assert renewed == 0
            assert await is_finished(target)
            await check_moved(data, target)
