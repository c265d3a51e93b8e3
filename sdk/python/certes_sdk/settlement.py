"""What is to be told to the broker of the deliveries of one open stream.

Decides and counts; tells nothing itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from certes.v1.event_service_pb2 import AcknowledgeRequest, OrdinalRange
from certes_sdk.ranges import Range, cut, ranges_of

MAXIMUM_RANGES: Final = 1000
"""Ranges of one `Acknowledge`."""
MAXIMUM_REASON_BYTES: Final = 1024
LONGEST_EXTENSION: Final = 3600.0
"""Seconds for which a delivery is held in all."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one `Acknowledge` says. `failed` has a reason for each ordinal."""

    acked: list[Range]
    failed: list[tuple[Range, str]]
    extended: list[Range]

    def request(self, stream: str, deadline: float) -> AcknowledgeRequest:
        """Returns it as the contract has it; `deadline` is the seconds of an extension."""
        request = AcknowledgeRequest(stream=stream)
        for first, last in self.acked:
            request.acked.add(first=first, last=last)
        for (first, last), reason in self.failed:
            nack = request.nacked.add(action=AcknowledgeRequest.ACTION_RETRY, reason=reason)
            nack.range.CopyFrom(OrdinalRange(first=first, last=last))
        for first, last in self.extended:
            extension = request.extended.add()
            extension.range.CopyFrom(OrdinalRange(first=first, last=last))
            extension.deadline.FromNanoseconds(round(deadline * 1e9))
        return request

    def without(self, ordinal: int) -> Report:
        """Returns the same without one ordinal."""
        return Report(
            [piece for one in self.acked for piece in _without(one, ordinal)],
            [(piece, reason) for one, reason in self.failed for piece in _without(one, ordinal)],
            [piece for one in self.extended for piece in _without(one, ordinal)],
        )

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not (self.acked or self.failed or self.extended)


class Settlement:
    """The book of one stream: what came, what was settled, and what of that is still to be told."""

    def __init__(self) -> None:
        self._unsettled: set[int] = set()
        self._batches: deque[tuple[range, float]] = deque()
        self._acked: list[int] = []
        self._failed: dict[int, str] = {}
        self._extended: list[int] = []

    @property
    def untold(self) -> int:
        """How many deliveries were settled and not told yet."""
        return len(self._acked) + len(self._failed)

    @property
    def unsettled(self) -> int:
        """How many deliveries came and are not settled."""
        return len(self._unsettled)

    def came(self, ordinals: range, now: float) -> None:
        """Notes deliveries that came together."""
        self._unsettled.update(ordinals)
        self._batches.append((ordinals, now))

    def ack(self, ordinal: int) -> None:
        """Settles a delivery as done."""
        self._unsettled.discard(ordinal)
        self._acked.append(ordinal)

    def nack(self, ordinal: int, reason: str) -> None:
        """Settles a delivery as failed. The reason is cut to what the broker keeps."""
        self._unsettled.discard(ordinal)
        self._failed[ordinal] = cut_text(reason, MAXIMUM_REASON_BYTES)

    def extend(self, now: float, age: float) -> None:
        """Asks for a longer time for what came `age` seconds ago or more and is not settled, unless that is too long ago."""
        while self._batches and self._unsettled.isdisjoint(self._batches[0][0]):
            self._batches.popleft()
        self._extended = [
            ordinal
            for ordinals, came in self._batches
            if age <= now - came < LONGEST_EXTENSION
            for ordinal in ordinals
            if ordinal in self._unsettled
        ]

    def report(self) -> Report:
        """Takes what is to be told now: as few ranges as possible, at most 1,000."""
        room = MAXIMUM_RANGES
        acked, rest = cut(ranges_of(self._acked), room)
        self._acked = rest
        room -= len(acked)
        failed = []
        for span, reason in _with_reasons(self._failed)[:room]:
            failed.append((span, reason))
            for ordinal in range(span[0], span[1] + 1):
                del self._failed[ordinal]
        room -= len(failed)
        extended, _ = cut(ranges_of(one for one in self._extended if one in self._unsettled), room)
        self._extended = []
        return Report(acked, failed, extended)


def cut_text(text: str, limit: int) -> str:
    """Shortens a text to at most `limit` bytes of UTF-8."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= limit:
        return encoded.decode()
    return encoded[: limit - 3].decode(errors="ignore") + "…"


def _with_reasons(failed: dict[int, str]) -> list[tuple[Range, str]]:
    by_reason: dict[str, list[int]] = {}
    for ordinal, reason in failed.items():
        by_reason.setdefault(reason, []).append(ordinal)
    return [(span, reason) for reason, ordinals in by_reason.items() for span in ranges_of(ordinals)]


def _without(span: Range, ordinal: int) -> Iterable[Range]:
    first, last = span
    if not first <= ordinal <= last:
        yield span
        return
    if first < ordinal:
        yield first, ordinal - 1
    if ordinal < last:
        yield ordinal + 1, last
