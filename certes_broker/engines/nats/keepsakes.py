"""Dead letters and gaps: what is kept of a subscription for a person, one message each, in the lanes' stream."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

import orjson

from certes_broker.domain.events import Micros, Position
from certes_broker.engines.blocks import decode_one, encode
from certes_broker.engines.nats.publishing import ROLLUP, Message
from certes_broker.engines.nats.reading import Reader
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.engine import CursorChange, DeadLetter, Gap

_LENGTHS: Final = struct.Struct(">II")


def keepsakes(names: Names, change: CursorChange) -> Iterator[Message]:
    """Yields the messages of a change's dead letters and gaps. Stored again, they replace themselves."""
    for dead in change.dead:
        yield Message(names.dead_letter(change.subscription, dead.position), _payload(dead), dict(ROLLUP))
    for gap in change.gaps:
        body = orjson.dumps([gap.reason, gap.time])
        yield Message(names.gap(change.subscription, gap.first, gap.last), body, dict(ROLLUP))


async def read_dead_letters(
    reader: Reader, names: Names, subscription: str, after: Position, limit: int
) -> Sequence[DeadLetter]:
    """Returns dead letters of a subscription above a position, by position."""
    subjects = await reader.subjects(names.dead_letter(subscription, "*"))
    positions = sorted(int(subject.rpartition(".")[2]) for subject in subjects)
    found: list[DeadLetter] = []
    for position in positions:
        if position <= after:
            continue
        if len(found) == limit:
            break
        kept = await reader.last(names.dead_letter(subscription, position))
        if kept is not None:
            found.append(_dead_letter(Position(position), kept.payload))
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
