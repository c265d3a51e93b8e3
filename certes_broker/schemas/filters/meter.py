"""Adds up what an evaluation of a filter costs for one event. See `prices`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from certes_broker.schemas.filters.extents import EVENT, Path, elements_of, size_of
from certes_broker.schemas.filters.prices import LoopPrice, Price, Term, is_within

BUDGET: Final = 2_000_000.0
"""Nanoseconds that one evaluation may cost."""


class OverBudgetError(Exception):
    """An evaluation would cost more than its budget."""


class Meter:
    """Adds up what one evaluation costs."""

    def __init__(
        self, event_bytes: int, variables: Sequence[Any], sizes: dict[Path, float], budget: float = BUDGET
    ) -> None:
        """`variables` are those of the event; those of loops are found on the way.

        `sizes` keeps what was measured of the event, for the next meter: measuring a message is as long as writing it.
        """
        self._event_bytes = event_bytes
        self._variables = list(variables)
        self._sizes = sizes
        self._budget = budget
        self.spent = 0.0

    def charge(self, price: Price) -> None:
        """Adds a price. Raises `OverBudgetError` as soon as the sum is above the budget."""
        self._spend(price.fixed)
        self._charge_terms(price.terms)
        for loop in price.loops:
            self._charge_loop(loop, is_read=False)

    def _charge_terms(self, terms: Sequence[Term]) -> None:
        for term in terms:
            self._spend(_PER_LOOK + term.amount(self._size_at, self._event_bytes))

    def _charge_loop(self, loop: LoopPrice, *, is_read: bool) -> None:
        """Adds what a loop costs. `is_read` says that what is read of its elements has been added already."""
        self._spend(_PER_LOOP)
        if loop.elements is None:
            self._charge_alike(loop.alike, loop.count.measure(self._size_at, self._event_bytes))
            return
        value = loop.elements.follow(self._variables)
        self._spend(size_of(value) * _PER_ELEMENT)
        elements = elements_of(value)
        self._charge_alike(loop.alike, len(elements))
        if not is_read and loop.rate * self._event_bytes <= _ROUGHLY * self._budget:
            self._spend(loop.rate * self._event_bytes)
            is_read = True
        if not is_read or loop.rest.terms or loop.rest.loops:
            self._charge_each(loop, elements, is_read=is_read)

    def _charge_each(self, loop: LoopPrice, elements: Sequence[Any], *, is_read: bool) -> None:
        terms = loop.rest.terms if is_read else (*loop.read, *loop.rest.terms)
        while len(self._variables) <= loop.variable:
            self._variables.append(None)
        for element in elements:
            self._variables[loop.variable] = element
            self._charge_terms(terms)
            for inner in loop.rest.loops:
                self._charge_loop(inner, is_read=is_read and is_within(inner, loop.variable))

    def _charge_alike(self, price: Price, count: float) -> None:
        """Adds a price so many times that is the same each time."""
        before = self.spent
        self.charge(price)
        self._spend((self.spent - before) * max(0.0, count - 1))

    def _size_at(self, path: Path) -> float:
        if path.variable > EVENT:
            return size_of(path.follow(self._variables))
        size = self._sizes.get(path)
        if size is None:
            size = self._event_bytes if not path.steps else size_of(path.follow(self._variables))
            self._sizes[path] = size
        return size

    def _spend(self, amount: float) -> None:
        self.spent += amount
        if self.spent > self._budget:
            raise OverBudgetError


_ROUGHLY: Final = 0.125
"""Which part of the budget may be taken for what elements have in them without looking at them."""
# Adding up takes time too.
_PER_ELEMENT: Final = 20.0
"""To make ready an element of a list, or a byte of a message that stands for one."""
_PER_LOOK: Final = 600.0
_PER_LOOP: Final = 1200.0
