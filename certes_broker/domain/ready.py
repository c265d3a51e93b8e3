"""Ready: the deliveries that wait to be handed out, and who is next.

First attempts and deliveries that were out before wait in queues of their own, since a backlog of one must not delay the
other: while both wait, they share what is taken, and take turns in being first.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from certes_broker.domain.deliveries import Signal, Tracked, only_way

P = TypeVar("P")

_BEFORE, _AFTER = only_way(Signal.TAKE)


class Ready(Generic[P]):
    """Deliveries in memory that may go out."""

    def __init__(self) -> None:
        self.fresh: deque[Tracked[P]] = deque()
        """First attempts. Whoever adds to a queue counts the size in `bytes`, too."""
        self.again: deque[Tracked[P]] = deque()
        """Those that were out before, and replays."""
        self.bytes = 0
        """How many bytes all of them have together."""
        self._fresh_is_next = False

    def __len__(self) -> int:
        return len(self.fresh) + len(self.again)

    @property
    def next_size(self) -> int:
        """How many bytes the delivery has that `take` would hand out first; 0 if there is none."""
        queue = self.again if self.again and not (self._fresh_is_next and self.fresh) else self.fresh
        return queue[0].size if queue else 0

    def add(self, tracked: Tracked[P]) -> None:
        """Adds a delivery to its queue."""
        self.bytes += tracked.size
        (self.again if tracked.attempt > 1 or tracked.is_replay else self.fresh).append(tracked)

    def give_back(self, tracked: Tracked[P]) -> None:
        """Adds a delivery that was out."""
        self.bytes += tracked.size
        self.again.append(tracked)

    def remove(self, tracked: Tracked[P]) -> None:
        """Takes out a delivery, if it is ready: it is not to go out."""
        if tracked.state is _BEFORE:
            self.bytes -= tracked.size
            (self.again if tracked in self.again else self.fresh).remove(tracked)

    def take(self, count: int, size: int) -> list[Tracked[P]]:
        """Hands out at most `count` deliveries of at most `size` bytes together, at least one if `count` allows."""
        taken: list[Tracked[P]] = []
        again, fresh = self.again, self.fresh
        if not again or not fresh:
            self._hand_out(again or fresh, count, size, taken)
            return taken
        first, second = (fresh, again) if self._fresh_is_next else (again, fresh)
        self._fresh_is_next = not self._fresh_is_next
        share = max((count + 1) // 2, count - len(second))
        size = self._hand_out(first, share, size, taken)
        self._hand_out(second, count - len(taken), size, taken)
        return taken

    def _hand_out(self, queue: deque[Tracked[P]], count: int, space: int, taken: list[Tracked[P]]) -> int:
        """Moves at most `count` deliveries from `queue` to `taken` while there is space, and returns what is left of it."""
        before = space
        while queue and count > 0:
            tracked = queue[0]
            size = tracked.size
            if size > space and taken:
                break
            if tracked.state is not _BEFORE:
                tracked.signal(Signal.TAKE)
            tracked.state = _AFTER
            queue.popleft()
            taken.append(tracked)
            space -= size
            count -= 1
        self.bytes -= before - space
        return space
