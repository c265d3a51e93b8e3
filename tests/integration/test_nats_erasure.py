"""Erasing a subscriber from NATS servers: its bytes go from their files, and an erasure that was broken off is made again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certes_broker.domain.events import BEGINNING, Micros, Original
from certes_broker.engines.nats import Access
from certes_broker.engines.nats.connection import Connection, connected
from certes_broker.engines.nats.deleting import Deletion
from certes_broker.engines.nats.erasure import Deletions, NatsErasure
from certes_broker.engines.nats.journal_blocks import JournalBlocks
from certes_broker.engines.nats.publishing import Publisher
from certes_broker.engines.nats.reading import Reader
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.engine import Attempt, CursorChange, DeadLetter, Engine, Rejected
from tests.contracts.engine_harness import START, as_read, event, state
from tests.fakes.nats_servers import NatsCluster, NatsServer, running
from tests.integration.test_nats_faults import opened

SECRET = b"the-name-of-somebody"
BODY = SECRET * 500
OTHER = b"the-name-of-another" * 500
NAME = "subscribers/org_1/subscriptions/a"


class Broken(Exception):
    """The process has ended, as it were."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    with running(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def server(cluster: NatsCluster) -> NatsServer:
    return cluster.servers[0]


def files_with(directory: Path, text: bytes) -> list[str]:
    return [str(path) for path in directory.rglob("*") if path.is_file() and text in path.read_bytes()]


async def ids(engine: Engine) -> list[str]:
    page = await engine.journal.read(BEGINNING, 100, 1 << 20)
    return [entry.event.id for entry in page.entries]


async def test_what_was_erased_is_in_no_file_of_the_server(cluster: NatsCluster, tmp_path: Path) -> None:
    original = Original("application/json", (), BODY)
    theirs = event("theirs", body=BODY, subscriber="org_1", original=original, digest=b"1")
    async with opened(*cluster.servers) as engine:
        outcomes = await engine.journal.append([theirs, event("other", body=OTHER, subscriber="org_2")])
        at = outcomes[0].position
        letter = DeadLetter(at, as_read(theirs), 1, "rejected", "", Micros(START))
        await engine.cursors.settle([CursorChange(NAME, 0, state(9), dead=[letter])])
        await engine.attempts.record([Attempt(NAME, at, 1, Micros(START), 0.1, 500, "", "", SECRET, None)])
        await engine.rejections.keep(Rejected("org", Micros(START), "MALFORMED", "no", True, original))
        assert files_with(tmp_path, SECRET)
        async with engine.erasure.wiping():
            await engine.rejections.forget("org", None)
            await engine.cursors.forget(NAME)
            assert await engine.erasure.events("org_1") == 1
            assert await engine.erasure.attempts("org_1") == 1
        assert await ids(engine) == ["other"]
    cluster.stop()
    assert files_with(tmp_path, SECRET) == []
    assert files_with(tmp_path, OTHER[:100])


async def test_a_broker_begins_with_what_others_were_left_in_every_block(server: NatsServer) -> None:
    async with opened(server) as engine:
        for number in range(4):
            await engine.journal.append([event(f"theirs{number}"), event(f"e{number}", subscriber=None)])
        last = (await engine.journal.bounds()).last
        async with engine.erasure.wiping():
            await engine.erasure.events("org_1")
        async with engine.erasure.wiping():
            await engine.erasure.events("nobody")
    async with opened(server) as engine:
        bounds = await engine.journal.bounds()
        assert (bounds.trimmed, bounds.last) == (0, last)
        assert await ids(engine) == ["e0", "e1", "e2", "e3"]
        for name in ("theirs0", "theirs3", "e3"):
            (again,) = await engine.journal.append([event(name, subscriber="org_1" if "t" in name else None)])
            assert again.duplicate
        (new,) = await engine.journal.append([event("new")])
        assert new.position > last


class Breaking(Deletion):
    """Breaks off at one of its calls: before it deletes, or after."""

    def __init__(self, connection: Connection, stream: str, *, at: int, done: bool) -> None:
        super().__init__(connection, stream, Reader(connection, stream))
        self._left = at
        self._done = done

    async def one(self, sequence: int) -> None:
        self._left -= 1
        if self._left or self._done:
            await super().one(sequence)
        if not self._left:
            raise Broken


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3])
async def test_an_erasure_that_was_broken_off_is_made_again(server: NatsServer, at: int, done: bool) -> None:
    names = Names("certes")
    async with opened(server) as engine:
        for number in range(3):
            theirs = [event(f"{subscriber}-{number}", subscriber=subscriber) for subscriber in ("org_1", "org_2")]
            await engine.journal.append([*theirs, event(f"e{number}", subscriber=None)])
        # The blocks stand elsewhere already, so that what stands for them is replaced as well.
        async with engine.erasure.wiping():
            await engine.erasure.events("org_2")
        async with connected(Access((server.url,))) as connection:
            lanes = Reader(connection, names.lanes)
            broken = Breaking(connection, names.lanes, at=at, done=done)
            others = [
                Deletion(connection, stream, Reader(connection, stream)) for stream in (names.journal, names.attempts)
            ]
            blocks = JournalBlocks(Reader(connection, names.journal), lanes, names)
            erasure = NatsErasure(
                connection,
                Publisher(connection),
                names,
                blocks,
                (lanes, Reader(connection, names.attempts)),
                Deletions(others[0], broken, others[1], others[1]),
                lambda: None,
            )
            with pytest.raises(Broken):
                await erasure.events("org_1")
        assert [one for one in await ids(engine) if one.startswith("e")] == ["e0", "e1", "e2"]
    async with opened(server) as engine:
        async with engine.erasure.wiping():
            await engine.erasure.events("org_1")
        assert await ids(engine) == ["e0", "e1", "e2"]
        assert (await engine.journal.bounds()).trimmed == 0
    async with connected(Access((server.url,))) as connection:
        assert len([kept async for kept in Reader(connection, names.lanes).messages(names.anew("*"))]) == 3
