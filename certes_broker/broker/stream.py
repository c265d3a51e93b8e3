"""A stream: deliveries to whoever has it open, and their acknowledgements.

Rules
-----
* A stream numbers its deliveries from 1. A number means one attempt: when a delivery comes back, by the end of the stream
  or of its time, its number means nothing any more, so that a late acknowledgement cannot settle what others have now.
* An acknowledgement is applied as a whole or not at all, and answered when it is durable.
* Whatever ends a stream, its unsettled deliveries go back to the lane in the same step.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from certes_broker.broker.items import Item
from certes_broker.broker.lane import Lane
from certes_broker.broker.memory import Memory
from certes_broker.broker.outcomes import Failure, fail
from certes_broker.domain.deliveries import Tracked
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import Micros
from certes_broker.domain.settlement import NackAction, Settlement
from certes_broker.domain.subscriptions import DEFAULT_ACK_DEADLINE, StreamDelivery
from certes_broker.ports.clock import Alarm, Clock
from certes_broker.schemas.wire import Closing, batch_frame, closing_frame, heartbeat_frame, opened_frame

HEARTBEAT_INTERVAL: Final = 15.0
BATCH_DELIVERIES: Final = 256
BATCH_BYTES: Final = 3 * 1024 * 1024 - 1024


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How much may be unsettled on a stream, and whose it is."""

    max_outstanding: int
    max_outstanding_bytes: int
    caller: str = ""


@dataclass(frozen=True, slots=True)
class StreamSurroundings:
    """What all streams have in common. `end` ends one, and `memory` is the account of what all lanes hold."""

    clock: Clock
    memory: Memory
    end: Callable[[Stream], Awaitable[None]]


class Stream:
    """One open stream. Its deliveries are what `frames` yields; `Streams.acknowledge` settles them."""

    def __init__(self, name: str, lane: Lane, limits: StreamLimits, surroundings: StreamSurroundings) -> None:
        self.name = name
        self._end = surroundings.end
        self._memory = surroundings.memory.part(limits.caller)
        """The account of all streams of its caller."""
        self.lane = lane
        self._limits = limits
        self._clock = surroundings.clock
        delivery = lane.subscription.delivery
        self._ack_deadline = delivery.ack_deadline if isinstance(delivery, StreamDelivery) else DEFAULT_ACK_DEADLINE
        self._outstanding: dict[int, Tracked[Item]] = {}
        self._outstanding_bytes = 0
        self._next_ordinal = 1
        self._lowest = 1
        """No lower ordinal is outstanding."""
        self._deadlines: deque[tuple[float, int]] = deque()
        """By when the ordinals up to a last one must be settled, unless they were given longer."""
        self._overdue = 0
        """The time of every ordinal up to this one has run out, unless it was given longer."""
        self._extended: dict[int, float] = {}
        self._deadline_alarm: Alarm | None = None
        self._ready = asyncio.Event()
        self._heartbeat_due = False
        self._closing: bytes | None = None
        self._ended = False

    @property
    def outstanding(self) -> int:
        """How many deliveries are unsettled on it."""
        return len(self._outstanding)

    @property
    def has_ended(self) -> bool:
        """Whether its deliveries have gone back."""
        return self._ended

    def wake(self) -> None:
        """Hears that deliveries are ready."""
        self._ready.set()

    async def frames(self) -> AsyncIterator[bytes]:
        """Yields the stream's frames in their wire form, until it is closed; the last one says why."""
        yield opened_frame(self.name)
        spoken = self._clock.monotonic()
        while self._closing is None:
            frame = self._next_batch()
            if frame is None and self._heartbeat_due:
                frame = heartbeat_frame(self._lag())
            if frame is None:
                await self._wait(spoken + HEARTBEAT_INTERVAL)
            else:
                self._heartbeat_due = False
                # Until it has been sent, gRPC has a copy of its own.
                with self._memory.carrying(2 * len(frame)):
                    yield frame
                spoken = self._clock.monotonic()
        yield self._closing

    async def close(self) -> None:
        """Ends the stream without a word, for whoever reads its frames has gone. Idempotent."""
        await self._end(self)

    def end(self, reason: Closing.ValueType, message: str) -> None:
        """Ends the stream: its deliveries go back now, and `frames` says why, as soon as its client reads on."""
        if self._closing is None:
            self._closing = closing_frame(reason, message)
            self.give_back()
            # Not only when the client has read why: it may never, and the lane is to go to rest.
            self.lane.leave(self)
            self._ready.set()

    def lose(self) -> None:
        """Ends the stream, since another broker has the lane now."""
        self.end(Closing.REASON_DRAINING, "Another broker runs the subscription now; open the stream again.")

    def give_back(self) -> None:
        """Returns every unsettled delivery to the lane. Idempotent."""
        for tracked in self._outstanding.values():
            self.lane.give_back(tracked, attempted=True)
        self._forget_all()

    def forget(self) -> None:
        """Lets go of every delivery without returning any: the lane has been moved, and they concern nobody any more."""
        self._forget_all()

    def _forget_all(self) -> None:
        self._ended = True
        if self._deadline_alarm is not None:
            self._deadline_alarm.cancel()
            self._deadline_alarm = None
        self._outstanding.clear()
        self._hold(-self._outstanding_bytes)
        self._deadlines.clear()
        self._extended.clear()

    # Handing out.

    def _next_batch(self) -> bytes | None:
        room = self._limits.max_outstanding - len(self._outstanding)
        if room <= 0:
            return None
        space = min(self._limits.max_outstanding_bytes, self._memory.share) - self._outstanding_bytes
        lane = self.lane
        # One may always be out: it is in memory already, and whoever settles it frees that.
        if self._outstanding and lane.cursor.next_size > space:
            return None
        if not lane.cursor.ready or not lane.may_hand_out:
            return None
        taken = lane.take(min(room, BATCH_DELIVERIES), min(space, BATCH_BYTES))
        first = self._next_ordinal
        last = first + len(taken) - 1
        parts: list[bytes] = []
        for tracked in taken:
            item = tracked.payload
            assert item is not None  # What is ready is in memory.
            parts += item.delivery(tracked.attempt)
        self._outstanding.update(zip(range(first, last + 1), taken, strict=True))
        self._hold(sum([tracked.size for tracked in taken]))
        self._next_ordinal = last + 1
        self._deadlines.append((self._clock.monotonic() + self._ack_deadline, last))
        if self._deadline_alarm is None:
            self._set_deadline_alarm()
        return batch_frame(first, parts)

    def _hold(self, size: int) -> None:
        """Holds so many bytes more, or fewer."""
        self._outstanding_bytes += size
        self._memory.held += size

    async def _wait(self, until: float) -> None:
        """Waits for deliveries, or for room for them, until the silence has lasted long enough."""
        self._ready.clear()
        alarm = self._clock.alarm(max(0.0, until - self._clock.monotonic()), self._beat)
        try:
            await self._ready.wait()
        finally:
            alarm.cancel()

    def _beat(self) -> None:
        self._heartbeat_due = True
        self._ready.set()

    def _lag(self) -> float:
        oldest = self.lane.oldest_unread
        return 0.0 if oldest is None else max(0.0, (self._clock.now() - oldest) / 1_000_000)

    # Settling.

    def settle(self, settlement: Settlement, now: Micros) -> None:
        """Applies an acknowledgement as a whole.

        Raises `Invalid` (ORDINAL_NOT_OUTSTANDING) and changes nothing if one of its ordinals is not outstanding.
        """
        for first, last in _ranges(settlement):
            self._check_outstanding(first, last)
        cursor = self.lane.cursor
        for first, last in settlement.acked:
            cursor.ack_many(self._pop_many(first, last))
        for nack in settlement.nacked:
            for ordinal in range(nack.first, nack.last + 1):
                tracked = self._pop(ordinal)
                match nack.action:
                    case NackAction.DROP:
                        cursor.ack(tracked)
                    case NackAction.DEAD_LETTER:
                        self.lane.give_up(tracked, "rejected", nack.reason, now)
                    case NackAction.RETRY:
                        fail(self.lane, tracked, Failure(now, now, nack.reason, wait=nack.delay))
        if settlement.extended:
            until = self._clock.monotonic()
            for extension in settlement.extended:
                for ordinal in range(extension.first, extension.last + 1):
                    self._extended[ordinal] = until + extension.deadline
            self._set_deadline_alarm()
        while self._lowest < self._next_ordinal and self._lowest not in self._outstanding:
            self._lowest += 1
        while self._deadlines and self._deadlines[0][1] < self._lowest:
            self._deadlines.popleft()
        self.lane.changed()
        self.lane.wake()

    def _check_outstanding(self, first: int, last: int) -> None:
        outstanding = self._outstanding
        # A range may be absurdly long; one that is longer than what is outstanding ends at the first that is not.
        if last - first >= len(outstanding) or not all(map(outstanding.__contains__, range(first, last + 1))):
            missing = next(ordinal for ordinal in range(first, last + 1) if ordinal not in outstanding)
            raise Invalid(
                Reason.ORDINAL_NOT_OUTSTANDING,
                f"Delivery {missing} is not outstanding on {self.name}.",
                hint="It was settled before, or its time ran out and it has a new ordinal now. Nothing was applied.",
                metadata={"ordinal": str(missing), "stream": self.name},
            )

    def _pop_many(self, first: int, last: int) -> list[Tracked[Item]]:
        if self._extended:
            return [self._pop(ordinal) for ordinal in range(first, last + 1)]
        popped = list(map(self._outstanding.pop, range(first, last + 1)))
        self._hold(-sum([tracked.size for tracked in popped]))
        if first <= self._lowest:
            self._lowest = last + 1
        return popped

    def _pop(self, ordinal: int) -> Tracked[Item]:
        tracked = self._outstanding.pop(ordinal)
        self._hold(-tracked.size)
        if self._extended:
            self._extended.pop(ordinal, None)
        return tracked

    # Deadlines.

    def _set_deadline_alarm(self) -> None:
        if self._deadline_alarm is not None:
            self._deadline_alarm.cancel()
            self._deadline_alarm = None
        first = min(
            self._deadlines[0][0] if self._deadlines else math.inf, min(self._extended.values(), default=math.inf)
        )
        if first < math.inf:
            self._deadline_alarm = self._clock.alarm(max(0.0, first - self._clock.monotonic()), self._expire)

    def _expire(self) -> None:
        """Returns deliveries whose time has run out."""
        self._deadline_alarm = None
        now = self._clock.monotonic()
        through = 0
        while self._deadlines and self._deadlines[0][0] <= now:
            _, through = self._deadlines.popleft()
        self._overdue = max(self._overdue, through)
        overdue = [
            ordinal
            for ordinal in self._outstanding
            if self._extended.get(ordinal, 0.0 if ordinal <= self._overdue else math.inf) <= now
        ]
        for ordinal in overdue:
            self._return(self._pop(ordinal))
        self._set_deadline_alarm()
        if overdue:
            self.lane.changed()
            self.lane.wake()

    def _return(self, tracked: Tracked[Item]) -> None:
        """Returns a delivery, or gives it up after as many attempts as the policy allows."""
        item = tracked.payload
        if item is not None and tracked.attempt >= self.lane.policy_for(item).attempts:
            error = f"not acknowledged within {self._ack_deadline:g} s"
            self.lane.give_up(tracked, "attempts_exhausted", error, self._clock.now())
        else:
            self.lane.give_back(tracked, attempted=True)


def _ranges(settlement: Settlement) -> Iterator[tuple[int, int]]:
    yield from settlement.acked
    yield from ((nack.first, nack.last) for nack in settlement.nacked)
    yield from ((extension.first, extension.last) for extension in settlement.extended)
