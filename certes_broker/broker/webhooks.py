"""The webhook pump: takes ready deliveries out of lanes and POSTs them.

Rules
-----
* Each webhook subscription has a *taker*, which says how many of its requests may be under way.
* Of what a taker takes, at most every other delivery is a retry while first attempts wait.
* An endpoint that keeps failing is left alone for a while; what is due for it waits, and that costs it no attempts.
* The outcome of an attempt is applied in one step; when it becomes durable is the settler's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from certes_broker.broker.attempt_log import AttemptLog
from certes_broker.broker.endpoints import Endpoints
from certes_broker.broker.items import Item
from certes_broker.broker.lane import Lane
from certes_broker.broker.lanes import Lanes
from certes_broker.broker.outcomes import Failure, fail
from certes_broker.broker.posting import Poster
from certes_broker.broker.takers import Places, Taken, Taker, TakerQueue
from certes_broker.domain.breaker import BreakerLimits, Outcome
from certes_broker.domain.cursor import Tracked
from certes_broker.domain.errors import CertesError, Exhausted, Unavailable
from certes_broker.domain.events import Micros
from certes_broker.domain.retry import DEFAULT_RETRY_POLICY, parse_retry_after
from certes_broker.domain.subscriptions import State, WebhookDelivery
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Attempt
from certes_broker.ports.sender import SendFailure, SendResult

_OUR_FAULT_WAIT: Final = Micros(1_000_000)
_AGAIN_AFTER: Final = 1.0
_GONE: Final = 410
GONE_REASON: Final = "The receiver answered 410 Gone."
_MAY_SAY_WHEN: Final = frozenset({429, 503})

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt that was made."""

    taker: Taker
    tracked: Tracked[Item]
    url: str
    result: SendResult
    began: Micros
    ended: Micros


@dataclass(slots=True)
class Ended:
    """What one attempt said of its endpoint; nothing, until it has ended by itself."""

    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class WebhookLimits:
    """How many requests may be under way in all, and when an endpoint that fails is left alone."""

    in_flight: int
    breaker: BreakerLimits = field(default_factory=BreakerLimits)


class WebhookPump:
    """POSTs what webhook lanes have ready."""

    def __init__(self, lanes: Lanes, poster: Poster, attempts: AttemptLog, clock: Clock, limits: WebhookLimits) -> None:
        self._lanes = lanes
        self._poster = poster
        self._attempts = attempts
        self._clock = clock
        # Bounded by the number of lanes: a taker is in it once at most.
        self._queue = TakerQueue()
        self._takers: dict[str, Taker] = {}
        self._places = Places(limits.in_flight)
        self.endpoints = Endpoints(limits.breaker, clock)
        self.on_gone: Callable[[str, str, str], Awaitable[None]] = _nobody
        """Called with a subscription's name, the URL of a receiver that says that it is gone, and a reason."""

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return self._places.taken

    def start(self, lane: Lane) -> None:
        """Begins to take from a lane. The caller is `alone` with it."""
        taker = self._takers.get(lane.name)
        if taker is not None and taker.lane is lane:
            taker.stopped = False
            taker.wake()
            return
        taker = self._takers[lane.name] = Taker(lane, self._queue, self._places, self.endpoints)
        self._lanes.join(lane, taker)

    async def stop(self, lane: Lane) -> None:
        """Takes no more from a lane, and puts it to rest once nothing is under way. The caller is `alone` with it."""
        taker = self._takers.get(lane.name)
        if taker is not None:
            taker.stopped = True
            if taker.is_done:
                await self._leave(taker)

    async def run(self) -> None:
        """Makes one attempt after the other, for ever; run as many as there are places."""
        while True:
            taker = await self._queue.get()
            taken = taker.take()
            if taken is not None:
                await self._work(taker, taken)

    async def drain(self) -> None:
        """Takes nothing more and returns when nothing is under way."""
        for taker in self._takers.values():
            taker.stopped = True
        await self._places.free()

    async def _work(self, taker: Taker, taken: Taken) -> None:
        with self._places:
            ended = Ended()
            try:
                gone = await self._attempt(taker, taken.tracked, ended)
            finally:
                taker.in_flight -= 1
                taken.permit.end(ended.outcome)
        taker.wake()
        if gone:
            await self._disable(taker, gone)
        if taker.is_done:
            async with self._lanes.alone(taker.lane.name):
                if taker.is_done:
                    await self._leave(taker)

    async def _disable(self, taker: Taker, url: str) -> None:
        lane = taker.lane
        try:
            await self.on_gone(lane.name, url, GONE_REASON)
        except CertesError as error:
            # Deleted meanwhile, or storage fails: then the receiver is asked again, and says the same.
            log.warning("subscription_not_disabled", subscription=lane.name, error=str(error))
            if lane.subscription.state is State.ACTIVE:
                taker.stopped = False
                self._clock.alarm(_AGAIN_AFTER, taker.wake)

    async def _leave(self, taker: Taker) -> None:
        if self._takers.get(taker.lane.name) is taker:
            del self._takers[taker.lane.name]
            taker.leave()
            await self._lanes.rest(taker.lane)

    async def _attempt(self, taker: Taker, tracked: Tracked[Item], ended: Ended) -> str:
        """Makes one attempt and applies its outcome; returns the receiver's URL if it said that it is gone."""
        lane, era = taker.lane, taker.lane.era
        item, delivery = tracked.payload, lane.subscription.delivery
        assert item is not None  # What is out is in memory.
        assert isinstance(delivery, WebhookDelivery)  # Takers are made for these only.
        began = self._clock.now()
        try:
            result = await self._poster.post(item, delivery)
        except (Unavailable, Exhausted) as error:
            # Its original could not be read, or no worker could be had to render it: that mends, and is no fault of the
            # receiver either.
            result = SendResult(None, SendFailure.OURS, str(error), {}, b"", 0.0)
        except CertesError as error:
            # The event cannot be rendered, which is no fault of the receiver and will not mend by itself.
            log.warning("webhook_not_rendered", subscription=lane.name, event_name=item.name, reason=error.reason)
            if lane.era == era:
                event = item.entry.event
                lane.cursor.give_up(tracked, event, "not_rendered", str(error), self._clock.now())
                lane.changed()
            return ""
        except BaseException:
            # The broker stops: whether it arrived is not known, so it goes out again.
            if lane.era == era:
                lane.cursor.give_back(tracked, attempted=False)
            raise
        taker.answered(result)
        ended.outcome = _outcome_of(result)
        if lane.era != era:
            return ""
        return await self._apply(Tried(taker, tracked, delivery.url, result, began, self._clock.now()))

    async def _apply(self, tried: Tried) -> str:
        lane, tracked, result = tried.taker.lane, tried.tracked, tried.result
        number, position = tracked.attempt, tracked.position
        gone, next_try, status = "", None, result.status
        if result.is_success:
            lane.cursor.ack(tracked)
        elif status == _GONE:
            # First, or the next worker would send again what comes back here, until it is stored that nothing may be sent.
            tried.taker.stopped = True
            lane.cursor.give_back(tracked, attempted=True)
            gone = tried.url
        elif result.failure is SendFailure.OURS:
            # Not counted, also in the row: the fault is ours.
            next_try = Micros(tried.ended + _OUR_FAULT_WAIT)
            tracked.attempt -= 1
            lane.cursor.retry(tracked, tried.began, next_try, result.error)
        else:
            policy = lane.subscription.retry_policy or DEFAULT_RETRY_POLICY
            asked = None
            if status in _MAY_SAY_WHEN and "retry-after" in result.headers:
                asked = parse_retry_after(result.headers["retry-after"], tried.ended / 1_000_000)
            error = result.error or f"HTTP {status}"
            next_try = fail(lane.cursor, tracked, Failure(policy, tried.began, tried.ended, error, asked=asked))
        lane.changed()
        await self._attempts.add(
            Attempt(
                lane.name,
                position,
                number,
                tried.began,
                result.duration,
                status,
                "" if result.failure is None else result.failure.value,
                result.error,
                result.answer,
                next_try,
            )
        )
        return gone


def _outcome_of(result: SendResult) -> Outcome | None:
    """Says what an attempt says of its endpoint. Who says that it is gone has answered as it should."""
    if result.failure is SendFailure.OURS:
        return None
    return Outcome.SUCCESS if result.is_success or result.status == _GONE else Outcome.FAILURE


async def _nobody(_name: str, _url: str, _reason: str) -> None:
    """Hears nothing: the pump is not connected yet."""
