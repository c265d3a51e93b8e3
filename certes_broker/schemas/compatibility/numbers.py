"""Sets of numbers as `.proto` files say them: `reserved 2, 9 to 11;`, `extensions 100 to max;`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

Range: TypeAlias = tuple[int, int]
"""The first and the last number, both included."""

_HIGHEST: Final = frozenset((2**29 - 1, 2**31 - 1, 2**31 - 2))
"""The highest number of a field, of an enum's value, and of a field of a message set."""


def merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Returns the same numbers in the fewest ranges, in order."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def without(ranges: Iterable[Range], taken: Iterable[Range]) -> tuple[Range, ...]:
    """Returns the numbers of `ranges` that are not in `taken`, in the fewest ranges.

    One sweep over both: whoever sends a schema says how many ranges it has.
    """
    away, next_away = merged(taken), 0
    left: list[Range] = []
    for first, last in merged(ranges):
        while next_away < len(away) and away[next_away][0] <= last:
            start, end = away[next_away]
            if first < start:
                left.append((first, start - 1))
            first = max(first, end + 1)
            if end > last:
                break
            next_away += 1
        if first <= last:
            left.append((first, last))
    return tuple(left)


def holds(ranges: Sequence[Range], number: int) -> bool:
    """Says whether a number is in one of the ranges, which are merged."""
    # The first range that begins above the number comes after the only one that can have it.
    before = bisect_left(ranges, (number + 1,)) - 1
    return before >= 0 and number <= ranges[before][1]


def spell(numbers: Range) -> str:
    """Spells a range as a `.proto` file does."""
    first, last = numbers
    if first == last:
        return str(first)
    return f"{first} to {'max' if last in _HIGHEST else last}"
