"""The webhook pump: takes ready deliveries out of lanes and POSTs them.

Rules
-----
* Each webhook subscription has a *taker*, which says how many of its requests may be under way.
* Of what a taker takes, at most every other delivery is a retry while first attempts wait.
* An endpoint that keeps failing is left alone for a while; what is due for it waits, and that costs it no attempts.
* A receiver that must consent first is asked, and asked again as `domain/consent.py` says. What is due for it waits, and no failed
  question is charged to it as an attempt would be.
* A receiver that wants nothing more, or has taken nothing for days, has its subscription disabled.
* How an attempt is made and applied is in `webhook_attempts.py`; when it becomes durable is the settler's business.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, assert_never

import structlog

from certes_broker.broker.endpoints import Endpoints
from certes_broker.broker.lane import Lane
from certes_broker.broker.lanes import Lanes
from certes_broker.broker.notices import Notices
from certes_broker.broker.streak_log import StreakLog
from certes_broker.broker.takers import Places, Question, Taken, Taker, TakerQueue
from certes_broker.broker.webhook_attempts import Made, WebhookAttempts
from certes_broker.domain.breaker import BreakerLimits, Outcome
from certes_broker.domain.consent import Granted, Withheld, is_given_up, wait_to_ask
from certes_broker.domain.errors import CertesError
from certes_broker.domain.events import Micros
from certes_broker.domain.notices import DisableCause, Disabling
from certes_broker.domain.streaks import DISABLE_AFTER
from certes_broker.domain.subscriptions import State, Subscription, WebhookDelivery
from certes_broker.ports.clock import Clock

_AGAIN_AFTER: Final = 1.0

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WebhookLimits:
    """How many requests may be under way in all, and what happens to receivers that fail.

    `breaker` says when an endpoint is left alone for a while; after `disable_after` seconds without a success a subscription is
    disabled.
    """

    in_flight: int
    breaker: BreakerLimits = field(default_factory=BreakerLimits)
    disable_after: float = DISABLE_AFTER


class WebhookPump:
    """POSTs what webhook lanes have ready."""

    def __init__(
        self,
        lanes: Lanes,
        attempts: WebhookAttempts,
        streaks: StreakLog,
        clock: Clock,
        limits: WebhookLimits,
        notices: Notices,
    ) -> None:
        self._lanes = lanes
        self._attempts = attempts
        self._streaks = streaks
        self._clock = clock
        # Bounded by the number of lanes: a taker is in it once at most.
        self._queue = TakerQueue()
        self._takers: dict[str, Taker] = {}
        self._places = Places(limits.in_flight)
        self.endpoints = Endpoints(limits.breaker, clock, notices.tell)
        self._disable_after = limits.disable_after
        self.on_disable: Callable[[str, str, Disabling], Awaitable[object]] = _nobody
        """Called with the name of a subscription to be disabled, the URL of the receiver that is the cause, and why."""
        self.on_answer: Callable[[str, str, Withheld | Granted, Micros], Awaitable[Subscription]]
        """Called with the name of a subscription, the URL of the receiver that has answered whether it consents, the answer, and when
        it was asked."""

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return self._places.taken

    def start(self, lane: Lane) -> None:
        """Begins to take from a lane. The caller is `alone` with it."""
        taker = self._takers.get(lane.name)
        if taker is not None and taker.lane is lane:
            taker.stopped = taker.given_away = False
            taker.wake()
            return
        taker = self._takers[lane.name] = Taker(lane, self._queue, self._places, self.endpoints, self._clock)
        self._lanes.join(lane, taker)
        # Its receiver may have to be asked first, whether anything is ready or not.
        taker.wake()

    async def stop(self, lane: Lane) -> None:
        """Takes no more from a lane, and puts it to rest once nothing is under way. The caller is `alone` with it."""
        taker = self._takers.get(lane.name)
        if taker is not None:
            taker.stopped = True
            if taker.is_done:
                await self._leave(taker)

    async def give_away(self, lane: Lane) -> None:
        """Does what `stop` does, for a lane that belongs to another broker. The caller is `alone` with it."""
        taker = self._takers.get(lane.name)
        if taker is None:
            await self._lanes.rest(lane)
        else:
            taker.given_away = True
            await self.stop(lane)

    async def clear_lost(self) -> None:
        """Forgets the takers of lanes that were lost, as far as nothing is under way."""
        for taker in list(self._takers.values()):
            if taker.lane.lost and taker.is_done:
                await self._leave(taker)

    def takes_from(self, lane: Lane | None) -> bool:
        """Whether somebody takes from a lane, or is about to cease."""
        return lane is not None and (taker := self._takers.get(lane.name)) is not None and not taker.stopped

    async def run(self) -> None:
        """Makes one attempt after the other, for ever; run as many as there are places."""
        while True:
            taker = await self._queue.get()
            match taker.take():
                case Taken() as taken:
                    await self._deliver(taker, taken)
                case Question(delivery):
                    await self._ask(taker, delivery)
                case None:
                    continue
            if taker.is_done:
                async with self._lanes.alone(taker.lane.name):
                    if taker.is_done:
                        await self._leave(taker)

    async def drain(self) -> None:
        """Takes nothing more and returns when nothing is under way."""
        for taker in self._takers.values():
            taker.stopped = True
        await self._places.free()

    async def _deliver(self, taker: Taker, taken: Taken) -> None:
        made = Made()
        with self._places:
            try:
                made = await self._attempts.make(taker, taken.tracked)
            finally:
                taker.in_flight -= 1
                taken.permit.end(made.outcome)
        taker.wake()
        disabling = made.disabling or await self._judged(taker.lane, made)
        if disabling is not None:
            await self._disable(taker, made.url, disabling)

    async def _ask(self, taker: Taker, delivery: WebhookDelivery) -> None:
        """Asks a receiver for its consent."""
        asking, wait = taker.asking, None
        disabling: Disabling | None = None
        try:
            with self._places:
                asked = await self._attempts.ask(delivery)
            wait = asked.wait
            if asked.answer is not None:
                # A fault of our own is no answer: it is not counted, and the receiver is asked again soon.
                asking.times += 1
                disabling = await self._heard(taker, delivery.url, asked.answer, asked.time)
        finally:
            taker.in_flight -= 1
            asking.end(wait_to_ask(max(1, asking.times), random.random(), wait))  # noqa: S311  jitter is no secret
        taker.wake()
        if disabling is not None:
            await self._disable(taker, delivery.url, disabling)

    async def _heard(self, taker: Taker, url: str, answer: Withheld | Granted, asked_at: Micros) -> Disabling | None:
        """Lets an answer take effect; returns why a subscription is to be disabled whose receiver has given none for too long."""
        name, is_granted = taker.lane.name, isinstance(answer, Granted)
        log.info("consent_asked", subscription=name, granted=is_granted)
        try:
            stored = await self.on_answer(name, url, answer, asked_at)
        except CertesError as error:
            # Deleted meanwhile, or storage fails: then the receiver is asked again, and says the same.
            log.warning("consent_not_stored", subscription=name, error=str(error))
            return None
        delivery = stored.delivery
        if not isinstance(delivery, WebhookDelivery) or delivery.url != url:
            return None
        if isinstance(delivery.consent, Granted):
            taker.asking.restart()
        if is_given_up(delivery.consent, taker.asking.times, self._disable_after, self._clock.now()):
            return Disabling(
                DisableCause.NO_CONSENT, "The receiver was asked for its consent again and again, and gave none."
            )
        return None

    async def _judged(self, lane: Lane, made: Made) -> Disabling | None:
        """Returns why a subscription is to be disabled that has been failing for too long; None if it has not."""
        match made.outcome:
            case Outcome.SUCCESS:
                await self._streaks.end(lane.name)
                return None
            case Outcome.FAILURE:
                reason = await self._streaks.failed(lane.name, lane.subscription.update_time, self._clock.now())
                return Disabling(DisableCause.FAILING, reason) if reason else None
            case None:
                return None
            case _:
                assert_never(made.outcome)

    async def _disable(self, taker: Taker, url: str, disabling: Disabling) -> None:
        lane = taker.lane
        try:
            await self.on_disable(lane.name, url, disabling)
            await self._streaks.end(lane.name)
        except CertesError as error:
            # Deleted meanwhile, or storage fails: then the receiver is asked again, and says the same.
            log.warning("subscription_not_disabled", subscription=lane.name, error=str(error))
            if lane.subscription.state is State.ACTIVE:
                taker.stopped = False
                self._clock.alarm(_AGAIN_AFTER, taker.wake)

    async def _leave(self, taker: Taker) -> None:
        taker.leave()
        if self._takers.get(taker.lane.name) is taker:
            del self._takers[taker.lane.name]
            self._streaks.forget(taker.lane.name)
        await self._lanes.rest(taker.lane)


async def _nobody(_name: str, _url: str, _disabling: Disabling) -> None:
    """Hears nothing: the pump is not connected yet."""
