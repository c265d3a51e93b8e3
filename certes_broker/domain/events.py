"""Events as the broker keeps them.

Rules
-----
* An event's bytes travel whole: `AcceptedEvent.body` is the wire form of `certes.v1.Event` as it came, with an absent id
  or time appended. Nothing re-encodes it.
* What routing must know is read from those bytes once, at the door, and kept beside them, so that nobody parses again.
* A position is a place in the journal: positive, growing, not dense. 0 stands before everything.

`AcceptedEvent` and `Entry` are named tuples, not dataclasses: one of each is made per event, and a frozen dataclass of
this many fields takes three times as long to make.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple, NewType

Position = NewType("Position", int)
Micros = NewType("Micros", int)
"""A point in time: microseconds since 1970-01-01T00:00:00Z."""

BEGINNING = Position(0)

ID_BYTES: Final = 256
SUBJECT_BYTES: Final = 1024
CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What neither the id nor the subject of an event may hold."""

Options = tuple[tuple[str, str], ...]
"""The values of the options that an event's schema declares, sorted by name."""


@dataclass(frozen=True, slots=True)
class Original:
    """A foreign webhook as it reached the gateway. Header names are lower-case; credentials are never among them."""

    content_type: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class AcceptedEvent(NamedTuple):
    """One validated event, ready to be appended.

    `subscriber` is None for an event for everyone. `digest` fingerprints the content as it was sent, for events whose id
    was sent; it is None where the broker made the id (such events are not deduplicated) and on events read back.
    `original` is None on events read back; ask the journal for it.
    """

    body: bytes
    type: str
    id: str
    source: str
    subscriber: str | None
    ordering_key: str
    options: Options
    accept_time: Micros
    digest: bytes | None
    original: Original | None


class Entry(NamedTuple):
    """One event in the journal."""

    position: Position
    event: AcceptedEvent
