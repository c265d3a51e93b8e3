"""What a subscriber says of the deliveries of one stream."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique


@unique
class NackAction(Enum):
    """What to do with failed deliveries."""

    RETRY = "retry"
    DEAD_LETTER = "dead_letter"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Nack:
    """Deliveries `first` to `last` failed. `delay` is seconds, None where the retry policy decides."""

    first: int
    last: int
    action: NackAction
    delay: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Extension:
    """Deliveries `first` to `last` may stay unsettled for `deadline` seconds from now."""

    first: int
    last: int
    deadline: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """One acknowledgement: ordinals are inclusive ranges, counted from 1 per stream; no two of them overlap."""

    acked: tuple[tuple[int, int], ...]
    nacked: tuple[Nack, ...]
    extended: tuple[Extension, ...]
