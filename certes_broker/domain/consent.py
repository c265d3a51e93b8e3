"""Consent: whether a receiver agrees to get webhooks, and when it is asked again.

Source: CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery" 1.0.2, section 4.

Rules
-----
* Consent is what the answer's headers say, and nothing else: "the handshake cannot rely on status codes".
* It is for one URL. Whoever changes the URL, or takes the wish for consent back and has it again, has none.
* An answer that names another origin, or a rate that is none, is no consent. One that names no rate sets no limit, although it
  should have: the receiver can still answer 429.
* Who does not consent is asked again, ever more seldom, as `wait_to_ask` says. After days of that nobody asks any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from certes_broker.domain.events import Micros
from certes_broker.domain.retry import DEFAULT_JITTER, Exponential, wait_after

ALLOWED_ORIGIN: Final = "webhook-allowed-origin"
ALLOWED_RATE: Final = "webhook-allowed-rate"
MINIMUM_ASKED: Final = 10
"""How often a receiver is asked at least before it is given up, however long that has lasted."""

_WAITS: Final = Exponential(5.0, 2.0, 3600.0)
_ANY: Final = "*"
_LONGEST_QUOTE: Final = 100
_MOST_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class NotRequired:
    """Nobody asks for consent."""


@dataclass(frozen=True, slots=True)
class Unasked:
    """The receiver has not been asked yet."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """The receiver does not consent, since it was first asked at `since`. `reason` says for a person what it answered last."""

    since: Micros
    reason: str


@dataclass(frozen=True, slots=True)
class Granted:
    """The receiver consented at `time` to requests from `origin`, so many `per_minute`; None for as many as there are."""

    origin: str
    time: Micros
    per_minute: int | None = None


Consent = NotRequired | Unasked | Withheld | Granted
NOT_REQUIRED: Final = NotRequired()
UNASKED: Final = Unasked()
_MISSING: Final = (Unasked, Withheld)


def is_missing(consent: Consent) -> bool:
    """Whether nothing may be sent until the receiver consents."""
    return isinstance(consent, _MISSING)  # Asked for every delivery; a union would be made each time.


def carried_over(stored: Consent, *, required: bool, same_url: bool) -> Consent:
    """Returns what holds after a change of the webhook."""
    if not required:
        return NOT_REQUIRED
    if isinstance(stored, NotRequired) or not same_url:
        return UNASKED
    return stored


def asked_anew(consent: Consent) -> Consent:
    """Returns what holds for a receiver that must be asked as if it never had been, where it must be asked at all."""
    return NOT_REQUIRED if isinstance(consent, NotRequired) else UNASKED


def after_answer(before: Consent, answer: Withheld | Granted, asked_at: Micros) -> Consent:
    """Returns what holds after an answer to a question that was asked at `asked_at`.

    Who has withheld consent before goes on doing so. Who has consented since then has answered a later question.
    """
    if isinstance(before, NotRequired) or (isinstance(before, Granted) and before.time > asked_at):
        return before
    if isinstance(before, Withheld) and isinstance(answer, Withheld):
        return replace(answer, since=before.since)
    return answer


def read_consent(
    status: int | None, headers: Mapping[str, str], error: str, origin: str, now: Micros
) -> Withheld | Granted:
    """Returns what an answer means for who asked as `origin`. Header names are lower-case; `error` says why there is no answer."""
    if status is None:
        return Withheld(now, error)
    allowed = headers.get(ALLOWED_ORIGIN)
    if allowed is None:
        return Withheld(now, f"The receiver answered HTTP {status} without the header WebHook-Allowed-Origin.")
    if allowed != _ANY and allowed.lower() != origin.lower():
        return Withheld(now, f"The receiver allows the origin {allowed[:_LONGEST_QUOTE]!r}, and this is {origin!r}.")
    rate = headers.get(ALLOWED_RATE, _ANY)
    if rate == _ANY:
        return Granted(origin, now)
    # "the string representation of a positive integer number greater than zero"
    if not (rate.isascii() and rate.isdigit() and rate.strip("0")):
        return Withheld(now, f"The receiver's WebHook-Allowed-Rate {rate[:_LONGEST_QUOTE]!r} is no rate.")
    return Granted(origin, now, None if len(rate) > _MOST_DIGITS else int(rate))


def wait_to_ask(times: int, chance: float, asked: float | None = None) -> float:
    """Returns in how many seconds a receiver is asked again that was so many times, from 1.

    `chance` is a random fraction; `asked` is what the receiver's `Retry-After` said.
    """
    return max(wait_after(_WAITS, times), asked or 0.0) * (1 + DEFAULT_JITTER * chance)


def is_given_up(consent: Consent, times: int, limit: float, now: Micros) -> bool:
    """Whether a receiver that was asked so many times has withheld its consent for `limit` seconds."""
    if not isinstance(consent, Withheld):
        return False
    return times >= MINIMUM_ASKED and (now - consent.since) / 1_000_000 >= limit
