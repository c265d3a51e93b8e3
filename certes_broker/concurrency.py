"""Waiting for several things at once, so that a cancellation is not lost.

A `TaskGroup` of Python 3.11 that is cancelled while one of its tasks fails raises the failure, and the cancellation is
gone (CPython's issue 116720; mended in 3.13). Around it there is often a loop that takes the failure for a reason to try again:
it would then go on for ever, and whoever waits for its end with it. So what is tried again does not wait in a `TaskGroup`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from typing import TypeVar

T = TypeVar("T")


async def together(works: Iterable[Awaitable[T]]) -> list[T]:
    """Does works at once, each to its end, and returns what they return, in order.

    Raises the first failure, itself and not in a group, when all have ended. If the caller is cancelled so are the works, and
    `CancelledError` is raised whatever they raise.
    """
    waiting = list(works)
    results: list[T] = []
    try:
        outcomes = await asyncio.gather(*map(_returned, waiting), return_exceptions=True)
    finally:
        # All have ended, but one that was cancelled before it began has not been awaited, of which Python would warn.
        for work in waiting:
            if isinstance(work, Coroutine):
                work.close()
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results += outcome
    return results


async def _returned(work: Awaitable[T]) -> tuple[T]:
    """Tells an exception that is returned from one that is raised."""
    return (await work,)
