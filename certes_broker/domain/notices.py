"""Notices: what the owner of a subscription is told by operational events.

Rules
-----
* A *fact* is one thing that happened to one subscription. A *batch* is the facts of one kind about one subscription that
  one event tells; its id is the event's.
* Of facts that are listed one by one a batch keeps the first `MOST_LISTED` and counts the rest; of others the newest.
* Nothing is told about deliveries of operational events, so that no notice brings about another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import Final, NamedTuple, assert_never

from certes_broker.domain.cursor_state import DeadLetter, Gap
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.subscriptions import Subscription

MOST_LISTED: Final = 100
"""How many facts one event lists."""
LONGEST_ERROR: Final = 256
"""Characters of an error that a dead letter's notice has."""


@unique
class Kind(StrEnum):
    """Kinds of notices. The values are the names of their event types."""

    DISABLED = "_subscription_disabled"
    CONSENT_WITHHELD = "_consent_withheld"
    CONSENT_GRANTED = "_consent_granted"
    EXHAUSTED = "_delivery_exhausted"
    GAP = "_gap"
    BREAKER_OPENED = "_breaker_opened"
    BREAKER_CLOSED = "_breaker_closed"
    FILTER_FAILED = "_filter_failed"


_NAMES: Final = frozenset(Kind)


@unique
class DisableCause(StrEnum):
    """Why the broker stops the deliveries of a subscription."""

    GONE = "gone"
    """The receiver answered 410."""
    FAILING = "failing"
    """The receiver has failed for longer than it may."""
    ASKED = "asked"
    """The receiver asked for it."""
    NO_CONSENT = "no_consent"
    """The receiver has withheld its consent for longer than it may."""


class Disabling(NamedTuple):
    """Why a subscription is to be disabled; `reason` says it for a person."""

    cause: DisableCause
    reason: str


@dataclass(frozen=True, slots=True)
class Disabled:
    """A subscription was disabled; `time` is its `update_time` then."""

    cause: DisableCause
    message: str
    time: Micros


@dataclass(frozen=True, slots=True)
class ConsentWithheld:
    """A receiver does not give the consent that is required, since `time`."""

    message: str
    time: Micros


@dataclass(frozen=True, slots=True)
class ConsentGranted:
    """A receiver has given the consent that it withheld, at `time`."""

    time: Micros


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A delivery was given up on; what its dead letter says of it."""

    position: Position
    type: str
    id: str
    attempts: int
    reason: str
    error: str
    time: Micros


@dataclass(frozen=True, slots=True)
class Unread:
    """Retention trimmed a range, both ends included, before it was read."""

    first: Position
    last: Position
    reason: str
    time: Micros


@dataclass(frozen=True, slots=True)
class BreakerOpened:
    """An endpoint is left alone, until `retry_time` if that is known."""

    time: Micros
    retry_time: Micros | None
    message: str


@dataclass(frozen=True, slots=True)
class BreakerClosed:
    """An endpoint works again."""

    time: Micros


@dataclass(frozen=True, slots=True)
class FilterFailed:
    """A filter could not be evaluated for an event, for a `reason` that is a stable word."""

    type: str
    id: str
    reason: str
    message: str
    time: Micros


Kept = Disabled | ConsentWithheld | ConsentGranted | Exhausted | Unread
"""Facts that something kept shows."""
Fleeting = BreakerOpened | BreakerClosed | FilterFailed
"""Facts that are kept nowhere."""
Fact = Kept | Fleeting


@dataclass(frozen=True, slots=True)
class Batch:
    """Facts of one kind that one event tells; `left_out` counts those that `facts` has not.

    `unsure` says that some of them may not have come about.
    """

    id: str
    facts: tuple[Fact, ...] = ()
    left_out: int = 0
    unsure: bool = False

    @property
    def count(self) -> int:
        """How many facts there are in all."""
        return len(self.facts) + self.left_out

    def with_fact(self, fact: Fact) -> Batch:
        """Returns it with one more."""
        match fact:
            case Exhausted() | Unread():
                if len(self.facts) < MOST_LISTED:
                    return replace(self, facts=(*self.facts, fact))
                return replace(self, left_out=self.left_out + 1)
            case Disabled() | ConsentWithheld() | ConsentGranted() | BreakerOpened() | BreakerClosed() | FilterFailed():
                return replace(self, facts=(fact,), left_out=self.count)
            case _:
                assert_never(fact)


def kind_of(fact: Fact) -> Kind:
    """Returns the kind of a fact."""
    match fact:
        case Disabled():
            return Kind.DISABLED
        case ConsentWithheld():
            return Kind.CONSENT_WITHHELD
        case ConsentGranted():
            return Kind.CONSENT_GRANTED
        case Exhausted():
            return Kind.EXHAUSTED
        case Unread():
            return Kind.GAP
        case BreakerOpened():
            return Kind.BREAKER_OPENED
        case BreakerClosed():
            return Kind.BREAKER_CLOSED
        case FilterFailed():
            return Kind.FILTER_FAILED
        case _:
            assert_never(fact)


def exhausted(letter: DeadLetter) -> Exhausted | None:
    """Returns what is told of a dead letter; None if it was the delivery of an operational event."""
    event = letter.event
    if is_operational(event.type):
        return None
    error = letter.error[:LONGEST_ERROR]
    return Exhausted(letter.position, event.type, event.id, letter.attempts, letter.reason, error, letter.time)


def unread(gap: Gap) -> Unread:
    """Returns what is told of a gap."""
    return Unread(gap.first, gap.last, gap.reason, gap.time)


def is_operational(event_type: str) -> bool:
    """Whether an event type is that of an operational event, of whichever broker."""
    return event_type.rpartition("/")[2] in _NAMES


def is_told_of(subscription: Subscription) -> bool:
    """Whether anything is told of a subscription's deliveries: not if all that it can get are operational events."""
    return not all(is_operational(selector.pattern.text) for selector in subscription.selectors)
