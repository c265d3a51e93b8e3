"""Erasing a subscriber from a database: not one of its bytes is left in the files."""

from __future__ import annotations

from pathlib import Path

from certes_broker.domain.events import Micros, Original, Position
from certes_broker.engines.sqlite.engine import SqliteEngine
from certes_broker.ports.engine import Attempt, CursorChange, DeadLetter
from tests.contracts.engine_harness import START, as_read, event, state
from tests.fakes.manual_clock import ManualClock

SECRET = b"the-name-of-somebody"
BODY = b"the-name-of-somebody" * 500
OTHER = b"the-name-of-another" * 500
NAME = "subscribers/org_1/subscriptions/a"


def left(directory: Path, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in directory.rglob("*") if path.is_file())


async def filled(directory: Path) -> None:
    async with SqliteEngine.open(directory, ManualClock()) as engine:
        original = Original("application/json", (), BODY)
        theirs = event("theirs", body=BODY, subscriber="org_1", original=original, digest=b"1")
        small = event("small", body=SECRET, subscriber="org_1", digest=b"2")
        await engine.journal.append([theirs, event("other", body=OTHER, subscriber="org_2"), small])
        letter = DeadLetter(Position(1), as_read(theirs), 1, "rejected", "", Micros(START))
        await engine.cursors.settle([CursorChange(NAME, 0, state(3), dead=[letter])])
        await engine.attempts.record([Attempt(NAME, Position(1), 1, Micros(START), 0.1, 500, "", "", SECRET, None)])
        await engine.settings.put("subscriptions/a", BODY)


async def test_what_was_erased_is_in_no_file_once_the_engine_is_closed(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    await filled(directory)
    assert left(directory, SECRET)
    async with SqliteEngine.open(directory, ManualClock()) as engine, engine.erasure.wiping():
        assert await engine.erasure.events("org_1") == 2
        assert await engine.erasure.dead_letters("org_1") == 1
        assert await engine.erasure.attempts("org_1") == 1
        await engine.settings.delete("subscriptions/a")
    assert not left(directory, SECRET)
    assert left(directory, OTHER[:100])
    async with SqliteEngine.open(directory, ManualClock()) as engine:
        page = await engine.journal.read(Position(0), 10, 1 << 20)
        assert [(entry.position, entry.event.id) for entry in page.entries] == [(2, "other")]
        (appended,) = await engine.journal.append([event("next")])
        assert appended.position == 4


async def test_what_is_deleted_otherwise_is_only_let_go_of(tmp_path: Path) -> None:
    """So a trim does not write what it forgets; and the test above could fail."""
    directory = tmp_path / "data"
    await filled(directory)
    async with SqliteEngine.open(directory, ManualClock()) as engine:
        await engine.settings.delete("subscriptions/a")
        await engine.cursors.forget(NAME)
    assert left(directory, SECRET)
