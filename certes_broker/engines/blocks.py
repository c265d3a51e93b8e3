"""The form of a journal block: many events in one row of a table, or one message of a stream.

A block's body is its events' bytes, one after the other. Its header is what routing must know of them: a JSON list of
the format's number, the count of events, and one list for each column. A column in which all values are alike is written
as a list of one.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple

from certes_broker.domain.errors import Reason, Unavailable
from certes_broker.domain.events import AcceptedEvent, Entry, Micros, Options, Position

MAXIMUM_EVENTS: Final = 256
MAXIMUM_BYTES: Final = 1 << 20
"""A block ends with the event that reaches this many bytes, its originals included. So trimming one is never long."""

FORMAT: Final = 1

ERASED: Final = ""
"""The type of an event that was erased: its place is empty. No event has it."""
_SUBSCRIBERS: Final = 3
"""Which of a header's columns it is."""

_encode_json: Final = json.JSONEncoder(separators=(",", ":")).encode
_make_event: Final = partial(tuple.__new__, AcceptedEvent)
_make_entry: Final = partial(tuple.__new__, Entry)


class Block(NamedTuple):
    """What is written of some events that follow one another: all the columns but their positions."""

    header: str
    body: bytes


class Header(NamedTuple):
    """A header as read: the bounds of the events in the body, and the columns."""

    ends: Sequence[int]
    columns: Sequence[Sequence[Any]]
    times: Sequence[Micros]

    def begin(self, index: int) -> int:
        """Returns where an event's bytes begin in the body."""
        return self.ends[index - 1] if index else 0


def cut(sizes: Sequence[int]) -> Iterator[slice]:
    """Parts events of these sizes into blocks."""
    start = 0
    while start < len(sizes):
        ends = list(accumulate(sizes[start : start + MAXIMUM_EVENTS]))
        stop = min(start + 1 + bisect_left(ends, MAXIMUM_BYTES), start + len(ends))
        yield slice(start, stop)
        start = stop


def encode(events: Sequence[AcceptedEvent]) -> Block:
    """Writes events as a block."""
    bodies, types, ids, sources, subscribers, keys, options, times, _, _ = zip(*events, strict=True)
    columns = (list(map(len, bodies)), types, ids, sources, subscribers, keys, options, times)
    return Block(_encode_json((FORMAT, len(events), *map(_alike, columns))), b"".join(bodies))


def decode_header(text: str) -> Header:
    """Reads a header. Raises `Unavailable` (STORAGE_UNAVAILABLE) for one that is damaged or of a newer version."""
    try:
        form, count, *stored = json.loads(text)
        if form != FORMAT:
            raise _unreadable(f"it has format {form}, and this version of the broker knows format {FORMAT}")
        columns = [column * count if len(column) == 1 else column for column in stored]
        lengths, types, ids, sources, subscribers, keys, options, times = columns
    except (ValueError, TypeError) as error:
        raise _unreadable("its header is damaged: restore it from a backup") from error
    routing = (types, ids, sources, subscribers, keys, list(map(_options, options)))
    return Header(list(accumulate(lengths)), routing, times)


def decode(first: Position, header: Header, body: bytes, start: int, stop: int) -> list[Entry]:
    """Reads the events with the indexes `start` to `stop` (left out) of the block whose first position is `first`."""
    bounds = pairwise([header.begin(start), *header.ends[start:stop]])
    entries = _entries(first, header, [body[begin:end] for begin, end in bounds], start)
    if ERASED in header.columns[0]:
        return [entry for entry in entries if entry.event.type != ERASED]
    return entries


def entry_at(first: Position, header: Header, index: int, body: bytes) -> Entry | None:
    """Makes one entry of a block whose first position is `first`, of its bytes alone. None if it was erased."""
    entry = _entries(first, header, [body], index)[0]
    return None if entry.event.type == ERASED else entry


def is_for(header: Header, subscriber: str) -> bool:
    """Says whether a block has an event for a subscriber."""
    return subscriber in header.columns[_SUBSCRIBERS]


def erase(first: Position, header: Header, body: bytes, subscriber: str) -> tuple[Block, Sequence[Position]]:
    """Returns a block without its events for a subscriber, and where those were. Their places stay, so that no position moves."""
    bounds = pairwise([0, *header.ends])
    entries = _entries(first, header, [body[begin:end] for begin, end in bounds], 0)
    gone = [position for position, event in entries if event.subscriber == subscriber]
    left = [_erased(event) if event.subscriber == subscriber else event for _, event in entries]
    return encode(left), gone


def _erased(event: AcceptedEvent) -> AcceptedEvent:
    return AcceptedEvent(b"", ERASED, "", "", None, "", (), event.accept_time, None, None)


def decode_one(position: Position, header: str, body: bytes) -> AcceptedEvent:
    """Reads a block of one event."""
    return decode(position, decode_header(header), body, 0, 1)[0].event


def _entries(first: Position, header: Header, bodies: Sequence[bytes], start: int) -> list[Entry]:
    stop = start + len(bodies)
    columns = [column[start:stop] for column in header.columns]
    nothing = (None,) * len(bodies)
    events = map(_make_event, zip(bodies, *columns, header.times[start:stop], nothing, nothing, strict=True))
    return list(map(_make_entry, zip(range(first + start, first + stop), events, strict=True)))


def _alike(column: Sequence[Any]) -> Sequence[Any]:
    # The ends tell most columns apart, and counting compares all.
    return column[:1] if column[0] == column[-1] and column.count(column[0]) == len(column) else column


def _options(stored: Sequence[Sequence[str]]) -> Options:
    return tuple((name, value) for name, value in stored)


def _unreadable(fault: str) -> Unavailable:
    return Unavailable(Reason.STORAGE_UNAVAILABLE, f"A block of the journal cannot be read: {fault}.")
