"""Checked expressions: the tree that CEL's compiler makes of a filter, as far as what it costs can be seen from it.

The compiler hands its tree out as a serialized `cel.expr.CheckedExpr`; see `checked_messages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Any, Final, assert_never

from google.protobuf.any_pb2 import Any as AnyMessage

from certes_broker.schemas.filters.checked_messages import CheckedExpr


@unique
class Kind(Enum):
    """What a value is, as far as it matters to what handling it costs."""

    SCALAR = "scalar"
    """A number, bool, time, duration, null or type."""
    TEXT = "text"
    """A string or bytes."""
    MESSAGE = "message"
    LIST = "list"
    MAP = "map"
    ANY = "any"
    """A `google.protobuf.Any`, which is unpacked each time it is looked into."""
    DYNAMIC = "dynamic"
    """Known only when it is there."""


@dataclass(frozen=True, slots=True)
class Type:
    """The type of an expression. `elements` are those of a list or the values of a map, `keys` the keys of a map."""

    kind: Kind
    elements: Type | None = None
    keys: Type | None = None


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that is written out; times and durations are not. `place` counts characters from 0, as in the others."""

    place: int
    type: Type
    value: str | bytes | int | float | None


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, or a constant that is known by name, such as an enum's value."""

    place: int
    type: Type
    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message or an entry of a map, or the question whether it is there."""

    place: int
    type: Type
    operand: Expression
    name: str
    only_asks: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function or operator; what it is called on is the first of its arguments."""

    place: int
    type: Type
    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """A list or map that is written out. `parts` are the elements, or keys and values."""

    place: int
    type: Type
    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message that is written out."""

    place: int
    type: Type
    name: str


@dataclass(frozen=True, slots=True)
class Loop:
    """What the macros `all`, `exists`, `exists_one`, `filter` and `map` become.

    `start` and `result` are evaluated once, `steps` once for each element of `elements`.
    """

    place: int
    type: Type
    elements: Expression
    variable: str
    accumulator: str
    start: Expression
    steps: tuple[Expression, ...]
    result: Expression


Expression = Literal | Name | Field | Call | Collection | NewMessage | Loop


def read_checked_expression(serialized: bytes) -> Expression:
    """Reads what `cel.Expression.serialize` returns for an expression that was checked."""
    packed = AnyMessage.FromString(serialized)
    checked = CheckedExpr.FromString(packed.value)
    return _Reader(checked.type_map, checked.source_info.positions).read(checked.expr)


@dataclass(frozen=True, slots=True)
class Use:
    """What an expression does with a variable: whether it names it, and which of its fields it names."""

    is_named: bool
    fields: frozenset[str]


def use_of(expression: Expression, variable: str) -> Use:
    """Returns what an expression does with a variable."""
    match expression:
        case Name(name=name):
            return Use(is_named=name == variable, fields=frozenset())
        case Field(operand=Name(name=name), name=field) if name == variable:
            return Use(is_named=True, fields=frozenset((field,)))
        case Field(operand=operand):
            return use_of(operand, variable)
        case Call(arguments=parts) | Collection(parts=parts):
            return _together(parts, variable)
        case Loop(elements=elements, variable=name, steps=steps):
            # A loop's own variable may have the same name.
            return _together((elements,) if name == variable else (elements, *steps), variable)
        case Literal() | NewMessage():
            return Use(is_named=False, fields=frozenset())
        case _:
            assert_never(expression)


def _together(parts: Iterable[Expression], variable: str) -> Use:
    uses = [use_of(part, variable) for part in parts]
    return Use(any(use.is_named for use in uses), frozenset[str]().union(*(use.fields for use in uses)))


_SCALAR: Final = Type(Kind.SCALAR)
_TEXT: Final = Type(Kind.TEXT)
_DYNAMIC: Final = Type(Kind.DYNAMIC)
_TEXT_PRIMITIVES: Final = (5, 6)
_ANY: Final = 1


class _Reader:
    def __init__(self, types: Mapping[int, Any], places: Mapping[int, int]) -> None:
        self._types = types
        self._places = places

    def read(self, node: Any) -> Expression:
        place = self._places.get(node.id, 0)
        # What is dynamic is left out of the types.
        expression_type = _type_of(self._types[node.id]) if node.id in self._types else _DYNAMIC
        match node.WhichOneof("expr_kind"):
            case "const_expr":
                return Literal(place, expression_type, _value_of(node.const_expr))
            case "ident_expr":
                return Name(place, expression_type, node.ident_expr.name)
            case "select_expr":
                select = node.select_expr
                return Field(place, expression_type, self.read(select.operand), select.field, select.test_only)
            case "call_expr":
                call = node.call_expr
                nodes = (*((call.target,) if call.HasField("target") else ()), *call.args)
                return Call(place, expression_type, call.function, tuple(map(self.read, nodes)))
            case "list_expr":
                return Collection(place, expression_type, tuple(map(self.read, node.list_expr.elements)))
            case "struct_expr":
                return self._read_struct(place, expression_type, node.struct_expr)
            case "comprehension_expr":
                return self._read_loop(place, expression_type, node.comprehension_expr)
            case _:
                raise ValueError("CEL's compiler made an expression of a kind that is not known here")

    def _read_struct(self, place: int, expression_type: Type, struct: Any) -> Expression:
        if struct.message_name:
            return NewMessage(place, expression_type, struct.message_name)
        nodes = [part for entry in struct.entries for part in (entry.map_key, entry.value)]
        return Collection(place, expression_type, tuple(map(self.read, nodes)))

    def _read_loop(self, place: int, expression_type: Type, loop: Any) -> Loop:
        return Loop(
            place,
            expression_type,
            self.read(loop.iter_range),
            loop.iter_var,
            loop.accu_var,
            self.read(loop.accu_init),
            (self.read(loop.loop_condition), self.read(loop.loop_step)),
            self.read(loop.result),
        )


def _type_of(message: Any) -> Type:
    kind = message.WhichOneof("type_kind")
    match kind:
        case "primitive" | "wrapper":
            return _TEXT if getattr(message, kind) in _TEXT_PRIMITIVES else _SCALAR
        case "null" | "type":
            return _SCALAR
        case "well_known":
            return Type(Kind.ANY) if message.well_known == _ANY else _SCALAR
        case "list_type":
            return Type(Kind.LIST, elements=_type_of(message.list_type.elem_type))
        case "map_type":
            of = message.map_type
            return Type(Kind.MAP, elements=_type_of(of.value_type), keys=_type_of(of.key_type))
        case "message_type":
            return Type(Kind.MESSAGE)
        case _:
            return _DYNAMIC


def _value_of(constant: Any) -> str | bytes | int | float | None:
    kind = constant.WhichOneof("constant_kind")
    value: str | bytes | int | float | None = None if kind in {None, "null_value"} else getattr(constant, kind)
    return value
