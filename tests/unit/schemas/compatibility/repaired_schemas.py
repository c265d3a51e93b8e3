"""Mends random schemas until they compile. Where two things cannot stand together, the later one goes."""

from __future__ import annotations

from tests.unit.schemas.compatibility.random_schemas import (
    DEFAULTS,
    SCALARS,
    Element,
    Enum,
    Field,
    Message,
    Schema,
)

UNPACKABLE = ("string", "bytes")


def repaired(schema: Schema) -> Schema:
    """Mends a schema in place, and returns it."""
    schema.messages = list({message.name: message for message in schema.messages}.values())
    schema.enums = list({enum.name: enum for enum in schema.enums}.values())
    if schema.syntax != "2023":
        schema.options.pop("features.field_presence", None)
    for enum in schema.enums:
        _repair_enum(schema, enum)
    for message in schema.messages:
        _repair_message(schema, message)
    known = {message.name: message for message in schema.messages}
    schema.extensions = [
        (extendee, extension)
        for extendee, extension in schema.extensions
        if extendee in known and known[extendee].is_extended and schema.syntax != "proto3"
    ][:1]
    for _, extension in schema.extensions:
        _repair_extension(schema, extension)
    methods = {method.name: method for method in schema.methods}.values()
    schema.methods = [method for method in methods if {method.request, method.response} <= known.keys()]
    return schema


def _repair_enum(schema: Schema, enum: Enum) -> None:
    _repair_options(schema, enum)
    is_open = schema.syntax == "proto3" or (schema.syntax == "2023" and "features.enum_type" not in enum.options)
    if is_open:
        zero = next((value for value in enum.values if not value[1]), (f"{enum.name}_ZERO", 0))
        enum.values = [zero, *(value for value in enum.values if value[0] != zero[0])]
    enum.values = list({value[0]: value for value in reversed(enum.values)}.values())[::-1] or [(f"{enum.name}_ONE", 1)]
    numbers = [number for _, number in enum.values]
    if len(set(numbers)) == len(numbers):
        enum.options.pop("allow_alias", None)
    elif "allow_alias" not in enum.options:
        enum.values = [value for index, value in enumerate(enum.values) if value[1] not in numbers[:index]]
    enum.reserved_numbers -= {number for _, number in enum.values}
    enum.reserved_names -= {name for name, _ in enum.values}


def _repair_options(schema: Schema, element: Element) -> None:
    if schema.syntax != "2023":
        element.options = {name: value for name, value in element.options.items() if not name.startswith("features.")}


def _repair_message(schema: Schema, message: Message) -> None:
    _repair_options(schema, message)
    message.is_extended = message.is_extended and schema.syntax != "proto3"
    kept: list[Field] = []
    for one in message.fields:
        one.type = _visible_type(schema, one.type, message.file)
        _repair_label(schema, one)
        one.options = {name: value for name, value in one.options.items() if _may_say(schema, one, name, value)}
        if all(
            one.number != other.number and one.name != other.name and one.json_name != other.json_name for other in kept
        ):
            kept.append(one)
    message.fields = kept
    message.reserved_numbers -= {one.number for one in kept}
    message.reserved_names -= {one.name for one in kept} | {"one", "other"}


def _visible_type(schema: Schema, name: str, file: int) -> str:
    """Returns the type, or `string` where it is gone, stands in a file that is not imported, or cannot be in a map."""
    value = name.rpartition(", ")[2].rstrip(">")
    enums = [enum for enum in schema.enums if value == name or enum.values[0][1] == 0]
    visible = {element.name for element in (*schema.messages, *enums) if element.file <= file}
    return name if value in visible or value in SCALARS else "string"


def _repair_label(schema: Schema, one: Field) -> None:
    if one.is_map:
        one.oneof = ""
    if one.is_map or one.oneof:
        one.label = ""
    elif schema.syntax == "proto2":
        one.label = one.label or "optional"
    elif schema.syntax == "2023":
        if one.label == "required":
            one.options["features.field_presence"] = "LEGACY_REQUIRED"
        one.label = "repeated" if one.label == "repeated" else ""
    elif one.label == "required":
        one.label = ""


def _may_say(schema: Schema, one: Field, name: str, value: str) -> bool:
    enum = next((enum for enum in schema.enums if enum.name == one.type), None)
    is_message = one.is_map or (enum is None and one.type not in SCALARS)
    is_implicit = "IMPLICIT" in {
        one.options.get("features.field_presence"),
        schema.options.get("features.field_presence"),
    }
    is_packable = one.label == "repeated" and not is_message and one.type not in UNPACKABLE
    if name.startswith("features."):
        if schema.syntax != "2023":
            return False
        if name == "features.field_presence":
            is_singular = not one.is_map and not one.oneof and one.label != "repeated"
            return is_singular and (value == "LEGACY_REQUIRED" or (not is_message and not _is_closed(enum)))
        if name == "features.message_encoding":
            return is_message and not one.is_map
        return one.type == "string" if name == "features.utf8_validation" else is_packable
    if name == "packed":
        return is_packable and schema.syntax != "2023"
    if name == "default":
        if schema.syntax == "proto3" or is_message or one.label == "repeated" or is_implicit:
            return False
        return value in DEFAULTS.get(one.type, ()) or (enum is not None and value in dict(enum.values))
    return True


def _is_closed(enum: Enum | None) -> bool:
    return enum is not None and "features.enum_type" in enum.options


def _repair_extension(schema: Schema, extension: Field) -> None:
    extension.type = _visible_type(schema, extension.type, 1)
    if extension.is_map:
        extension.type = "string"
    extension.oneof = ""
    extension.label = "repeated" if extension.label == "repeated" else "optional"
    if schema.syntax == "2023":
        extension.label = "repeated" if extension.label == "repeated" else ""
    extension.options.clear()
