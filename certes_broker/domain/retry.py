"""Retry policies: when a failed delivery is tried again, and when it is given up.

Rules
-----
* Attempts count from 1. Attempt 1 is made at once; a policy says how long to wait after attempt n failed.
* A wait is the policy's own, or what the receiver asked for by `Retry-After` if that is longer. A receiver can slow the
  broker down, by 24 h at most, and never speed it up.
* Jitter is only added, never subtracted: a wait w becomes w·(1 + jitter·chance), with 0 ≤ chance < 1.
* An attempt that could only begin later than `max_duration` after the first is not made. Whether it is made is not a
  matter of chance: the limit is held against the wait without jitter, and jitter is cut to keep within it.
* Deciding returns a value, `RetryAt` or `GiveUp`; it raises nothing. Time and chance are arguments, in seconds since
  the epoch and as a fraction.

A policy with wrong bounds cannot be made: its constructor raises `Invalid` / `FIELD_INVALID`, with the field's path
from `retry_policy` on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum, unique
from typing import Final, assert_never

from certes_broker.domain.errors import Invalid, Reason

_MINUTE: Final = 60.0
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR

MAXIMUM_FIRST_WAIT: Final = _DAY
MAXIMUM_WAIT: Final = 7 * _DAY
MAXIMUM_DURATION: Final = 30 * _DAY
MAXIMUM_ATTEMPTS: Final = 100
MAXIMUM_MULTIPLIER: Final = 100.0
MAXIMUM_ASKED: Final = _DAY
"""The longest wait, in seconds, that a receiver may ask for."""
DEFAULT_MAXIMUM: Final = _HOUR
"""The longest wait, in seconds, of a back-off that does not say."""
DEFAULT_MULTIPLIER: Final = 2.0
DEFAULT_JITTER: Final = 0.2
DEFAULT_ATTEMPTS: Final = 16
"""Attempts of a policy that limits them neither by `max_attempts` nor by a schedule."""


@dataclass(frozen=True, slots=True)
class Exponential:
    """Waits initial · multiplier^(n−1) after attempt n, at most `maximum`. Seconds; `multiplier` is 1 to 100."""

    initial: float
    multiplier: float = DEFAULT_MULTIPLIER
    maximum: float = DEFAULT_MAXIMUM

    def __post_init__(self) -> None:
        _check_first_and_longest("exponential", self.initial, self.maximum)
        _check("exponential.multiplier", self.multiplier, 1.0, MAXIMUM_MULTIPLIER)


@dataclass(frozen=True, slots=True)
class Linear:
    """Waits initial + increment·(n−1) after attempt n, at most `maximum`. Seconds; `increment` is 0 to 24 h."""

    initial: float
    increment: float
    maximum: float = DEFAULT_MAXIMUM

    def __post_init__(self) -> None:
        _check_first_and_longest("linear", self.initial, self.maximum)
        _check("linear.increment", self.increment, 0.0, MAXIMUM_FIRST_WAIT)


@dataclass(frozen=True, slots=True)
class Logarithmic:
    """Waits initial + scale·ln(n) after attempt n, at most `maximum`. Seconds; `scale` is 0 to 24 h."""

    initial: float
    scale: float
    maximum: float = DEFAULT_MAXIMUM

    def __post_init__(self) -> None:
        _check_first_and_longest("logarithmic", self.initial, self.maximum)
        _check("logarithmic.scale", self.scale, 0.0, MAXIMUM_FIRST_WAIT)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Waits as listed: `delays[n]` after attempt n, in seconds.

    `delays[0]` is the wait before the first attempt and always 0; so there are as many attempts as delays, 1 to 100.
    """

    delays: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.delays) <= MAXIMUM_ATTEMPTS:
            raise _refusal("schedule.delays", f"{len(self.delays)} delays are listed; 1 to {MAXIMUM_ATTEMPTS} can be")
        if self.delays[0] != 0:
            raise _refusal("schedule.delays[0]", "the first attempt is made at once, so this must be 0")
        for index, delay in enumerate(self.delays):
            _check(f"schedule.delays[{index}]", delay, 0.0, MAXIMUM_WAIT)


Backoff = Exponential | Linear | Logarithmic | Schedule


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed delivery is tried again, and when it is given up.

    `max_attempts` is 1 to 100; if None, a schedule has as many as it lists and other back-offs have 16. `max_duration`
    is how many seconds after the first attempt the last may begin, above 0 to 30 days; None for no such limit. `jitter`
    is the share of each wait, 0 to 1, that chance may add.
    """

    backoff: Backoff
    max_attempts: int | None = None
    max_duration: float | None = None
    jitter: float = DEFAULT_JITTER

    def __post_init__(self) -> None:
        if self.max_attempts is not None:
            _check("max_attempts", self.max_attempts, 1, MAXIMUM_ATTEMPTS)
        if self.max_duration is not None:
            _check_above_zero("max_duration", self.max_duration, MAXIMUM_DURATION)
        _check("jitter", self.jitter, 0.0, 1.0)

    @property
    def attempts(self) -> int:
        """How many attempts there are at most."""
        if isinstance(self.backoff, Schedule):
            return min(len(self.backoff.delays), self.max_attempts or MAXIMUM_ATTEMPTS)
        return self.max_attempts or DEFAULT_ATTEMPTS


@unique
class GiveUpReason(Enum):
    """Why no further attempt is made."""

    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    DURATION_EXHAUSTED = "duration_exhausted"


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Attempt number `attempt` is to begin at `time`, in seconds since the epoch."""

    time: float
    attempt: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt is to be made."""

    reason: GiveUpReason


def next_try(
    policy: RetryPolicy, attempt: int, first_try_at: float, now: float, chance: float, asked: float | None = None
) -> RetryAt | GiveUp:
    """Decides what follows a failed attempt.

    `attempt` is the number of the one that just failed, from 1. `first_try_at` is when attempt 1 began and `now` when
    this one failed, both in seconds since the epoch. `chance` is a random fraction, 0 ≤ chance < 1. `asked` is what the
    receiver's `Retry-After` said, in seconds.
    """
    if attempt >= policy.attempts:
        return GiveUp(GiveUpReason.ATTEMPTS_EXHAUSTED)
    wait = wait_after(policy.backoff, attempt)
    if asked is not None:
        wait = max(wait, min(asked, MAXIMUM_ASKED))
    time = now + wait * (1 + policy.jitter * chance)
    if policy.max_duration is None:
        return RetryAt(time, attempt + 1)
    deadline = first_try_at + policy.max_duration
    if now + wait > deadline:
        return GiveUp(GiveUpReason.DURATION_EXHAUSTED)
    return RetryAt(min(time, deadline), attempt + 1)


def wait_after(backoff: Backoff, attempt: int) -> float:
    """Returns the seconds that a back-off waits after attempt number `attempt`, from 1, before jitter.

    After the end of a schedule it stays at its last delay.
    """
    match backoff:
        case Exponential():
            return min(backoff.maximum, _power(backoff.initial, backoff.multiplier, attempt - 1))
        case Linear():
            return min(backoff.maximum, backoff.initial + backoff.increment * (attempt - 1))
        case Logarithmic():
            return min(backoff.maximum, backoff.initial + backoff.scale * math.log(attempt))
        case Schedule():
            return backoff.delays[min(attempt, len(backoff.delays) - 1)]
        case _:
            assert_never(backoff)


def parse_retry_after(header: str, now: float) -> float | None:
    """Reads the value of a `Retry-After` header (RFC 9110, section 10.2.3): seconds, or an HTTP date.

    Returns the seconds from `now`, at least 0 and at most 24 h; None if the value is neither, and so says nothing.
    """
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAXIMUM_ASKED)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # An asctime date has no zone: "HTTP-date … represents … Coordinated Universal Time" (RFC 9110, section 5.6.7).
    until = date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    return min(max(until - now, 0.0), MAXIMUM_ASKED)


def _power(initial: float, multiplier: float, exponent: int) -> float:
    try:
        return float(initial * multiplier**exponent)
    except OverflowError:
        return math.inf


def _check_first_and_longest(backoff: str, initial: float, maximum: float) -> None:
    _check_above_zero(f"{backoff}.initial", initial, MAXIMUM_FIRST_WAIT)
    _check(f"{backoff}.maximum", maximum, initial, MAXIMUM_WAIT)


def _check_above_zero(field: str, value: float, most: float) -> None:
    if value <= 0:
        raise _refusal(field, f"{value:g} is not above 0")
    _check(field, value, 0.0, most)


def _check(field: str, value: float, least: float, most: float) -> None:
    # Written so that NaN, which compares false with everything, is refused.
    if not least <= value <= most:
        raise _refusal(field, f"{value:.10g} is outside {least:.10g} to {most:.10g}")


def _refusal(field: str, problem: str) -> Invalid:
    return Invalid.field(Reason.FIELD_INVALID, f"retry_policy.{field}", problem)


# Last, since making it checks its bounds by what stands above.
DEFAULT_RETRY_POLICY: Final = RetryPolicy(
    Schedule((0.0, 5.0, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 10 * _HOUR))
)
"""The schedule that Standard Webhooks recommends, with up to 20 % added."""
