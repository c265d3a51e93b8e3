"""Places: how many rpcs of one kind, or of one caller, are under way at once, and how many bytes a caller's have.

An rpc holds its place until the last of it was sent, or its caller is gone. So whoever reads nothing of what it is sent holds its
places as long as its connection lives, for nothing in grpcio ends such an rpc, and takes those of nobody else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any, Final

from certes_broker.domain.errors import Exhausted, Reason


class Places:
    """At most so many rpcs of each kind. `what` says which they are, for a refusal."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        # Bounded by the rpcs under way.
        self._taken: Counter[Hashable] = Counter()

    def take(self, kind: Hashable, context: Any) -> None:
        """Takes a place for an rpc, whose `context` grpcio tells when it has ended. Raises `Exhausted` (TOO_MANY_STREAMS)."""
        if self._taken[kind] >= self._most:
            raise Exhausted(
                Reason.TOO_MANY_STREAMS,
                f"{self._most} rpcs {self._what} are under way; there may be no more.",
                hint="Call again when some have ended, and read what they answer.",
                retry_after=1.0,
            )
        self._taken[kind] += 1

        def leave(_context: object) -> None:
            self._taken[kind] -= 1
            if not self._taken[kind]:
                del self._taken[kind]

        context.add_done_callback(leave)


SMALL: Final = 16 * 1024
"""Bytes up to which a request or an answer is not counted: the number of rpcs bounds these."""


class Load:
    """At most so many bytes of large requests and answers of each caller, from when they are there until their rpcs have ended."""

    def __init__(self, most: int) -> None:
        self._most = most
        # Bounded by the rpcs under way.
        self._carried: Counter[str] = Counter()

    def take(self, caller: str, size: int, context: Any) -> None:
        """Counts a request or an answer of so many bytes until its rpc has ended. Raises `Exhausted` (BUFFER_FULL)."""
        if size <= SMALL:
            return
        if self._carried[caller] + size > self._most:
            raise Exhausted(
                Reason.BUFFER_FULL,
                f"Requests and answers of this caller that are under way have {self._carried[caller]} bytes; {self._most} are the limit.",
                hint="Call again when some have ended, and read what they answer.",
                metadata={"limit": str(self._most)},
                retry_after=1.0,
            )
        self._carried[caller] += size

        def leave(_context: object) -> None:
            self._carried[caller] -= size
            if not self._carried[caller]:
                del self._carried[caller]

        context.add_done_callback(leave)
