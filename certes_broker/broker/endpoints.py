"""Endpoints: the receivers that webhooks go to, each with its circuit breaker.

An endpoint is scheme, host, port and path of a URL, for one subscriber. The query does not tell endpoints apart, since the same
program answers whatever it says. Subscribers do: else one whose requests a receiver refuses could have those of another held
back (docs/decisions/0100).

An endpoint is known while somebody takes deliveries for it. Who resumes a subscription, or starts the broker, begins with
breakers that are closed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

import structlog

from certes_broker.domain.breaker import Breaker, BreakerLimits, Condition, Outcome
from certes_broker.domain.events import Micros
from certes_broker.domain.notices import BreakerClosed, BreakerOpened
from certes_broker.domain.subscriptions import Subscription
from certes_broker.ports.clock import Clock

_PORTS: Final = {"http": 80, "https": 443}

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

EndpointKey = tuple[str, str]
"""A subscriber, and an endpoint of its as text."""


Tell = Callable[[Subscription, BreakerOpened | BreakerClosed], None]
"""Tells the owner of a subscription what its endpoint's breaker did."""


class Member(Protocol):
    """Who sends to an endpoint."""

    @property
    def subscription(self) -> Subscription:
        """Whose deliveries it sends."""

    def wake(self) -> None:
        """Hears that requests may be admitted that were not."""


class Endpoint:
    """One receiver, as its breaker sees it."""

    def __init__(self, key: EndpointKey, limits: BreakerLimits, clock: Clock, tell: Tell) -> None:
        self.key = key
        self._tell_owner = tell
        self.breaker = Breaker(limits)
        self.members: set[Member] = set()
        self._clock = clock
        self._pause = limits.pause
        self._holds_up = False
        """Whether somebody was told to wait since all were woken last."""

    @property
    def admits(self) -> bool:
        """Whether a request may begin now."""
        # Asked for every delivery; nearly always nothing is wrong.
        breaker = self.breaker
        return breaker.condition is Condition.CLOSED or breaker.admits(self._clock.monotonic())

    @property
    def wait(self) -> float:
        """In how many seconds a request that is admitted should begin; 0 for now. Whoever waits is woken when a request ends."""
        breaker = self.breaker
        # Asked for every delivery, too.
        wait = breaker.wait(self._clock.monotonic()) if breaker.is_paced else 0.0
        self._holds_up |= wait > 0
        return wait

    def begin(self) -> Permit:
        """A request begins, which is admitted."""
        return Permit(self, self.breaker.begin(self._clock.monotonic()))

    def end(self, began_in: int, outcome: Outcome | None) -> None:
        """A request has ended; whoever may send now hears of it."""
        breaker = self.breaker
        was = breaker.condition
        breaker.end(began_in, outcome, self._clock.monotonic())
        now = breaker.condition
        if now is Condition.OPEN and was is not Condition.OPEN:
            self._clock.alarm(self._pause, self._ring)
        if was is not now:
            self._tell(was, now)
        if was is not Condition.CLOSED or self._holds_up:
            self._holds_up = False
            self._wake()

    def _ring(self) -> None:
        """Wakes those who wait, once the pause has passed; alarms of an event loop may be early by a little."""
        early = self.breaker.probe_at - self._clock.monotonic()
        if self.breaker.condition is Condition.OPEN and early > 0:
            self._clock.alarm(early, self._ring)
        else:
            self._wake()

    def _wake(self) -> None:
        for member in tuple(self.members):
            member.wake()

    def _tell(self, was: Condition, now: Condition) -> None:
        subscriber, endpoint = self.key
        if now is Condition.OPEN and was is not Condition.HALF_OPEN:
            log.warning("breaker_opened", subscriber=subscriber, endpoint=endpoint)
            time = self._clock.now()
            retry_time = Micros(time + int(self._pause * 1_000_000))
            for member in self.members:
                self._tell_owner(
                    member.subscription, BreakerOpened(time, retry_time, f"Too many requests to {endpoint} failed.")
                )
        elif was is Condition.HALF_OPEN and now is not Condition.OPEN:
            log.info("breaker_closed", subscriber=subscriber, endpoint=endpoint)
            for member in self.members:
                self._tell_owner(member.subscription, BreakerClosed(self._clock.now()))


@dataclass(frozen=True, slots=True)
class Permit:
    """Stands for one request to an endpoint, from its beginning to its end."""

    endpoint: Endpoint
    began_in: int

    def end(self, outcome: Outcome | None) -> None:
        """The request has ended; with None it says nothing of the endpoint."""
        self.endpoint.end(self.began_in, outcome)


class Endpoints:
    """The endpoints that deliveries are taken for."""

    def __init__(self, limits: BreakerLimits, clock: Clock, tell: Tell) -> None:
        self._limits = limits
        self._tell = tell
        self._clock = clock
        # Bounded by the number of takers.
        self._known: dict[EndpointKey, Endpoint] = {}

    def join(self, subscriber: str, url: str, member: Member) -> Endpoint:
        """Returns the endpoint of a URL, of which `member` hears when it admits requests again."""
        key = (subscriber, endpoint_of(url))
        endpoint = self._known.get(key)
        if endpoint is None:
            endpoint = self._known[key] = Endpoint(key, self._limits, self._clock, self._tell)
        endpoint.members.add(member)
        return endpoint

    def leave(self, endpoint: Endpoint, member: Member) -> None:
        """Lets a member hear no more of an endpoint, which is forgotten with its last. Idempotent."""
        endpoint.members.discard(member)
        if not endpoint.members and self._known.get(endpoint.key) is endpoint:
            del self._known[endpoint.key]

    def count(self) -> Mapping[Condition, int]:
        """Counts the endpoints by the conditions of their breakers."""
        found = Counter(endpoint.breaker.condition for endpoint in self._known.values())
        return {condition: found[condition] for condition in Condition}


def endpoint_of(url: str) -> str:
    """Returns scheme, host, port and path of a URL that is a webhook's, spelled in one way."""
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    return f"{parts.scheme}://{parts.hostname}:{port}{parts.path or '/'}"
