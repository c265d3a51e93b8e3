"""Inheritance: sees to it that of what brokers had not told, or not to the end, when they ended another tells.

Rules
-----
* The first of the living, by their ids, looks after it: when the members have changed, and once a minute besides. Should two
  do that at once, for a moment, they publish the same events.
* A member that stood still and has been ended does not know that at once. It may still store an intent, which a later look
  finds, and make its fact durable after that. Whoever looked between the two would find nothing, and tell nothing. So what
  such members may still write of a subscription is refused before its facts are looked up (`_shut_out`).
* A document that changed while that was done, or later, is looked at again: it is never deleted by who does not know all of it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, assert_never

import structlog

from certes_broker.broker import subscription_documents
from certes_broker.broker.lanes import Lanes
from certes_broker.broker.notice_documents import PREFIX, subject_of
from certes_broker.broker.notices import AGAIN_AFTER, INTERVAL, Notices
from certes_broker.concurrency import together
from certes_broker.domain.errors import Aborted, CertesError
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.notices import Kind
from certes_broker.ports.clock import Alarm, Clock
from certes_broker.ports.cluster import MemberId, Members
from certes_broker.ports.engine import Document, Settings

_AT_ONCE: Final = 64

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Estate:
    """Where what members leave is found."""

    members: Members
    settings: Settings
    clock: Clock


class Inheritance:
    """Takes on what brokers have left that have ended."""

    def __init__(self, estate: Estate, lanes: Lanes, notices: Notices) -> None:
        self._members = estate.members
        self._settings = estate.settings
        self._clock = estate.clock
        self._lanes = lanes
        self._notices = notices
        self._due = asyncio.Event()

    async def run(self) -> None:
        """Looks when the members change, and now and then, for ever."""
        next_look: Alarm | None = None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(), name="members of notices")
            while True:
                await self._due.wait()
                self._due.clear()
                if next_look is not None:
                    next_look.cancel()
                next_look = self._clock.alarm(await self._look(), self._due.set)

    async def _watch(self) -> None:
        async for _ in self._members.watch():
            self._due.set()

    async def _look(self) -> float:
        """Takes on what there is, if this is the first member; returns the seconds to the next look."""
        if self._members.own != min(self._members.living, default=None):  # None: this one was taken for gone.
            return INTERVAL
        try:
            await self._settings.refresh()
            left = await self._left()
            for first in range(0, len(left), _AT_ONCE):
                await self._take_on(left[first : first + _AT_ONCE])
        except CertesError as error:
            log.warning("notices_not_taken_on", error=str(error))
            return AGAIN_AFTER
        return INTERVAL

    async def _left(self) -> list[Document]:
        """Finds the documents of members that have ended, but those that are being told."""
        ended: dict[MemberId, bool] = {}
        left = []
        for document in await self._settings.list(PREFIX):
            member, _, _ = subject_of(document.key)
            if member not in ended:
                ended[member] = await self._members.has_ended(member)
            if ended[member] and not self._notices.has(document.key):
                left.append(document)
        return left

    async def _take_on(self, left: list[Document]) -> None:
        await together(self._shut_out(*subject_of(document.key)[1:]) for document in left)
        await self._settings.refresh()
        for document in left:
            if await self._settings.get(document.key) == document:
                self._notices.take_on(document)

    async def _shut_out(self, name: SubscriptionName, kind: Kind) -> None:
        """Sees to it that no fact of a kind comes about any more by a member that has ended and had intended it by now."""
        document = await self._settings.get(subscription_documents.key_of(name))
        if document is None or not self._members.is_shared:
            return
        match kind:
            case Kind.EXHAUSTED | Kind.GAP:
                await self._lanes.shut_out(name.text)
            case Kind.DISABLED | Kind.CONSENT_WITHHELD | Kind.CONSENT_GRANTED:
                # It has another revision then. What was changed meanwhile has, too.
                with suppress(Aborted):
                    await self._settings.put(document.key, document.body, document.revision)
            case Kind.BREAKER_OPENED | Kind.BREAKER_CLOSED | Kind.FILTER_FAILED:
                pass
            case _:
                assert_never(kind)
