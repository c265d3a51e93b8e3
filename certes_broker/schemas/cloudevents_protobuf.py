"""Events in the Protobuf Event Format of CloudEvents 1.0: the message `io.cloudevents.v1.CloudEvent`.

The message is put together here from its field numbers, in a descriptor pool of its own, because the contract's protos import
nothing but `google/protobuf`. Source: https://github.com/cloudevents/spec, cloudevents/formats/protobuf-format.md
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from google.protobuf import any_pb2, timestamp_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from certes.v1.event_pb2 import Event

CLOUDEVENTS_PROTOBUF_TYPE: Final = "application/cloudevents+protobuf"
PROTOBUF_TYPE: Final = "application/protobuf"
_CORE: Final = frozenset({"id", "source", "type"})


def cloud_event(event: Event, attributes: Mapping[str, str | bool]) -> bytes:
    """Writes an event, whose context attributes are as given; always the same bytes for the same event.

    A message goes as it is, with its type as `dataschema`; raw content as text where its media type says so and it is UTF-8.
    """
    message = _CloudEvent(id=event.id, source=event.source, spec_version="1.0", type=event.type)
    typed = message.attributes
    for name, value in attributes.items():
        if name == "time":
            time = typed[name].ce_timestamp
            time.seconds, time.nanos = event.time.seconds, event.time.nanos
        elif isinstance(value, bool):
            typed[name].ce_boolean = value
        elif name not in _CORE:
            typed[name].ce_string = value
    if not event.HasField("raw"):
        typed["datacontenttype"].ce_string = PROTOBUF_TYPE
        typed["dataschema"].ce_uri = event.data.type_url
        message.proto_data.type_url, message.proto_data.value = event.data.type_url, event.data.value
    else:
        typed["datacontenttype"].ce_string = event.raw.content_type
        _set_raw(message, event.raw.content_type, event.raw.bytes)
    return bytes(message.SerializeToString(deterministic=True))


def _set_raw(message: Any, content_type: str, content: bytes) -> None:
    if _is_text(content_type):
        with suppress(UnicodeDecodeError):
            message.text_data = content.decode()
            return
    message.binary_data = content


def _is_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return (
        kind.startswith("text/") or kind in ("application/json", "application/xml") or kind.endswith(("+json", "+xml"))
    )


_PACKAGE: Final = "io.cloudevents.v1"
_VALUE: Final = f".{_PACKAGE}.CloudEvent.CloudEventAttributeValue"
_ENTRY: Final = f".{_PACKAGE}.CloudEvent.AttributesEntry"
_Kind = FieldDescriptorProto


def _field(number: int, name: str, kind: FieldDescriptorProto.Type.ValueType, type_name: str = "") -> _Kind:
    repeated = type_name == _ENTRY
    label = _Kind.LABEL_REPEATED if repeated else _Kind.LABEL_OPTIONAL
    return _Kind(number=number, name=name, type=kind, label=label, type_name=type_name or None)


def _with_one_of(message: DescriptorProto, name: str, *fields: FieldDescriptorProto) -> None:
    message.oneof_decl.add(name=name)
    for field in fields:
        field.oneof_index = 0
    message.field.extend(fields)


def _message_class() -> Any:
    event = DescriptorProto(name="CloudEvent")
    value = event.nested_type.add(name="CloudEventAttributeValue")
    _with_one_of(
        value,
        "attr",
        _field(1, "ce_boolean", _Kind.TYPE_BOOL),
        _field(2, "ce_integer", _Kind.TYPE_INT32),
        _field(3, "ce_string", _Kind.TYPE_STRING),
        _field(4, "ce_bytes", _Kind.TYPE_BYTES),
        _field(5, "ce_uri", _Kind.TYPE_STRING),
        _field(6, "ce_uri_ref", _Kind.TYPE_STRING),
        _field(7, "ce_timestamp", _Kind.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
    )
    entry = event.nested_type.add(name="AttributesEntry")
    entry.field.extend([_field(1, "key", _Kind.TYPE_STRING), _field(2, "value", _Kind.TYPE_MESSAGE, _VALUE)])
    entry.options.map_entry = True
    names = ("id", "source", "spec_version", "type")
    event.field.extend(_field(number, name, _Kind.TYPE_STRING) for number, name in enumerate(names, 1))
    event.field.append(_field(5, "attributes", _Kind.TYPE_MESSAGE, _ENTRY))
    _with_one_of(
        event,
        "data",
        _field(6, "binary_data", _Kind.TYPE_BYTES),
        _field(7, "text_data", _Kind.TYPE_STRING),
        _field(8, "proto_data", _Kind.TYPE_MESSAGE, ".google.protobuf.Any"),
    )
    pool = DescriptorPool()
    imported = [any_pb2.DESCRIPTOR, timestamp_pb2.DESCRIPTOR]
    for file in imported:
        pool.AddSerializedFile(file.serialized_pb)
    made = FileDescriptorProto(
        name="io/cloudevents/v1/cloudevents.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[file.name for file in imported],
        message_type=[event],
    )
    pool.Add(made)
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.CloudEvent"))


# Made at run time, so nothing is known of its fields when types are checked: `Any`.
_CloudEvent: Final = _message_class()
