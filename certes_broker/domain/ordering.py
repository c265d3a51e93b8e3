"""Ordering: who has an ordering key, and who is parked behind.

Rules
-----
* A key belongs to one delivery at a time, from when it is ready until it has ended; retries do not let go of it.
* Deliveries of a key that is taken are parked behind, in order of position, and get it in that order.
* Parked deliveries stay in memory within a window over all keys; those beyond it need rows.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from certes_broker.domain.deliveries import Tracked
from certes_broker.domain.limits import Window

P = TypeVar("P")


class Keys(Generic[P]):
    """The ordering keys that are taken, each with what is parked behind its holder."""

    def __init__(self) -> None:
        self.parked = 0
        """How many parked deliveries are in memory."""
        self.parked_bytes = 0
        """How many bytes these have together."""
        # None stands for nobody behind: most keys never see a second delivery, and an empty queue is 600 bytes.
        self._behind: dict[str, deque[Tracked[P]] | None] = {}

    def claim(self, tracked: Tracked[P]) -> bool:
        """Gives a delivery its key, or a place behind those that have or want it; says whether it has the key."""
        key = tracked.key
        if key not in self._behind:
            self._behind[key] = None
            return True
        queue = self._behind[key]
        if queue is None:
            self._behind[key] = deque((tracked,))
        else:
            queue.append(tracked)
        return False

    def release(self, key: str) -> Tracked[P] | None:
        """Takes a key from its holder and gives it to the next delivery, which is returned; None if there is none."""
        queue = self._behind[key]
        if not queue:
            del self._behind[key]
            return None
        following = queue.popleft()
        if following.row is None:
            self.leave_memory(following)
        return following

    def keep(self, tracked: Tracked[P], window: Window) -> bool:
        """Counts a parked delivery in, unless the window is full; says whether its event may stay in memory."""
        if window.is_full(self.parked, self.parked_bytes):
            return False
        self.parked += 1
        self.parked_bytes += tracked.size
        return True

    def leave_memory(self, tracked: Tracked[P]) -> None:
        """Counts out a delivery that was kept: it is parked no longer, or has a row now."""
        self.parked -= 1
        self.parked_bytes -= tracked.size
