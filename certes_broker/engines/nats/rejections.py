"""The log of rejected payloads: one message each, whose sequence is the number.

What the log is bounded by, the time, size and source of each payload, is kept in mind, and read from the messages' headers
at the start. What other members keep and let go is found by how many messages there are, and which is the last.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from certes_broker.domain.events import Micros, Original
from certes_broker.engines.kept import rejected_size
from certes_broker.engines.nats.connection import Connection, Refusal
from certes_broker.engines.nats.deleting import Deletion
from certes_broker.engines.nats.publishing import Message, Publisher
from certes_broker.engines.nats.reading import Kept, Reader
from certes_broker.engines.nats.subjects import Names, escape, unescape
from certes_broker.ports.engine import Rejected, RejectedSummary

ABOUT: Final = "Certes-Rejected"
AT_ONCE: Final = 32
_LENGTH: Final = struct.Struct(">I")


class _Row(NamedTuple):
    """What trimming must know of a payload."""

    number: int
    source: str
    time: Micros
    verified: bool
    size: int


class NatsRejections:
    """The log. `rows` are all that are kept, in the order of their numbers."""

    def __init__(
        self, connection: Connection, publisher: Publisher, reader: Reader, names: Names, deletion: Deletion
    ) -> None:
        self._connection = connection
        self._deletion = deletion
        self._publisher = publisher
        self._reader = reader
        self._names = names
        self._rows: dict[int, _Row] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._reading = asyncio.Lock()
        self._read = 0

    async def open(self) -> None:
        """Reads what is kept."""
        await self._see()

    async def _see(self) -> None:
        """Finds what others have kept, and let go."""
        async with self._reading:
            state = await self._reader.state()
            await self._read_rows(max(self._read + 1, state.first), state.last)
            self._rows = {number: row for number, row in self._rows.items() if number >= state.first}
            if sum(1 for number in self._rows if number <= state.last) != state.messages:
                self._rows = {number: row for number, row in self._rows.items() if number > state.last}
                await self._read_rows(state.first, state.last)

    async def _read_rows(self, first: int, last: int) -> None:
        async for kept in self._reader.headers(first, last):
            self._rows[kept.sequence] = _row_of(kept)
        self._read = max(self._read, last)

    async def keep(self, rejected: Rejected) -> int:
        payload = rejected.payload
        about = [rejected.reason, rejected.message, payload.content_type, payload.headers]
        text = json.dumps(about, separators=(",", ":")).encode()
        size = rejected_size(rejected)
        headers = {ABOUT: f"{escape(rejected.source)} {rejected.time} {rejected.verified:d} {size}"}
        message = Message(
            self._names.rejected_of(rejected.source), b"".join((_LENGTH.pack(len(text)), text, payload.body)), headers
        )
        async with self._turns:
            try:
                number = (await self._publisher.store(message)).sequence
            except Refusal as refusal:
                raise self._connection.unavailable(refusal) from refusal
        self._rows[number] = _Row(number, rejected.source, rejected.time, rejected.verified, size)
        while self._read + 1 in self._rows:
            self._read += 1
        return number

    async def list(self, source: str, before: int | None, limit: int) -> Sequence[RejectedSummary]:
        await self._see()
        numbers = [
            row.number for row in self._ordered() if row.source == source and (before is None or row.number < before)
        ]
        found: list[RejectedSummary] = []
        for number in reversed(numbers):
            if len(found) == limit:
                break
            rejected = await self.get(source, number)
            if rejected is not None:
                found.append(rejected.summary)
        return found

    async def get(self, source: str, number: int) -> Rejected | None:
        kept = await self._reader.at(number, self._names.rejected_of(source))
        return None if kept is None or kept.sequence != number else _rejected_of(kept)

    async def forget(self, source: str, number: int | None) -> None:
        await self._see()
        if number is None:
            await self._deletion.all(self._names.rejected_of(source))
            self._rows = {row.number: row for row in self._rows.values() if row.source != source}
        elif (row := self._rows.get(number)) is not None and row.source == source:
            await self._delete(number)

    async def trim(self, before: Micros, max_bytes: int, max_unverified: int) -> None:
        await self._see()
        going = {row.number for row in (*self._past(before), *self._surplus(max_unverified))}
        left = [row for row in self._ordered() if row.number not in going]
        size = sum(row.size for row in left)
        for row in sorted(left, key=lambda one: (one.verified, one.number)):
            if size <= max_bytes:
                break
            size -= row.size
            going.add(row.number)
        # Those at the beginning go together.
        first = next((row.number for row in self._ordered() if row.number not in going), None)
        end = max(self._rows, default=0) + 1 if first is None else first
        if any(number < end for number in going):
            await self._connection.api(f"STREAM.PURGE.{self._names.rejected}", {"seq": end})
            self._rows = {number: row for number, row in self._rows.items() if number >= end}
        for number in sorted(number for number in going if number >= end):
            await self._delete(number)

    async def _delete(self, number: int) -> None:
        await self._deletion.one(number)
        self._rows.pop(number, None)

    def _ordered(self) -> Sequence[_Row]:
        return [self._rows[number] for number in sorted(self._rows)]

    def _past(self, before: Micros) -> Iterator[_Row]:
        return (row for row in self._rows.values() if row.time < before)

    def _surplus(self, most: int) -> Iterator[_Row]:
        """Yields the payloads that are not verified but for the newest `most` of each source."""
        unverified: dict[str, list[_Row]] = {}
        for row in self._ordered():
            if not row.verified:
                unverified.setdefault(row.source, []).append(row)
        for rows in unverified.values():
            yield from rows[: max(0, len(rows) - most)]


def _row_of(kept: Kept) -> _Row:
    source, time, verified, size = kept.headers[ABOUT].split(" ")
    return _Row(kept.sequence, unescape(source), Micros(int(time)), verified == "1", int(size))


def _rejected_of(kept: Kept) -> Rejected:
    row = _row_of(kept)
    start = _LENGTH.size
    (length,) = _LENGTH.unpack_from(kept.payload)
    reason, message, content_type, headers = json.loads(kept.payload[start : start + length])
    original = Original(content_type, tuple((name, value) for name, value in headers), kept.payload[start + length :])
    return Rejected(row.source, row.time, reason, message, row.verified, original, row.number)
