"""Makes requests of the contract by its descriptors: mostly sound, now and then of any shape; as JSON and as bytes."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from hypothesis import strategies as st

from certes.v1 import (
    admin_service_pb2,
    delivery_service_pb2,
    event_service_pb2,
    schema_service_pb2,
    source_service_pb2,
    subscription_service_pb2,
)

SERVICES: Final[tuple[ServiceDescriptor, ...]] = tuple(
    service
    for module in (
        admin_service_pb2,
        delivery_service_pb2,
        event_service_pb2,
        schema_service_pb2,
        source_service_pb2,
        subscription_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
)

DEPTH: Final = 5
"""How deep messages stand in each other."""

WORDS: Final = (
    "",
    "subscribers/default",
    "subscribers/default/subscriptions/fuzz",
    "subscribers/-",
    "sources/github",
    "events/1",
    "github.com/_/1/push",
    "github.com/_/1/*",
    "localhost/_/1/**",
    "github.com/_/99/_version",
    "http://127.0.0.1:1/hook",
    "http://[::ffff:127.0.0.1]:1/",
    "file:///etc/passwd",
    "events://127.0.0.1:1",
    "application/json",
    "data.ref == 'main'",
    "event.id.matches('(a+)+$')",
    "whsec_" + "QUFB" * 8,
    "*",
    "\x00",
    "\ud800",
    "9" * 400,
    "true",
    "1s",
    "-1s",
    "1e400s",
    "2026-11-27T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
)

texts = st.one_of(st.sampled_from(WORDS), st.text(max_size=40))
numbers = st.one_of(
    st.integers(-2, 20), st.sampled_from((2**31, -(2**31), 2**63, -(2**63) - 1, 2**64, 10**400)), st.floats()
)
anything: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


def methods(*, streaming: bool) -> tuple[MethodDescriptor, ...]:
    """The rpcs of the contract, those with or those without streams."""
    return tuple(
        method
        for service in SERVICES
        for method in service.methods
        if (method.client_streaming or method.server_streaming) == streaming
    )


def json_of(message: Descriptor, depth: int = DEPTH) -> st.SearchStrategy[Any]:
    """JSON that the message could have, in which any value may be another than belongs there."""
    fields = {field.json_name: _value(field, depth) for field in message.fields} if depth else {}
    # `data` of any type is an object here, without `@type`.
    sound = st.fixed_dictionaries({}, optional=fields) if fields else st.just({})
    with_more = st.tuples(sound, st.dictionaries(texts, anything, min_size=1, max_size=2)).map(
        lambda pair: pair[0] | pair[1]
    )
    return _mostly(sound, st.one_of(with_more, anything))


def wire_of(message: Descriptor, depth: int = DEPTH) -> st.SearchStrategy[bytes]:
    """Bytes of the message's fields, in any order, often, and now and then of another wire type."""
    known = [_field(field, depth) for field in message.fields] if depth else []
    unknown = st.tuples(st.integers(0, 2**29), st.integers(0, 7), st.binary(max_size=12)).map(
        lambda parts: varint(parts[0] << 3 | parts[1]) + parts[2]
    )
    return st.lists(_mostly(st.one_of(known), unknown) if known else unknown, max_size=8).map(b"".join)


def varint(number: int) -> bytes:
    """The number in base 128, least digit first."""
    number &= 2**64 - 1
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def _mostly(sound: st.SearchStrategy[Any], otherwise: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 11).flatmap(lambda chance: otherwise if chance == 11 else sound)


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    value = _mostly(_sound(field, depth), anything)
    if not field.is_repeated:
        return value
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return st.dictionaries(texts, value, max_size=3)
    return st.lists(value, max_size=3)


def _sound(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        if field.message_type.file.package == "google.protobuf":
            return st.one_of(texts, anything)
        return st.deferred(lambda: json_of(field.message_type, depth - 1))
    if field.enum_type is not None:
        return st.one_of(st.sampled_from([value.name for value in field.enum_type.values]), numbers)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_STRING:
            return texts
        case _:
            return st.one_of(numbers, numbers.map(str))


def _field(field: FieldDescriptor, depth: int) -> st.SearchStrategy[bytes]:
    number = field.number << 3
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        content = st.deferred(lambda: wire_of(field.message_type, depth - 1))
        return content.map(lambda inner: varint(number | 2) + varint(len(inner)) + inner)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        content = st.one_of(texts.map(lambda text: text.encode(errors="surrogatepass")), st.binary(max_size=20))
        return content.map(lambda inner: varint(number | 2) + varint(len(inner)) + inner)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        size, kind = (8, 1) if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE else (4, 5)
        return st.binary(min_size=size, max_size=size).map(lambda inner: varint(number | kind) + inner)
    return st.integers(-(2**63), 2**64 - 1).map(lambda value: varint(number) + varint(value))
