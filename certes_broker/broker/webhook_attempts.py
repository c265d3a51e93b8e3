"""Webhook attempts: one request, and what becomes of its delivery.

The outcome is applied in one step, so that nobody sees it half applied. It is a return value, too: what an attempt says of the
endpoint and of the subscription is for the pump to act on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, assert_never

import structlog

from certes_broker.broker.attempt_log import AttemptLog
from certes_broker.broker.items import Item
from certes_broker.broker.outcomes import Failure, fail
from certes_broker.broker.posting import Asked, Poster
from certes_broker.broker.takers import Taker
from certes_broker.broker.workers import JobLost
from certes_broker.domain.answers import Abort, Delivered, Disable, Failed, Verdict, read_answer
from certes_broker.domain.breaker import Outcome
from certes_broker.domain.deliveries import Tracked
from certes_broker.domain.errors import CertesError, Exhausted, Unavailable
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.notices import DisableCause, Disabling
from certes_broker.domain.subscriptions import WebhookDelivery
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Attempt
from certes_broker.ports.sender import SendFailure, SendResult

_OUR_FAULT_WAIT: Final = Micros(1_000_000)
_LONGEST_OUR_FAULT_WAIT: Final = Micros(300_000_000)
"""What cannot be rendered for now waits as long as that has been so already, up to this: it may be the event that ends its worker."""
MOST_LOST: Final = 20
"""How many workers in a row may be lost with one event before it is taken for the cause: with the waits between, about an hour."""
_MOST_DOUBTFUL: Final = 10_000
_GONE: Final = 410
ABORTED: Final = "aborted_by_receiver"
"""Why a delivery is a dead letter that its receiver did not want again."""
NOT_RENDERED: Final = "not_rendered"
"""Why a delivery is a dead letter whose event has no form that the webhook wants."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Made(NamedTuple):
    """What an attempt says of others than its delivery.

    `outcome` is what it says of the endpoint, None for nothing. `disabling` is why the subscription is to be disabled, None if it
    is not, and `url` the receiver that it is disabled for.
    """

    outcome: Outcome | None = None
    disabling: Disabling | None = None
    url: str = ""


@dataclass(frozen=True, slots=True)
class _Tried:
    """One attempt that was made."""

    taker: Taker
    tracked: Tracked[Item]
    result: SendResult
    began: Micros
    ended: Micros
    is_rendered: bool


class WebhookAttempts:
    """Makes attempts."""

    def __init__(self, poster: Poster, attempt_log: AttemptLog, clock: Clock) -> None:
        self._poster = poster
        self._log = attempt_log
        self._clock = clock
        self._lost: dict[tuple[str, Position], int] = {}
        """How many workers in a row were lost with the events of deliveries. Counted anew after a restart."""

    async def make(self, taker: Taker, tracked: Tracked[Item]) -> Made:
        """Makes one attempt and applies its outcome, unless the lane was moved meanwhile."""
        lane, era = taker.lane, taker.lane.era
        item, delivery = tracked.payload, lane.subscription.delivery
        assert item is not None  # What is out is in memory.
        assert isinstance(delivery, WebhookDelivery)  # Attempts are made for these only.
        began, rendered = self._clock.now(), None
        try:
            rendered = await self._poster.rendered(item, delivery.format)
            self._lost.pop((lane.name, tracked.position), None)
            if lane.era != era:
                return Made()
            if tracked.payload is None:
                lane.lose(tracked)
                return Made()
            result = await self._poster.post(item, delivery, rendered)
            taker.answered(result)
        except CertesError as error:
            if not self._mends(error, lane.name, tracked.position):
                # The event cannot be rendered, which is no fault of the receiver.
                log.warning("webhook_not_rendered", subscription=lane.name, event_name=item.name, reason=error.reason)
                if lane.era == era:
                    lane.give_up(tracked, NOT_RENDERED, str(error), self._clock.now())
                    lane.changed()
                return Made()
            # No fault of the receiver either.
            result = SendResult(None, SendFailure.OURS, str(error), {}, b"", 0.0)
        except BaseException:
            # The broker stops: whether it arrived is not known, so it goes out again.
            if lane.era == era:
                lane.give_back(tracked, attempted=False)
            raise
        ended = self._clock.now()
        verdict = None if result.status is None else read_answer(result.status, result.headers, ended / 1_000_000)
        outcome = _outcome_of(result, verdict)
        if lane.era != era:
            return Made(outcome, url=delivery.url)
        await self._apply(_Tried(taker, tracked, result, began, ended, rendered is not None), verdict)
        return Made(outcome, _disabling(result, verdict), delivery.url)

    def _mends(self, error: CertesError, lane: str, position: Position) -> bool:
        """Says whether what was not rendered may be next time: if its original could not be read, or no worker could be had.

        A worker that is lost once with an event may be so for any reason, the same event each time is the reason itself.
        """
        if not isinstance(error, JobLost):
            return isinstance(error, Unavailable | Exhausted)
        lost = self._lost.pop((lane, position), 0) + 1
        if lost >= MOST_LOST:
            return False
        if len(self._lost) >= _MOST_DOUBTFUL:
            self._lost.clear()
        self._lost[lane, position] = lost
        return True

    async def ask(self, delivery: WebhookDelivery) -> Asked:
        """Asks a receiver for its consent, which is no attempt."""
        return await self._poster.ask(delivery)

    async def _apply(self, tried: _Tried, verdict: Verdict | None) -> None:
        lane, tracked, result = tried.taker.lane, tried.tracked, tried.result
        number, position = tracked.attempt, tracked.position
        next_try: Micros | None = None
        if isinstance(verdict, Disable):
            # First, or the next worker would send again what comes back here, until it is stored that nothing may be sent.
            tried.taker.stopped = True
        match verdict:
            case Delivered() | Disable(delivered=True):
                lane.cursor.ack(tracked)
            case Disable():
                lane.give_back(tracked, attempted=True)
            case Abort():
                error = f"HTTP {result.status}, and the header webhook-delivery: abort"
                lane.give_up(tracked, ABORTED, error, tried.ended)
            case Failed(asked):
                next_try = self._failed(tried, asked)
            case None:
                next_try = self._failed(tried, None)
            case _:
                assert_never(verdict)
        lane.changed()
        await self._log.add(
            Attempt(
                lane.name,
                position,
                number,
                tried.began,
                result.duration,
                result.status,
                "" if result.failure is None else result.failure.value,
                result.error,
                result.answer,
                next_try,
            )
        )

    def _failed(self, tried: _Tried, asked: float | None) -> Micros | None:
        lane, tracked, result = tried.taker.lane, tried.tracked, tried.result
        if result.failure is SendFailure.OURS and tracked.payload is not None:
            # Not counted, also in the row: the fault is ours.
            so_far = 0 if tried.is_rendered else tried.ended - (tracked.first_try or tried.began)
            due = Micros(tried.ended + min(max(_OUR_FAULT_WAIT, so_far), _LONGEST_OUR_FAULT_WAIT))
            tracked.attempt -= 1
            lane.retry(tracked, tried.began, due, result.error)
            return due
        error = result.error or f"HTTP {result.status}"
        return fail(lane, tracked, Failure(tried.began, tried.ended, error, asked=asked))


def _disabling(result: SendResult, verdict: Verdict | None) -> Disabling | None:
    if not isinstance(verdict, Disable):
        return None
    return Disabling(DisableCause.GONE if result.status == _GONE else DisableCause.ASKED, verdict.reason)


def _outcome_of(result: SendResult, verdict: Verdict | None) -> Outcome | None:
    """Says what an attempt says of its endpoint. Who says what is to become of a delivery has answered as it should."""
    match verdict:
        case Delivered() | Disable() | Abort():
            return Outcome.SUCCESS
        case Failed():
            return Outcome.FAILURE
        case None:
            return None if result.failure is SendFailure.OURS else Outcome.FAILURE
        case _:
            assert_never(verdict)
