"""The log of webhook attempts: what one commit records for one subscription is one message."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import Final

from certes_broker.domain.events import Micros, Position
from certes_broker.engines.nats.connection import Connection, Refusal
from certes_broker.engines.nats.groups import Groups
from certes_broker.engines.nats.publishing import Message, Publisher
from certes_broker.engines.nats.reading import ALL, Reader
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.engine import Attempt

ATTEMPT_BYTES: Final = 256
"""What an attempt needs in a message beside its answer, roughly."""
LATEST: Final = "Certes-Latest"


class AttemptLog:
    """Writes attempts."""

    def __init__(self, connection: Connection, publisher: Publisher, names: Names) -> None:
        self._connection = connection
        self._publisher = publisher
        self._names = names

    async def write(self, calls: Sequence[Sequence[Attempt]]) -> Sequence[None]:
        """Records what the calls have, together."""
        by_subscription: dict[str, list[Attempt]] = {}
        for attempt in (attempt for call in calls for attempt in call):
            by_subscription.setdefault(attempt.subscription, []).append(attempt)
        messages = [
            Message(
                self._names.attempts_of(subscription),
                _encode(attempts),
                {LATEST: str(max(attempt.time for attempt in attempts))},
            )
            for subscription, attempts in by_subscription.items()
        ]
        for outcome in await self._publisher.store_all(messages):
            if isinstance(outcome, Refusal):
                raise self._connection.unavailable(outcome)
        return [None] * len(calls)


class NatsAttempts:
    """The log: writes go through the queue, and reads follow the messages of a subscription."""

    def __init__(
        self, connection: Connection, reader: Reader, names: Names, queue: Groups[Sequence[Attempt], None]
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._names = names
        self._queue = queue

    async def record(self, attempts: Sequence[Attempt]) -> None:
        await self._queue.submit(attempts, sum(ATTEMPT_BYTES + len(attempt.answer) for attempt in attempts))

    async def list(self, subscription: str, position: Position | None, limit: int) -> Sequence[Attempt]:
        subject = self._names.attempts_of(subscription)
        newest = await self._reader.last(subject)
        # A stream is read forwards only, so all that there is of a subscription passes by.
        found: deque[Attempt] = deque(maxlen=limit)
        if newest is not None:
            async for kept in self._reader.between(subject, 0, newest.sequence):
                found.extend(one for one in _decode(subscription, kept.payload) if position in (None, one.position))
        return list(reversed(found))

    async def trim(self, before: Micros) -> None:
        state = await self._reader.state()
        first = state.first
        async for kept in self._reader.between(ALL, state.first - 1, state.last):
            if int(kept.headers[LATEST]) >= before:
                break
            first = kept.sequence + 1
        if first > state.first:
            await self._connection.api(f"STREAM.PURGE.{self._names.attempts}", {"seq": first})


def _encode(attempts: Sequence[Attempt]) -> bytes:
    """Writes attempts as JSON. Bytes of an answer become characters of the same number."""
    entries = [
        (a.position, a.number, a.time, a.duration, a.status, a.failure, a.error, a.answer.decode("latin-1"), a.next_try)
        for a in attempts
    ]
    return json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()


def count_of(payload: bytes) -> int:
    """Returns how many attempts a message has."""
    return len(json.loads(payload))


def _decode(subscription: str, payload: bytes) -> Sequence[Attempt]:
    return [
        Attempt(subscription, at, number, time, duration, status, failure, error, answer.encode("latin-1"), next_try)
        for at, number, time, duration, status, failure, error, answer, next_try in json.loads(payload)
    ]
