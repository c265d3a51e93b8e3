"""Keys that came in JSON documents and that the schemas do not know.

Theory of operation
-------------------
Reading a document notes which messages met which unknown keys, as `Strangers`: those come from the plan by which an object
is read, so the same keys are the same strangers, and noting them costs nothing. Only where the event type has not met them
before is the document gone through for their paths; later ones are counted. What is remembered is bounded: beyond
`MOST_KEYS` of one event type, further keys are counted and not told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

MOST_KEYS: Final = 1_000
MOST_TYPES: Final = 10_000
LONGEST_PATH: Final = 500
"""Characters. Nobody names a field so; a key with a longer path is counted and not told."""


class UnknownKey(NamedTuple):
    """A key that a message type does not know: its path without indices, such as `commits.signature`, and the message."""

    path: str
    message: str


class Strangers(NamedTuple):
    """Keys of one object, and the message type that does not know them."""

    message: str
    keys: tuple[str, ...]

    @classmethod
    def of(cls, message: str, keys: Sequence[str]) -> Strangers:
        """Makes them of keys of any number and length, of which as much is kept as tells them apart in practice."""
        return cls(message, tuple(key[:_LONGEST_KEY] for key in keys[:_KEYS_TOGETHER]))


class UnknownKeys:
    """Remembers which unknown keys came in the documents of each event type."""

    def __init__(self) -> None:
        self._met: dict[str, set[Strangers]] = {}
        self._known: dict[str, set[UnknownKey]] = {}
        self.counts: Final[Counter[str]] = Counter()
        """How many documents of each event type had unknown keys."""

    def are_new(self, event_type: str, strangers: Iterable[Strangers]) -> bool:
        """Counts a document with strangers, at least one, and says whether their paths are worth looking for."""
        self._count(event_type)
        met = self._met.get(event_type)
        if met is None:
            if len(self._met) >= MOST_TYPES:
                return False
            met = self._met[event_type] = set()
        new = [one for one in strangers if one not in met]
        if not new or len(met) >= MOST_KEYS:
            return False
        met.update(new[:MOST_KEYS])
        return True

    def note(self, event_type: str, found: Iterable[UnknownKey]) -> Sequence[UnknownKey]:
        """Takes note of the unknown keys in a document; returns those that no document of the event type had before."""
        known = self._known.get(event_type)
        if known is None:
            if len(self._known) >= MOST_TYPES:
                return ()
            known = self._known[event_type] = set()
        return list(_new(known, found))

    def note_found(self, event_type: str, found: Sequence[UnknownKey]) -> Sequence[UnknownKey]:
        """Counts a document of which all unknown keys were looked for already, and does what `note` does."""
        if not found:
            return ()
        self._count(event_type)
        return self.note(event_type, found)

    def _count(self, event_type: str) -> None:
        if event_type in self.counts or len(self.counts) < MOST_TYPES:
            self.counts[event_type] += 1


def _new(known: set[UnknownKey], found: Iterable[UnknownKey]) -> Iterator[UnknownKey]:
    for key in found:
        if len(known) >= MOST_KEYS:
            return
        if key not in known and len(key.path) <= LONGEST_PATH:
            known.add(key)
            yield key


_KEYS_TOGETHER: Final = 32
_LONGEST_KEY: Final = 64
