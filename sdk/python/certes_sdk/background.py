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
        self._early: list[tuple[Callable[[], Coroutine[Any, Any, None]], str]] = []
        self._opened = asyncio.Event()
        # In a context of its own: what is current in the call that happened to be first concerns no later one.
        self._task = asyncio.get_running_loop().create_task(self._hold(), name="certes", context=Context())

    def add(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Begins a task, at once or when tasks can be begun. It takes care of its own errors: one that it lets out ends all of them."""
        if self._group is None:
            self._early.append((work, name))
        elif not self._ended.is_set():
            self._group.create_task(work(), name=f"certes {name}", context=Context())

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
            async with asyncio.TaskGroup() as group:
                self._group = group
                for work, name in self._early:
                    self.add(work, name)
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
