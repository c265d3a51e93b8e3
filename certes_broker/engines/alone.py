"""The members and the post of an engine that one process has for itself."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from certes_broker.ports.cluster import Handler, MemberId, NoResponder


class Alone:
    """One member, always current."""

    is_shared: Final = False

    def __init__(self) -> None:
        self.own: Final = MemberId(secrets.token_hex(8))

    @property
    def living(self) -> frozenset[MemberId]:
        return frozenset((self.own,))

    def is_current(self) -> bool:
        return True

    async def has_ended(self, member: MemberId) -> bool:
        return member != self.own

    async def watch(self) -> AsyncIterator[frozenset[MemberId]]:
        yield self.living
        await asyncio.Event().wait()


class NoPost:
    """A post that reaches nobody."""

    @asynccontextmanager
    async def serve(self, _: Handler) -> AsyncIterator[None]:
        yield

    async def ask(self, member: MemberId, name: str, body: bytes, within: float) -> bytes:
        raise self._refusal(member)

    async def stream(self, member: MemberId, name: str, body: bytes) -> AsyncGenerator[bytes]:
        if True:
            raise self._refusal(member)
        yield b""

    @staticmethod
    def _refusal(member: MemberId) -> NoResponder:
        return NoResponder(f"This broker has its engine for itself: there is no {member}.")
