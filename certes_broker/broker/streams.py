"""All open streams: opening them, finding them for acknowledgements, and ending them."""

from __future__ import annotations

import asyncio
import secrets

from certes_broker.broker.elsewhere import Elsewhere
from certes_broker.broker.kept_events import KeptEvents
from certes_broker.broker.lane import Lane
from certes_broker.broker.lanes import Lanes
from certes_broker.broker.stream import Stream, StreamLimits, StreamSurroundings
from certes_broker.broker.subscription_index import SubscriptionIndex
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.domain.errors import Aborted, CertesError, FailedPrecondition, Reason, Unavailable
from certes_broker.domain.matching import Selector
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.seeking import SeekEnd, SeekPoint
from certes_broker.domain.settlement import Settlement
from certes_broker.domain.subscriptions import StreamDelivery, Subscription, streamability
from certes_broker.ports.clock import Clock
from certes_broker.ports.cluster import MemberId, Members
from certes_broker.schemas.wire import Closing

__all__ = ["Stream", "StreamLimits", "Streams"]


class Streams:
    """All open streams."""

    def __init__(
        self,
        members: Members,
        index: SubscriptionIndex,
        lanes: Lanes,
        kept_events: KeptEvents,
        clock: Clock,
        undisturbed: Undisturbed,
    ) -> None:
        self._members = members
        self._index = index
        self._lanes = lanes
        self._kept_events = kept_events
        self._undisturbed = undisturbed
        self._clock = clock
        self._surroundings = StreamSurroundings(clock, lanes.memory, self.end)
        self._open: dict[str, Stream] = {}
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self._draining = False

    def __len__(self) -> int:
        """How many streams are open."""
        return len(self._open)

    async def open(self, name: SubscriptionName, limits: StreamLimits) -> Stream:
        """Opens a stream on a subscription with stream delivery.

        Raises `NotFound` (SUBSCRIPTION_NOT_FOUND), `FailedPrecondition` (SUBSCRIPTION_NOT_STREAMABLE,
        SUBSCRIPTION_DELETED) and `Unavailable` (DRAINING).
        """
        async with self._lanes.alone(name.text):
            subscription = self._index.get(name)
            problem = streamability(subscription)
            if problem is not None:
                raise problem
            [lane] = await self._lanes.wake([subscription])
            return self._begin(lane, limits)

    async def open_ephemeral(
        self,
        subscriber: str,
        selectors: tuple[Selector, ...],
        start: SeekPoint | None,
        limits: StreamLimits,
        filter_text: str = "",
    ) -> Stream:
        """Opens a stream on a subscription that is made for it and forgotten with it."""
        now = self._clock.now()
        position = await self._kept_events.position_of(SeekEnd() if start is None else start)
        name = SubscriptionName(subscriber, f"~{secrets.token_hex(8)}")
        subscription = Subscription(name, selectors, StreamDelivery(), position, now, now, filter=filter_text)
        return self._begin(self._lanes.ephemeral(subscription), limits)

    def _begin(self, lane: Lane, limits: StreamLimits) -> Stream:
        if self._draining:
            raise Unavailable(Reason.DRAINING, "The broker is shutting down.", retry_after=1.0)
        # It begins with this member's id, so that every other knows where to pass an acknowledgement on to.
        token = f"{self._members.own}-{secrets.token_urlsafe(16)}"
        stream = Stream(f"{lane.name}/streams/{token}", lane, limits, self._surroundings)
        lane.charge(self._lanes.memory.part(limits.caller))
        self._open[stream.name] = stream
        self._all_closed.clear()
        self._lanes.join(lane, stream)
        return stream

    async def end(self, stream: Stream) -> None:
        """Gives a stream's deliveries back and puts its lane to rest if it was the last. Idempotent."""
        if self._open.pop(stream.name, None) is None:
            return
        if not self._open:
            self._all_closed.set()
        lane = stream.lane
        if not stream.has_ended:
            stream.give_back()
        lane.leave(stream)
        if lane.consumers:
            lane.wake()
        else:
            lane.discharge()
            await self._undisturbed.do(self._put_to_rest(lane))

    async def _put_to_rest(self, lane: Lane) -> None:
        async with self._lanes.alone(lane.name):
            await self._lanes.rest(lane)

    def of(self, lane: Lane) -> list[Stream]:
        """Returns the streams that are open on a lane."""
        return [consumer for consumer in lane.consumers if isinstance(consumer, Stream)]

    async def acknowledge(self, name: str, settlement: Settlement) -> None:
        """Settles deliveries of a stream; durable when it returns.

        Raises `FailedPrecondition` (STREAM_ENDED) if there is no such stream, for whatever reason, `Elsewhere` if another
        broker has it, `Invalid` (ORDINAL_NOT_OUTSTANDING), and what `Settler.settled` raises.
        """
        stream = self._open.get(name)
        if stream is None or stream.has_ended:
            raise self._not_here(name)
        lane = stream.lane
        stream.settle(settlement, self._clock.now())
        try:
            await self._lanes.settled(lane)
        except Aborted as error:
            # Another broker has the lane, and delivers again what was settled here.
            raise _stream_ended(name) from error

    def _not_here(self, name: str) -> CertesError:
        member = MemberId(name.rpartition("/streams/")[2].partition("-")[0])
        if member != self._members.own and member in self._members.living:
            return Elsewhere(member, f"Another broker has the stream {name!r}.", _stream_ended(name))
        return _stream_ended(name)

    async def drain(self) -> None:
        """Ends every stream, opens no more, and returns when all have said so."""
        self._draining = True
        for stream in list(self._open.values()):
            stream.end(Closing.REASON_DRAINING, "The broker is shutting down; open the stream again.")
        await self._all_closed.wait()


def _stream_ended(name: str) -> CertesError:
    return FailedPrecondition(
        Reason.STREAM_ENDED,
        f"No stream {name!r} is open.",
        hint="Its deliveries went back when it ended and come again on another stream, under new ordinals.",
        metadata={"stream": name},
    )
