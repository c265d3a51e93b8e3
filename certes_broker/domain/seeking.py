"""Points in what is kept, as a caller names them."""

from __future__ import annotations

from dataclasses import dataclass

from certes_broker.domain.events import Micros


@dataclass(frozen=True, slots=True)
class SeekBeginning:
    """The earliest kept event."""


@dataclass(frozen=True, slots=True)
class SeekEnd:
    """After the latest event."""


@dataclass(frozen=True, slots=True)
class SeekTime:
    """The first event accepted at this time or later."""

    time: Micros


@dataclass(frozen=True, slots=True)
class SeekEvent:
    """The event of this name, itself included."""

    name: str


SeekPoint = SeekBeginning | SeekEnd | SeekTime | SeekEvent
