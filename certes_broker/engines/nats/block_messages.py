"""A block of the journal as a message, and the positions of its events.

A position is the sequence of the message in its stream, and the event's index in the block: whoever knows a position knows
where to look, and the server gives positions out by storing. Positions are not dense.

The payload is three lengths, then the block's header and body as every engine has them (`engines/blocks.py`), then the
foreign webhooks that events were made of: a JSON list, and their bodies. What must be known of a block without reading it
stands in its headers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from certes_broker.domain.errors import Reason, Unavailable
from certes_broker.domain.events import AcceptedEvent, Entry, Micros, Original, Position
from certes_broker.engines.blocks import Block, Header, decode, decode_header, encode, erase, is_for
from certes_broker.engines.nats import ids
from certes_broker.engines.nats.ids import Fingerprint
from certes_broker.engines.nats.publishing import MESSAGE_ID
from certes_broker.engines.nats.reading import Kept

INDEX_BITS: Final = 10
MAXIMUM_EVENTS: Final = 1 << INDEX_BITS
"""Events of one block, and so of one append."""

COUNT: Final = "Certes-Count"
TIME: Final = "Certes-Time"
LATEST: Final = "Certes-Latest"
TOTAL: Final = "Certes-Total"
IDS: Final = "Certes-Ids"

_LENGTHS: Final = struct.Struct(">III")


def first_position(sequence: int) -> Position:
    """Returns the position of the first event of the block with this sequence."""
    return Position(sequence << INDEX_BITS)


def sequence_of(position: Position) -> int:
    """Returns the sequence of the block that holds an event."""
    return position >> INDEX_BITS


def last_below(sequence: int) -> Position:
    """Returns the highest position that no block from this sequence on has."""
    return Position(max((sequence << INDEX_BITS) - 1, 0))


def payload_of(events: Sequence[AcceptedEvent]) -> bytes:
    """Writes events as a block."""
    originals = [(index, event.original) for index, event in enumerate(events) if event.original is not None]
    return _payload(encode(events), originals)


def _payload(block: Block, originals: Sequence[tuple[int, Original]]) -> bytes:
    listed = (
        json.dumps([(index, one.content_type, one.headers, len(one.body)) for index, one in originals])
        if originals
        else ""
    )
    parts = (block.header.encode(), block.body, listed.encode())
    return b"".join((_LENGTHS.pack(*map(len, parts)), *parts, *(one.body for _, one in originals)))


class About(NamedTuple):
    """What must be known of a block without reading it.

    `stored` is when it was stored; `latest` the highest time at which an event up to and including this block was accepted;
    `total` the bytes of all blocks ever stored, up to and including this one.
    """

    events: int
    stored: Micros
    latest: Micros
    total: int


def headers_of(about: About, fingerprints: Sequence[Fingerprint]) -> dict[str, str]:
    """Writes what must be known of a block as headers."""
    headers = {
        COUNT: str(about.events),
        TIME: str(about.stored),
        LATEST: str(about.latest),
        TOTAL: str(about.total),
    }
    if any(key for key, _ in fingerprints):
        headers[IDS] = ids.encode(fingerprints)
    return headers


class StoredBlock:
    """A block as it is read."""

    def __init__(self, kept: Kept) -> None:
        self.sequence = kept.sequence
        self.first = first_position(kept.sequence)
        self._kept = kept
        try:
            self.count = int(kept.headers[COUNT])
            self.stored = Micros(int(kept.headers[TIME]))
            self.latest = Micros(int(kept.headers[LATEST]))
            self.total = int(kept.headers[TOTAL])
        except (KeyError, ValueError) as error:
            raise _unreadable(kept.sequence) from error

    @property
    def last(self) -> Position:
        """The position of its last event."""
        return Position(self.first + self.count - 1)

    @property
    def size(self) -> int:
        """Bytes of its payload."""
        return len(self._kept.payload)

    @property
    def message_id(self) -> str | None:
        """The id of the message by which it was first stored."""
        return self._kept.headers.get(MESSAGE_ID)

    @property
    def fingerprints(self) -> Sequence[Fingerprint]:
        """The fingerprints of its ids."""
        text = self._kept.headers.get(IDS)
        return list(ids.decode(text)) if text else ()

    @cached_property
    def header(self) -> Header:
        """What routing must know of its events."""
        return decode_header(self._parts[0].decode())

    def entries(self, start: int, stop: int) -> Sequence[Entry]:
        """Reads the events with the indexes `start` to `stop`, left out."""
        return decode(self.first, self.header, self._parts[1], start, stop)

    def original(self, index: int) -> Original | None:
        """Reads the foreign webhook that an event was made of; None if it was of none."""
        return next((original for at, original in self._originals() if at == index), None)

    def _originals(self) -> Iterator[tuple[int, Original]]:
        _, _, listed, offset = self._parts
        for at, content_type, headers, length in json.loads(listed) if listed else ():
            body = self._kept.payload[offset : offset + length]
            yield at, Original(content_type, tuple((name, value) for name, value in headers), body)
            offset += length

    def is_for(self, subscriber: str) -> bool:
        """Says whether it has an event for a subscriber."""
        return is_for(self.header, subscriber)

    def without(self, subscriber: str) -> tuple[bytes, dict[str, str], int]:
        """Returns the payload and the headers of a block that takes its place without the events for a subscriber, and how many those were."""
        block, gone = erase(self.first, self.header, self._parts[1], subscriber)
        left = [(index, original) for index, original in self._originals() if self.first + index not in gone]
        headers = {
            name: self._kept.headers[name] for name in (COUNT, TIME, LATEST, TOTAL, IDS) if name in self._kept.headers
        }
        return _payload(block, left), headers, len(gone)

    @cached_property
    def _parts(self) -> tuple[bytes, bytes, bytes, int]:
        payload = self._kept.payload
        try:
            header, body, listed = _LENGTHS.unpack_from(payload)
        except struct.error as error:
            raise _unreadable(self.sequence) from error
        start = _LENGTHS.size
        ends = (start + header, start + header + body, start + header + body + listed)
        return payload[start : ends[0]], payload[ends[0] : ends[1]], payload[ends[1] : ends[2]], ends[2]


def _unreadable(sequence: int) -> Unavailable:
    return Unavailable(Reason.STORAGE_UNAVAILABLE, f"Message {sequence} of the journal's stream is no block of events.")
