"""Random schemas as `.proto` texts: two files of one package, of which the second imports the first.

What is made here may not compile; `repaired_schemas` mends it. The same seed makes the same schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from certes_broker.schemas.field_types import SCALAR_NAMES

SCALARS = tuple(SCALAR_NAMES.values())
KEYS = ("string", "int32", "int64", "bool")
WORDS = ("id", "email", "name", "note", "team", "seats", "venue", "city", "guest", "host", "price", "state", "labels")
DEFAULTS = {
    "string": ('"a"', '""', '"0"'),
    "bytes": ('"a"', '"b"'),
    "int32": ("0", "1", "-7"),
    "sint32": ("0", "1", "-7"),
    "int64": ("0", "1", "9"),
    "double": ("0", "1", "0.5", "-0.0", "inf", "nan"),
    "bool": ("true", "false"),
}
FILES = ("common.proto", "main.proto")


@dataclass
class Field:
    name: str
    number: int
    type: str
    label: str = ""
    oneof: str = ""
    options: dict[str, str] = field(default_factory=dict)

    @property
    def is_map(self) -> bool:
        return self.type.startswith("map<")

    @property
    def json_name(self) -> str:
        head, *rest = self.name.split("_")
        return self.options.get("json_name", f'"{head}{"".join(part.capitalize() for part in rest)}"')


@dataclass
class Element:
    """What messages and enums have in common. `file` is 0 for the imported file and 1 for the importing one."""

    name: str
    file: int
    reserved_numbers: set[int] = field(default_factory=set)
    reserved_names: set[str] = field(default_factory=set)
    options: dict[str, str] = field(default_factory=dict)
    comment: str = ""


@dataclass
class Message(Element):
    fields: list[Field] = field(default_factory=list)
    is_extended: bool = False


@dataclass
class Enum(Element):
    values: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class Method:
    name: str
    request: str
    response: str
    streams_in: bool = False
    streams_out: bool = False
    idempotency: str = "IDEMPOTENCY_UNKNOWN"


@dataclass
class Schema:
    """`syntax` is `proto2`, `proto3` or the edition `2023`; `folder` is where its files are."""

    syntax: str
    folder: str
    package: str
    messages: list[Message] = field(default_factory=list)
    enums: list[Enum] = field(default_factory=list)
    extensions: list[tuple[str, Field]] = field(default_factory=list)
    methods: list[Method] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)


def random_schema(rng: Random, folder: str) -> Schema:
    """Makes a schema; it may need repair."""
    schema = Schema(rng.choice(("proto2", "proto3", "proto3", "2023")), folder, folder)
    for index in range(rng.randint(1, 3)):
        words = rng.sample(WORDS, rng.randint(1, 4))
        values = [(f"E{index}_{word.upper()}", number) for number, word in enumerate(words)]
        schema.enums.append(Enum(f"E{index}", rng.randrange(2), values=values))
        _reserve(rng, schema.enums[-1])
    schema.messages = [Message(f"M{index}", rng.randrange(2)) for index in range(rng.randint(2, 4))]
    for message in schema.messages:
        _reserve(rng, message)
        message.fields = [random_field(rng, schema) for _ in range(rng.randint(0, 6))]
        if rng.random() < 0.2:
            message.is_extended = True
            schema.extensions.append((message.name, Field("ext", 100, random_type(rng, schema), "optional")))
    if rng.random() < 0.3:
        schema.methods.append(Method("Send", "M0", "M1"))
    return schema


def random_field(rng: Random, schema: Schema) -> Field:
    """Makes a field of any message."""
    made = Field(f"{rng.choice(WORDS)}_{rng.randrange(9)}", rng.randint(1, 30), random_type(rng, schema))
    made.label = rng.choice(("", "", "optional", "repeated", "required"))
    made.oneof = rng.choice(("one", "other")) if rng.random() < 0.25 else ""
    if rng.random() < 0.1:
        made.options["json_name"] = f'"{made.name}Json"'
    if made.type in DEFAULTS and rng.random() < 0.3:
        made.options["default"] = rng.choice(DEFAULTS[made.type])
    return made


def random_type(rng: Random, schema: Schema) -> str:
    """Makes a type of which a schema has fields."""
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(SCALARS)
    if kind < 0.75:
        return rng.choice(schema.enums).name if schema.enums else "bool"
    if kind < 0.9:
        return rng.choice(schema.messages).name if schema.messages else "bytes"
    return f"map<{rng.choice(KEYS)}, {rng.choice([*SCALARS, *(enum.name for enum in schema.enums)])}>"


def _reserve(rng: Random, element: Element) -> None:
    if rng.random() < 0.4:
        element.reserved_numbers |= {rng.randint(31, 36) for _ in range(3)}
        element.reserved_names.add(f"{element.name}_OLD")


def texts(schema: Schema) -> dict[str, str]:
    """Writes the files of a schema, by path."""
    return {f"{schema.folder}/{name}": "\n".join(_lines(schema, file)) + "\n" for file, name in enumerate(FILES)}


def _lines(schema: Schema, file: int) -> list[str]:
    lines = [f'edition = "{schema.syntax}";' if schema.syntax == "2023" else f'syntax = "{schema.syntax}";']
    lines.append(f"package {schema.package};")
    if file:
        lines.append(f'import public "{schema.folder}/{FILES[0]}";')
    lines += [f"option {name} = {value};" for name, value in schema.options.items()]
    for enum in schema.enums:
        if enum.file == file:
            lines += _opening(schema, "enum", enum)
            lines += [*(f"  {name} = {number};" for name, number in enum.values), "}"]
    for message in schema.messages:
        if message.file == file:
            lines += [*_opening(schema, "message", message), *_fields(message), "}"]
    if file:
        lines += [f"extend {extendee} {{ {_field(extension)} }}" for extendee, extension in schema.extensions]
        if schema.methods:
            lines += ["service Service {", *map(_method, schema.methods), "}"]
    return lines


def _opening(schema: Schema, keyword: str, element: Element) -> list[str]:
    lines = [f"// {element.comment}"] if element.comment else []
    lines.append(f"{keyword} {element.name} {{")
    lines += [f"  option {name} = {value};" for name, value in element.options.items()]
    lines += [f"  reserved {number};" for number in sorted(element.reserved_numbers)]
    quote = "" if schema.syntax == "2023" else '"'
    return lines + [f"  reserved {quote}{name}{quote};" for name in sorted(element.reserved_names)]


def _fields(message: Message) -> list[str]:
    lines = ["  extensions 100 to 199;"] if message.is_extended else []
    lines += [f"  {_field(one)}" for one in message.fields if not one.oneof]
    for oneof in sorted({one.oneof for one in message.fields} - {""}):
        lines += [f"  oneof {oneof} {{", *(f"    {_field(one)}" for one in message.fields if one.oneof == oneof), "  }"]
    return lines


def _field(one: Field) -> str:
    options = ", ".join(f"{name} = {value}" for name, value in one.options.items())
    label = f"{one.label} " if one.label else ""
    return f"{label}{one.type} {one.name} = {one.number}{f' [{options}]' if options else ''};"


def _method(method: Method) -> str:
    request = f"stream {method.request}" if method.streams_in else method.request
    response = f"stream {method.response}" if method.streams_out else method.response
    option = f"option idempotency_level = {method.idempotency};"
    return f"  rpc {method.name}({request}) returns ({response}) {{ {option} }}"
