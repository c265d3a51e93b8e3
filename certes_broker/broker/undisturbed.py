"""Work that a caller's going away does not disturb.

A change of a subscription has several steps, and an rpc can be cancelled between any two of them. So the steps run in a
task of the broker's own; the caller waits for the outcome, and if it goes away the work is done all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Undisturbed:
    """Does work to its end. Made for one `TaskGroup`, which must outlive it."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Returns or raises what `work` does. If the caller is cancelled meanwhile, the work goes on without it.

        Raises `CancelledError` where the work was cancelled with its group, and `RuntimeError` if that takes nothing more.
        """
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        carrying = _carry_out(work, outcome)
        try:
            task = self._tasks.create_task(carrying)
        except RuntimeError:  # the group has ended, or is about to
            carrying.close()
            work.close()
            raise
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(partial(_let_go, work, outcome))
        try:
            return await outcome
        finally:
            # What is raised refers to this frame, and the outcome to what is raised. Left to the garbage collector, which is in
            # no hurry, everything that was worked on would stay until then.
            del outcome

    async def finished(self) -> None:
        """Returns when nothing is being done."""
        while self._running:
            await asyncio.wait(self._running)


def _let_go(work: Coroutine[Any, Any, T], outcome: asyncio.Future[T], _: asyncio.Task[None]) -> None:
    # What was cancelled before it began was not awaited, of which Python would warn, and has no outcome.
    work.close()
    outcome.cancel()


async def _carry_out(work: Coroutine[Any, Any, T], outcome: asyncio.Future[T]) -> None:
    try:
        result = await work
    except Exception as error:  # noqa: BLE001  whatever it is, it is the caller's
        if not outcome.done():
            outcome.set_exception(error)
    else:
        if not outcome.done():
            outcome.set_result(result)
    finally:
        del outcome
