"""Asks the filters of subscriptions about events, and keeps count of those that could not be evaluated.

A filter that cannot be evaluated does not match: nobody is delivered what may not be for them, and nobody waits. But it must
not stay unnoticed. So it is counted, and logged: the first time for each subscription and reason, and then at most once a
minute with how often it was since. Whose filter it is, is told too (`on_failure`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from certes_broker.domain.events import AcceptedEvent
from certes_broker.domain.subscriptions import Subscription
from certes_broker.ports.clock import Clock
from certes_broker.schemas.filters.evaluation import Failure, FailureReason
from certes_broker.schemas.filters.filters import Filters

QUIET: Final = 60.0
"""Seconds for which one subscription's failures for one reason are not logged again."""
REMEMBERED: Final = 10_000
"""Of how many subscriptions and reasons it is remembered when they were logged."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Filtering:
    """Says which events pass which subscriptions' filters."""

    def __init__(self, filters: Filters, clock: Clock) -> None:
        self.filters: Final = filters
        self._clock = clock
        self._failures: Counter[FailureReason] = Counter()
        self._logged: dict[tuple[str, FailureReason], _Logged] = {}
        self.on_failure: Callable[[Subscription, AcceptedEvent, Failure], None] = _nobody
        """Called with the subscription whose filter could not be evaluated, the event, and why."""

    @property
    def failures(self) -> Mapping[FailureReason, int]:
        """How often a filter could not be evaluated, by reason, since the broker was started."""
        return self._failures

    def about(self, event: AcceptedEvent) -> Question:
        """Returns the question whether an event passes, to be put to any number of subscriptions."""
        return Question(self, event)

    def failed(self, subscription: Subscription, event: AcceptedEvent, failure: Failure) -> None:
        """Takes note of a filter that could not be evaluated."""
        self._failures[failure.reason] += 1
        self.on_failure(subscription, event, failure)
        now = self._clock.monotonic()
        place = (subscription.name.text, failure.reason)
        logged = self._logged.get(place)
        if logged is None:
            if len(self._logged) >= REMEMBERED:
                self._logged.clear()
            logged = self._logged[place] = _Logged()
        logged.times += 1
        if logged.quiet_until <= now:
            log.warning(
                "filter_failed",
                subscription=subscription.name.text,
                type=event.type,
                reason=failure.reason.value,
                detail=failure.detail,
                times=logged.times,
            )
            logged.quiet_until, logged.times = now + QUIET, 0


class Question:
    """Whether one event passes filters. The event is read once, when the first filter is asked about."""

    __slots__ = ("_event", "_filtered", "_filtering")

    def __init__(self, filtering: Filtering, event: AcceptedEvent) -> None:
        self._filtering = filtering
        self._event = event
        self._filtered = filtering.filters.event(event.type, event.body)

    def passes(self, subscription: Subscription) -> bool:
        """Says whether the event passes a subscription's filter, if it has one."""
        if not subscription.filter:
            return True
        answer = self._filtered.passes(subscription.filter)
        if isinstance(answer, Failure):
            self._filtering.failed(subscription, self._event, answer)
            return False
        return answer


class _Logged:
    """When failures may be logged again, and how many there were since they last were."""

    __slots__ = ("quiet_until", "times")

    def __init__(self) -> None:
        self.quiet_until = 0.0
        self.times = 0


def _nobody(_subscription: Subscription, _event: AcceptedEvent, _failure: Failure) -> None:
    """Hears nothing: the filtering is not connected yet."""
