"""What is kept of a subscription: its lease, its cursor's state and what it owes, and how that is written.

Rules
-----
* All of it is one subject. The last message is a **whole** record, which takes the place of all before it, or a **change**:
  lease and state as they are now, and which rows were put and dropped. As long as there are few rows, as nearly always,
  each message is whole: the last value of its subject.
* A message says which one of its subject it expects to follow. So what a former holder writes is refused by the stream, and
  what was sent late or twice undoes nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from operator import sub
from typing import Any, Final

import orjson

from certes_broker.domain.errors import Reason, Unavailable
from certes_broker.domain.events import Position
from certes_broker.ports.engine import CursorChange, CursorState, Owed, OwedKind, Ranges

WHOLE: Final = "Certes-Whole"
FORMAT: Final = 2

FEW_ROWS: Final = 64
"""Up to so many rows a record is always written whole."""
CHANGES: Final = 64
"""After so many changes it is written whole, however many rows it has."""
COMPRESSED_BYTES: Final = 4096
"""From so many bytes on a record is compressed."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Which member runs a lane. `epoch` is the sequence of the message with which it took it; 0: nobody ever did."""

    holder: str | None = None
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class LaneRecord:
    """What is kept of one subscription.

    `sequence` is that of the newest message, 0 for none; `changes` how many messages came since the last whole one. `state`
    is None as long as nothing was settled; `writer` is the member whose watermark speaks for it if it is level.
    """

    sequence: int = 0
    changes: int = 0
    lease: Lease = Lease()
    state: CursorState | None = None
    writer: str = ""
    owed: Mapping[Position, Owed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """How rows change: all are dropped first with `reset`, then `drop`, then `put`."""

    reset: bool = False
    drop: frozenset[Position] = frozenset()
    put: Mapping[Position, Owed] = field(default_factory=dict)

    def then(self, change: CursorChange) -> Rows:
        """Returns what this and a change that follows come to."""
        put = {} if change.reset else dict(self.put)
        drop = frozenset() if change.reset else self.drop
        for position in change.drop:
            put.pop(position, None)
        put.update((row.position, row) for row in change.put)
        return Rows(self.reset or change.reset, drop | frozenset(change.drop), put)

    def apply(self, owed: Mapping[Position, Owed]) -> Mapping[Position, Owed]:
        """Returns the rows after the change of these before it."""
        if not (self.reset or self.drop or self.put):
            return owed
        left = {} if self.reset else {at: row for at, row in owed.items() if at not in self.drop}
        return left | dict(self.put)


@dataclass(frozen=True, slots=True)
class Written:
    """A record, ready to be stored."""

    payload: bytes
    is_whole: bool


def write(record: LaneRecord, rows: Rows, limit: int) -> Written:
    """Writes a record; `rows` is how those it has have changed since the last message.

    As a change, rather than whole, where it is longer than `limit` bytes.
    """
    if len(record.owed) <= FEW_ROWS or record.changes >= CHANGES or not record.sequence:
        whole = Written(_payload(record, {"owed": _plain_rows(record.owed)}), is_whole=True)
        if len(whole.payload) <= limit or not record.sequence:
            return whole
    change = {"reset": rows.reset, "drop": sorted(rows.drop), "put": _plain_rows(rows.put)}
    return Written(_payload(record, change), is_whole=False)


def read(record: LaneRecord, sequence: int, payload: bytes) -> LaneRecord:
    """Returns the record after a message with this sequence; before, it was `record`."""
    try:
        document = orjson.loads(payload if payload.startswith(b"{") else zlib.decompress(payload))
        if document["v"] != FORMAT:
            raise _unreadable(sequence, f"it has format {document['v']}, and this version knows format {FORMAT}")
        holder, epoch = document["lease"]
        lease = Lease(holder, epoch or (sequence if holder is not None else 0))
        state = None if document["state"] is None else _state_of(document["state"])
        if "owed" in document:
            return LaneRecord(sequence, 0, lease, state, document["by"], _rows_of(document["owed"]))
        rows = Rows(document["reset"], frozenset(document["drop"]), _rows_of(document["put"]))
        return LaneRecord(sequence, record.changes + 1, lease, state, document["by"], rows.apply(record.owed))
    except (zlib.error, KeyError, TypeError, ValueError) as error:
        raise _unreadable(sequence, "it is damaged") from error


def stored(record: LaneRecord, sequence: int, *, is_whole: bool) -> LaneRecord:
    """Returns the record after it was stored as the message with this sequence."""
    lease = record.lease
    if lease.holder is not None and not lease.epoch:
        lease = replace(lease, epoch=sequence)
    return replace(record, sequence=sequence, changes=0 if is_whole else record.changes + 1, lease=lease)


def _payload(record: LaneRecord, rows: Mapping[str, Any]) -> bytes:
    document = {
        "v": FORMAT,
        "lease": (record.lease.holder, record.lease.epoch),
        "state": None if record.state is None else _plain_state(record.state),
        "by": record.writer,
    }
    payload = orjson.dumps(document | dict(rows))
    return zlib.compress(payload, 1) if len(payload) >= COMPRESSED_BYTES else payload


def _plain_state(state: CursorState) -> Sequence[Any]:
    ends = list(chain.from_iterable(state.settled))
    return state.floor, state.read_mark, state.level, list(map(sub, ends, [state.floor, *ends]))


def _state_of(plain: Sequence[Any]) -> CursorState:
    floor, read_mark, level, settled = plain
    return CursorState(floor, read_mark, _ranges_of(floor, settled), level)


def _ranges_of(floor: int, settled: Sequence[int]) -> Ranges:
    _, *ends = accumulate(settled, initial=floor)
    return tuple(zip(map(Position, ends[::2]), map(Position, ends[1::2]), strict=True))


def _plain_rows(owed: Mapping[Position, Owed]) -> Sequence[Any]:
    return [
        (row.position, row.kind.value, row.due, row.attempt, row.first_try, row.ordering_key, row.error)
        for row in owed.values()
    ]


def _rows_of(plain: Sequence[Any]) -> Mapping[Position, Owed]:
    return {Position(position): Owed(position, OwedKind(kind), *rest) for position, kind, *rest in plain}


def _unreadable(sequence: int, fault: str) -> Unavailable:
    return Unavailable(Reason.STORAGE_UNAVAILABLE, f"Message {sequence} of the lanes' stream cannot be read: {fault}.")
