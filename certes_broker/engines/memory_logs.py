"""The logs of the reference engine: webhook attempts, and payloads that sources did not take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from certes_broker.domain.events import Micros, Position
from certes_broker.engines.kept import rejected_size
from certes_broker.ports.engine import Attempt, Rejected, RejectedSummary


class MemoryAttempts:
    """The log of attempts as a list."""

    def __init__(self) -> None:
        self._log: list[Attempt] = []

    async def record(self, attempts: Sequence[Attempt]) -> None:
        self._log.extend(attempts)

    async def list(self, subscription: str, position: Position | None, limit: int) -> Sequence[Attempt]:
        found = (
            attempt
            for attempt in reversed(self._log)
            if attempt.subscription == subscription and position in (None, attempt.position)
        )
        return [attempt for attempt, _ in zip(found, range(limit), strict=False)]

    async def trim(self, before: Micros) -> None:
        self._log = [attempt for attempt in self._log if attempt.time >= before]

    def erase(self, subscriber: str) -> int:
        """Forgets the attempts at the webhooks of a subscriber, and returns how many there were."""
        before = len(self._log)
        self._log = [one for one in self._log if not one.subscription.startswith(f"subscribers/{subscriber}/")]
        return before - len(self._log)


class MemoryRejections:
    """The log of rejected payloads as a dictionary by number, and so from the oldest to the newest."""

    def __init__(self) -> None:
        self._log: dict[int, Rejected] = {}
        self._last = 0

    async def keep(self, rejected: Rejected) -> int:
        self._last += 1
        self._log[self._last] = replace(rejected, number=self._last)
        return self._last

    async def list(self, source: str, before: int | None, limit: int) -> Sequence[RejectedSummary]:
        found = (one.summary for one in reversed(self._of(source)) if before is None or one.number < before)
        return [one for one, _ in zip(found, range(limit), strict=False)]

    async def get(self, source: str, number: int) -> Rejected | None:
        found = self._log.get(number)
        return found if found is not None and found.source == source else None

    async def forget(self, source: str, number: int | None) -> None:
        for one in self._of(source):
            if number in (None, one.number):
                del self._log[one.number]

    async def trim(self, before: Micros, max_bytes: int, max_unverified: int) -> None:
        for one in [*self._past(before), *self._unverified(max_unverified)]:
            self._log.pop(one.number, None)
        size = sum(map(rejected_size, self._log.values()))
        for one in sorted(self._log.values(), key=lambda kept: (kept.verified, kept.number)):
            if size <= max_bytes:
                return
            size -= rejected_size(one)
            del self._log[one.number]

    def _of(self, source: str) -> Sequence[Rejected]:
        return [one for one in self._log.values() if one.source == source]

    def _past(self, before: Micros) -> Iterator[Rejected]:
        return (one for one in self._log.values() if one.time < before)

    def _unverified(self, most: int) -> Iterator[Rejected]:
        """Yields the payloads that are not verified but for the newest `most` of each source."""
        for source in {one.source for one in self._log.values()}:
            unverified = [one for one in self._of(source) if not one.verified]
            yield from unverified[: max(0, len(unverified) - most)]
