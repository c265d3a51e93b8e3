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
    """One event, and what filters say of it. It is read once, its data when a filter asks for it, each filter evaluated once."""

    __slots__ = (
        "_activation",
        "_answers",
        "_attributes",
        "_body",
        "_data",
        "_find",
        "_found",
        "_sizes",
        "_spent",
        "_type",
    )

    def __init__(self, type_text: str, body: bytes, find: Find) -> None:
        """`body` is the event's wire form; nothing is done with it before a filter is asked about."""
        self._type = type_text
        self._body = body
        self._find = find
        self._answers: dict[str, bool | Failure] = {}
        self._found: tuple[EventSchema | None, Compiled] | None = None
        self._attributes: event_pb2.Event | None = None
        self._data: Message | Failure | None = None
        self._activation: cel.Activation | None = None
        self._sizes: dict[Path, float] = {}
        self._spent = 0.0

    def passes(self, text: str) -> bool | Failure:
        """Returns whether the event passes a filter, or why that cannot be said."""
        answer = self._answers.get(text)
        if answer is None:
            answer = self._answers[text] = self._ask(text)
        return answer

    def _ask(self, text: str) -> bool | Failure:
        if self._found is None:
            self._found = self._find(self._type)
        schema, compiled = self._found
        program = compiled.program(text)
        if isinstance(program, Failure):
            return program
        if self._attributes is None:
            self._attributes = event_pb2.Event.FromString(self._body)
            self._attributes.ClearField("data")
            self._attributes.ClearField("raw")
        if program.data.is_named and self._data is None:
            self._data = self._read_data(schema)
            self._activation = None
        if program.data.is_named and isinstance(self._data, Failure):
            return self._data
        return self._evaluate(program, compiled.environment)

    def _read_data(self, schema: EventSchema | None) -> Message | Failure:
        if schema is None:
            return Failure(FailureReason.ERROR, "no schema is registered for its type, so nothing is known of its data")
        if len(self._body) > _LONG and _parts(self._body) > MOST_PARTS:
            return Failure(
                FailureReason.OVER_BUDGET, f"it has more than {MOST_PARTS} parts, which take too long to read"
            )
        event = event_pb2.Event.FromString(self._body)
        try:
            return schema.parse(event.data.type_url, event.data.value)
        except Invalid:
            return Failure(FailureReason.ERROR, f"its data is no {schema.message_name}")

    def _evaluate(self, program: Program, environment: Environment) -> bool | Failure:
        data = None if isinstance(self._data, Failure) else self._data
        bound = program.price.bound(len(self._body))
        if bound is None or bound > BUDGET:
            meter = Meter(len(self._body), (data, self._attributes), self._sizes)
            try:
                meter.charge(program.price)
            except OverBudgetError:
                return Failure(FailureReason.OVER_BUDGET, f"it would have taken more than {BUDGET / 1e6:g} ms")
            bound = meter.spent
        # What evaluations copy is kept as long as what they share is.
        if self._activation is None or self._spent + bound > BUDGET:
            self._activation = environment.activation(self._attributes, data)
            self._spent = 0.0
        self._spent += bound
        return _value(program, self._activation)


_LONG: Final = 64 * 1024
MOST_PARTS: Final = 100_000
"""Messages and texts in an event whose data is read. Reading takes up to 80 ns for each."""


def _parts(body: bytes) -> int:
    """Returns how many messages and texts there are at most in what is encoded."""
    # Each has its length before it. That is one byte below 32, or 32 bytes and more follow.
    return len(body.translate(None, _NOT_SHORT)) + len(body) // 34


_NOT_SHORT: Final = bytes(range(32, 256))


def _value(program: Program, activation: cel.Activation) -> bool | Failure:
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
