"""Evaluates filters on one event."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from cel_expr_python import cel
from google.protobuf.message import Message

from certes.v1 import event_pb2
from certes_broker.domain.errors import Invalid
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.filters.environments import CEL_ERRORS, Environment, Program
from certes_broker.schemas.filters.extents import Path
from certes_broker.schemas.filters.meter import BUDGET, Meter, OverBudgetError


@unique
class FailureReason(StrEnum):
    """Why a filter could not be evaluated."""

    UNFIT = "unfit"
    """It does not compile for the event type."""
    ERROR = "error"
    """It failed for the event: a key that is not there, a division by zero."""
    OVER_BUDGET = "over_budget"
    """It would have cost more than an evaluation may."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A filter that could not be evaluated for an event, and so does not match it.

    `detail` is for a person; nothing of what the event says is in it.
    """

    reason: FailureReason
    detail: str


class Compiled:
    """The environment of an event type, and the filters that were compiled in it."""

    __slots__ = ("environment", "programs", "used")

    def __init__(self, environment: Environment) -> None:
        self.environment: Final = environment
        self.programs: dict[str, Program | Failure] = {}
        self.used = 0
        """When it was last asked for, in uses of all."""

    def program(self, text: str) -> Program | Failure:
        """Returns a filter compiled, or why it does not fit the event type."""
        program = self.programs.get(text)
        if program is None:
            try:
                program = self.environment.compile(text)
            except Invalid as error:
                program = Failure(FailureReason.UNFIT, error.message)
            self.programs[text] = program
        return program


Find = Callable[[str], tuple[EventSchema | None, Compiled]]
"""Finds the schema of an event type, None if there is none, and what was compiled for it."""


class FilteredEvent:
    """One event, and what filters say of it. It is read once, and each filter is evaluated once."""

    __slots__ = (
        "_activation",
        "_answers",
        "_body",
        "_compiled",
        "_data",
        "_event",
        "_find",
        "_sizes",
        "_spent",
        "_type_text",
    )

    def __init__(self, type_text: str, body: bytes, find: Find) -> None:
        """`body` is the event's wire form; nothing is done with it before a filter is asked about."""
        self._type_text = type_text
        self._body = body
        self._find = find
        self._answers: dict[str, bool | Failure] = {}
        self._compiled: Compiled | None = None
        self._event: event_pb2.Event | None = None
        self._data: Message | None = None
        self._activation: cel.Activation | None = None
        self._sizes: dict[Path, float] = {}
        self._spent = 0.0

    def passes(self, text: str) -> bool | Failure:
        """Returns whether the event passes a filter, or why that cannot be said."""
        answer = self._answers.get(text)
        if answer is None:
            answer = self._answers[text] = self._ask(self._compiled or self._read(), text)
        return answer

    def _read(self) -> Compiled:
        schema, self._compiled = self._find(self._type_text)
        event = event_pb2.Event.FromString(self._body)
        if schema is not None and event.HasField("data"):
            try:
                self._data = schema.parse(event.data.type_url, event.data.value)
            except Invalid:
                # It was stored under another schema. What asks for its data fails.
                self._data = None
        event.ClearField("data")
        event.ClearField("raw")
        self._event = event
        return self._compiled

    def _ask(self, compiled: Compiled, text: str) -> bool | Failure:
        program = compiled.program(text)
        if isinstance(program, Failure):
            return program
        try:
            cost = self._cost(program)
        except OverBudgetError:
            return Failure(FailureReason.OVER_BUDGET, f"it would have taken more than {BUDGET / 1e6:g} ms")
        # What evaluations copy is kept as long as what they share is.
        if self._activation is None or self._spent + cost > BUDGET:
            self._activation = compiled.environment.activation(self._event, self._data)
            self._spent = 0.0
        self._spent += cost
        return _evaluate(program, self._activation)

    def _cost(self, program: Program) -> float:
        """Returns what a program costs, at most. Raises `OverBudgetError`."""
        bound = program.price.bound(len(self._body))
        if bound is not None and bound <= BUDGET:
            return bound
        meter = Meter(len(self._body), (self._data, self._event), self._sizes)
        meter.charge(program.price)
        return meter.spent


def _evaluate(program: Program, activation: cel.Activation) -> bool | Failure:
    try:
        result = program.expression.eval(activation)
        value = result.value()
    except CEL_ERRORS as error:
        return Failure(FailureReason.ERROR, _without_content(str(error)))
    if isinstance(value, bool):
        return value
    # An error is a value, read as its text.
    is_error = result.type() == cel.Type.ERROR and isinstance(value, str)
    return Failure(FailureReason.ERROR, _without_content(value) if is_error else "its value is no bool")


_QUOTED: Final = re.compile(r'"[^"]*(?:"|$)|\'[^\']*(?:\'|$)', re.DOTALL)
_DETAIL: Final = 200


def _without_content(text: str) -> str:
    """Returns an error's text without what it quotes of the event, such as a key that was not found."""
    return _QUOTED.sub("…", text)[:_DETAIL]
