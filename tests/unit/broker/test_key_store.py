"""The API keys that are stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from certes_broker.broker.key_store import PATIENCE, KeyStore
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.domain.access import Bindings, Role
from certes_broker.domain.api_keys import ApiKey, KeyId, digest_of
from certes_broker.domain.errors import AlreadyExists, NotFound
from certes_broker.domain.uris import parse_pattern
from certes_broker.engines.memory import MemoryEngine
from tests.fakes.manual_clock import ManualClock


def key(key_id: str = "a", **fields) -> ApiKey:
    return ApiKey(KeyId(key_id), digest_of(key_id), frozenset({Role.EVENTS_READ}), **fields)


@asynccontextmanager
async def store(engine: MemoryEngine, clock: ManualClock) -> AsyncIterator[KeyStore]:
    async with asyncio.TaskGroup() as tasks:
        keys = KeyStore(engine.settings, clock, Undisturbed(tasks))
        following = tasks.create_task(keys.run(await keys.start()))
        yield keys
        following.cancel()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def engine(clock: ManualClock) -> MemoryEngine:
    return MemoryEngine(clock)


async def test_a_key_is_found_as_it_was_made_also_after_a_restart(engine, clock) -> None:
    bindings = Bindings(frozenset({"org_1"}), frozenset({"//a/*"}), frozenset({parse_pattern("d.x/**")}))
    async with store(engine, clock) as keys:
        made = await keys.create(key(bindings=bindings, title="The shop", expire_time=clock.now() + 5))
        assert keys.find(KeyId("a")) == made
        assert (made.create_time, made.bindings) == (clock.now(), bindings)
    async with store(engine, clock) as keys:
        assert keys.get(KeyId("a")) == made


async def test_an_id_is_taken_once(engine, clock) -> None:
    async with store(engine, clock) as keys:
        first = await keys.create(key())
        with pytest.raises(AlreadyExists, match="There is a key 'a' already"):
            await keys.create(key(title="another"))
        assert keys.get(KeyId("a")) == first


async def test_a_deleted_key_is_gone_at_once_and_whoever_asked_is_told(engine, clock) -> None:
    async with store(engine, clock) as keys:
        gone: list[str] = []
        keys.on_gone = gone.append
        await keys.create(key())
        await keys.delete(KeyId("a"))
        assert keys.find(KeyId("a")) is None
        assert gone == ["apiKeys/a"]
        with pytest.raises(NotFound):
            await keys.delete(KeyId("a"))


async def test_what_another_broker_makes_and_deletes_counts_here_too(engine, clock) -> None:
    async with store(engine, clock) as here, store(engine, clock) as there:
        gone = asyncio.Event()
        here.on_gone = lambda _: gone.set()
        await there.create(key())
        async with asyncio.timeout(50):
            while here.find(KeyId("a")) is None:  # noqa: ASYNC110  it waits for no time
                await asyncio.sleep(0)
        await there.delete(KeyId("a"))
        await gone.wait()
        assert here.find(KeyId("a")) is None


async def test_a_key_made_anew_under_an_old_id_is_another_one(engine, clock) -> None:
    async with store(engine, clock) as keys:
        old = await keys.create(key())
        await keys.delete(KeyId("a"))
        new = await keys.create(key(title="new"))
        assert new.revision > old.revision
        assert keys.get(KeyId("a")) == new


async def test_keys_are_listed_by_id_and_page(engine, clock) -> None:
    async with store(engine, clock) as keys:
        for key_id in ("c", "a", "b"):
            await keys.create(key(key_id))
        first = keys.list(page_size=2, page_token="")
        rest = keys.list(page_size=2, page_token=first.next_page_token)
        assert [[one.id for one in page.keys] for page in (first, rest)] == [["a", "b"], ["c"]]
        assert rest.next_page_token == ""


async def test_nothing_of_a_key_that_would_open_a_door_is_stored(engine, clock) -> None:
    async with store(engine, clock) as keys:
        await keys.create(ApiKey(KeyId("a"), digest_of("certes_a_" + "s" * 40), frozenset()))
        [document] = await engine.settings.list("api-keys/")
        assert b"s" * 40 not in document.body


@asynccontextmanager
async def deaf_store(engine: MemoryEngine, clock: ManualClock) -> AsyncIterator[KeyStore]:
    """A store that has others beside it, and hears nothing of them."""
    async with asyncio.TaskGroup() as tasks:
        keys = KeyStore(engine.settings, clock, Undisturbed(tasks), is_alone=lambda: False)
        await keys.start()
        yield keys


async def test_a_key_of_another_broker_is_found_before_the_engine_has_told_of_it(engine, clock) -> None:
    async with store(engine, clock) as there, deaf_store(engine, clock) as here:
        made = await there.create(key())
        assert here.find(KeyId("a")) is None
        await here.look()
        assert here.find(KeyId("a")) == made


async def test_all_who_show_a_key_that_is_not_known_wait_for_one_look_and_that_for_its_time(engine, clock) -> None:
    async with store(engine, clock) as there, deaf_store(engine, clock) as here:
        await here.look()
        async with asyncio.timeout(60), asyncio.TaskGroup() as waiting:
            looks = [waiting.create_task(here.look()) for _ in range(3)]
            await there.create(key())
            for _ in range(10):
                await asyncio.sleep(0)
            assert not any(look.done() for look in looks)
            assert here.find(KeyId("a")) is None
            clock.advance(PATIENCE)
        assert here.find(KeyId("a")) is not None


async def test_a_look_that_is_given_up_holds_up_nobody(engine, clock) -> None:
    async with store(engine, clock) as there, deaf_store(engine, clock) as here:
        await here.look()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await here.look()
        await there.create(key())
        clock.advance(PATIENCE)
        await here.look()
        assert here.find(KeyId("a")) is not None


async def test_a_broker_that_is_alone_waits_for_nothing(engine, clock) -> None:
    async with store(engine, clock) as keys:
        for _ in range(3):
            await keys.look()
