"""The payloads that sources did not take, kept to be inspected and ingested again.

Anybody can send what a source refuses, so what is kept is bounded by age, by bytes and, for each source, by a count of
payloads that nobody vouches for. The janitor trims to the bounds; between its rounds whoever keeps a payload does, once a
quarter of a bound has come in since. So the log goes over its bounds by a quarter at most.

Storage is also what keeps the events that are accepted, and a stranger must not use it up. So what nobody vouches for is kept
only as fast as a provider with a wrong secret would send it: of each source a hundred at once and ten a second, of all
sources 16 MiB at once and 1 MiB a second. What comes faster is refused the same and lost, which is logged now and then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from certes_broker.broker.paging import make_token, not_of_this_list, read_token
from certes_broker.domain.allowance import Allowance
from certes_broker.domain.errors import CertesError, NotFound, Reason
from certes_broker.domain.events import Micros, Original
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Rejected, RejectedSummary, Rejections

UNVERIFIED_AT_ONCE: Final = 100
_UNVERIFIED_A_SECOND: Final = 10.0
_BYTES_AT_ONCE: Final = 16 << 20
_BYTES_A_SECOND: Final = 1 << 20
_SOURCES_REMEMBERED: Final = 4096
_LOSSES_TOLD_AFTER: Final = 10.0
_LONGEST_MESSAGE: Final = 1024
_SHARE: Final = 4
_PAGE_BYTES: Final = 2 << 20
_SUMMARY_BYTES: Final = 256
_ALL: Final = 1 << 31

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RejectedBounds:
    """What is kept of rejected payloads: `age` in seconds, `bytes` of all together, and `unverified` of each source."""

    age: float = 7 * 86_400.0
    bytes: int = 64 << 20
    unverified: int = 1_000


DEFAULT_BOUNDS: Final = RejectedBounds()


@dataclass(frozen=True, slots=True)
class RejectedPage:
    """Some payloads of a source, newest first. `next_page_token` is empty if there is nothing more."""

    rejected: Sequence[RejectedSummary]
    next_page_token: str


class RejectedPayloads:
    """Keeps and finds the payloads that sources did not take."""

    def __init__(self, kept: Rejections, clock: Clock, bounds: RejectedBounds) -> None:
        self._kept = kept
        self._clock = clock
        self._bounds = bounds
        self._bytes = 0
        self._unverified = 0
        self._allowed: dict[str, Allowance] = {}
        self._allowed_bytes = Allowance(_BYTES_AT_ONCE, _BYTES_A_SECOND)
        self._lost = 0
        self._losses_told: float | None = None

    async def keep(self, source: str, error: CertesError, payload: Original, *, verified: bool) -> None:
        """Keeps a payload that the source of this name refused with `error`; `payload` must hold no credentials.

        Never raises: whoever sent it is owed the refusal, and one that storage does not take is logged.
        """
        if not verified and not self._is_allowed(source, len(payload.body)):
            self.lose(source, error, "too many that nobody vouches for")
            return
        # A message may quote what was sent, and a lone surrogate of it is no text that can be stored.
        message = error.message[:_LONGEST_MESSAGE].encode(errors="replace").decode()
        rejected = Rejected(source, self._clock.now(), error.reason.value, message, verified, payload)
        try:
            await self._kept.keep(rejected)
            self._bytes += len(payload.body)
            self._unverified += not verified
            if self._bytes * _SHARE >= self._bounds.bytes or self._unverified * _SHARE >= self._bounds.unverified:
                await self.trim()
        except CertesError as failure:
            self.lose(source, error, str(failure))

    def lose(self, source: str, error: CertesError, why: str) -> None:
        """Takes note that a payload was not kept. Of many at a time the first is logged, and then how many there were."""
        self._lost += 1
        now = self._clock.monotonic()
        if self._losses_told is None or now - self._losses_told >= _LOSSES_TOLD_AFTER:
            log.warning("rejected_payloads_lost", count=self._lost, source=source, reason=error.reason.value, error=why)
            self._lost, self._losses_told = 0, now

    async def trim(self) -> None:
        """Forgets what is past its time, and what is too much."""
        self._bytes = self._unverified = 0
        before = Micros(max(0, self._clock.now() - int(self._bounds.age * 1_000_000)))
        await self._kept.trim(before, self._bounds.bytes, self._bounds.unverified)

    async def list(self, source: str, *, page_size: int, page_token: str) -> RejectedPage:
        """Returns payloads of a source, newest first. A page ends early where their headers would make it too large."""
        after = read_token(page_token, source)
        number = parse_number(after) if after else None
        if after and number is None:
            raise not_of_this_list()
        found = await self._kept.list(source, number, page_size + 1)
        count = min(_fitting(found), page_size)
        if count == len(found):
            return RejectedPage(found, "")
        return RejectedPage(found[:count], make_token(str(found[count - 1].number), source))

    async def get(self, source: str, number: int) -> Rejected:
        """Returns one payload. Raises `NotFound` (REJECTED_NOT_FOUND)."""
        found = await self._kept.get(source, number)
        if found is None:
            raise rejected_not_found(rejected_name(source, number))
        return found

    async def count(self, source: str) -> int:
        """Returns how many payloads of a source are kept."""
        return len(await self._kept.list(source, None, _ALL))

    async def forget(self, source: str, number: int | None) -> None:
        """Forgets a payload, or all of a source for None. Idempotent."""
        await self._kept.forget(source, number)

    def _is_allowed(self, source: str, size: int) -> bool:
        now = self._clock.monotonic()
        allowed = self._allowed.get(source)
        if allowed is None:
            if len(self._allowed) >= _SOURCES_REMEMBERED:
                self._allowed.clear()
            allowed = self._allowed[source] = Allowance(UNVERIFIED_AT_ONCE, _UNVERIFIED_A_SECOND)
        return allowed.take(1, now) and self._allowed_bytes.take(size, now)


def parse_number(text: str) -> int | None:
    """Reads the last segment of a rejected payload's name; None if it is none."""
    return int(text) if _NUMBER.fullmatch(text) else None


_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")


def _fitting(found: Sequence[RejectedSummary]) -> int:
    """Returns how many of the first make a page that any client takes; one at least."""
    room = _PAGE_BYTES
    for count, one in enumerate(found):
        room -= _SUMMARY_BYTES + len(one.message) + sum(len(name) + len(value) for name, value in one.headers)
        if room < 0 and count:
            return count
    return len(found)


def rejected_name(source: str, number: int) -> str:
    """Returns the name of a rejected payload."""
    return f"sources/{source}/rejected/{number}"


def rejected_not_found(name: str) -> NotFound:
    """Returns the refusal of a name that names no kept payload."""
    return NotFound(
        Reason.REJECTED_NOT_FOUND,
        f"No rejected payload {name!r} is kept.",
        hint="What was ingested again is no longer kept, nor what is past the bounds that the configuration sets.",
        metadata={"name": name},
    )
