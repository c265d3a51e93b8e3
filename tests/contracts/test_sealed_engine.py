"""An engine whose settings are sealed keeps the port's promises, and nothing of them in clear."""

from __future__ import annotations

import gc
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certes_broker.domain.errors import FailedPrecondition, Reason
from certes_broker.engines.memory import MemoryEngine
from certes_broker.engines.sealed import SealingKey, sealed
from certes_broker.engines.sqlite.engine import SqliteEngine
from certes_broker.ports.engine import Engine
from tests.contracts.engine_contract_settings import SettingsContract
from tests.contracts.engine_harness import WINDOW
from tests.fakes.manual_clock import ManualClock

OLD, NEW = SealingKey(b"o" * 32), SealingKey(b"n" * 32)
PLAIN = b'{"secret": "whsec_geheim-und-lang-genug"}'


class SealedHarness:
    def __init__(self) -> None:
        self.clock = ManualClock()

    @asynccontextmanager
    async def open(
        self, *, tail_entries: int = 10_000, watch_changes: int = 1_000, append_calls: int = 10_000
    ) -> AsyncIterator[Engine]:
        inner = MemoryEngine(self.clock, dedupe_window_seconds=WINDOW, watch_limit=watch_changes)
        engine, _ = await sealed(inner, [NEW, OLD])
        yield engine


class TestSealedSettings(SettingsContract):
    @pytest.fixture
    def harness(self) -> SealedHarness:
        return SealedHarness()


async def test_what_the_engine_keeps_is_no_more_in_clear_and_differs_each_time():
    inner = MemoryEngine(ManualClock())
    engine, _ = await sealed(inner, [NEW])
    await engine.settings.put("a", PLAIN)
    await engine.settings.put("b", PLAIN)
    kept = [document.body for document in await inner.settings.list("")]
    assert all(b"geheim" not in body for body in kept)
    assert len(set(kept)) == 2
    assert [document.body for document in await engine.settings.list("")] == [PLAIN, PLAIN]


async def test_a_key_is_changed_by_putting_the_new_one_first_and_taking_the_old_one_out_later():
    inner = MemoryEngine(ManualClock())
    await inner.settings.put("in clear", PLAIN)
    first, renewed = await sealed(inner, [OLD])
    assert renewed == 1
    await first.settings.put("sealed", PLAIN)
    _, renewed = await sealed(inner, [NEW, OLD])
    assert renewed == 2
    last, renewed = await sealed(inner, [NEW])
    assert renewed == 0
    assert [document.body for document in await last.settings.list("")] == [PLAIN, PLAIN]


@pytest.mark.parametrize("keys", [[], [OLD]], ids=["without a key", "with another"])
async def test_what_cannot_be_opened_is_refused_at_once_and_the_setting_named(keys):
    inner = MemoryEngine(ManualClock())
    engine, _ = await sealed(inner, [NEW])
    await engine.settings.put("a", PLAIN)
    with pytest.raises(FailedPrecondition, match=r"secrets\.keys") as refusal:
        await sealed(inner, keys)
    assert refusal.value.reason is Reason.SEALED_BY_ANOTHER_KEY
    assert refusal.value.metadata == {"key": "a"}


async def test_a_body_that_was_changed_or_put_in_another_s_place_is_refused():
    inner = MemoryEngine(ManualClock())
    engine, _ = await sealed(inner, [NEW])
    await engine.settings.put("a", PLAIN)
    kept = await inner.settings.get("a")
    assert kept is not None
    for key, body in (("b", kept.body), ("a", kept.body[:-1] + bytes([kept.body[-1] ^ 1])), ("a", kept.body[:-20])):
        await inner.settings.put(key, body)
        with pytest.raises(FailedPrecondition, match="changed since it was sealed"):
            await engine.settings.get(key)


async def test_nothing_of_what_is_sealed_is_in_any_file_of_the_data_directory(tmp_path: Path):
    async with SqliteEngine.open(tmp_path, ManualClock()) as inner:
        engine, _ = await sealed(inner, [NEW])
        for number in range(20):
            await engine.settings.put("subscriptions/a", PLAIN + str(number).encode())
        assert b"geheim" not in _everything(tmp_path)
    gc.collect()
    assert b"geheim" not in _everything(tmp_path)
    async with SqliteEngine.open(tmp_path, ManualClock()) as inner:
        await inner.settings.put("subscriptions/a", PLAIN)
    assert b"geheim" in _everything(tmp_path), "the test looks where documents are"


def _everything(directory: Path) -> bytes:
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    return b"".join(path.read_bytes() for path in files)


def test_a_key_shows_nothing_of_itself_and_its_name_tells_it_apart():
    assert repr(NEW) == "SealingKey()"
    assert SealingKey.parse(b64encode(NEW.key).decode()).name == NEW.name != OLD.name


@pytest.mark.parametrize("text", ["", "geheim!", b64encode(b"g" * 31).decode(), b64encode(b"g" * 33).decode()])
def test_what_is_no_key_is_refused_without_repeating_it(text):
    with pytest.raises(ValueError, match=r"base64|32") as refusal:
        SealingKey.parse(text)
    assert text == "" or text not in str(refusal.value)
