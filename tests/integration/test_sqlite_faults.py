"""What is accepted survives what disks and processes do; what cannot be written is refused, and the next write works."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import pytest

from certes_broker.domain.errors import AlreadyExists, CertesError, Internal, Reason, Unavailable
from certes_broker.domain.events import BEGINNING, Position
from certes_broker.engines.sqlite import Limits, SqliteEngine
from certes_broker.ports.engine import CursorChange
from tests.contracts.engine_harness import PLENTY, event, state
from tests.fakes.manual_clock import ManualClock

# Appends batches of ten events and settles, from four tasks, and says after each what was accepted.
LOAD: Final = """
import asyncio, pathlib, sys
from certes_broker.engines.sqlite import Limits, SqliteEngine
from certes_broker.ports.engine import CursorChange
from tests.contracts.engine_harness import event, state
from tests.fakes.manual_clock import ManualClock

async def produce(engine, producer):
    for call in range(1_000_000):
        ids = [f"{producer}-{call}-{index}" for index in range(10)]
        appended = await engine.journal.append([event(one, body=bytes(2_000)) for one in ids])
        await engine.cursors.settle([CursorChange(f"s-{producer}", 0, state(appended[-1].position))], appended[0].position)
        sys.stdout.write(f"{producer} {call} {appended[-1].position}\\n")
        sys.stdout.flush()

async def main():
    limits = Limits(log_bytes=4 << 20, checkpoint_seconds=0.05)
    async with SqliteEngine.open(pathlib.Path(sys.argv[1]), ManualClock(), limits=limits) as engine:
        async with asyncio.TaskGroup() as tasks:
            for producer in range(4):
                tasks.create_task(produce(engine, producer))

asyncio.run(main())
"""


async def killed_under_load(directory: Path, accepted_calls: int) -> list[tuple[int, int, int]]:
    """Runs the load in a process, kills it after so many accepted calls, and returns what it said was accepted."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", LOAD, str(directory)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    lines = [await child.stdout.readline() for _ in range(accepted_calls)]
    child.kill()
    lines += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()
    said = [line.split() for line in lines if line.endswith(b"\n")]
    return [(int(producer), int(call), int(position)) for producer, call, position in said]


async def assert_kept(directory: Path, accepted: list[tuple[int, int, int]]) -> None:
    async with opened(directory) as engine:
        entries = (await engine.journal.read(BEGINNING, PLENTY, PLENTY)).entries
        stored = [entry.event.id for entry in entries]
        assert len(stored) == len(set(stored))
        wanted = {f"{producer}-{call}-{index}" for producer, call, _ in accepted for index in range(10)}
        assert wanted <= set(stored)
        assert len(stored) % 10 == 0
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
        for producer in range(4):
            settled = [position for one, _, position in accepted if one == producer]
            (cursor,) = await engine.cursors.load([f"s-{producer}"])
            assert not settled or (cursor is not None and cursor.state.floor >= max(settled))
        assert (await engine.journal.append([event("0-0-0", body=bytes(2_000))]))[0].duplicate
        assert not (await engine.journal.append([event("after")]))[0].duplicate


@asynccontextmanager
async def opened(directory: Path, limits: Limits | None = None) -> AsyncIterator[SqliteEngine]:
    async with SqliteEngine.open(directory, ManualClock(), limits=limits or Limits()) as engine:
        yield engine


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Lets this process write no file beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("seed", range(5))
async def test_what_was_accepted_survives_a_kill_under_load(tmp_path: Path, seed: int) -> None:
    accepted = await killed_under_load(tmp_path, random.Random(seed).randint(1, 400))
    await assert_kept(tmp_path, accepted)


async def test_a_process_can_be_killed_again_and_again(tmp_path: Path) -> None:
    for _ in range(3):
        async with opened(tmp_path) as engine:
            last = (await engine.journal.bounds()).last
        accepted = await killed_under_load(tmp_path, 20)
        async with opened(tmp_path) as engine:
            assert (await engine.journal.bounds()).last >= max(last, *(position for _, _, position in accepted))


@pytest.mark.parametrize("tail", [b"\0" * 5_000, random.Random(1).randbytes(100_000)], ids=["zeros", "garbage"])
async def test_a_torn_end_of_the_log_hides_nothing_that_was_accepted(tmp_path: Path, tail: bytes) -> None:
    accepted = await killed_under_load(tmp_path, 10)
    with (tmp_path / "certes.db-wal").open("ab") as log:
        log.write(tail)
    await assert_kept(tmp_path, accepted)


async def test_a_log_that_lost_its_end_still_opens_at_a_commit(tmp_path: Path) -> None:
    await killed_under_load(tmp_path, 10)
    log = tmp_path / "certes.db-wal"
    os.truncate(log, log.stat().st_size * 2 // 3 + 7)
    async with opened(tmp_path) as engine:
        entries = (await engine.journal.read(BEGINNING, PLENTY, PLENTY)).entries
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))


async def test_a_full_disk_refuses_writes_and_keeps_what_was_accepted_until_there_is_space(tmp_path: Path) -> None:
    async with opened(tmp_path, Limits(checkpoint_seconds=3_600)) as engine:
        tail = engine.journal.tail()
        await engine.journal.append([event("before")])
        assert [entry.event.id for entry in await anext(tail)] == ["before"]
        with no_file_beyond((tmp_path / "certes.db-wal").stat().st_size + 50_000):
            writes = (
                engine.journal.append([event("full", body=bytes(200_000))]),
                engine.cursors.settle([CursorChange("s", 0, state(1))], Position(1)),
            )
            for outcome in await asyncio.gather(*writes, return_exceptions=True):
                assert isinstance(outcome, Unavailable)
                assert outcome.reason is Reason.STORAGE_UNAVAILABLE
                assert outcome.retryable
            found = (await engine.journal.read(BEGINNING, PLENTY, PLENTY)).entries
            assert [entry.event.id for entry in found] == ["before"]
            assert await engine.cursors.load(["s"]) == [None]
        assert not (await engine.journal.append([event("full", body=bytes(200_000))]))[0].duplicate
        assert [entry.event.id for entry in await anext(tail)] == ["full"]
        await engine.cursors.settle([CursorChange("s", 0, state(1))], Position(1))
    async with opened(tmp_path) as engine:
        found = (await engine.journal.read(BEGINNING, PLENTY, PLENTY)).entries
        assert [(entry.position, entry.event.id) for entry in found] == [(1, "before"), (2, "full")]
        assert await engine.cursors.watermark() == 1


async def test_epochs_given_out_in_a_failed_commit_are_not_given_out_again(tmp_path: Path) -> None:
    async with opened(tmp_path, Limits(checkpoint_seconds=3_600)) as engine:
        with no_file_beyond((tmp_path / "certes.db-wal").stat().st_size), pytest.raises(Unavailable):
            await engine.leases.lease(["a"])
        epochs = [await engine.leases.lease([name]) for name in ("a", "b")]
    async with opened(tmp_path) as engine:
        epochs.append(await engine.leases.lease(["a"]))
    numbers = [epoch for (epoch,) in epochs if epoch is not None]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 3


async def test_a_write_that_the_engine_cannot_make_fails_its_commit_and_no_later_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as engine:
        with pytest.raises(Internal):
            await engine.journal.append([event("no text", source="\ud800")])
        assert (await engine.journal.append([event("a")]))[0].position == 1


async def test_a_refused_call_and_a_good_one_in_one_commit_part_ways(tmp_path: Path) -> None:
    async with opened(tmp_path) as engine:
        await engine.journal.append([event("a")])
        calls = (engine.journal.append([event("x"), event("a", body=b"other")]), engine.journal.append([event("y")]))
        bad, good = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(bad, AlreadyExists)
        assert not isinstance(good, BaseException)
        assert await engine.journal.find("tests", "x") is None
        assert await engine.journal.find("tests", "y") == good[0].position


async def test_the_log_stays_bounded_under_load_and_with_readers(tmp_path: Path) -> None:
    bound = 2 << 20
    async with opened(tmp_path, Limits(log_bytes=bound, checkpoint_seconds=3_600)) as engine:
        largest = 0
        for call in range(200):
            await engine.journal.append([event(f"{call}-{index}", body=bytes(8_000)) for index in range(16)])
            await engine.journal.read(BEGINNING, 10, PLENTY)
            largest = max(largest, (tmp_path / "certes.db-wal").stat().st_size)
    assert largest <= 2 * bound


async def test_a_reader_that_keeps_the_log_from_beginning_anew_stops_no_read(tmp_path: Path) -> None:
    async with opened(tmp_path, Limits(log_bytes=2 << 20, checkpoint_seconds=0.05)) as engine:
        await engine.journal.append([event("a")])
        backup = sqlite3.connect(tmp_path / "certes.db", isolation_level=None)
        backup.execute("BEGIN")
        backup.execute("SELECT count(*) FROM blocks").fetchone()
        async with asyncio.TaskGroup() as tasks:
            appends = [tasks.create_task(engine.journal.append([event(str(n), body=bytes(900_000))])) for n in range(8)]
            assert len((await engine.journal.read(BEGINNING, 1, PLENTY)).entries) == 1
            backup.execute("COMMIT")
        backup.close()
        assert not any(append.result()[0].duplicate for append in appends)


async def test_a_journal_page_damaged_on_the_disk_is_reported(tmp_path: Path) -> None:
    async with opened(tmp_path) as engine:
        for call in range(50):
            await engine.journal.append([event(f"{call}-{index}", body=bytes(5_000)) for index in range(20)])
    database = tmp_path / "certes.db"
    content = bytearray(database.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400_000] = b"\xff" * 400_000
    database.write_bytes(content)
    async with opened(tmp_path) as engine:
        with pytest.raises(CertesError) as refusal:
            for position in range(1, 1_001):
                entry = await engine.journal.get(Position(position))
                assert entry is None or entry.event.body == bytes(5_000)
        assert refusal.value.reason is Reason.STORAGE_UNAVAILABLE
