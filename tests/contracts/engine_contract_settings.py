"""What every engine promises of its log of attempts and its settings."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from certes_broker.domain.errors import Aborted, Reason
from certes_broker.domain.events import Micros, Position
from certes_broker.ports.engine import Attempt, Document, DocumentChange, Engine
from tests.contracts.engine_harness import START, EngineHarness, EngineTests

A = "subscribers/org_1/subscriptions/a"
B = "subscribers/org_1/subscriptions/b"


def attempt(number: int, subscription: str = A, position: int = 5, time: int = START) -> Attempt:
    return Attempt(
        subscription,
        Position(position),
        number,
        Micros(time),
        0.125,
        503,
        "",
        "Bad Gateway – é",
        bytes(range(256)),
        None,
    )


class AttemptsContract(EngineTests):
    async def test_attempts_are_listed_newest_first(self, engine: Engine) -> None:
        await engine.attempts.record([attempt(1), attempt(1, B), attempt(2)])
        await engine.attempts.record([attempt(3)])
        assert list(await engine.attempts.list(A, None, 10)) == [attempt(3), attempt(2), attempt(1)]
        assert list(await engine.attempts.list(A, None, 2)) == [attempt(3), attempt(2)]
        assert list(await engine.attempts.list("none", None, 10)) == []

    async def test_attempts_at_one_event_can_be_asked_for(self, engine: Engine) -> None:
        await engine.attempts.record([attempt(number, position=position) for number in (1, 2) for position in (5, 6)])
        assert list(await engine.attempts.list(A, Position(6), 10)) == [attempt(2, position=6), attempt(1, position=6)]
        assert list(await engine.attempts.list(A, Position(6), 1)) == [attempt(2, position=6)]

    async def test_an_attempt_without_an_answer_is_kept_as_it_was(self, engine: Engine) -> None:
        failed = replace(attempt(1), status=None, failure="timeout", answer=b"", next_try=Micros(START + 5))
        await engine.attempts.record([failed])
        assert list(await engine.attempts.list(A, None, 10)) == [failed]

    async def test_recording_nothing_does_nothing(self, engine: Engine) -> None:
        await engine.attempts.record([])
        assert list(await engine.attempts.list(A, None, 10)) == []

    async def test_records_made_at_once_are_all_kept(self, engine: Engine) -> None:
        await asyncio.gather(*(engine.attempts.record([attempt(number)]) for number in range(300)))
        found = await engine.attempts.list(A, None, 1_000)
        assert sorted(one.number for one in found) == list(range(300))

    async def test_trimming_forgets_what_is_older_or_a_little_less(self, engine: Engine) -> None:
        for number in range(400):
            await engine.attempts.record([attempt(number, time=START + number)])
        await engine.attempts.trim(Micros(START + 390))
        found = [one.number for one in await engine.attempts.list(A, None, 1_000)]
        assert found[:10] == list(range(399, 389, -1))
        assert len(found) <= 20


class SettingsContract(EngineTests):
    async def test_a_document_is_read_as_it_was_written(self, engine: Engine) -> None:
        assert await engine.settings.get("sources/github") is None
        revision = await engine.settings.put("sources/github", b"\0body")
        assert await engine.settings.get("sources/github") == Document("sources/github", b"\0body", revision)

    async def test_revisions_grow_over_all_documents_from_one(self, engine: Engine) -> None:
        first = await engine.settings.put("a", b"")
        second = await engine.settings.put("b", b"")
        third = await engine.settings.put("a", b"")
        await engine.settings.delete("a")
        fourth = await engine.settings.put("a", b"")
        assert first == 1
        assert first < second < third < fourth

    async def test_documents_are_listed_by_key_under_a_prefix(self, engine: Engine) -> None:
        for key in ("b/2", "b/10", "a/1", "b/%", "c", "B/1", "b0"):
            await engine.settings.put(key, key.encode())
        assert [document.key for document in await engine.settings.list("b/")] == ["b/%", "b/10", "b/2"]
        assert len(await engine.settings.list("")) == 7
        assert list(await engine.settings.list("d")) == []

    async def test_a_put_that_expects_the_present_revision_is_made(self, engine: Engine) -> None:
        first = await engine.settings.put("key", b"1", expected=0)
        second = await engine.settings.put("key", b"2", expected=first)
        assert await engine.settings.get("key") == Document("key", b"2", second)

    async def test_a_change_that_expects_another_revision_is_refused(self, engine: Engine) -> None:
        revision = await engine.settings.put("key", b"1")
        changes = (
            engine.settings.put("key", b"2", expected=0),
            engine.settings.put("key", b"2", expected=revision + 1),
            engine.settings.delete("key", expected=revision + 1),
        )
        for change in changes:
            with pytest.raises(Aborted) as refusal:
                await change
            assert refusal.value.reason is Reason.REVISION_CONFLICT
            assert refusal.value.metadata == {"revision": str(revision)}
        with pytest.raises(Aborted) as refusal:
            await engine.settings.put("absent", b"", expected=revision)
        assert refusal.value.metadata == {"revision": "0"}
        assert await engine.settings.get("key") == Document("key", b"1", revision)

    async def test_of_many_that_expect_one_revision_one_wins(self, engine: Engine) -> None:
        puts = (engine.settings.put("key", str(index).encode(), expected=0) for index in range(20))
        outcomes = await asyncio.gather(*puts, return_exceptions=True)
        assert len([outcome for outcome in outcomes if isinstance(outcome, int)]) == 1
        assert len([outcome for outcome in outcomes if isinstance(outcome, Aborted)]) == 19

    async def test_a_deleted_document_is_gone_and_may_be_deleted_again(self, engine: Engine) -> None:
        revision = await engine.settings.put("key", b"1")
        await engine.settings.delete("key", expected=revision)
        await engine.settings.delete("key")
        assert await engine.settings.get("key") is None
        assert list(await engine.settings.list("")) == []

    async def test_a_watch_has_every_change_under_its_prefix_in_order(self, engine: Engine) -> None:
        await engine.settings.put("a/0", b"before")
        watch = engine.settings.watch("a/")
        first = await engine.settings.put("a/1", b"1")
        await engine.settings.put("b/1", b"")
        second = await engine.settings.put("a/1", b"2")
        await engine.settings.delete("a/1")
        await engine.settings.delete("a/1")
        third = await engine.settings.put("a/2", b"3")
        seen = [await anext(watch) for _ in range(4)]
        assert seen[:2] == [DocumentChange("a/1", b"1", first), DocumentChange("a/1", b"2", second)]
        assert (seen[2].key, seen[2].body) == ("a/1", None)
        assert seen[3] == DocumentChange("a/2", b"3", third)
        assert second < seen[2].revision < third

    async def test_each_watch_has_every_change(self, engine: Engine) -> None:
        watches = [engine.settings.watch("") for _ in range(3)]
        await asyncio.gather(*(engine.settings.put(f"{index}", b"") for index in range(30)))
        for watch in watches:
            revisions = [(await anext(watch)).revision for _ in range(30)]
            assert revisions == list(range(1, 31))

    async def test_a_watch_that_is_not_read_holds_changes_back_and_nothing_else(self, harness: EngineHarness) -> None:
        async with harness.open(watch_changes=4) as engine, asyncio.TaskGroup() as tasks:
            watch = engine.settings.watch("")
            done: list[int] = []

            async def change() -> None:
                for _ in range(50):
                    done.append(await engine.settings.put("key", b""))

            tasks.create_task(change())
            for read in range(50):
                for _ in range(3):
                    await engine.cursors.settle([], Position(1))
                assert len(done) - read <= 4
                await anext(watch)
