"""Followers: they let a broker learn what is stored, also by other brokers on the same engine.

Rules
-----
* Changes are taken in at once and applied one after the other. Of several changes of one document that wait only the last is
  applied: so what waits is bounded by the number of documents, and whoever writes one is never held up by who applies them.
* A change that cannot be applied, as storage fails, is applied again a moment later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from certes_broker.domain.errors import CertesError
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import DocumentChange, Settings

_AGAIN_AFTER: Final = 1.0

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

Apply = Callable[[DocumentChange], Awaitable[None]]


class Follower:
    """Follows the documents whose keys begin with a prefix, from when it is made on.

    `apply` also gets the changes that this broker has made itself, and those that were known before they were applied.
    """

    def __init__(self, settings: Settings, prefix: str, apply: Apply, clock: Clock) -> None:
        self._settings = settings
        self._prefix = prefix
        self._changes = settings.watch(prefix)
        self._apply = apply
        self._clock = clock
        self._waiting: dict[str, DocumentChange] = {}
        self._added = asyncio.Event()
        self._seen = 0
        """The highest revision that was taken in."""
        self._idle = asyncio.Event()
        self._idle.set()

    async def catch_up(self) -> None:
        """Returns when everything is applied that `Settings.list` has now."""
        for document in await self._settings.list(self._prefix):
            if document.revision > self._seen:
                self._note(DocumentChange(*document))
        await self._idle.wait()

    def _note(self, change: DocumentChange) -> None:
        known = self._waiting.get(change.key)
        if known is None or known.revision <= change.revision:
            self._waiting[change.key] = change
        self._idle.clear()
        self._added.set()

    async def run(self) -> None:
        """Follows for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_in())
            tasks.create_task(self._apply_all())

    async def _take_in(self) -> None:
        async for change in self._changes:
            self._seen = max(self._seen, change.revision)
            self._note(change)

    async def _apply_all(self) -> None:
        while True:
            await self._added.wait()
            self._added.clear()
            while self._waiting:
                key = next(iter(self._waiting))
                change = self._waiting.pop(key)
                try:
                    await self._apply(change)
                except CertesError as error:
                    log.warning("change_not_applied", key=key, error=str(error))
                    self._waiting.setdefault(key, change)
                    again = asyncio.Event()
                    self._clock.alarm(_AGAIN_AFTER, again.set)
                    await again.wait()
            self._idle.set()
