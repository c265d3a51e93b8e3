"""Streaks of failure: for how long nothing has been delivered to a subscription, although it was tried.

A streak begins with a failed attempt and ends with one that succeeds, or with a change of the subscription: who has just changed
or resumed it is given the whole time again. It is over its limit when it has lasted for so long *and* so many attempts have
failed, so that two failures a week apart do not speak for the days between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from certes_broker.domain.events import Micros

MINIMUM_FAILURES: Final = 10
"""How many attempts a streak must hold, however long it has lasted."""
DISABLE_AFTER: Final = 5 * 24 * 3600.0
"""How many seconds it may last, if nothing else is set."""


@dataclass(frozen=True, slots=True)
class Streak:
    """Failed attempts, the first of which ended at `since`, with no success between. `failures` counts up to `MINIMUM_FAILURES`."""

    since: Micros
    failures: int = 1

    def and_one(self) -> Streak:
        """Returns the streak with one more failed attempt."""
        return replace(self, failures=min(self.failures + 1, MINIMUM_FAILURES))

    def lasted(self, now: Micros) -> float:
        """Returns for how many seconds."""
        return (now - self.since) / 1_000_000

    def is_over(self, limit: float, now: Micros) -> bool:
        """Whether it has gone on for `limit` seconds, and there is enough to say so."""
        return self.failures >= MINIMUM_FAILURES and self.lasted(now) >= limit


def with_failure(streak: Streak | None, changed: Micros, now: Micros) -> Streak:
    """Returns a streak after a failed attempt; one from before the subscription was last changed is no more."""
    if streak is None or streak.since < changed:
        return Streak(now)
    return streak.and_one()
