"""The circuit breaker: when an endpoint that keeps failing is left alone, and how it is tried again.

Rules
-----
* The life of a breaker is the table `TRANSITIONS`; a transition that is not in it raises and changes nothing.
* Only what the receiver did is charged: an attempt that ended by a fault of the broker's own ends with no `Outcome`.
* Time is an argument, in seconds of a monotonic clock.

Theory of operation
-------------------
While **closed**, every request is admitted and its outcome counted in a window of some minutes. Once the window holds enough
requests, and failures are a large enough share of them, the breaker **opens**: nothing is admitted. So it does once enough
requests in a row have failed for a part of the window: an endpoint that was well and busy would need as many failures again as its
successes. Until then it would get its new events and the retries of all that failed, so failures are paced: so many at once, and
then so many a second. Each success makes up for as many failures as the share allows, hence an endpoint that fails now and
then is not held up, and one that is well again is soon sent everything. When the breaker has cooled down, one request is
admitted as a probe, which makes it **half-open**. A probe that fails opens it again; one that succeeds closes
it by way of **recovering**, in which few requests may be under way at once: one at first, one more with each success, half as
many with each failure. So a receiver that has just come back does not get all that waited for it in one moment.

A request may end when the breaker is elsewhere than when it began. Its permit says in which **round** it began; each opening
and each probe begins a new round, and an outcome of an earlier one is not news of what the endpoint does now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from certes_broker.domain.allowance import Allowance
from certes_broker.domain.deliveries import IllegalTransition

_PARTS: Final = 10
"""The window forgets in steps of one part."""


@unique
class Condition(Enum):
    """What a breaker lets through."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing, until it has cooled down."""
    HALF_OPEN = "half_open"
    """One request, whose outcome decides."""
    RECOVERING = "recovering"
    """Few requests at once, more with each success."""


@unique
class Signal(Enum):
    """What moves a breaker."""

    TRIP = "trip"
    """The window holds too many failures."""
    PROBE = "probe"
    """It has cooled down, and a request begins."""
    PROBE_FAILED = "probe_failed"
    PROBE_SUCCEEDED = "probe_succeeded"
    RECOVERED = "recovered"
    """As many requests are admitted as ever are."""


TRANSITIONS: Final[Mapping[tuple[Condition, Signal], Condition]] = {
    (Condition.CLOSED, Signal.TRIP): Condition.OPEN,
    (Condition.OPEN, Signal.PROBE): Condition.HALF_OPEN,
    (Condition.HALF_OPEN, Signal.PROBE_FAILED): Condition.OPEN,
    (Condition.HALF_OPEN, Signal.PROBE_SUCCEEDED): Condition.RECOVERING,
    (Condition.RECOVERING, Signal.TRIP): Condition.OPEN,
    (Condition.RECOVERING, Signal.RECOVERED): Condition.CLOSED,
}


@unique
class Outcome(Enum):
    """What a request says of the endpoint."""

    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When a breaker opens, and how it closes again.

    It opens when at least `minimum` requests ended within `window` seconds and at least `share` of them failed, or when as many
    have failed one after the other, from first to last for a tenth of that time or more; it is probed `pause` seconds later. It has
    recovered when `full` requests may be under way at once.

    While it is closed, `failures` may come at once beyond what successes make up for, and `failures_a_second` after these.
    """

    share: float = 0.7
    window: float = 300.0
    minimum: int = 10
    pause: float = 30.0
    full: int = 32
    failures: int = 100
    failures_a_second: float = 10.0


class Breaker:
    """The breaker of one endpoint."""

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._window = _Window(limits.window)
        self._failures = Allowance(limits.failures, limits.failures_a_second)
        self._redeemed = limits.failures if limits.share == 1.0 else limits.share / (1.0 - limits.share)
        self._round = 0
        self._probing = False
        self.condition = Condition.CLOSED
        self.in_flight = 0
        """How many requests are under way."""
        self.slots = limits.full
        """How many requests may be under way at once, while it recovers."""
        self.probe_at = 0.0
        """When it may be probed, while it is open."""
        self.is_paced = False
        """Whether `wait` may be other than 0."""

    def __repr__(self) -> str:
        return f"Breaker({self.condition.value}, {self.in_flight} in flight)"

    def admits(self, now: float) -> bool:
        """Whether a request may begin."""
        match self.condition:
            case Condition.CLOSED:
                return True
            case Condition.OPEN:
                return now >= self.probe_at
            case Condition.HALF_OPEN:
                return not self._probing
            case Condition.RECOVERING:
                return self.in_flight < self.slots

    def wait(self, now: float) -> float:
        """Returns in how many seconds a request that is admitted should begin; 0 for now.

        What is under way may fail, each of it, before anything succeeds.
        """
        if self.condition is not Condition.CLOSED or not self.is_paced:
            return 0.0
        return self._failures.wait(self.in_flight + 1, now)

    def begin(self, now: float) -> int:
        """A request begins, that is admitted. Returns the round, which `end` wants to know."""
        if not self.admits(now):
            raise IllegalTransition(f"{self} admits nothing now")
        if self.condition is Condition.OPEN:
            self._signal(Signal.PROBE)
            self._round += 1
        self._probing = self.condition is Condition.HALF_OPEN
        self.in_flight += 1
        return self._round

    def end(self, began_in: int, outcome: Outcome | None, now: float) -> None:
        """A request of a round has ended; `outcome` is None if it says nothing of the endpoint."""
        self.in_flight -= 1
        if began_in != self._round:
            return
        match self.condition:
            case Condition.CLOSED | Condition.RECOVERING:
                if outcome is not None:
                    self._count(outcome, now)
            case Condition.HALF_OPEN:
                self._probing = False
                if outcome is Outcome.SUCCESS:
                    self._signal(Signal.PROBE_SUCCEEDED)
                    self._window.clear()
                    self.slots = 1
                elif outcome is Outcome.FAILURE:
                    self._open(Signal.PROBE_FAILED, now)
            case Condition.OPEN:
                # Opening began a round, and so does the request that ends it: none can have begun in between.
                raise IllegalTransition(f"{self} has no request of its own to end")

    def _count(self, outcome: Outcome, now: float) -> None:
        window, limits = self._window, self._limits
        window.add(outcome, now)
        is_failing = window.failures >= limits.share * window.total
        is_down = window.in_a_row >= limits.minimum and now - window.failing_since >= limits.window / _PARTS
        if outcome is Outcome.FAILURE and window.total >= limits.minimum and (is_failing or is_down):
            self._open(Signal.TRIP, now)
            return
        if outcome is Outcome.FAILURE:
            self._failures.use(1, now)
            self.is_paced = True
        elif self.is_paced:
            self.is_paced = not self._failures.give(self._redeemed, now)
        if self.condition is Condition.RECOVERING:
            self.slots = self.slots + 1 if outcome is Outcome.SUCCESS else max(1, self.slots // 2)
            if self.slots >= limits.full:
                self._signal(Signal.RECOVERED)

    def _open(self, signal: Signal, now: float) -> None:
        self._signal(signal)
        self._round += 1
        self.probe_at = now + self._limits.pause
        self._window.clear()

    def _signal(self, signal: Signal) -> None:
        following = TRANSITIONS.get((self.condition, signal))
        if following is None:
            raise IllegalTransition(f"{self} cannot take {signal.value!r}")
        self.condition = following


class _Window:
    """Counts outcomes of the last seconds, in parts, so that it takes the same memory however many there are."""

    def __init__(self, seconds: float) -> None:
        self._part = seconds / _PARTS
        self._parts: deque[list[int]] = deque()
        self.total = 0
        self.failures = 0
        self.in_a_row = 0
        """How many failures have come since the last success."""
        self.failing_since = 0.0
        """When the first of these came."""

    def add(self, outcome: Outcome, now: float) -> None:
        number = int(now // self._part)
        parts = self._parts
        while parts and parts[0][0] <= number - _PARTS:
            _, total, failures = parts.popleft()
            self.total -= total
            self.failures -= failures
        if not parts or parts[-1][0] != number:
            parts.append([number, 0, 0])
        failed = outcome is Outcome.FAILURE
        parts[-1][1] += 1
        parts[-1][2] += failed
        self.total += 1
        self.failures += failed
        if not self.in_a_row:
            self.failing_since = now
        self.in_a_row = self.in_a_row + 1 if failed else 0

    def clear(self) -> None:
        self._parts.clear()
        self.total = self.failures = self.in_a_row = 0
