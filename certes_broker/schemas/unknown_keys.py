"""Keys that came in JSON documents and that the schemas do not know.

A key is noted once, by the event type, the message it stood in and its name. Only then is the document gone through for its
path; every later one only counts. What is remembered is bounded: after `MOST_KEYS` of one event type, further keys count and
are not told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

MOST_KEYS: Final = 1_000
MOST_TYPES: Final = 10_000


class UnknownKey(NamedTuple):
    """A key that a message type does not know: its path without indices, such as `commits.signature`, and the message."""

    path: str
    message: str


class UnknownKeys:
    """Remembers which unknown keys came in the documents of each event type."""

    def __init__(self) -> None:
        self._seen: dict[str, set[UnknownKey]] = {}
        self.counts: Final[Counter[str]] = Counter()
        """How many documents of each event type had unknown keys."""

    def note(self, event_type: str, keys: Iterable[UnknownKey]) -> Sequence[UnknownKey]:
        """Takes note of the unknown keys of one document; returns those that no document of the event type had before."""
        seen = self._seen.get(event_type)
        if seen is None:
            if len(self._seen) >= MOST_TYPES:
                return ()
            seen = self._seen[event_type] = set()
        self.counts[event_type] += 1
        new: list[UnknownKey] = []
        for key in keys:
            if key not in seen and len(seen) < MOST_KEYS:
                seen.add(key)
                new.append(key)
        return new
