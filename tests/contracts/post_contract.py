"""What every post promises that carries requests between brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

import pytest

from certes_broker.domain.errors import Exhausted, Internal, Reason
from certes_broker.ports.cluster import Lost, MemberId, NoResponder
from certes_broker.ports.engine import Engine
from tests.contracts.engine_contract_members import PATIENCE, SharedTests

SOON = 5.0


class Clerk:
    """A handler that does what the names of its tasks say."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.ended = asyncio.Event()
        self.sent = 0

    async def answer(self, name: str, body: bytes) -> bytes:
        if name == "double":
            return body * 2
        if name == "wait":
            self.waiting.set()
            await asyncio.Event().wait()
        if name == "refuse":
            raise Exhausted(Reason.BUFFER_FULL, "No room.", metadata={"limit": "3"}, retry_after=0.5)
        raise ValueError(name)

    async def stream(self, name: str, body: bytes) -> AsyncGenerator[bytes]:
        try:
            if name == "count":
                for number in range(int(body)):
                    self.sent = number + 1
                    yield b"%d" % number
            if name == "double":
                yield body
                yield b""
                yield body
            if name in {"refuse", "wait"}:
                yield b"first"
                self.waiting.set()
            if name == "refuse":
                raise Exhausted(Reason.BUFFER_FULL, "No room.")
            if name == "wait":
                await asyncio.Event().wait()
        finally:
            self.ended.set()


class PostContract(SharedTests):
    """Two engines, of which the second answers."""

    @pytest.fixture
    async def clerk(self, two: Engine):
        clerk = Clerk()
        async with two.post.serve(clerk):
            yield clerk

    @pytest.fixture
    def member(self, two: Engine) -> MemberId:
        return two.members.own

    @pytest.mark.usefixtures("clerk")
    @pytest.mark.parametrize("size", [0, 1, 3 << 20])
    async def test_a_question_is_answered_whatever_its_size(self, one: Engine, member: MemberId, size: int) -> None:
        body = bytes(range(256)) * (size // 256) + bytes(size % 256)
        assert await one.post.ask(member, "double", body, SOON) == body * 2

    @pytest.mark.usefixtures("clerk")
    async def test_many_questions_at_once_get_their_own_answers(self, one: Engine, member: MemberId) -> None:
        bodies = [b"%d " % number for number in range(100)]
        answers = await asyncio.gather(*(one.post.ask(member, "double", body, SOON) for body in bodies))
        assert answers == [body * 2 for body in bodies]

    @pytest.mark.usefixtures("clerk")
    async def test_what_the_other_refuses_is_refused_here(self, one: Engine, member: MemberId) -> None:
        with pytest.raises(Exhausted) as refusal:
            await one.post.ask(member, "refuse", b"", SOON)
        said = refusal.value
        assert (said.reason, said.message, said.metadata) == (Reason.BUFFER_FULL, "No room.", {"limit": "3"})
        assert said.retry_after == 0.5

    @pytest.mark.usefixtures("clerk")
    async def test_a_fault_of_the_other_is_an_internal_error(self, one: Engine, member: MemberId) -> None:
        with pytest.raises(Internal):
            await one.post.ask(member, "unheard of", b"", SOON)
        assert await one.post.ask(member, "double", b"a", SOON) == b"aa"

    async def test_a_member_that_does_not_serve_is_told_apart(self, one: Engine, member: MemberId) -> None:
        with pytest.raises(NoResponder):
            await one.post.ask(member, "double", b"", SOON)
        with pytest.raises(NoResponder):
            await anext(one.post.stream(member, "count", b"1"))
        with pytest.raises(NoResponder):
            await one.post.ask(MemberId("nobody"), "double", bytes(3 << 20), SOON)

    @pytest.mark.usefixtures("clerk")
    async def test_an_answer_that_does_not_come_is_lost(self, one: Engine, member: MemberId) -> None:
        with pytest.raises(Lost):
            await one.post.ask(member, "wait", b"", 0.05)

    async def test_who_stops_serving_lets_nobody_wait(self, one: Engine, two: Engine) -> None:
        async def ask() -> None:
            with pytest.raises(Lost):
                await one.post.ask(two.members.own, "wait", b"", 10 * PATIENCE)

        clerk = Clerk()
        async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            await stack.enter_async_context(two.post.serve(clerk))
            tasks.create_task(ask())
            await clerk.waiting.wait()
            await stack.aclose()

    @pytest.mark.usefixtures("clerk")
    async def test_frames_come_in_order_and_all(self, one: Engine, member: MemberId) -> None:
        got = [frame async for frame in one.post.stream(member, "count", b"1000")]
        assert got == [b"%d" % number for number in range(1000)]

    @pytest.mark.usefixtures("clerk")
    async def test_a_frame_may_be_large_or_empty(self, one: Engine, member: MemberId) -> None:
        body = bytes(range(256)) * (3 << 12)
        assert [frame async for frame in one.post.stream(member, "double", body)] == [body, b"", body]

    async def test_a_stream_that_nobody_reads_is_held_back(self, one: Engine, member: MemberId, clerk: Clerk) -> None:
        async with aclosing(one.post.stream(member, "count", b"100000")) as frames:
            assert await anext(frames) == b"0"
            assert await one.post.ask(member, "double", b"a", SOON) == b"aa"
            assert clerk.sent < 2_000
            assert await anext(frames) == b"1"

    async def test_who_closes_a_stream_ends_it_at_the_other(self, one: Engine, member: MemberId, clerk: Clerk) -> None:
        async with asyncio.timeout(PATIENCE):
            async with aclosing(one.post.stream(member, "wait", b"")) as frames:
                assert await anext(frames) == b"first"
                await clerk.waiting.wait()
                assert not clerk.ended.is_set()
            await clerk.ended.wait()

    @pytest.mark.usefixtures("clerk")
    async def test_what_the_other_refuses_ends_the_stream_with_that(self, one: Engine, member: MemberId) -> None:
        frames = one.post.stream(member, "refuse", b"")
        assert await anext(frames) == b"first"
        with pytest.raises(Exhausted):
            await anext(frames)

    async def test_a_stream_whose_other_stops_serving_is_lost(self, one: Engine, two: Engine) -> None:
        async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
            await stack.enter_async_context(two.post.serve(Clerk()))
            frames = one.post.stream(two.members.own, "wait", b"")
            assert await anext(frames) == b"first"
            await stack.aclose()
            with pytest.raises(Lost):
                await anext(frames)
