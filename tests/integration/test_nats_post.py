"""What a post makes of another that goes wrong: a frame that is missing, an end that never comes, a message that is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from certes_broker.engines.nats import Access, NatsEngine, Place
from certes_broker.engines.nats.connection import Connection, connected
from certes_broker.engines.nats.post_messages import Kind, Notice, call_of, frame_headers
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.cluster import Lost, MemberId
from tests.contracts.post_contract import Clerk
from tests.fakes.manual_clock import ManualClock
from tests.fakes.nats_servers import NatsServer, running

OTHER = MemberId("other")
NAMES = Names("certes")
PATIENCE = 50.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with running(tmp_path) as cluster:
        yield cluster.servers[0]


@pytest.fixture
async def engine(server: NatsServer):
    async with NatsEngine.open(Place(Access((server.url,))), ManualClock()) as engine:
        yield engine


class Impostor:
    """Answers as a member does, but for what a test makes it do wrong."""

    def __init__(self, connection: Connection, asker: MemberId) -> None:
        self._client = connection.client
        self._asker = asker
        self.asked: list[Msg] = []

    async def answer(self, number: int, kind: Kind, frame: bytes) -> None:
        await self._client.publish(self.asked[0].reply, frame, headers=frame_headers(number, kind))

    async def tell_sent(self, count: int) -> None:
        call, _, _ = call_of(self.asked[0].headers)
        notice = Notice(OTHER, sent={call.id: count})
        await self._client.publish(NAMES.notices(self._asker), notice.encode())


@asynccontextmanager
async def impostor(server: NatsServer, asker: MemberId, does: Callable[[Impostor], object]) -> AsyncIterator[None]:
    async with connected(Access((server.url,))) as connection:
        one = Impostor(connection, asker)

        async def take(message: Msg) -> None:
            one.asked.append(message)
            await does(one)  # type: ignore[misc]

        await connection.client.subscribe(NAMES.post(OTHER), cb=take)
        await connection.client.flush()
        yield


def reading(engine: NatsEngine) -> aclosing[AsyncGenerator[bytes]]:
    return aclosing(engine.post.stream(OTHER, "count", b""))


async def test_a_frame_that_is_missing_ends_the_stream(server: NatsServer, engine: NatsEngine) -> None:
    async def skip_one(other: Impostor) -> None:
        await other.answer(0, Kind.DATA, b"first")
        await other.answer(2, Kind.DATA, b"third")

    async with impostor(server, engine.members.own, skip_one), asyncio.timeout(PATIENCE), reading(engine) as frames:
        assert await anext(frames) == b"first"
        with pytest.raises(Lost):
            await anext(frames)


async def test_a_last_frame_that_is_missing_is_noticed_by_what_the_writer_tells(
    server: NatsServer, engine: NatsEngine
) -> None:
    async def lose_the_last(other: Impostor) -> None:
        await other.answer(0, Kind.DATA, b"first")
        for _ in range(2):
            await other.tell_sent(2)

    async with (
        impostor(server, engine.members.own, lose_the_last),
        asyncio.timeout(PATIENCE),
        reading(engine) as frames,
    ):
        assert await anext(frames) == b"first"
        with pytest.raises(Lost):
            await anext(frames)


async def test_a_writer_of_whom_nothing_is_heard_has_broken_off(server: NatsServer, engine: NatsEngine) -> None:
    async def fall_silent(other: Impostor) -> None:
        await other.answer(0, Kind.DATA, b"first")

    async with impostor(server, engine.members.own, fall_silent), asyncio.timeout(PATIENCE), reading(engine) as frames:
        assert await anext(frames) == b"first"
        with pytest.raises(Lost):
            await anext(frames)


async def test_a_reader_of_whom_nothing_is_heard_is_written_to_no_more(server: NatsServer, engine: NatsEngine) -> None:
    clerk = Clerk()
    async with engine.post.serve(clerk), connected(Access((server.url,))) as connection, asyncio.timeout(PATIENCE):
        headers = {
            "Certes-Call": "c1",
            "Certes-Kind": "stream",
            "Certes-Name": "wait",
            "Certes-Asker": "gone",
            "Certes-Part": "0 1",
        }
        subject = NAMES.post(engine.members.own)
        await connection.client.publish(subject, b"", reply=connection.client.new_inbox(), headers=headers)
        await clerk.waiting.wait()
        await clerk.ended.wait()


async def test_a_message_that_is_no_request_is_left_alone(server: NatsServer, engine: NatsEngine) -> None:
    async with engine.post.serve(Clerk()), connected(Access((server.url,))) as connection:
        await connection.client.publish(NAMES.post(engine.members.own), b"what?")
        await connection.client.publish(NAMES.notices(engine.members.own), b"what?")
        await connection.client.flush()
        assert await engine.post.ask(engine.members.own, "double", b"a", 5.0) == b"aa"
