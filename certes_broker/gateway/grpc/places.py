"""Places: how many rpcs of one kind, or of one caller, are under way at once.

An rpc holds its place until the last of it was sent, or its caller is gone. So whoever reads nothing of what it is sent holds its
places as long as its connection lives, for nothing in grpcio ends such an rpc, and takes those of nobody else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

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
