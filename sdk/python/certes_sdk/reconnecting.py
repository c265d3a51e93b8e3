"""How long to wait before the next try to reach the broker."""

from __future__ import annotations

from typing import Final

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 10.0

_DOUBLINGS: Final = 16


def wait_before(attempt: int, chance: float) -> float:
    """Returns the seconds before the `attempt`-th try in a row, from 1; `chance` is 0 to 1.

    From half to the whole of `0.1 s · 2^(attempt - 1)`, at most 10 s: clients that lost the same broker come back one by one.
    """
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt - 1, _DOUBLINGS))
    return longest * (1 + chance) / 2
