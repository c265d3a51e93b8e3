"""The messages of the post: what their headers say, and how notices and refusals are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final, NamedTuple

import orjson

from certes_broker.domain.errors import CertesError, FieldViolation, Internal, Reason
from certes_broker.ports.cluster import MemberId

CALL: Final = "Certes-Call"
KIND: Final = "Certes-Kind"
NAME: Final = "Certes-Name"
ASKER: Final = "Certes-Asker"
PART: Final = "Certes-Part"
NUMBER: Final = "Certes-Number"


@unique
class Kind(StrEnum):
    """What a message is.

    Of requests, `ASK` wants one frame and `STREAM` any number. Of answers, `DATA` is a frame or the last part of one, `MORE` a
    part before that, `END` the end, `BROKEN` one that comes too early, and `ERROR` a refusal.
    """

    ASK = "ask"
    STREAM = "stream"
    DATA = "data"
    MORE = "more"
    END = "end"
    BROKEN = "broken"
    ERROR = "error"


class Call(NamedTuple):
    """A request."""

    id: str
    kind: Kind
    name: str
    asker: MemberId

    def headers(self, index: int, count: int) -> dict[str, str]:
        """Writes the headers of one of its parts."""
        return {CALL: self.id, KIND: self.kind, NAME: self.name, ASKER: self.asker, PART: f"{index} {count}"}


def call_of(headers: Mapping[str, str] | None) -> tuple[Call, int, int]:
    """Reads which request a message is of, which part of it, and of how many. Raises `ValueError` where it is none."""
    try:
        said = headers or {}
        index, count = map(int, said[PART].split(" "))
        return Call(said[CALL], Kind(said[KIND]), said[NAME], MemberId(said[ASKER])), index, count
    except KeyError as error:
        raise ValueError(f"The header {error} is missing.") from error


def frame_headers(number: int, kind: Kind) -> dict[str, str]:
    """Writes the headers of an answer's message."""
    return {NUMBER: str(number), KIND: kind}


def frame_of(headers: Mapping[str, str] | None) -> tuple[int, Kind]:
    """Reads the number and kind of an answer's message; -1 where it is none."""
    try:
        said = headers or {}
        return int(said[NUMBER]), Kind(said[KIND])
    except (KeyError, ValueError):
        return -1, Kind.BROKEN


@dataclass(frozen=True, slots=True)
class Notice:
    """What a member tells another of their streams: of those that it reads, how many messages it has taken, and which it has
    closed; of those that it writes, how many it has sent.
    """

    sender: MemberId
    taken: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    closed: Sequence[str] = ()

    def encode(self) -> bytes:
        """Writes it."""
        return orjson.dumps([self.sender, self.taken, self.sent, self.closed])


def decode_notice(payload: bytes) -> Notice:
    """Reads a notice. Raises `ValueError` for what is none."""
    sender, taken, sent, closed = orjson.loads(payload)
    return Notice(MemberId(sender), taken, sent, closed)


def encode_error(error: CertesError) -> bytes:
    """Writes a refusal."""
    violations = [(one.field, one.description) for one in error.violations]
    return orjson.dumps(
        [
            type(error).__name__,
            error.reason,
            error.message,
            dict(error.metadata),
            violations,
            error.hint,
            error.retry_after,
        ]
    )


def decode_error(payload: bytes) -> CertesError:
    """Reads a refusal. One of a kind or reason that this version does not know is an `Internal`."""
    kind, reason, message, metadata, violations, hint, retry_after = orjson.loads(payload)
    kinds = {one.__name__: one for one in CertesError.__subclasses__()}
    known = kind in kinds and reason in set(Reason)
    return kinds.get(kind if known else "", Internal)(
        Reason(reason) if known else Reason.INTERNAL,
        message,
        metadata=metadata,
        violations=[FieldViolation(name, description) for name, description in violations],
        hint=hint,
        retry_after=retry_after,
    )
