"""Several things at once: what comes of them, and that a cancellation is never lost over a failure."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from certes_broker.concurrency import together


class Refused(Exception):
    """A failure for which one would try again."""


async def test_what_works_return_comes_in_their_order_whichever_ends_first():
    first = asyncio.Event()

    async def waits() -> str:
        await first.wait()
        return "a"

    async def goes_first() -> str:
        first.set()
        return "b"

    assert await together([waits(), goes_first()]) == ["a", "b"]
    assert await together([]) == []


async def test_an_exception_that_is_returned_is_a_result():
    refused = Refused()

    async def returns_it() -> Refused:
        return refused

    assert await together([returns_it()]) == [refused]


async def test_a_failure_is_raised_as_it_is_when_the_others_have_ended():
    failed, ended = asyncio.Event(), []

    async def fails() -> None:
        failed.set()
        raise Refused

    async def goes_on() -> None:
        await failed.wait()
        await asyncio.sleep(0)
        ended.append(1)

    with pytest.raises(Refused):
        await together([fails(), goes_on()])
    assert ended == [1]


async def test_who_tries_again_for_ever_ends_when_cancelled_although_a_work_fails_by_it():
    begun = asyncio.Event()
    rounds = 0

    async def fails_when_it_is_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise Refused

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def tries_for_ever() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            try:
                await together([fails_when_it_is_cancelled(), waits()])
            except Refused:
                continue

    async with asyncio.TaskGroup() as tasks:
        loop = tasks.create_task(tries_for_ever())
        await begun.wait()
        loop.cancel()
        await asyncio.wait([loop], timeout=60)
        assert loop.cancelled()
        assert rounds == 1


async def test_who_is_cancelled_in_the_moment_in_which_a_work_fails_ends():
    failing = asyncio.Event()

    async def fails() -> None:
        await failing.wait()
        raise Refused

    async def tries_for_ever() -> None:
        while True:
            try:
                await together([fails(), asyncio.Event().wait()])
            except Refused:
                failing.clear()

    async with asyncio.TaskGroup() as tasks:
        loop = tasks.create_task(tries_for_ever())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        failing.set()
        await asyncio.sleep(0)
        loop.cancel()
        await asyncio.wait([loop], timeout=60)
        assert loop.cancelled()


async def test_a_work_that_is_cancelled_before_it_began_is_closed():
    works = [asyncio.Event().wait(), asyncio.Event().wait()]
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(together(works))
        await asyncio.sleep(0)
        assert [inspect.getcoroutinestate(work) for work in works] == [inspect.CORO_CREATED] * 2
        waiting.cancel()
    assert waiting.cancelled()
    assert [inspect.getcoroutinestate(work) for work in works] == [inspect.CORO_CLOSED] * 2
