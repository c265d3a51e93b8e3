"""Work that its caller does not disturb, and that leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref

import pytest

from certes_broker.broker.undisturbed import Undisturbed


class Held:
    """Something that work is done on."""


async def test_a_caller_gets_what_the_work_returns_or_raises():
    async def work(outcome: Exception | int) -> int:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async with asyncio.TaskGroup() as tasks:
        undisturbed = Undisturbed(tasks)
        assert await undisturbed.do(work(7)) == 7
        with pytest.raises(LookupError):
            await undisturbed.do(work(LookupError()))


async def test_work_goes_on_without_its_caller():
    begun, go, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        begun.set()
        await go.wait()
        done.append(1)

    async with asyncio.TaskGroup() as tasks:
        undisturbed = Undisturbed(tasks)
        caller = tasks.create_task(undisturbed.do(work()))
        await begun.wait()
        caller.cancel()
        await asyncio.wait([caller])
        go.set()
        await undisturbed.finished()
    assert done == [1]


async def test_a_work_that_is_cancelled_before_it_began_is_closed_and_its_caller_hears_of_it():
    work = asyncio.Event().wait()

    async def cancel_the_group() -> None:
        raise LookupError

    callers: list[asyncio.Task[object]] = []
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as tasks:
            undisturbed = Undisturbed(tasks)
            callers.append(asyncio.get_running_loop().create_task(undisturbed.do(work)))
            tasks.create_task(cancel_the_group())
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
    await asyncio.wait(callers)
    assert callers[0].cancelled()


async def test_a_work_that_comes_when_the_group_has_ended_is_closed():
    async with asyncio.TaskGroup() as tasks:
        undisturbed = Undisturbed(tasks)
    work = asyncio.Event().wait()
    with pytest.raises(RuntimeError):
        await undisturbed.do(work)
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED


async def test_what_failed_is_let_go_of_at_once_and_waits_for_no_garbage_collector():
    async def work(held: Held) -> None:
        await asyncio.sleep(0)
        raise LookupError(held)

    async def fail(undisturbed: Undisturbed) -> weakref.ref[Held]:
        held = Held()
        try:
            await undisturbed.do(work(held))
        except LookupError:
            return weakref.ref(held)
        raise AssertionError

    async with asyncio.TaskGroup() as tasks:
        undisturbed = Undisturbed(tasks)
        gc.collect()
        gc.disable()
        try:
            left = await fail(undisturbed)
            await undisturbed.finished()
            assert left() is None
        finally:
            gc.enable()
