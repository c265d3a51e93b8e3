"""What is accepted survives what NATS servers do; what cannot be stored is refused, and the next write works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certes_broker.domain.errors import Aborted, AlreadyExists, CertesError, FailedPrecondition, Reason, Unavailable
from certes_broker.domain.events import BEGINNING, Micros, Position
from certes_broker.engines.nats import Access, Limits, NatsEngine, Pace, Place
from certes_broker.ports.engine import CursorChange, Document, Engine
from tests.contracts.engine_harness import PLENTY, event, retry, state
from tests.fakes.manual_clock import ManualClock
from tests.fakes.nats_servers import NatsCluster, NatsServer, running

DEFAULT_PACE = Pace()
STANDS_STILL = Pace(renewal=3_600.0)
"""Of an engine that is to be taken for gone without noticing."""
IMPATIENT = Pace(ended=0.5)
A = "subscribers/org_1/subscriptions/a"


# The client does not close a connection to a frozen server that it gave up making.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")


@pytest.fixture
def one(tmp_path: Path) -> Iterator[NatsServer]:
    with running(tmp_path) as cluster:
        yield cluster.servers[0]


@pytest.fixture
def three(tmp_path: Path) -> Iterator[NatsCluster]:
    with running(tmp_path, size=3) as cluster:
        yield cluster


@asynccontextmanager
async def opened(
    *servers: NatsServer,
    pace: Pace = DEFAULT_PACE,
    clock: ManualClock | None = None,
    shared: bool = False,
    ping: int = 1,
) -> AsyncIterator[NatsEngine]:
    place = Place(Access(tuple(server.url for server in servers)))
    async with NatsEngine.open(
        place, clock or ManualClock(), limits=Limits(pace=pace, ping=ping), shared=shared
    ) as engine:
        yield engine


async def stored_ids(engine: Engine) -> list[str]:
    return [entry.event.id for entry in (await engine.journal.read(BEGINNING, PLENTY, PLENTY)).entries]


class Load:
    """Appends and settles from a few tasks for as long as it is wanted, and says what was accepted."""

    def __init__(self, engine: Engine, name: str = "", lane: str = A) -> None:
        self._engine = engine
        self._name = name
        self.lane = lane
        self._stopping = False
        self._news = asyncio.Event()
        self.accepted: dict[str, Position] = {}
        self.refused: set[str] = set()
        self.settled = BEGINNING

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for producer in range(4):
                tasks.create_task(self._produce(producer))
            tasks.create_task(self._settle())

    def stop(self) -> None:
        self._stopping = True

    async def until(self, condition) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def _produce(self, producer: int) -> None:
        call = 0
        while not self._stopping:
            call += 1
            ids = [f"{self._name}{producer}-{call}-{index}" for index in range(10)]
            try:
                appended = await self._engine.journal.append([event(one, body=bytes(500)) for one in ids])
            except Unavailable:
                self.refused.update(ids)
            else:
                self.accepted |= {one: outcome.position for one, outcome in zip(ids, appended, strict=True)}
            self._news.set()

    async def _settle(self) -> None:
        while not self._stopping:
            position = max(self.accepted.values(), default=BEGINNING)
            try:
                await self._engine.cursors.settle([CursorChange(self.lane, 0, state(position))])
            except Unavailable:
                await asyncio.sleep(0)
            else:
                self.settled = position


async def assert_kept(engine: Engine, load: Load) -> None:
    entries = (await engine.journal.read(BEGINNING, PLENTY, PLENTY)).entries
    found = {entry.event.id: entry.position for entry in entries}
    assert len(found) == len(entries)
    assert load.accepted.items() <= found.items()
    assert found.keys() <= load.accepted.keys() | load.refused
    assert len(entries) % 10 == 0
    (cursor,) = await engine.cursors.load([A])
    assert cursor is not None
    assert cursor.state.floor >= load.settled


async def through_trouble(load: Load, trouble: Awaitable[None]) -> None:
    """Runs the load before, during and after some trouble, to which `trouble` is a coroutine."""
    await all_through_trouble([load], trouble)


async def all_through_trouble(loads: Sequence[Load], trouble: Awaitable[None]) -> None:
    """Does the same with the loads of several engines."""
    async with asyncio.TaskGroup() as tasks:
        for load in loads:
            tasks.create_task(load.run())
        for load in loads:
            await load.until(lambda load=load: len(load.accepted) >= 500)
        await trouble
        before = [len(load.accepted) for load in loads]
        for load, count in zip(loads, before, strict=True):
            await load.until(lambda load=load, count=count: len(load.accepted) >= count + 500)
        for load in loads:
            load.stop()


async def test_a_server_that_is_killed_in_the_middle_of_appends_loses_nothing_that_was_accepted(
    one: NatsServer,
) -> None:
    async with opened(one) as engine:
        load = Load(engine)

        async def kill() -> None:
            one.kill()
            await asyncio.to_thread(one.restart)

        await through_trouble(load, kill())
        await assert_kept(engine, load)
    async with opened(one) as engine:
        await assert_kept(engine, load)
        some = next(iter(load.accepted))
        assert (await engine.journal.append([event(some, body=bytes(500))]))[0].duplicate


async def test_while_there_is_no_server_writes_and_reads_are_unavailable_and_then_they_work(one: NatsServer) -> None:
    async with opened(one) as engine:
        await engine.journal.append([event("before")])
        one.kill()
        calls = (
            engine.journal.append([event("meanwhile")]),
            engine.cursors.settle([CursorChange(A, 0, state(1))]),
            engine.settings.put("key", b"meanwhile"),
            engine.journal.bounds(),
        )
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, Unavailable)
            assert outcome.reason is Reason.STORAGE_UNAVAILABLE
            assert outcome.retryable
        await asyncio.to_thread(one.restart)
        tail = engine.journal.tail()
        again = await engine.journal.append([event("meanwhile"), event("after")])
        assert [outcome.duplicate for outcome in again] == [False, False]
        assert [entry.event.id for entry in await anext(tail)] == ["meanwhile", "after"]
        assert await stored_ids(engine) == ["before", "meanwhile", "after"]
        await engine.settings.put("key", b"after")
        document = await engine.settings.get("key")
        assert document is not None
        assert document.body == b"after"


async def test_what_was_stored_although_its_answer_was_lost_is_found_and_goes_to_the_tail(one: NatsServer) -> None:
    # The connection is not given up meanwhile: what was sent could go with it.
    async with opened(one, ping=60) as engine:
        tail = engine.journal.tail()
        await engine.journal.append([event("before")])
        await anext(tail)
        # It gets what is sent, and answers when nobody waits any more.
        one.freeze()
        try:
            with pytest.raises(Unavailable):
                await engine.journal.append([event("lost")])
        finally:
            one.thaw()
        assert (await engine.journal.append([event("lost")]))[0].duplicate
        await engine.journal.append([event("after")])
        seen: list[str] = []
        while "after" not in seen:
            seen += [entry.event.id for entry in await anext(tail)]
        assert seen == ["lost", "after"]
        assert await stored_ids(engine) == ["before", "lost", "after"]


async def test_a_leader_that_is_killed_loses_nothing_that_was_accepted(three: NatsCluster) -> None:
    async with opened(*three.servers) as engine:
        load = Load(engine)

        async def kill() -> None:
            leader = await asyncio.to_thread(three.leader_of, "certes-journal")
            leader.kill()
            await asyncio.to_thread(three.leader_of, "certes-journal")
            await asyncio.to_thread(leader.restart)

        await through_trouble(load, kill())
        await assert_kept(engine, load)
        assert load.settled > BEGINNING


async def test_all_servers_of_a_cluster_may_be_killed_at_once(three: NatsCluster) -> None:
    async with opened(*three.servers) as engine:
        load = Load(engine)

        async def kill() -> None:
            three.stop()
            await asyncio.to_thread(three.start)

        await through_trouble(load, kill())
        await assert_kept(engine, load)


async def test_everything_is_there_after_the_engine_was_opened_again(one: NatsServer) -> None:
    async with opened(one) as engine:
        first = await engine.journal.append([event("a"), event("b")])
        (epoch,) = await engine.leases.lease([A])
        assert epoch is not None
        rows = [retry(position) for position in range(1, 200)]
        await engine.cursors.settle([CursorChange(A, epoch, state(5), put=rows)], Position(7))
        await engine.cursors.settle([CursorChange(A, epoch, state(6), put=[retry(5, attempt=9)], drop=[Position(3)])])
        await engine.settings.put("key/with/ünïcode", b"body")
        await engine.settings.put("deleted", b"")
        await engine.settings.delete("deleted")
    async with opened(one) as engine:
        (cursor,) = await engine.cursors.load([A])
        assert cursor is not None
        assert cursor.state == state(6)
        assert len(cursor.owed) == 198
        assert cursor.owed[3] == retry(5, attempt=9)
        assert await engine.cursors.watermark() == 7
        assert (await engine.journal.append([event("b")]))[0] == first[1]._replace(duplicate=True)
        with pytest.raises(AlreadyExists):
            await engine.journal.append([event("a", body=b"other")])
        assert [document.key for document in await engine.settings.list("")] == ["key/with/ünïcode"]
        assert (await engine.settings.put("deleted", b"again", expected=0)) == 4
        # The lease of the engine that was closed is nobody's, although it had no end.
        (newer,) = await engine.leases.lease([A])
        assert newer is not None
        assert newer > epoch
        assert await engine.cursors.settle([CursorChange(A, epoch, state(9))]) == [A]


async def test_a_writer_that_others_came_before_judges_again(one: NatsServer) -> None:
    """Two writers at once, as while a displaced one has not noticed: nothing is doubled, and each finds the other's."""
    async with opened(one, pace=STANDS_STILL) as engine:
        await engine.journal.append([event("a")])
        async with opened(one, pace=IMPATIENT) as other:
            tail = engine.journal.tail()
            assert (await other.journal.append([event("a"), event("b")]))[0].duplicate
            outcome = await engine.journal.append([event("b"), event("c")])
            assert [one.duplicate for one in outcome] == [True, False]
            assert [entry.event.id for entry in await anext(tail)] == ["b"]
            assert [entry.event.id for entry in await anext(tail)] == ["c"]
            assert await stored_ids(engine) == ["a", "b", "c"]


@pytest.mark.parametrize("size", [1, 3])
async def test_of_blocks_that_are_sent_together_none_gets_a_place_that_it_was_not_judged_for(
    tmp_path: Path, size: int
) -> None:
    """The first finds its place taken. The place of the second is free, and it has an id that is stored by now."""
    with running(tmp_path, size=size) as cluster:
        async with opened(*cluster.servers, pace=STANDS_STILL) as engine:
            await engine.journal.append([event("a")])
            async with opened(*cluster.servers, pace=IMPATIENT) as other:
                await other.journal.append([event("b")])
                calls = [[event(f"{call}-{number}") for number in range(600)] for call in range(3)]
                calls[1][7] = event("b")
                outcomes = await asyncio.gather(*map(engine.journal.append, calls))
                duplicates = [one.duplicate for outcome in outcomes for one in outcome]
                assert [number for number, is_duplicate in enumerate(duplicates) if is_duplicate] == [607]
                sent = [one.id for call in calls for one in call if one.id != "b"]
                assert await stored_ids(engine) == ["a", "b", *sent]


async def test_what_a_displaced_engine_settles_is_refused(one: NatsServer) -> None:
    async with opened(one, pace=STANDS_STILL) as engine:
        (old,) = await engine.leases.lease([A])
        assert old is not None
        assert await engine.cursors.settle([CursorChange(A, old, state(5))]) == []
        async with opened(one, pace=IMPATIENT) as other:
            (new,) = await other.leases.lease([A])
            assert new is not None
            assert new > old
            assert await engine.cursors.settle([CursorChange(A, old, state(9))]) == [A]
            assert await other.cursors.settle([CursorChange(A, new, state(6))]) == []
            (cursor,) = await other.cursors.load([A])
            assert cursor is not None
            assert cursor.state == state(6)


async def test_settings_that_others_changed_meanwhile_are_not_overwritten(one: NatsServer) -> None:
    async with opened(one, pace=STANDS_STILL) as engine:
        revision = await engine.settings.put("key", b"1")
        watch = engine.settings.watch("")
        async with opened(one, pace=IMPATIENT) as other:
            newer = await other.settings.put("key", b"2", expected=revision)
            with pytest.raises(Aborted) as refusal:
                await engine.settings.put("key", b"3", expected=revision)
            assert refusal.value.metadata == {"revision": str(newer)}
            assert await engine.settings.get("key") == Document("key", b"2", newer)
            assert (await anext(watch)).body == b"2"


async def test_an_engine_that_was_displaced_ends(one: NatsServer) -> None:
    with pytest.raises(ExceptionGroup) as ended:
        async with opened(one, pace=Pace(renewal=2.0)), opened(one, pace=IMPATIENT):
            await asyncio.Event().wait()
    assert ended.group_contains(FailedPrecondition, match="taken this one for gone")


async def test_a_prefix_is_one_engine_s_at_a_time(one: NatsServer) -> None:
    async with opened(one):
        with pytest.raises(FailedPrecondition) as refusal:
            async with opened(one):
                pass
        assert refusal.value.reason is Reason.DATA_DIR_LOCKED
        assert "nats.prefix" in refusal.value.hint
    async with opened(one):
        pass


async def test_an_id_outlives_its_trimmed_event_over_a_restart_and_not_its_window(one: NatsServer) -> None:
    clock = ManualClock()
    first = []
    async with opened(one, clock=clock) as engine:
        for index in range(20):
            first += await engine.journal.append([event(f"{index}-{n}") for n in range(3)])
        assert (await engine.journal.trim(first[-1].position)).trimmed > first[50].position
    clock.advance(86_400)
    async with opened(one, clock=clock) as engine:
        again = await engine.journal.append([event("0-0"), event("7-2"), event("new")])
        assert again[:2] == [first[0]._replace(duplicate=True), first[23]._replace(duplicate=True)]
        with pytest.raises(AlreadyExists):
            await engine.journal.append([event("0-1", body=b"other")])
        clock.advance(86_400)
        await engine.journal.forget_ids(Micros(clock.now() - 86_400_000_000))
        assert not (await engine.journal.append([event("0-0")]))[0].duplicate
    async with opened(one, clock=clock) as engine:
        assert not (await engine.journal.append([event("0-1")]))[0].duplicate
        assert (await engine.journal.append([event("new")]))[0].duplicate


async def test_a_call_that_is_too_large_for_a_message_is_refused_alone(one: NatsServer) -> None:
    async with opened(one) as engine:
        calls = (
            engine.journal.append([event("small")]),
            engine.journal.append([event("large", body=bytes(9 << 20))]),
            engine.journal.append([event("other")]),
        )
        small, large, other = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(large, CertesError)
        assert large.reason is Reason.REQUEST_TOO_LARGE
        assert large.metadata["setting"] == "max_payload"
        assert not isinstance(small, BaseException)
        assert not isinstance(other, BaseException)
        assert sorted(await stored_ids(engine)) == ["other", "small"]
