"""How much writing documents may do at one go.

A message says nothing of how much JSON it makes: two bytes are an empty message of a thousand fields, each of which is written. So
what is written is counted as it is, in values, of which 25,000 take some five milliseconds; who must not be held up longer stops then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager


class TooMuchAtOnce(Exception):
    """More would have to be done than may be at one go. Nothing has come of it."""


class Effort:
    """What may be done still: without end, but within `at_most`."""

    def __init__(self) -> None:
        self._left = math.inf

    def spend(self, values: int) -> None:
        """Takes as much as writing so many values. Raises `TooMuchAtOnce`."""
        self._left -= values
        if self._left < 0:
            raise TooMuchAtOnce

    @contextmanager
    def at_most(self, values: int) -> Iterator[None]:
        """Lets so much be done within."""
        self._left = values
        try:
            yield
        finally:
            self._left = math.inf
