"""What makes appends idempotent: fingerprints of the ids of the dedupe window, in memory, and which appends they admit.

How it works
------------
* Each block carries the fingerprints of its events' ids in a header, so that remembering an id is no write of its own, and
  happens exactly when its event is stored. Whoever begins to write reads the headers of the window.
* A fingerprint is 8 bytes of a keyed hash of source and id, and 8 bytes of one of the digest. The key is the stream's own
  secret: nobody can make an id that collides with another's.
* Ids are kept by period. A period is one dedupe window long; the present one and the one before it are looked at. So an id
  is known for at least one window and less than two.
* What is known of an id is one number, the position and the hash of the digest: with its fingerprint and the table that is
  some 140 bytes of memory for each id of the window.

With several writers the block's expected sequence would make this exact, too: a writer that has not read all blocks is
refused, reads them, and judges again.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from certes_broker.domain.errors import AlreadyExists
from certes_broker.domain.events import AcceptedEvent, Micros, Position
from certes_broker.engines.kept import id_reused
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Appended

KEY_BYTES: Final = 16
DIGEST_BITS: Final = 64
DIGEST_MASK: Final = (1 << DIGEST_BITS) - 1
_PAIR: Final = struct.Struct(">QQ")
_NONE: Final = (0, 0)

Fingerprint = tuple[int, int]
"""Of an id, and of the digest; zeros for an event that is not deduplicated."""


class Admission(NamedTuple):
    """Of the calls of one block: which events are new, their fingerprints, and what became of each call."""

    fresh: Sequence[AcceptedEvent]
    fingerprints: Sequence[Fingerprint]
    outcomes: Sequence[Sequence[Appended] | AlreadyExists]


class Ids:
    """The ids of the dedupe window, which is given in microseconds."""

    def __init__(self, clock: Clock, window: int, key: bytes) -> None:
        self._clock = clock
        self._window = window
        self._key = key
        self._period = 0
        self._known: dict[int, dict[int, int]] = {}

    def earliest(self, newest: Micros) -> Micros:
        """Returns since when ids are to be known, if the newest block was stored at a time; the clock may have gone back."""
        self._period = max(self._period, newest // self._window)
        return self.horizon

    @property
    def horizon(self) -> Micros:
        """Since when ids are known."""
        self._enter()
        return Micros((self._period - 1) * self._window)

    def admit(self, calls: Sequence[Sequence[AcceptedEvent]], start: Position, before: dict[int, int]) -> Admission:
        """Judges appends that stand to get the positions from `start` on. Nothing is remembered yet.

        `before` has what is new in blocks that are to be stored before, and gets what is new here.
        """
        self._enter()
        fresh: list[AcceptedEvent] = []
        fingerprints: list[Fingerprint] = []
        outcomes: list[Sequence[Appended] | AlreadyExists] = []
        for call in calls:
            verdict = self._judge(call, before, start + len(fresh))
            outcomes.append(verdict.outcome)
            fresh += verdict.fresh
            fingerprints += verdict.fingerprints
            before |= verdict.added
        return Admission(fresh, fingerprints, outcomes)

    def remember(self, fingerprints: Sequence[Fingerprint], first: Position, stored: Micros) -> None:
        """Takes in the ids of a block that was stored at a time, with the position of its first event."""
        known = self._known.setdefault(stored // self._window, {})
        for position, (key, digest) in enumerate(fingerprints, first):
            if key:
                known.setdefault(key, position << DIGEST_BITS | digest)

    def find(self, source: str, event_id: str) -> Position | None:
        """Returns where the event with an id is."""
        self._enter()
        first = self._first(self._fingerprint(source, event_id))
        return None if first is None else Position(first >> DIGEST_BITS)

    def forget(self, before: Micros) -> None:
        """Drops the periods that ended before a time."""
        for period in list(self._known):
            if (period + 1) * self._window <= before:
                del self._known[period]

    def _enter(self) -> None:
        period = max(self._period, self._clock.now() // self._window)
        if period > self._period:
            self._period = period
            for past in [known for known in self._known if known < period - 1]:
                del self._known[past]

    def _first(self, key: int) -> int | None:
        for period in (self._period, self._period - 1):
            first = self._known.get(period, {}).get(key)
            if first is not None:
                return first
        return None

    def _fingerprint(self, source: str, event_id: str) -> int:
        text = f"{len(source)} {source}{event_id}".encode()
        return int.from_bytes(blake2b(text, digest_size=8, key=self._key).digest()) or 1

    def _judge(self, call: Sequence[AcceptedEvent], before: dict[int, int], start: int) -> _Verdict:
        verdict = _Verdict([], [], [], {})
        for index, event in enumerate(call):
            position = Position(start + len(verdict.fresh))
            fingerprint = _NONE
            if event.digest is not None:
                key = self._fingerprint(event.source, event.id)
                digest = int.from_bytes(blake2b(event.digest, digest_size=8, key=self._key).digest())
                first = verdict.added.get(key) or before.get(key) or self._first(key)
                if first is not None:
                    if first & DIGEST_MASK != digest:
                        return _Verdict(id_reused(event, index), [], [], {})
                    verdict.appended.append(Appended(Position(first >> DIGEST_BITS), duplicate=True))
                    continue
                verdict.added[key] = position << DIGEST_BITS | digest
                fingerprint = (key, digest)
            verdict.appended.append(Appended(position, duplicate=False))
            verdict.fresh.append(event)
            verdict.fingerprints.append(fingerprint)
        return verdict


class _Verdict(NamedTuple):
    outcome: list[Appended] | AlreadyExists
    fresh: list[AcceptedEvent]
    fingerprints: list[Fingerprint]
    added: dict[int, int]

    @property
    def appended(self) -> list[Appended]:
        assert isinstance(self.outcome, list)  # a verdict that refuses is complete when it is made
        return self.outcome


def encode(fingerprints: Sequence[Fingerprint]) -> str:
    """Writes fingerprints as a header's value."""
    return b64encode(b"".join([_PAIR.pack(key, digest) for key, digest in fingerprints])).decode("ascii")


def decode(text: str) -> Iterator[Fingerprint]:
    """Reads fingerprints."""
    return _PAIR.iter_unpack(b64decode(text))
