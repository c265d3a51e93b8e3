"""The streak log: remembers for how long subscriptions have been failing, also over a restart.

A streak is kept as a settings document once it is an hour old, so that a receiver that fails now and then costs no writes; with the
first success the document goes. Each failure after that hour is written until there are enough of them to judge by. So a restart
forgets at most what happened in the last hour, and nothing of a streak that counts.

What is stored follows what is known, one write after the other; a write that fails is made up for with the next outcome.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Final

import structlog

from certes_broker.domain.errors import CertesError
from certes_broker.domain.events import Micros
from certes_broker.domain.streaks import Streak, with_failure
from certes_broker.ports.engine import Settings

_PREFIX: Final = "failing/"
_KEPT_AFTER: Final = 3600.0

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


def streak_key(name: str) -> str:
    """Returns the key of a subscription's streak."""
    return _PREFIX + name


@dataclass(slots=True)
class _Known:
    """What is known of one subscription, and what is stored."""

    streak: Streak | None
    stored: Streak | None
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


class StreakLog:
    """Follows the outcomes of attempts. Whoever takes a subscription's deliveries reports them, and says when it ceases to."""

    def __init__(self, settings: Settings, limit: float) -> None:
        self._settings = settings
        self._limit = limit
        # Bounded by the number of takers.
        self._known: dict[str, _Known] = {}

    async def end(self, name: str) -> None:
        """There is no streak: an attempt succeeded, or the subscription was disabled."""
        known = self._known.get(name) or await self._load(name)
        known.streak = None
        if known.stored is not None:
            await self._store(name, known, None)

    async def failed(self, name: str, changed: Micros, now: Micros) -> str:
        """An attempt failed. Returns why the subscription is to be disabled, or nothing if it is not.

        `changed` is when the subscription was last changed.
        """
        known = self._known.get(name) or await self._load(name)
        streak = known.streak = with_failure(known.streak, changed, now)
        if streak != known.stored and streak.lasted(now) >= _KEPT_AFTER:
            await self._store(name, known, streak)
        if not streak.is_over(self._limit, now):
            return ""
        return f"No delivery has succeeded for {_spelled(streak.lasted(now))}, although it was tried again and again."

    def forget(self, name: str) -> None:
        """Nobody takes the subscription's deliveries any more; what is stored stays."""
        self._known.pop(name, None)

    async def _load(self, name: str) -> _Known:
        stored = None
        try:
            document = await self._settings.get(streak_key(name))
            if document is not None:
                stored = Streak(**json.loads(document.body))
        except CertesError as error:
            log.warning("streak_not_read", subscription=name, error=str(error))
            return _Known(None, None)
        return self._known.setdefault(name, _Known(stored, stored))

    async def _store(self, name: str, known: _Known, wanted: Streak | None) -> None:
        async with known.writing:
            if known.streak != wanted or known.stored == wanted:
                return
            try:
                if wanted is None:
                    await self._settings.delete(streak_key(name))
                else:
                    body = json.dumps({"since": wanted.since, "failures": wanted.failures}).encode()
                    await self._settings.put(streak_key(name), body)
                known.stored = wanted
            except CertesError as error:
                log.warning("streak_not_stored", subscription=name, error=str(error))


def _spelled(seconds: float) -> str:
    days, hours = int(seconds // 86_400), int(seconds % 86_400 // 3600)
    return f"{days} days" if days > 1 else f"{days * 24 + hours} hours"
