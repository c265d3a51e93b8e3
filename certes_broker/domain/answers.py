"""What the answer to a webhook means.

Rules
-----
* 2xx is success, and every other status a failure, but for the two by which a receiver says what is to become of it.
* 410 Gone, and `webhook-delivery: disable` with any status, disable the subscription: nothing more is sent to it.
* `webhook-delivery: abort` gives this delivery up: it would be refused whenever it came. With 2xx it has nothing to say.
* `Retry-After` counts with 429 and 503, as RFC 9110 and RFC 6585 have it.
* A header that says something else says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from certes_broker.domain.retry import parse_retry_after

CONTROL_HEADER: Final = "webhook-delivery"
GONE_REASON: Final = "The receiver answered 410 Gone."
DISABLE_REASON: Final = "The receiver answered with the header webhook-delivery: disable."

_GONE: Final = 410
_MAY_SAY_WHEN: Final = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has it."""


@dataclass(frozen=True, slots=True)
class Disable:
    """The receiver wants nothing more, for a reason that a person reads. `delivered` says whether it has taken this one."""

    reason: str
    delivered: bool


@dataclass(frozen=True, slots=True)
class Abort:
    """The receiver will never take this one."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The receiver may take it later, after `asked` seconds if it said so."""

    asked: float | None = None


Verdict = Delivered | Disable | Abort | Failed


def read_answer(status: int, headers: Mapping[str, str], now: float) -> Verdict:
    """Returns what an answer means. Header names are lower-case; `now` is seconds since the epoch."""
    delivered = 200 <= status < 300
    control = headers.get(CONTROL_HEADER, "").strip().lower()
    if control == "disable":
        return Disable(DISABLE_REASON, delivered)
    if delivered:
        return Delivered()
    if status == _GONE:
        return Disable(GONE_REASON, delivered)
    if control == "abort":
        return Abort()
    if status in _MAY_SAY_WHEN and "retry-after" in headers:
        return Failed(parse_retry_after(headers["retry-after"], now))
    return Failed()
