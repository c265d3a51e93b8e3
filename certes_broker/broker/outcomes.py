"""What follows a failed attempt: one way for streams and webhooks."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import assert_never

from certes_broker.broker.items import Item
from certes_broker.broker.lane import Lane
from certes_broker.domain.deliveries import Tracked
from certes_broker.domain.events import Micros
from certes_broker.domain.retry import GiveUp, RetryAt, next_try

_MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed.

    `began` and `ended` are its times. `asked` is the wait that the receiver asked for, which the policy considers;
    `wait` one that the subscriber orders, which replaces the policy's. Both are seconds.
    """

    began: Micros
    ended: Micros
    error: str
    asked: float | None = None
    wait: float | None = None


def fail(lane: Lane, tracked: Tracked[Item], failure: Failure) -> Micros | None:
    """Applies what the policy decides: another attempt, whose time is returned, or a dead letter. What was erased meanwhile is lost."""
    item = tracked.payload
    if item is None:
        lane.lose(tracked)
        return None
    policy = lane.policy_for(item)
    first_try = tracked.first_try or failure.began
    chance = random.random()  # noqa: S311  jitter is no secret
    decision = next_try(policy, tracked.attempt, first_try / _MICROS, failure.ended / _MICROS, chance, failure.asked)
    match decision:
        case RetryAt(time=time):
            due = (
                Micros(int(time * _MICROS))
                if failure.wait is None
                else Micros(failure.ended + int(failure.wait * _MICROS))
            )
            lane.retry(tracked, failure.began, due, failure.error)
            return due
        case GiveUp(reason=reason):
            lane.give_up(tracked, reason.value, failure.error, failure.ended)
            return None
        case _:
            assert_never(decision)
