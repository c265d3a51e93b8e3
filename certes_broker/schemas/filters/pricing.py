"""Finds what a checked expression costs, and refuses what cannot be bounded. See `prices` for what a price is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, assert_never

from certes_broker.schemas.filters.checked_expressions import (
    Call,
    Collection,
    Expression,
    Field,
    Kind,
    Literal,
    Loop,
    Name,
    NewMessage,
    Type,
)
from certes_broker.schemas.filters.extents import DATA, EVENT, Extent, Path
from certes_broker.schemas.filters.prices import LoopPrice, Price, Term, loop_price
from certes_broker.schemas.filters.regular_expressions import program_size

# Nanoseconds for each operation, and for each unit that an operation reads.
NODE: Final = 60.0
FIELD: Final = 120.0
TIME: Final = 300.0
CONVERSION: Final = 500.0
COPIED: Final = 0.6
"""Each time that a text is named it is copied, and the copy is kept until the end of the evaluation."""
UNPACKED: Final = 60.0
"""A `Struct` or `Any` is unpacked whole each time that it is looked into, and messages are compared field by field."""
COMPARED: Final = 0.2
COUNTED: Final = 1.5
CONCATENATED: Final = 1.0
APPENDED: Final = 60.0
CONVERTED: Final = 12.0
SOUGHT: Final = 6.0
SOUGHT_LONG: Final = 0.015
"""For each character of the text and of what is sought in it."""
REGEX: Final = 8_000.0
REGEX_INSTRUCTION: Final = 400.0
"""A regular expression's program is made for each evaluation."""
REGEX_STEP: Final = 8.0
"""For each instruction and character."""
LOOKED_THROUGH: Final = 100.0
"""For each element of a list in which something is sought."""


class NotAllowedError(Exception):
    """An expression has what a filter may not have. `place` counts characters from 0."""

    def __init__(self, place: int, message: str) -> None:
        super().__init__(message)
        self.place = place


def price_of(expression: Expression, text_length: int) -> Price:
    """Returns what evaluating an expression costs.

    `text_length` is that of the filter, which bounds whatever is written out in it. Raises `NotAllowedError`.
    """
    pricing = _Pricing(Extent(fixed=text_length, per_byte=1.0))
    tally = _Tally()
    scope: dict[str, _Value] = {
        "data": _Value(Extent(paths=(Path(DATA),)), Path(DATA)),
        "event": _Value(Extent(paths=(Path(EVENT),)), Path(EVENT)),
    }
    pricing.visit(expression, scope, tally)
    return tally.price()


@dataclass(frozen=True, slots=True)
class _Value:
    """What is known of a value."""

    extent: Extent
    path: Path | None = None
    """Where it lies, if it lies in a message."""
    is_literal: bool = False
    """Whether it is written out, and nothing in it is not."""


_SMALL: Final = _Value(Extent(fixed=64.0))
"""A number, time or the like; as a text it has no more characters."""

_Scope = Mapping[str, _Value]


@dataclass(slots=True)
class _Tally:
    """Collects the price of what is evaluated as often as each other."""

    fixed: float = 0.0
    rates: dict[tuple[Extent, Extent | None], float] = field(default_factory=dict)
    """Of the terms, by their extents."""
    loops: list[LoopPrice] = field(default_factory=list)

    def add(self, rate: float, extent: Extent, times: Extent | None = None) -> None:
        if times is not None and times.is_fixed:
            rate, times = rate * times.fixed, None
        if times is None and extent.is_fixed:
            self.fixed += rate * extent.fixed
        else:
            self.rates[extent, times] = self.rates.get((extent, times), 0.0) + rate

    def price(self) -> Price:
        terms = tuple(Term(rate, extent, times) for (extent, times), rate in self.rates.items())
        return Price(self.fixed, terms, tuple(self.loops))


class _Pricing:
    def __init__(self, whole: Extent) -> None:
        self._whole = whole
        """The event and the filter: no value that was not made bigger is larger than these."""
        self._variables = EVENT + 1

    def visit(self, expression: Expression, scope: _Scope, tally: _Tally) -> _Value:
        """Adds an expression's price to a tally; returns what is known of its value."""
        match expression:
            case Literal(value=value):
                tally.fixed += NODE
                size = len(value) if isinstance(value, str | bytes) else 1
                return _Value(Extent(fixed=size), is_literal=True)
            case Name(name=name):
                tally.fixed += NODE
                return scope.get(name, _SMALL)
            case Field():
                return self._visit_field(expression, scope, tally)
            case Call():
                return self._visit_call(expression, scope, tally)
            case Collection(parts=parts):
                tally.fixed += NODE * (1 + len(parts))
                values = [self.visit(part, scope, tally) for part in parts]
                return _Value(Extent(fixed=len(parts)), is_literal=all(value.is_literal for value in values))
            case Loop():
                return self._visit_loop(expression, scope, tally)
            case NewMessage(place, _, name):
                raise NotAllowedError(place, f"messages such as {name} cannot be made in a filter")
            case _:
                assert_never(expression)

    def _visit_field(self, of: Field, scope: _Scope, tally: _Tally) -> _Value:
        operand = self.visit(of.operand, scope, tally)
        if operand.path == Path(EVENT) and of.name in {"data", "raw"}:
            raise NotAllowedError(of.place, f"event.{of.name} is not there; what the event says is in data")
        tally.fixed += FIELD
        return _SMALL if of.only_asks else self._found(of.type, self._within(operand, of.operand.type, of.name), tally)

    def _within(self, container: _Value, container_type: Type, step: str | int | None) -> _Value:
        """Returns what is known of a value within another; None is a step that only the evaluation knows."""
        if container.path is None or step is None:
            return _Value(self._whole)
        if container_type.kind is Kind.ANY:
            return _Value(container.extent)
        path = container.path.then(step)
        return _Value(Extent(paths=(path,)), path)

    def _found(self, value_type: Type, value: _Value, tally: _Tally) -> _Value:
        """Adds the price of having a value that lies in a message or map."""
        if value_type.kind is Kind.TEXT:
            tally.add(COPIED, value.extent)
        elif _may_be_unpacked(value_type):
            tally.add(UNPACKED, value.extent)
        return _SMALL if value_type.kind is Kind.SCALAR else value

    def _visit_call(self, call: Call, scope: _Scope, tally: _Tally) -> _Value:
        values = [self.visit(argument, scope, tally) for argument in call.arguments]
        types = [argument.type for argument in call.arguments]
        tally.fixed += NODE
        match call.function:
            case "_?_:_":
                return _Value(values[1].extent + values[2].extent)
            case "dyn":
                return _Value(values[0].extent)
            case "_==_" | "_!=_":
                self._add_comparison(values, types, tally)
            case "_<_" | "_<=_" | "_>_" | "_>=_" | "startsWith" | "endsWith":
                tally.add(COMPARED, _of_texts(values, types))
            case "@in":
                self._add_membership(values, types, tally)
            case "_[_]":
                tally.fixed += FIELD
                tally.add(COMPARED, _of_texts(values[1:], types[1:]))
                return self._found(call.type, self._within(values[0], types[0], _step_of(call.arguments[1])), tally)
            case "_+_":
                return self._visit_sum(call.type, values, tally)
            case "size":
                tally.add(COUNTED, _of_texts(values, types))
            case "contains":
                tally.add(SOUGHT, values[0].extent)
                tally.add(SOUGHT_LONG, values[0].extent, values[1].extent)
            case "matches":
                self._add_match(call, values[0], tally)
            case _:
                return self._visit_rarer_call(call, values, types, tally)
        return _SMALL

    def _visit_rarer_call(self, call: Call, values: list[_Value], types: list[Type], tally: _Tally) -> _Value:
        name = call.function
        if name in _CONVERSIONS:
            tally.fixed += CONVERSION
            tally.add(CONVERTED, _of_texts(values, types))
            return _Value(values[0].extent + _SMALL.extent)
        if name in _TIME_PARTS:
            tally.fixed += TIME
            if len(call.arguments) > 1:
                _check_time_zone(call.arguments[1])
        elif name not in _SIMPLE:
            raise NotAllowedError(call.place, f"{name} cannot be used in a filter")
        return _SMALL

    def _add_comparison(self, values: list[_Value], types: list[Type], tally: _Tally) -> None:
        kinds = {value_type.kind for value_type in types}
        literals = [value.extent for value in values if value.is_literal]
        if Kind.SCALAR in kinds:
            return
        if literals:
            # It ends with the shorter of the two.
            tally.add(NODE, Extent(fixed=min(extent.fixed for extent in literals)))
        elif Kind.TEXT in kinds:
            tally.add(COMPARED, _of_texts(values, types))
        else:
            tally.add(UNPACKED, self._depth(values[0], types[0]))

    def _add_membership(self, values: list[_Value], types: list[Type], tally: _Tally) -> None:
        sought, container = values
        sought_type, container_type = types
        if container_type.kind is Kind.MAP:
            tally.add(COMPARED, _of_texts([sought], [sought_type]))
            return
        elements = container_type.elements
        if container.is_literal or elements is None or elements.kind is not Kind.TEXT:
            tally.add(LOOKED_THROUGH, container.extent)
            if not container.is_literal and (elements is None or elements.kind is not Kind.SCALAR):
                tally.add(UNPACKED, self._depth(container, container_type))
            return
        # Each text is copied, as in a loop.
        body = _Tally(fixed=LOOKED_THROUGH)
        variable, element = self._element(container, container_type)
        body.add(COPIED, element.extent)
        tally.loops.append(loop_price(container.extent, _reachable(container, container_type), variable, body.price()))

    def _visit_sum(self, sum_type: Type, values: list[_Value], tally: _Tally) -> _Value:
        if sum_type.kind is Kind.SCALAR:
            return _SMALL
        extent = values[0].extent + values[1].extent
        tally.add(CONCATENATED if sum_type.kind is Kind.TEXT else APPENDED, extent)
        return _Value(extent)

    def _add_match(self, call: Call, text: _Value, tally: _Tally) -> None:
        pattern = call.arguments[1]
        if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
            raise NotAllowedError(pattern.place, "the regular expression must be written out")
        size = program_size(pattern.value)
        tally.fixed += REGEX + REGEX_INSTRUCTION * size
        tally.add(REGEX_STEP * size, text.extent)

    def _visit_loop(self, loop: Loop, scope: _Scope, tally: _Tally) -> _Value:
        elements = self.visit(loop.elements, scope, tally)
        self.visit(loop.start, scope, tally)
        body = _Tally(fixed=NODE)
        elements_type = loop.elements.type
        element_type = (elements_type.keys if elements_type.kind is Kind.MAP else elements_type.elements) or _DYNAMIC
        variable, element = self._element(elements, elements_type)
        # What gathers a list has at most as many elements as it goes through.
        gathered = _Value(elements.extent)
        within = {**scope, loop.accumulator: gathered, loop.variable: self._found(element_type, element, body)}
        for step in loop.steps:
            self.visit(step, within, body)
        tally.loops.append(loop_price(elements.extent, _reachable(elements, elements_type), variable, body.price()))
        self.visit(loop.result, within, tally)
        return gathered if loop.type.kind is Kind.LIST else _SMALL

    def _element(self, container: _Value, container_type: Type) -> tuple[int, _Value]:
        """Returns the variable of a loop over a value, and what is known of each element."""
        variable = self._variables
        self._variables += 1
        if _reachable(container, container_type) is None:
            return variable, _Value(self._whole)
        path = Path(variable)
        return variable, _Value(Extent(paths=(path,)), path)

    def _depth(self, value: _Value, value_type: Type) -> Extent:
        """How much there is in a value. The extent of a list or map counts only its elements."""
        return self._whole if value_type.kind in {Kind.LIST, Kind.MAP} else value.extent


_DYNAMIC: Final = Type(Kind.DYNAMIC)
_CONVERSIONS: Final = frozenset(
    ("bool", "bytes", "double", "duration", "int", "string", "timestamp", "uint"),
)
_TIME_PARTS: Final = frozenset(
    (
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getFullYear",
        "getHours",
        "getMilliseconds",
        "getMinutes",
        "getMonth",
        "getSeconds",
    )
)
_SIMPLE: Final = frozenset(
    ("!_", "-_", "@not_strictly_false", "_%_", "_&&_", "_*_", "_-_", "_/_", "_||_", "type"),
)
_TIME_ZONE: Final = re.compile(r"[A-Za-z0-9_+/:-]{1,64}")


def _reachable(container: _Value, container_type: Type) -> Path | None:
    """Returns where the elements of a list or map lie; None if they cannot be had without an evaluation."""
    return None if container_type.kind is Kind.ANY else container.path


def _may_be_unpacked(value_type: Type) -> bool:
    """Whether a value may be a `Struct`, `Value`, `ListValue` or `Any`."""
    elements = value_type.elements
    return value_type.kind in {Kind.ANY, Kind.DYNAMIC} or (elements is not None and elements.kind is Kind.DYNAMIC)


def _of_texts(values: list[_Value], types: list[Type]) -> Extent:
    """Returns the extent of those values that are or may be texts; of two, that of the shorter if it is written out."""
    extents = [
        value.extent
        for value, value_type in zip(values, types, strict=True)
        if value_type.kind in {Kind.TEXT, Kind.DYNAMIC, Kind.ANY}
    ]
    return min(extents, key=lambda extent: not extent.is_fixed, default=Extent())


def _step_of(key: Expression) -> str | int | None:
    if isinstance(key, Literal) and isinstance(key.value, str | int):
        return key.value
    return None


def _check_time_zone(zone: Expression) -> None:
    # A zone is a file that is read, and kept in memory for ever.
    if not isinstance(zone, Literal) or not isinstance(zone.value, str) or not _TIME_ZONE.fullmatch(zone.value):
        raise NotAllowedError(zone.place, "the time zone must be written out, such as 'Europe/Berlin'")
