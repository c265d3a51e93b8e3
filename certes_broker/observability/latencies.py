"""How long things take, as a histogram: plain numbers, which whoever is asked for them reads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

LATENCY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Upper bounds of the latency histogram's buckets, in seconds; 150 ms is what is promised."""

_BOUNDS_MICROS: Final = tuple(round(bound * 1_000_000) for bound in LATENCY_BOUNDS)


class Latencies:
    """A histogram of waits. `counts` has one number for each bound, and one for what is beyond all of them."""

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self.micros = 0
        """The sum of all waits, in microseconds."""

    def within(self, share: float) -> float | None:
        """Returns an upper bound, in seconds, that this share of the waits kept; None without waits, or beyond all bounds."""
        wanted, seen = share * self.count, 0
        for bound, count in zip(LATENCY_BOUNDS, self.counts, strict=False):
            seen += count
            if seen and seen >= wanted:
                return bound
        return None

    @property
    def count(self) -> int:
        """How many waits there were."""
        return sum(self.counts)

    def observe(self, waits: Iterable[int]) -> None:
        """Adds waits, in microseconds."""
        counts = self.counts
        for wait in waits:
            counts[bisect_left(_BOUNDS_MICROS, wait)] += 1
            self.micros += wait
