"""Steps of the time of day against a clock that never goes back."""

from __future__ import annotations

import pytest

from certes_broker.domain.events import Micros
from certes_broker.domain.steps import TOLERATED, Steps

DAY = 86_400_000_000


@pytest.fixture
def steps() -> Steps:
    return Steps(Micros(DAY), 10.0)


def test_two_clocks_that_go_on_together_make_no_step(steps: Steps) -> None:
    assert steps.back(Micros(DAY + 5_000_000), 15.0) == 0


def test_a_step_back_is_told_once(steps: Steps) -> None:
    assert steps.back(Micros(3_000_000), 13.0) == DAY
    assert steps.back(Micros(4_000_000), 14.0) == 0


def test_a_step_forward_is_none_and_a_step_back_from_there_is(steps: Steps) -> None:
    assert steps.back(Micros(2 * DAY), 10.0) == 0
    assert steps.back(Micros(DAY), 10.0) == DAY


def test_small_steps_back_are_told_when_they_have_become_a_large_one(steps: Steps) -> None:
    tenth = TOLERATED // 10
    told = [steps.back(Micros(DAY - number * tenth), 10.0) for number in range(1, 12)]
    assert told == [0] * 10 + [11 * tenth]
