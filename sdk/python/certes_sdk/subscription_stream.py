"""One subscription by stream: opens it, hands its deliveries to the handlers, settles them, and opens it again when it ends.

Rules
-----
* A stream that says nothing for 45 s is dead. One that ends is opened again, at once the first time and then after the
  back-off; a batch resets that.
* A subscription that is not there, or was deleted, ends it for good. Other refusals that are not retryable are reported, and tried
  again every 30 s, since whoever runs the broker may mend them.
* What a stream that has ended handed out concerns nobody any more: it comes again.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import repeat
from typing import Any, Final

from google.protobuf.message import DecodeError
from grpc import aio

from certes.v1 import event_service_pb2 as pb
from certes.v1.delivery_pb2 import Delivery
from certes.v1.subscription_service_pb2 import GetSubscriptionRequest, GetSubscriptionResponse
from certes_sdk.acknowledging import Acknowledger
from certes_sdk.clock import Clock
from certes_sdk.connection import Connection, is_cancelled, is_passing
from certes_sdk.errors import CertesError, unavailable
from certes_sdk.handling import Handling
from certes_sdk.raw_event import MessageTypes, RawEvent
from certes_sdk.reconnecting import wait_before

SILENCE: Final = 45.0
"""Seconds of silence after which a stream is dead; a heartbeat comes every 15 s."""
REFUSED_WAIT: Final = 30.0
DEFAULT_ACK_DEADLINE: Final = 30.0

_METHOD: Final = "/certes.v1.EventService/Subscribe"
_GONE: Final = frozenset({"SUBSCRIPTION_NOT_FOUND", "SUBSCRIPTION_DELETED"})

_log: Final = logging.getLogger("certes")


class OpenStream:
    """An open stream, as the origin of its deliveries."""

    __slots__ = ("_types", "acknowledger")

    def __init__(self, acknowledger: Acknowledger, types: MessageTypes) -> None:
        self.acknowledger = acknowledger
        self._types = types

    def event(self, delivery: Delivery) -> RawEvent:
        return RawEvent(delivery, delivery.event, self._types)

    def done(self, ordinal: int, raw: RawEvent) -> None:
        self.acknowledger.ack(ordinal, hurry=bool(raw.ordering_key))

    def failed(self, ordinal: int, error: CertesError) -> None:
        self.acknowledger.nack(ordinal, error.message if error.reason == "HANDLER_FAILED" else str(error))

    def dropped(self, ordinal: int) -> None:
        # It goes back to the broker when the stream ends.
        return


class SubscriptionStream:
    """The stream of one subscription. `run` is its task."""

    def __init__(
        self,
        subscription: str,
        max_outstanding: int,
        connection: Connection,
        handling: Handling,
        types: MessageTypes,
        clock: Clock,
    ) -> None:
        self.subscription = subscription
        self._max_outstanding = max_outstanding
        self._connection = connection
        self._handling = handling
        self._types = types
        self._clock = clock
        self._acknowledger: Acknowledger | None = None
        self._progress = False
        self._closing = False
        self.opened = asyncio.Event()
        """Set while the stream is open."""
        self.heard_at = 0.0
        """When the stream said something the last time."""

    async def run(self) -> CertesError | None:
        """Keeps the stream open until the subscription is gone. Returns why it is; None if nothing is to be taken any more."""
        tries = 0
        while not self._closing:
            self._progress = False
            error = await self._converse()
            self.opened.clear()
            if self._closing:
                return None
            if error.reason in _GONE:
                _log.warning("The stream of %s has ended for good: %s", self.subscription, error)
                return error
            tries = 0 if self._progress else tries
            if is_passing(error):
                self._connection.doubt()
                wait = wait_before(tries, self._clock.chance()) if tries else 0.0
            else:
                _log.warning("The stream of %s is refused, and tried again in 30 s: %s", self.subscription, error)
                wait = REFUSED_WAIT
            tries += 1
            _log.debug("The stream of %s is opened again in %.2f s: %s", self.subscription, wait, error)
            await self._clock.sleep(max(wait, error.retry_after or 0.0))
        return None

    def stop_taking(self) -> None:
        """Takes no more deliveries. What was taken can still be settled, for the stream stays open."""
        self._closing = True

    async def flush(self) -> None:
        """Returns when what was settled was told."""
        if self._acknowledger is not None:
            await self._acknowledger.flush()

    async def _converse(self) -> CertesError:
        """Opens the stream and hands on what it brings, until it ends. Returns why."""
        try:
            channel = await self._connection.channel()
        except CertesError as error:
            return error
        request = pb.SubscribeRequest(subscription=self.subscription, max_outstanding=self._max_outstanding)
        open_stream: Any = channel.unary_stream(_METHOD, request_serializer=pb.SubscribeRequest.SerializeToString)
        call = open_stream(request, metadata=self._connection.metadata)
        self.heard_at = self._clock.now()
        watch = _Watch(call, self, self._clock)
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(watch.run())
                try:
                    return await self._read(call, watch, tasks)
                finally:
                    watching.cancel()
        finally:
            call.cancel()

    async def _read(self, call: Any, watch: _Watch, tasks: asyncio.TaskGroup) -> CertesError:
        """Takes the frames of an open call."""
        stream: OpenStream | None = None
        work: list[asyncio.Task[None]] = []
        try:
            while (wire := await call.read()) is not aio.EOF:
                self.heard_at = self._clock.now()
                frame = pb.SubscribeResponse.FromString(wire)
                match frame.WhichOneof("frame"):
                    case "batch" if stream is not None:
                        self._take(frame.batch, stream)
                    case "opened" if stream is None:
                        stream = self._open(frame.opened.stream)
                        work.append(tasks.create_task(stream.acknowledger.run()))
                        work.append(tasks.create_task(self._extend(stream.acknowledger)))
                    case "closing":
                        return _closing_error(frame.closing)
                    case _:
                        pass
        except aio.AioRpcError as error:
            return self._connection.refusal(error)
        except DecodeError:
            return unavailable("UNAVAILABLE", "The broker sent a frame that makes no sense.")
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            why = f"The stream has said nothing for {SILENCE:g} s." if watch.is_dead else "The connection was closed."
            return unavailable("UNAVAILABLE", why)
        finally:
            if stream is not None:
                stream.acknowledger.abandon()
                self._handling.drop(stream)
                self._acknowledger = None
            for task in work:
                task.cancel()
        return unavailable("UNAVAILABLE", "The broker has ended the stream.")

    def _open(self, name: str) -> OpenStream:
        self._acknowledger = Acknowledger(self._connection, self._clock, name, max(1, self._max_outstanding // 4))
        self.opened.set()
        return OpenStream(self._acknowledger, self._types)

    def _take(self, batch: pb.SubscribeResponse.Batch, stream: OpenStream) -> None:
        self._progress = True
        first, deliveries = batch.first_ordinal, batch.deliveries
        ordinals = range(first, first + len(deliveries))
        stream.acknowledger.book.came(ordinals, self._clock.now())
        self._handling.put(zip(repeat(stream), ordinals, deliveries, strict=False))

    async def _extend(self, acknowledger: Acknowledger) -> None:
        """Extends the time of what is not settled, each third of the ack deadline."""
        deadline = await self._ack_deadline()
        while True:
            await self._clock.sleep(deadline / 3)
            acknowledger.extend(deadline, deadline / 3)

    async def _ack_deadline(self) -> float:
        request = GetSubscriptionRequest(name=self.subscription)
        try:
            answer = await self._connection.call(
                "SubscriptionService/GetSubscription", request, GetSubscriptionResponse, DEFAULT_ACK_DEADLINE / 3
            )
        except CertesError as error:
            _log.debug("The ack deadline of %s is taken to be the default: %s", self.subscription, error)
            return DEFAULT_ACK_DEADLINE
        deadline = answer.subscription.ack_deadline
        return (deadline.seconds + deadline.nanos / 1e9) or DEFAULT_ACK_DEADLINE


class _Watch:
    """Ends a call that has said nothing for too long."""

    def __init__(self, call: Any, stream: SubscriptionStream, clock: Clock) -> None:
        self._call = call
        self._stream = stream
        self._clock = clock
        self.is_dead = False

    async def run(self) -> None:
        while (left := self._stream.heard_at + SILENCE - self._clock.now()) > 0:
            await self._clock.sleep(left)
        self.is_dead = True
        self._call.cancel()


def _closing_error(closing: pb.SubscribeResponse.Closing) -> CertesError:
    reason = pb.SubscribeResponse.Reason.Name(closing.reason) if closing.reason in _REASONS else "REASON_UNSPECIFIED"
    if closing.reason == pb.SubscribeResponse.REASON_DELETED:
        return CertesError("FAILED_PRECONDITION", "SUBSCRIPTION_DELETED", closing.message)
    return unavailable(reason.removeprefix("REASON_"), closing.message)


_REASONS: Final = frozenset(pb.SubscribeResponse.Reason.values())
