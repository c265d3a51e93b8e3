"""The environments that filters are compiled in: what `event` and `data` are, and what CEL says of a text in their terms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from cel_expr_python import cel
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError

from certes.v1 import event_pb2
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.filters.checked_expressions import Expression, Use, read_checked_expression, use_of
from certes_broker.schemas.filters.meter import BUDGET
from certes_broker.schemas.filters.prices import Price
from certes_broker.schemas.filters.pricing import NotAllowedError, price_of

CEL_ERRORS: Final = (RuntimeError, ValueError, LookupError)
"""What `cel` raises; which of them depends on its version."""


@dataclass(frozen=True, slots=True)
class Program:
    """A filter that fits an event type: what evaluates it, what that costs, and what it does with `data`."""

    expression: cel.Expression
    price: Price
    data: Use


class Environment:
    """Compiles filters for one event type, or, without a schema, for event types of which nothing is known.

    It holds on to the descriptor pool of the schema, and not to the schema.
    """

    def __init__(self, schema: EventSchema | None) -> None:
        self._type_text = "" if schema is None else schema.type_text
        self._is_dynamic = schema is None
        pool: Any = descriptor_pool.Default() if schema is None else schema.descriptor.file.pool
        data = cel.Type.DYN if schema is None else cel.Type(schema.message_name)
        self._env = cel.NewEnv(
            pool if pool is descriptor_pool.Default() else _WithEvents(pool),
            variables={"event": cel.Type(event_pb2.Event.DESCRIPTOR.full_name), "data": data},
        )

    def compile(self, text: str) -> Program:
        """Compiles a filter.

        Raises `Invalid` / `FILTER_INVALID`, which says where it does not fit and the event type that it does not fit.
        """
        expression, tree = self._check(text)
        try:
            price = price_of(tree, len(text))
        except NotAllowedError as problem:
            raise self._invalid(_located(text, problem.place, str(problem))) from None
        if price.least > BUDGET:
            raise self._invalid("it costs more than an evaluation may, whatever the event")
        return Program(expression, price, use_of(tree, "data"))

    def activation(self, event: object, data: object | None) -> cel.Activation:
        """Returns what programs of this environment are evaluated on; it reads the messages once for all of them."""
        return self._env.Activation({"event": event} if data is None else {"event": event, "data": data})

    def _check(self, text: str) -> tuple[cel.Expression, Expression]:
        try:
            expression = self._env.compile(text)
        except CEL_ERRORS as error:
            raise self._invalid(_read_error(str(error))) from None
        of = expression.return_type()
        if of != cel.Type.BOOL and not (self._is_dynamic and of == cel.Type.DYN):
            raise self._invalid(f"it is of type {of.name()}, not bool")
        try:
            return expression, read_checked_expression(expression.serialize())
        except DecodeError:
            raise self._invalid("it is nested too deeply") from None

    def _invalid(self, problem: str) -> Invalid:
        fit = f"does not fit {self._type_text}" if self._type_text else "is invalid"
        metadata = {"type": self._type_text} if self._type_text else {}
        return Invalid(Reason.FILTER_INVALID, f"the filter {fit}: {problem}.", metadata=metadata)


class _WithEvents:
    """A descriptor pool that knows the messages of events besides its own.

    `cel` asks a pool for the file of a symbol and for the files that it imports. Those of the contract are always the
    broker's own: a schema that imports them may have come with others.
    """

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def FindFileByName(self, name: str) -> object:  # noqa: N802  # the name that `cel` calls
        return self._of(name == event_pb2.DESCRIPTOR.name).FindFileByName(name)

    def FindFileContainingSymbol(self, symbol: str) -> object:  # noqa: N802
        return self._of(_is_of_event(symbol)).FindFileContainingSymbol(symbol)

    def FindMessageTypeByName(self, name: str) -> object:  # noqa: N802
        return self._of(_is_of_event(name)).FindMessageTypeByName(name)

    def FindExtensionByNumber(self, message: Any, number: int) -> object:  # noqa: N802
        return self._pool.FindExtensionByNumber(message, number)

    def _of(self, contract: bool) -> descriptor_pool.DescriptorPool:  # noqa: FBT001
        return descriptor_pool.Default() if contract else self._pool


def _is_of_event(symbol: str) -> bool:
    return symbol.split(".")[:3] in _EVENT_SYMBOLS


_EVENT_SYMBOLS: Final = [
    message.full_name.split(".") for message in event_pb2.DESCRIPTOR.message_types_by_name.values()
]
_ERROR: Final = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_STATUS: Final = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_NO_CONTAINER: Final = " (in container '')"
_MOST_ERRORS: Final = 3


def _read_error(text: str) -> str:
    """Returns what CEL says of a text, without what is said of every text."""
    found = dict.fromkeys(_ERROR.findall(text))
    if not found:
        return _STATUS.sub("", text.partition("\n")[0]).rstrip(".")
    problems = [
        f"line {line}, column {column}: {problem}" if int(line) > 0 else problem for line, column, problem in found
    ]
    return "; ".join(
        _STATUS.sub("", problem).removesuffix(_NO_CONTAINER).rstrip(".") for problem in problems[:_MOST_ERRORS]
    )


def _located(text: str, place: int, problem: str) -> str:
    before = text[:place]
    return f"line {before.count(chr(10)) + 1}, column {place - before.rfind(chr(10))}: {problem}"
