"""The tasks of a client in one event loop.

Every task of the SDK belongs to a `TaskGroup`, and a group belongs to a task that stays inside of it. A client is begun by whichever
call comes first, and has to outlive it; so the one task that holds its group belongs to the loop alone. It is made here and
nowhere else, and ends when the client is closed, or when the loop cancels what is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final

_log: Final = logging.getLogger("certes")


class Background:
    """The tasks of one client in one loop. `ending` is awaited when they have ended, however that came about."""

    def __init__(self, ending: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._ending = ending
        self._ended = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._opened = asyncio.Event()
        # In a context of its own: what is current in the call that happened to be first concerns no later one.
        self._task = asyncio.get_running_loop().create_task(self._hold(), name="certes", context=Context())

    async def begun(self) -> None:
        """Returns when tasks can be begun."""
        await self._opened.wait()

    async def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begins a task. It takes care of its own errors: one that it lets out ends all of them."""
        await self._opened.wait()
        assert self._group is not None
        return self._group.create_task(work, name=f"certes {name}", context=Context())

    def add(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begins a task beside one that runs already."""
        assert self._group is not None
        return self._group.create_task(work, name=f"certes {name}", context=Context())

    @property
    def has_ended(self) -> bool:
        """Whether there are no tasks any more."""
        return self._ended.is_set()

    async def end(self) -> None:
        """Cancels the tasks, and returns when they have ended."""
        # A task that is cancelled before its first step never takes one.
        await self._opened.wait()
        self._task.cancel()
        await self._ended.wait()

    async def ended(self) -> None:
        """Returns when the tasks have ended."""
        await self._ended.wait()

    async def _hold(self) -> None:
        try:
            async with asyncio.TaskGroup() as self._group:
                self._opened.set()
                await asyncio.Event().wait()
        except Exception:  # noqa: BLE001 - said below
            # A fault of the SDK: its tasks take care of what can go wrong outside.
            _log.exception("The client has failed, and is closed.")
        finally:
            try:
                await self._ending()
            finally:
                self._opened.set()
                self._ended.set()
