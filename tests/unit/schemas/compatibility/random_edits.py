"""Random edits of random schemas. The result may not compile: `repaired_schemas` mends it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from random import Random

from tests.unit.schemas.compatibility.random_schemas import (
    DEFAULTS,
    WORDS,
    Enum,
    Field,
    Message,
    Method,
    Schema,
    random_field,
    random_type,
)
from tests.unit.schemas.compatibility.repaired_schemas import repaired

Edit = Callable[[Random, Schema], None]


def edited(rng: Random, schema: Schema, edits: tuple[Edit, ...], count: int) -> Schema:
    """Returns a copy of a schema with some of the edits made."""
    copy = deepcopy(schema)
    for _ in range(count):
        rng.choice(edits)(rng, copy)
        repaired(copy)
    return copy


def _of_field(edit: Callable[[Random, Schema, Message, Field], None]) -> Edit:
    def on_schema(rng: Random, schema: Schema) -> None:
        messages = [message for message in schema.messages if message.fields]
        if messages:
            message = rng.choice(messages)
            edit(rng, schema, message, rng.choice(message.fields))

    return on_schema


def _of_message(edit: Callable[[Random, Schema, Message], None]) -> Edit:
    def on_schema(rng: Random, schema: Schema) -> None:
        if schema.messages:
            edit(rng, schema, rng.choice(schema.messages))

    return on_schema


def _of_enum(edit: Callable[[Random, Schema, Enum], None]) -> Edit:
    def on_schema(rng: Random, schema: Schema) -> None:
        if schema.enums:
            edit(rng, schema, rng.choice(schema.enums))

    return on_schema


@_of_field
def _remove_field(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    message.fields.remove(one)
    if rng.random() < 0.5:
        message.reserved_numbers.add(one.number)
    if rng.random() < 0.5:
        message.reserved_names.add(one.name)


@_of_field
def _renumber_field(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    one.number = rng.choice([*range(1, 40), *message.reserved_numbers])


@_of_field
def _swap_numbers(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    other = rng.choice(message.fields)
    one.number, other.number = other.number, one.number


@_of_field
def _rename_field(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    one.name = f"{rng.choice(WORDS)}_{rng.randrange(9)}"


@_of_field
def _retype_field(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    one.type = random_type(rng, schema)


@_of_field
def _relabel_field(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    one.label = rng.choice(("", "optional", "repeated", "required"))


@_of_field
def _move_field(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    one.oneof = rng.choice(("", "one", "other"))


@_of_field
def _rename_oneof(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    for other in message.fields:
        if other.oneof and other.oneof == one.oneof:
            other.oneof = "renamed"


@_of_field
def _map_or_list(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    entry = Message("Entry", 0, fields=[Field("key", 1, "string"), Field("value", 2, "string")])
    schema.messages.append(entry)
    one.type, one.label, one.oneof = rng.choice((("map<string, string>", "", ""), (entry.name, "repeated", "")))


@_of_field
def _name_in_json(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    one.options["json_name"] = rng.choice((f'"{one.name}"', f'"{one.name}X"'))


@_of_field
def _default_field(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    names = [name for enum in schema.enums if enum.name == one.type for name, _ in enum.values]
    one.options["default"] = rng.choice(names or DEFAULTS.get(one.type, ("1",)))
    if rng.random() < 0.3:
        del one.options["default"]


@_of_field
def _feature_field(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    # Repair leaves those that the field can have.
    one.options["features.message_encoding"] = rng.choice(("DELIMITED", "LENGTH_PREFIXED"))
    one.options["features.utf8_validation"] = rng.choice(("NONE", "VERIFY"))
    one.options["features.field_presence"] = rng.choice(("IMPLICIT", "EXPLICIT", "LEGACY_REQUIRED"))


@_of_field
def _use_reserved(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    if message.reserved_numbers and message.reserved_names:
        made = random_field(rng, schema)
        made.number = rng.choice((made.number, min(message.reserved_numbers)))
        made.name = rng.choice((made.name, min(message.reserved_names)))
        message.fields.append(made)


@_of_message
def _release(rng: Random, schema: Schema, message: Message) -> None:
    element = rng.choice([message, *schema.enums])
    rng.choice((element.reserved_numbers, element.reserved_names)).clear()


@_of_message
def _remove_message(rng: Random, schema: Schema, message: Message) -> None:
    schema.messages.remove(message)


@_of_message
def _rename_message(rng: Random, schema: Schema, message: Message) -> None:
    message.name += "x"


@_of_message
def _extend(rng: Random, schema: Schema, message: Message) -> None:
    message.is_extended = not message.is_extended
    schema.extensions = [
        (extendee, replace(extension, type=random_type(rng, schema), name=rng.choice(("ext", "extx"))))
        for extendee, extension in schema.extensions
    ]


@_of_message
def _json_format(rng: Random, schema: Schema, message: Message) -> None:
    element = rng.choice([message, *schema.enums])
    if element.options.pop("features.json_format", None) is None:
        element.options["features.json_format"] = "LEGACY_BEST_EFFORT"


@_of_enum
def _add_value(rng: Random, schema: Schema, enum: Enum) -> None:
    value = (f"{enum.name}_{rng.choice(WORDS).upper()}X", rng.choice([*range(5, 9), *enum.reserved_numbers]))
    enum.values.insert(rng.randint(0, len(enum.values)), value)


@_of_enum
def _remove_value(rng: Random, schema: Schema, enum: Enum) -> None:
    name, number = enum.values.pop(rng.randrange(len(enum.values)))
    if rng.random() < 0.5:
        enum.reserved_numbers.add(number)
    if rng.random() < 0.5:
        enum.reserved_names.add(name)


@_of_enum
def _change_value(rng: Random, schema: Schema, enum: Enum) -> None:
    index = rng.randrange(len(enum.values))
    name, number = enum.values[index]
    enum.values[index] = rng.choice(((f"{name}X", number), (name, number + 3)))


@_of_enum
def _shuffle_values(rng: Random, schema: Schema, enum: Enum) -> None:
    rng.shuffle(enum.values)


@_of_enum
def _remove_enum(rng: Random, schema: Schema, enum: Enum) -> None:
    schema.enums.remove(enum)


@_of_enum
def _close(rng: Random, schema: Schema, enum: Enum) -> None:
    if enum.options.pop("features.enum_type", None) is None:
        enum.options["features.enum_type"] = "CLOSED"


def _change_syntax(rng: Random, schema: Schema) -> None:
    schema.syntax = rng.choice(("proto2", "proto3", "2023"))


def _change_package(rng: Random, schema: Schema) -> None:
    if rng.random() < 0.3:
        schema.package += "x"


def _change_method(rng: Random, schema: Schema) -> None:
    for method in schema.methods:
        method.request, method.response = rng.choice(("M0", "M1")), rng.choice(("M0", "M1"))
        method.streams_in, method.streams_out = rng.random() < 0.5, rng.random() < 0.5
        method.idempotency = rng.choice(("IDEMPOTENCY_UNKNOWN", "IDEMPOTENT"))


@_of_message
def _add_field(rng: Random, schema: Schema, message: Message) -> None:
    made = random_field(rng, schema)
    made.number += 200
    made.name += "_new"
    made.label = made.label.replace("required", "")
    made.options.clear()
    message.fields.append(made)


@_of_message
def _move_element(rng: Random, schema: Schema, message: Message) -> None:
    element = rng.choice([message, *schema.enums])
    element.file = 1 - element.file


@_of_message
def _say_otherwise(rng: Random, schema: Schema, message: Message) -> None:
    element = rng.choice([message, *schema.enums])
    element.comment = rng.choice(WORDS)
    if rng.random() < 0.5:
        element.options["deprecated"] = "true"


@_of_message
def _reserve(rng: Random, schema: Schema, message: Message) -> None:
    element = rng.choice([message, *schema.enums])
    element.reserved_numbers.add(rng.randint(40, 50))
    element.reserved_names.add(f"{element.name}_other")


@_of_message
def _shuffle_fields(rng: Random, schema: Schema, message: Message) -> None:
    rng.shuffle(message.fields)


@_of_field
def _pack(rng: Random, schema: Schema, message: Message, one: Field) -> None:
    one.options["packed"] = rng.choice(("true", "false"))
    one.options["features.repeated_field_encoding"] = rng.choice(("PACKED", "EXPANDED"))


@_of_enum
def _add_alias(rng: Random, schema: Schema, enum: Enum) -> None:
    enum.options["allow_alias"] = "true"
    enum.values.append((f"{enum.name}_ALIAS", rng.choice(enum.values)[1]))


def _add_elements(rng: Random, schema: Schema) -> None:
    schema.messages.append(Message("New", 0, fields=[Field("id", 1, "int64")]))
    schema.enums.append(Enum("EX", 0, values=[("EX_ZERO", 0)]))
    schema.methods.append(Method("More", "M0", "M1"))
    schema.options["java_package"] = '"com.meetly"'


COMPATIBLE: tuple[Edit, ...] = (
    _add_field,
    _move_element,
    _say_otherwise,
    _reserve,
    _shuffle_fields,
    _pack,
    _add_alias,
    _add_elements,
)
"""Edits that break nobody, but where another needs a repair."""

ALL: tuple[Edit, ...] = (
    *COMPATIBLE,
    _remove_field,
    _renumber_field,
    _swap_numbers,
    _rename_field,
    _retype_field,
    _relabel_field,
    _move_field,
    _rename_oneof,
    _map_or_list,
    _name_in_json,
    _default_field,
    _feature_field,
    _use_reserved,
    _release,
    _remove_message,
    _rename_message,
    _extend,
    _json_format,
    _add_value,
    _remove_value,
    _change_value,
    _shuffle_values,
    _remove_enum,
    _close,
    _change_syntax,
    _change_package,
    _change_method,
)
