"""What evaluations of filters cost.

Theory of operation
-------------------
CEL bounds how many steps all loops of an evaluation take together, but not how much a step is: a comparison, or a copy of
a megabyte, or a regular expression over it. Nothing can interrupt an evaluation, and it holds the loop. So what it costs is
added up *before*, from above, and one that would cost more than its budget does not begin.

`pricing` goes through a checked expression once and finds its price: a sum of terms, each a number of nanoseconds times the
extents of what the operation reads (see `extents`), and a price for each element of each loop. `Meter` adds a price up for
one event. Prices are nanoseconds, rounded up, of a machine of 2025; what they were measured by is in
docs/decisions/0006-filters-pay-before-they-run.md.

An upper bound of most prices is linear in the event's size, and for most events and filters without loops it is far below
the budget: then that is all there is to know. Only for the rest are lists counted and texts measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from certes_broker.schemas.filters.extents import Extent, Path, elements_of, size_of

BUDGET: Final = 2_000_000.0
"""Nanoseconds that one evaluation may cost."""


@dataclass(frozen=True, slots=True)
class Term:
    """Costs `rate` nanoseconds for each unit of `extent`, or of the product of both."""

    rate: float
    extent: Extent
    times: Extent | None = None

    def amount(self, variables: Sequence[Any], event_bytes: int) -> float:
        """Returns the nanoseconds."""
        amount = self.rate * self.extent.measure(variables, event_bytes)
        return amount if self.times is None else amount * self.times.measure(variables, event_bytes)

    def mentions(self, variable: int) -> bool:
        """Whether it depends on a variable."""
        paths = self.extent.paths if self.times is None else (*self.extent.paths, *self.times.paths)
        return any(path.variable == variable for path in paths)


@dataclass(frozen=True, slots=True)
class Price:
    """What an expression costs: `fixed` nanoseconds, and what depends on the event."""

    fixed: float
    terms: tuple[Term, ...] = ()
    loops: tuple[LoopPrice, ...] = ()

    @property
    def least(self) -> float:
        """What it costs at least, whatever the event."""
        return self.fixed + sum(loop.count.fixed * loop.body.least for loop in self.loops)

    def bound(self, event_bytes: int) -> float | None:
        """Returns what it costs at most for an event of this size; None if the event must be looked at."""
        if self.loops:
            return None
        bound = self.fixed
        for term in self.terms:
            fixed, per_byte = term.extent.bound()
            amount = term.rate * (fixed + per_byte * event_bytes)
            if term.times is not None:
                fixed, per_byte = term.times.bound()
                amount *= fixed + per_byte * event_bytes
            bound += amount
        return bound

    def mentions(self, variable: int) -> bool:
        """Whether it depends on a variable."""
        return any(term.mentions(variable) for term in self.terms) or any(
            loop.mentions(variable) for loop in self.loops
        )


@dataclass(frozen=True, slots=True)
class LoopPrice:
    """Costs `body` for each of the elements.

    Their number is the extent `count`. Where they can be reached, they lie at `elements`, and each is `variable` in its
    turn.
    """

    count: Extent
    body: Price
    elements: Path | None
    variable: int

    def mentions(self, variable: int) -> bool:
        """Whether it depends on a variable."""
        return any(path.variable == variable for path in self.count.paths) or self.body.mentions(variable)


class OverBudgetError(Exception):
    """An evaluation would cost more than its budget."""


class Meter:
    """Adds up what one evaluation costs."""

    def __init__(self, event_bytes: int, variables: Sequence[Any], budget: float = BUDGET) -> None:
        """`variables` are those of the event; those of loops are found on the way."""
        self._event_bytes = event_bytes
        self._variables = list(variables)
        self._budget = budget
        self.spent = 0.0

    def charge(self, price: Price) -> None:
        """Adds a price. Raises `OverBudgetError` as soon as the sum is above the budget."""
        self._spend(price.fixed)
        self._charge_rest(price)

    def _charge_rest(self, price: Price) -> None:
        """Adds what depends on the event."""
        for term in price.terms:
            self._spend(term.amount(self._variables, self._event_bytes))
        for loop in price.loops:
            self._charge_loop(loop)

    def _charge_loop(self, loop: LoopPrice) -> None:
        if loop.elements is None:
            count = loop.count.measure(self._variables, self._event_bytes)
            self._charge_alike(loop.body, count)
            return
        value = loop.elements.follow(self._variables)
        self._spend(size_of(value) * _PER_ELEMENT)
        elements = elements_of(value)
        if not loop.body.mentions(loop.variable):
            self._charge_alike(loop.body, len(elements))
            return
        # First what can be had by multiplying, so that most of what is too dear is not gone through at all. Going through it
        # takes time too.
        looking = _PER_STOP * (1 + len(loop.body.terms) + 2 * len(loop.body.loops))
        self._spend(len(elements) * (loop.body.fixed + looking))
        while len(self._variables) <= loop.variable:
            self._variables.append(None)
        for element in elements:
            self._variables[loop.variable] = element
            self._charge_rest(loop.body)

    def _charge_alike(self, price: Price, count: float) -> None:
        """Adds a price so many times that is the same each time."""
        before = self.spent
        self.charge(price)
        self._spend((self.spent - before) * max(0.0, count - 1))

    def _spend(self, amount: float) -> None:
        self.spent += amount
        if self.spent > self._budget:
            raise OverBudgetError


_PER_ELEMENT: Final = 20.0
"""What it costs to make ready an element of a list, or a byte of a message that stands for one."""
_PER_STOP: Final = 600.0
"""What it costs to find how large one thing in an element is; of a loop, twice as much."""
