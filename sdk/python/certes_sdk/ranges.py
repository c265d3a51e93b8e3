"""Ordinals as ranges, which an `Acknowledge` carries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]
"""The first and the last ordinal; both belong to it."""


def ranges_of(ordinals: Iterable[int]) -> list[Range]:
    """Returns the fewest ranges that hold the ordinals, ascending."""
    ranges: list[Range] = []
    first = last = -1
    for ordinal in sorted(ordinals):
        if ordinal == last + 1 and ranges:
            last = ordinal
            ranges[-1] = (first, last)
        elif ordinal != last or not ranges:
            first = last = ordinal
            ranges.append((first, last))
    return ranges


def cut(ranges: Sequence[Range], maximum: int) -> tuple[list[Range], list[int]]:
    """Returns the first `maximum` ranges, and the ordinals of the others."""
    rest = [ordinal for first, last in ranges[maximum:] for ordinal in range(first, last + 1)]
    return list(ranges[:maximum]), rest
