"""The erasure port: what an engine must do so that nothing of one subscriber is kept.

Elsewhere an engine forgets: what is forgotten is read by nobody any more, and its bytes stay until something else is written over
them. Here they are overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Erasure(Protocol):
    """Erases. Every call is idempotent: one that a crash broke off is made again, and goes on."""

    @property
    def remains(self) -> Sequence[str]:
        """Says, in sentences for a person, what of a subscriber may be left in this kind of storage."""

    def wiping(self) -> AbstractAsyncContextManager[None]:
        """Sees to it that what any part of the engine deletes meanwhile is overwritten.

        Not to be entered by two at once.
        """

    async def events(self, subscriber: str) -> int:
        """Erases the events for a subscriber that had been accepted by now, with originals; returns how many there were.

        Their positions stay empty; what was accepted for others stays as it is. Only while `wiping`.
        """

    async def dead_letters(self, subscriber: str) -> int:
        """Erases every dead letter of an event for a subscriber; returns how many there were. Only while `wiping`."""

    async def attempts(self, subscriber: str) -> int:
        """Erases the attempts at the webhooks of a subscriber; returns how many there were. Only while `wiping`."""
