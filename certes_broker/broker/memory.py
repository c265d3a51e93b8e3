"""Memory: how many bytes of events wait in it for subscribers, and how many more may.

Theory of operation
-------------------
Each lane and each stream has limits of its own, but there may be thousands of them, and events that a lane has read from the
journal are shared with no other. So there is an account of what all of them hold together (`Memory`), and one for the streams of
each caller (`Memory.part`). Whoever may hold more asks for its `share`: as much as is free, so that whoever comes last finds as
much as it takes (the *dynamic threshold* of switches that share one buffer; A. Choudhury and E. Hahne, "Dynamic Queue Length
Thresholds for Shared-Memory Packet Switches", 1998). Unlike the packets there, deliveries may stay for ever; so each lane and
each stream may have a little in any case (`LITTLE`), for which half of what a caller has is kept free. Beyond all of that a caller
gets nothing: what its streams hold and do not settle is missed by its own streams only.

The account of all counts each event once, however many lanes it is in: an item enters itself, and leaves when the last has let go
of it. That of a caller counts what each of its streams holds.

Nothing is refused or lost by it. A lane that may hold no more falls behind and reads the journal when there is room again, and a
stream is handed no more until something of it was settled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from weakref import WeakValueDictionary

DEFAULT_DELIVERY_BYTES: Final = 1 << 30
PART: Final = 4
"""The streams of one caller may hold one in so many of the bytes of all."""
LITTLE: Final = 64 * 1024
"""Bytes that each lane and each stream may hold where nothing is free: a thousand streams of a caller, half of what it has."""


class Memory:
    """An account of bytes: how many are held of those that may be."""

    def __init__(self, limit: int = DEFAULT_DELIVERY_BYTES, whole: Memory | None = None) -> None:
        """With `whole` it is a part of that, and what is free of it is free of both."""
        self.limit = limit
        self.held = 0
        self._whole = whole
        # Bounded by the streams that are open.
        self._parts: WeakValueDictionary[str, Memory] = WeakValueDictionary()

    @property
    def share(self) -> int:
        """How many bytes one lane or stream may hold now, those that it holds included."""
        if self._whole is None:
            return max(LITTLE, self.limit - self.held)
        if self.held >= self.limit:
            return 0
        return max(LITTLE, min(self.limit // 2 - self.held, self._whole.limit - self._whole.held))

    @property
    def is_exceeded(self) -> bool:
        """Whether twice as much is held as may be: what is made of events has not been asked for before it is there."""
        return self.held >= 2 * self.limit

    @contextmanager
    def carrying(self, size: int) -> Iterator[None]:
        """Holds so many bytes more within."""
        accounts = [self] if self._whole is None else [self, self._whole]
        for account in accounts:
            account.held += size
        try:
            yield
        finally:
            for account in accounts:
                account.held -= size

    def part(self, caller: str) -> Memory:
        """Returns the account of a caller's streams."""
        part = self._parts.get(caller)
        if part is None:
            part = self._parts[caller] = Memory(self.limit // PART, self)
        return part
