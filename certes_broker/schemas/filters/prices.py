"""What evaluations of filters cost.

Theory of operation
-------------------
CEL bounds how many steps all loops of an evaluation take together, but not how much a step is: a comparison, or a copy of
a megabyte, or a regular expression over it. Nothing can interrupt an evaluation, and it holds the loop. So what it costs is
added up *before*, from above, and one that would cost more than its budget does not begin.

`pricing` goes through a checked expression once and finds its price: a sum of terms, each a number of nanoseconds times the
extents of what the operation reads (see `extents`), and of what loops cost. `meter` adds a price up for one event. Prices
are nanoseconds, rounded up, of a machine of 2025; what they were measured by is in
docs/decisions/0006-filters-pay-before-they-run.md.

Most events and filters are far below the budget, and then it takes little to see that. An upper bound of what a filter without
loops costs is linear in the event's size. In a loop, what costs the same for each element is added up once and multiplied. And
what is read of the elements is, all elements together, no more than the event. Only where this is not enough to tell, the
elements are gone through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from certes_broker.schemas.filters.extents import Extent, Path


@dataclass(frozen=True, slots=True)
class Term:
    """Costs `rate` nanoseconds for each unit of `extent`, or of the product of both."""

    rate: float
    extent: Extent
    times: Extent | None = None

    def amount(self, size_at: Callable[[Path], float], event_bytes: int) -> float:
        """Returns the nanoseconds; `size_at` says how large what lies at a path is."""
        amount = self.rate * self.extent.measure(size_at, event_bytes)
        return amount if self.times is None else amount * self.times.measure(size_at, event_bytes)

    def bound(self, event_bytes: int) -> float:
        """Returns how many nanoseconds it is at most for an event of this size."""
        amount = self.rate * self.extent.bound(event_bytes)
        return amount if self.times is None else amount * self.times.bound(event_bytes)

    def mentions(self, variable: int) -> bool:
        """Whether it depends on a variable."""
        return self.extent.mentions(variable) or (self.times is not None and self.times.mentions(variable))


@dataclass(frozen=True, slots=True)
class Price:
    """What an expression costs: `fixed` nanoseconds, and what depends on the event."""

    fixed: float
    terms: tuple[Term, ...] = ()
    loops: tuple[LoopPrice, ...] = ()

    @property
    def least(self) -> float:
        """What it costs at least, whatever the event."""
        return self.fixed + sum(loop.count.fixed * loop.alike.least for loop in self.loops)

    def bound(self, event_bytes: int) -> float | None:
        """Returns what it costs at most for an event of this size; None if the event must be looked at."""
        if self.loops:
            return None
        return self.fixed + sum(term.bound(event_bytes) for term in self.terms)

    def mentions(self, variable: int) -> bool:
        """Whether it depends on a variable."""
        return any(term.mentions(variable) for term in self.terms) or any(
            loop.mentions(variable) for loop in self.loops
        )


@dataclass(frozen=True, slots=True)
class LoopPrice:
    """What a loop costs. `loop_price` makes it."""

    count: Extent
    """How many elements there are at most."""
    elements: Path | None
    """Where they lie, if they can be reached. Each is `variable` in its turn."""
    variable: int
    alike: Price
    """What each element costs, as far as that is the same for all."""
    read: tuple[Term, ...]
    """What is read of each element and nothing else. All of it together is no more than what is read of the event."""
    rate: float
    """What that is at most, for each byte of the event; of the loops over what is in the elements too."""
    rest: Price
    """What else depends on the element."""

    def mentions(self, variable: int) -> bool:
        """Whether it depends on a variable."""
        return (
            self.count.mentions(variable)
            or any(term.mentions(variable) for term in self.read)
            or self.alike.mentions(variable)
            or self.rest.mentions(variable)
        )


def loop_price(count: Extent, elements: Path | None, variable: int, body: Price) -> LoopPrice:
    """Returns the price of a loop whose steps cost `body` for each element."""
    varying = tuple(term for term in body.terms if term.mentions(variable))
    inner = tuple(loop for loop in body.loops if loop.mentions(variable))
    read = tuple(term for term in varying if term.times is None and term.extent == Extent(paths=term.extent.paths[:1]))
    return LoopPrice(
        count,
        elements,
        variable,
        alike=Price(
            body.fixed,
            tuple(term for term in body.terms if term not in varying),
            tuple(loop for loop in body.loops if loop not in inner),
        ),
        read=read,
        rate=sum(term.rate for term in read) + sum(loop.rate for loop in inner if is_within(loop, variable)),
        rest=Price(0.0, tuple(term for term in varying if term not in read), inner),
    )


def is_within(inner: LoopPrice, variable: int) -> bool:
    """Whether a loop goes through what is in the element of another, so that both together read no more than there is."""
    return inner.elements is not None and inner.elements.variable == variable
