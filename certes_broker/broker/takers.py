"""Takers: each takes deliveries out of one webhook lane, as many at a time as it may.

What takers may do together is limited by how many workers there are; those who ask for one get it in turn, by the priority of
their subscription (`domain/turns.py`).

Six things limit one taker. After an attempt that failed by a fault of our own it waits a moment, longer each time: what would
fail again, and costs the receiver nothing, must not be tried as fast as it fails. A receiver that must consent first is asked,
and until it does nothing else is sent to it (`domain/consent.py`). Its subscription says how often a request may begin. The
breaker of its endpoint paces what fails, admits nothing while that keeps on, and little at first when the endpoint has come
back. What may not begin waits in the lane, as if it had never been due. A taker's own limit falls when the receiver does not
answer and grows again when it does, so that a dead receiver soon holds one place instead of many. And the more of the places
of all are taken, the fewer one taker may hold: before receivers that hang are known to, some dozens of them must not leave the
others without a place.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final, NamedTuple

from certes_broker.broker.asking import Asking
from certes_broker.broker.endpoints import Endpoint, Endpoints, Permit
from certes_broker.broker.items import Item
from certes_broker.broker.lane import Lane
from certes_broker.domain.allowance import Allowance
from certes_broker.domain.consent import Unasked, is_missing
from certes_broker.domain.deliveries import Tracked
from certes_broker.domain.subscriptions import MAXIMUM_IN_FLIGHT, State, Subscription, WebhookDelivery
from certes_broker.domain.turns import DEFAULT_PRIORITY, Turns
from certes_broker.ports.clock import Alarm, Clock
from certes_broker.ports.sender import SendFailure, SendResult

CROWDED_LIMIT: Final = 4
"""How many requests of one subscription may be under way once half of all places are taken. Once three quarters are, it is
one."""
_SIZE: Final = 1 << 62
_SOON: Final = 0.001
"""Seconds by which it is not worth while to set an alarm anew."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


class Places:
    """How many requests may be under way in all, and how many are. Whoever holds one enters it as a context."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._none_taken = asyncio.Event()
        self._none_taken.set()

    @property
    def share(self) -> int:
        """How many of them one subscription may hold now."""
        if self.taken * 2 < self.size:
            return MAXIMUM_IN_FLIGHT
        return CROWDED_LIMIT if self.taken * 4 < self.size * 3 else 1

    def __enter__(self) -> None:
        self.taken += 1
        self._none_taken.clear()

    def __exit__(self, *_: object) -> None:
        self.taken -= 1
        if not self.taken:
            self._none_taken.set()

    async def free(self) -> None:
        """Returns when none is taken."""
        await self._none_taken.wait()


class Taken(NamedTuple):
    """A delivery that is under way, and the permit of its endpoint."""

    tracked: Tracked[Item]
    permit: Permit


class Question(NamedTuple):
    """What is under way where a receiver is to be asked for its consent: the webhook whose receiver it is."""

    delivery: WebhookDelivery


class TakerQueue(asyncio.Queue["Taker"]):
    """The takers that ask for a worker, each once at most. They get one in turn, by priority."""

    # The three hooks by which the standard library makes its own queues of another order.
    _queue: Turns[Taker]

    def _init(self, maxsize: int) -> None:
        self._queue = Turns()

    def _put(self, item: Taker) -> None:
        self._queue.put(item, item.priority)

    def _get(self) -> Taker:
        return self._queue.take()


class Taker:
    """Takes deliveries out of one lane."""

    def __init__(self, lane: Lane, queue: TakerQueue, places: Places, endpoints: Endpoints, clock: Clock) -> None:
        self.lane = lane
        self.in_flight = 0
        self.limit = MAXIMUM_IN_FLIGHT
        self.stopped = False
        self.given_away = False
        """Whether its lane belongs to another broker, also where its subscription is active."""
        self._queue = queue
        self._places = places
        self._queued = False
        self._endpoints = endpoints
        self._clock = clock
        self._alarm: Alarm | None = None
        self._alarm_at = 0.0
        self._delivery = _webhook(lane)
        self._endpoint = self._join()
        self._pace = _pace(self._delivery)
        self.asking = Asking(clock, self.wake)
        self._pause = 0.0
        """Seconds for which it waits after the last fault of our own."""
        self._paused_until = 0.0

    def wake(self) -> None:
        """Hears that deliveries are ready; asks for a worker if it may take one, or has a receiver to ask.

        When others' holding back frees places for it nobody tells it; but then it holds one itself, whose end does.
        """
        if self._queued or not self._may_take:
            return
        wait = 0.0
        if is_missing(self._delivery.consent):
            if not self.asking.is_due:
                return
        elif self.lane.cursor.ready:
            wait = self._wait
        else:
            return
        if not wait:
            self._queued = True
            self._queue.put_nowait(self)
        else:
            self._wake_in(wait)

    def _wake_in(self, wait: float) -> None:
        at = self._clock.monotonic() + wait
        if self._alarm is not None:
            # It may have been set for a rate that was slower, or a pause that is over.
            if self._alarm_at <= at + _SOON:
                return
            self._alarm.cancel()
        self._alarm, self._alarm_at = self._clock.alarm(wait, self._ring), at

    def lose(self) -> None:
        """Takes no more, since another broker has the lane."""
        self.stopped = self.given_away = True

    def _ring(self) -> None:
        self._alarm = None
        self.wake()

    @property
    def subscription(self) -> Subscription:
        """Whose deliveries it takes."""
        return self.lane.subscription

    @property
    def priority(self) -> int:
        """That of its subscription."""
        wanted = self.lane.subscription.priority
        return DEFAULT_PRIORITY if wanted is None else wanted

    @property
    def is_done(self) -> bool:
        """Whether it takes no more, nothing is under way, and its subscription has no use for it."""
        subscription = self.lane.subscription
        is_wanted = subscription.is_webhook and subscription.state is State.ACTIVE
        return self.stopped and self.in_flight == 0 and (self.given_away or not is_wanted)

    @property
    def _may_take(self) -> bool:
        if self.stopped or not self.lane.may_hand_out:
            return False
        self._follow()
        return self.in_flight < min(self.limit, self._wanted, self._places.share) and self._endpoint.admits

    @property
    def _wait(self) -> float:
        """In how many seconds another request may begin, as far as its subscription's rate, its endpoint's failures and faults of
        ours go; 0 for now.
        """
        failing = self._endpoint.wait
        if self._pace is None and not self._pause:
            return failing
        now = self._clock.monotonic()
        paced = 0.0 if self._pace is None else self._pace.wait(1, now)
        return max(failing, paced, self._paused_until - now if self._pause else 0.0)

    def _follow(self) -> None:
        """Takes over what has changed of its subscription's webhook."""
        delivery = self.lane.subscription.delivery
        if delivery is not self._delivery:
            before, self._delivery = self._delivery, _webhook(self.lane)
            if self._delivery.url != before.url:
                self._endpoints.leave(self._endpoint, self)
                self._endpoint = self._join()
            if self._delivery.pace != before.pace:
                self._pace = _pace(self._delivery)
            if isinstance(self._delivery.consent, Unasked) or replace(self._delivery, consent=before.consent) != before:
                self.asking.restart()

    def leave(self) -> None:
        """Has no more to do with its lane, nor with its endpoint."""
        self.asking.restart()
        if self._alarm is not None:
            self._alarm.cancel()
        self.lane.leave(self)
        self._endpoints.leave(self._endpoint, self)

    def _join(self) -> Endpoint:
        return self._endpoints.join(self.lane.subscription.name.subscriber, self._delivery.url, self)

    @property
    def _wanted(self) -> int:
        """How many may be under way as its subscription has it."""
        return self._delivery.max_in_flight or MAXIMUM_IN_FLIGHT

    def take(self) -> Taken | Question | None:
        """Takes one delivery, or the question for consent that comes before; None if there is none, or no more may be under way."""
        self._queued = False
        may_take = self._may_take
        if may_take and is_missing(self._delivery.consent) and self.asking.is_due:
            self.in_flight += 1
            self.asking.begin()
            return Question(self._delivery)
        if not may_take or is_missing(self._delivery.consent) or self._wait:
            # What allowed it has changed since it asked.
            self.wake()
            return None
        taken = self.lane.take(1, _SIZE)
        if not taken:
            return None
        self.in_flight += 1
        if self._pace is not None:
            self._pace.take(1, self._clock.monotonic())
        permit = self._endpoint.begin()
        self.wake()
        return Taken(taken[0], permit)

    def answered(self, result: SendResult) -> None:
        """Lets the limit follow whether the receiver answers, and the pause whether it could be asked."""
        if result.failure is SendFailure.OURS:
            now = self._clock.monotonic()
            # Of requests that were under way together one counts.
            if now >= self._paused_until:
                self._pause = min(max(_FIRST_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
                self._paused_until = now + self._pause
            return
        self._pause = 0.0
        if result.failure is None:
            self.limit = min(MAXIMUM_IN_FLIGHT, self.limit + 1)
        else:
            self.limit = max(1, min(self.limit, self._wanted) // 2)


def _webhook(lane: Lane) -> WebhookDelivery:
    delivery = lane.subscription.delivery
    # Takers are made for these only. One whose subscription was deleted, and made anew with streams, takes nothing any more.
    assert isinstance(delivery, WebhookDelivery)
    return delivery


def _pace(delivery: WebhookDelivery) -> Allowance | None:
    limit = delivery.pace
    return None if limit is None else Allowance(limit.at_once, limit.per_second)
