"""Erasing, which this engine cannot do yet.

A block of events is one message, whose sequence is part of the positions of its events. It can be overwritten as a whole only, and
not stored again in its place; so the events of one subscriber cannot go without those of others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from certes_broker.domain.errors import Reason, Unimplemented
from certes_broker.ports.erasure import Erased


class NoErasure:
    """Refuses to erase."""

    @asynccontextmanager
    async def wiping(self) -> AsyncIterator[None]:
        raise _not_built()
        yield

    async def events(self, subscriber: str) -> Erased:
        raise _not_built()

    async def attempts(self, subscriber: str) -> int:
        raise _not_built()


def _not_built() -> Unimplemented:
    return Unimplemented(
        Reason.NOT_BUILT,
        "Erasing a subscriber: what NATS servers keep cannot be erased in part yet.",
        hint="Nothing was erased. Delete its subscriptions, and let retention.age pass: then its events are gone.",
    )
