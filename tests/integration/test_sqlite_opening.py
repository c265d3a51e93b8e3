"""What the embedded engine does when it is opened: private, held, migrated, refused in words."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
from pathlib import Path

import pytest

from certes_broker.domain.errors import CertesError, FailedPrecondition, Reason, Unavailable
from certes_broker.engines.sqlite import SqliteEngine
from certes_broker.engines.sqlite.connection import connected
from certes_broker.engines.sqlite.engine import CHECKPOINTING, WRITING
from certes_broker.engines.sqlite.schema import Migration, migrate, migrations
from certes_broker.ports.engine import Document
from tests.fakes.manual_clock import ManualClock

SCHEMA = Path(__file__).resolve().parents[2] / "certes_broker" / "engines" / "sqlite" / "schema.sql"
SYNCING = ("journal_mode", "synchronous")


async def refusal(directory: Path) -> CertesError:
    with pytest.raises(CertesError) as raised:
        async with SqliteEngine.open(directory, ManualClock()):
            pass
    return raised.value


async def make(directory: Path) -> Path:
    async with SqliteEngine.open(directory, ManualClock()):
        pass
    return directory / "certes.db"


def names_in(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def schema_of(db: sqlite3.Connection) -> dict[str, str]:
    rows = db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    lines = {name: [line.partition("--")[0] for line in sql.splitlines()] for name, sql in rows}
    return {name: " ".join(" ".join(parts).split()) for name, parts in lines.items()}


def schema_of_all_migrations() -> dict[str, str]:
    migrated = sqlite3.connect(":memory:")
    migrate(migrated, migrations())
    schema = schema_of(migrated)
    migrated.close()
    return schema


async def test_the_directory_and_its_files_are_the_owner_s_alone(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "data"
    async with SqliteEngine.open(directory, ManualClock()) as engine:
        await engine.settings.put("key", b"secret")
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}
    assert modes == dict.fromkeys(("certes.db", "certes.db-wal", "certes.db-shm", "certes.lock"), 0o600)


async def test_closing_leaves_one_file_to_back_up_beside_the_lock(tmp_path: Path) -> None:
    await make(tmp_path)
    assert names_in(tmp_path) == ["certes.db", "certes.lock"]


@pytest.mark.parametrize("pragmas", [WRITING, CHECKPOINTING], ids=["writes", "checkpoints"])
async def test_whoever_writes_has_the_log_of_each_commit_synced(tmp_path: Path, pragmas: tuple[str, ...]) -> None:
    async with connected(await make(tmp_path), *pragmas) as connection:
        settings = await connection.run(lambda db: [db.execute(f"PRAGMA {one}").fetchone()[0] for one in SYNCING])
    assert settings == ["wal", 2]  # FULL, by which the log is synced after each commit.


async def test_a_second_engine_is_refused_with_the_process_that_holds_the_directory(tmp_path: Path) -> None:
    async with SqliteEngine.open(tmp_path, ManualClock()) as engine:
        refused = await refusal(tmp_path)
        assert isinstance(refused, FailedPrecondition)
        assert refused.reason is Reason.DATA_DIR_LOCKED
        assert refused.metadata == {"pid": str(os.getpid()), "directory": str(tmp_path)}
        await engine.settings.put("key", b"")
    async with SqliteEngine.open(tmp_path, ManualClock()):
        pass


async def test_another_process_is_refused_too(tmp_path: Path) -> None:
    program = f"""
import asyncio, pathlib
from certes_broker.engines.sqlite import SqliteEngine
from certes_broker.domain.errors import FailedPrecondition
from tests.fakes.manual_clock import ManualClock
async def main():
    try:
        async with SqliteEngine.open(pathlib.Path({str(tmp_path)!r}), ManualClock()):
            pass
    except FailedPrecondition as refusal:
        print(refusal.reason, refusal.metadata["pid"])
asyncio.run(main())
"""
    async with SqliteEngine.open(tmp_path, ManualClock()):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, env=environment
        )
        said, _ = await child.communicate()
    assert said.decode().split() == ["DATA_DIR_LOCKED", str(os.getpid())]


async def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    database = await make(tmp_path)
    with sqlite3.connect(database) as db:
        db.execute("PRAGMA user_version = 9000")
    db.close()
    refused = await refusal(tmp_path)
    assert isinstance(refused, FailedPrecondition)
    assert refused.metadata["schema"] == "9000"
    with sqlite3.connect(database) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (9000,)
    db.close()


async def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "certes.db") as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    assert isinstance(await refusal(tmp_path), FailedPrecondition)


@pytest.mark.parametrize("damage", ["no database", "damaged pages"])
async def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, damage: str) -> None:
    database = await make(tmp_path)
    content = bytearray(database.read_bytes())
    if damage == "no database":
        content[:100] = b"x" * 100
    else:
        content[100:4096] = b"\xff" * 3996
    database.write_bytes(content)
    refused = await refusal(tmp_path)
    assert isinstance(refused, Unavailable)
    assert refused.reason is Reason.STORAGE_UNAVAILABLE
    assert "backup" in refused.hint


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused = await refusal(tmp_path / "file" / "data")
    assert isinstance(refused, FailedPrecondition)
    assert str(tmp_path) in refused.message


async def test_what_goes_wrong_while_it_is_open_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="ours"):
        async with SqliteEngine.open(tmp_path, ManualClock()):
            raise LookupError("ours")


def test_the_migrations_lead_to_the_schema_as_it_is_written_down() -> None:
    written = sqlite3.connect(":memory:")
    written.executescript(SCHEMA.read_text())
    assert schema_of_all_migrations() == schema_of(written)
    written.close()


def test_the_migrations_are_numbered_from_one_without_holes() -> None:
    assert [step.number for step in migrations()] == list(range(1, len(migrations()) + 1))


def test_only_the_steps_that_are_missing_are_made() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    first = Migration(1, "first", "CREATE TABLE a (x)")
    second = Migration(2, "second", "CREATE TABLE b (x)")
    migrate(db, [first])
    migrate(db, [first, second])
    migrate(db, [first, second])
    assert set(schema_of(db)) == {"a", "b"}
    db.close()


@pytest.mark.parametrize("version", range(1, len(migrations())))
async def test_what_an_earlier_version_kept_is_there_in_this_one(tmp_path: Path, version: int) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    db = sqlite3.connect(directory / "certes.db", isolation_level=None)
    migrate(db, migrations()[:version])
    db.execute("INSERT INTO documents (key, body, revision) VALUES ('key', x'00', 1)")
    db.close()
    async with SqliteEngine.open(directory, ManualClock()) as engine:
        assert await engine.settings.get("key") == Document("key", b"\0", 1)
    db = sqlite3.connect(directory / "certes.db")
    assert schema_of(db) == schema_of_all_migrations()
    db.close()


def test_a_step_that_fails_leaves_the_database_at_the_one_before() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    first = Migration(1, "first", "CREATE TABLE a (x)")
    with pytest.raises(sqlite3.Error):
        migrate(db, [first, Migration(2, "second", "CREATE TABLE b (x); CREATE TABLE a (x)")])
    db.rollback()
    assert set(schema_of(db)) == {"a"}
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()
