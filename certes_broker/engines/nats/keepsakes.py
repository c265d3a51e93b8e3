"""Dead letters and gaps: what is kept of a subscription for a person, one message each, in the lanes' stream."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import orjson

from certes_broker.domain.events import Micros, Position
from certes_broker.engines.blocks import decode_header, decode_one, encode, is_for
from certes_broker.engines.nats.publishing import ROLLUP, Message
from certes_broker.engines.nats.reading import Reader
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.engine import CursorChange, DeadLetter, Gap

PAST_AT_ONCE: Final = 4
_LENGTHS: Final = struct.Struct(">II")


def keepsakes(names: Names, change: CursorChange) -> Iterator[Message]:
    """Yields the messages of a change's dead letters and gaps. Stored again, they replace themselves."""
    for dead in change.dead:
        yield Message(names.dead_letter(change.subscription, dead.position), _payload(dead), dict(ROLLUP))
    for gap in change.gaps:
        body = orjson.dumps([gap.reason, gap.time])
        yield Message(names.gap(change.subscription, gap.first, gap.last), body, dict(ROLLUP))


def buried(changes: Iterable[CursorChange]) -> Sequence[Position]:
    """Returns the dead letters that are gone after some changes of one subscription."""
    gone: dict[Position, None] = {}
    for change in changes:
        gone |= dict.fromkeys(change.buried)
        for dead in change.dead:
            gone.pop(dead.position, None)
    return list(gone)


async def dead_positions(reader: Reader, names: Names, subscription: str) -> Sequence[Position]:
    """Returns the positions of a subscription's dead letters, in order."""
    subjects = await reader.subjects(names.dead_letter(subscription, "*"))
    return sorted(Position(int(subject.rpartition(".")[2])) for subject in subjects)


async def read_dead_letter(reader: Reader, names: Names, subscription: str, position: Position) -> DeadLetter | None:
    """Returns a dead letter; None if there is none of that position."""
    kept = await reader.last(names.dead_letter(subscription, position))
    return None if kept is None else _dead_letter(position, kept.payload)


async def read_dead_letters(
    reader: Reader, names: Names, subscription: str, after: Position, bounds: tuple[int, int | None]
) -> Sequence[DeadLetter]:
    """Returns dead letters of a subscription above a position, by position; `bounds` are how many, and bytes of bodies."""
    limit, max_bytes = bounds
    found: list[DeadLetter] = []
    size = 0
    for position in await dead_positions(reader, names, subscription):
        if position <= after:
            continue
        if len(found) == limit or (max_bytes is not None and size >= max_bytes):
            break
        letter = await read_dead_letter(reader, names, subscription, position)
        if letter is not None:
            found.append(letter)
            size += len(letter.event.body)
    return found


async def past(reader: Reader, names: Names, before: Micros) -> Sequence[tuple[str, Position]]:
    """Returns dead letters of before a time, by subscription and position, from the oldest up to one that is young enough."""
    found: list[tuple[str, Position]] = []
    # A few at once: as a rule the first is young enough.
    async for kept in reader.between(names.dead_letters, 0, (await reader.state()).last, page=PAST_AT_ONCE):
        subscription, position = names.dead_letter_of(kept.subject)
        if _dead_letter(position, kept.payload).time >= before:
            break
        found.append((subscription, position))
    return found


async def read_gaps(reader: Reader, names: Names, subscription: str) -> Sequence[Gap]:
    """Returns the gaps of a subscription, oldest first."""
    found: list[Gap] = []
    for subject in await reader.subjects(names.gap(subscription, "*", "*")):
        kept = await reader.last(subject)
        if kept is not None:
            first, last = map(int, subject.split(".")[-2:])
            reason, time = orjson.loads(kept.payload)
            found.append(Gap(Position(first), Position(last), reason, Micros(time)))
    return sorted(found, key=lambda gap: (gap.time, gap.first, gap.last))


def is_letter_for(payload: bytes, subscriber: str) -> bool:
    """Says whether a dead letter's event was for a subscriber."""
    about, header = _LENGTHS.unpack_from(payload)
    start = _LENGTHS.size + about
    return is_for(decode_header(payload[start : start + header].decode()), subscriber)


def _payload(dead: DeadLetter) -> bytes:
    header, body = encode([dead.event])
    parts = (orjson.dumps([dead.attempts, dead.reason, dead.error, dead.time]), header.encode())
    return b"".join((_LENGTHS.pack(*map(len, parts)), *parts, body))


def _dead_letter(position: Position, payload: bytes) -> DeadLetter:
    about, header = _LENGTHS.unpack_from(payload)
    start = _LENGTHS.size
    attempts, reason, error, time = orjson.loads(payload[start : start + about])
    text = payload[start + about : start + about + header].decode()
    event = decode_one(position, text, payload[start + about + header :])
    return DeadLetter(position, event, attempts, reason, error, Micros(time))
