"""The contract's messages as JSON documents, in which an event's data needs no `@type`.

Theory of operation
-------------------
`Event.data` is an `Any`. The stock JSON form of an `Any` names a message that the reader must have at hand; ours needs
no name, because the event's `type` names the schema already. So where a message can hold events, their data is taken
out of the document first and read by the schema of their type; the rest of the document is read by the contract's own
tables. Both readings refuse keys they do not know, with their path.

On the way out it is the same backwards: lowerCamelCase names for the contract's messages, the payload's own for data.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final, NamedTuple, TypeVar, cast

import orjson
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from certes.v1.event_pb2 import Event
from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.schemas.event_schema import SchemaLookup
from certes_broker.schemas.json_effort import Effort
from certes_broker.schemas.json_out import CONTRACT, Document, DocumentTables
from certes_broker.schemas.json_table import JsonTables

AnyMessageType = TypeVar("AnyMessageType", bound=Message)


class EventDocuments:
    """Reads and writes the contract's messages as JSON documents (what `json.loads` returns and `json.dumps` takes)."""

    def __init__(self, schemas: SchemaLookup) -> None:
        self.schemas: Final = schemas
        """Where the schemas of event types are found."""
        self._tables = JsonTables()
        self._places: dict[str, tuple[_Place, ...]] = {}
        # The `Any` of an event is passed through as it is: only `_event` knows the type that tells what it holds.
        self.effort: Final = Effort()
        """What writing documents may take: without end, where nobody bounds it."""
        self._contract = DocumentTables(CONTRACT, {_EVENT: self._event, _ANY: lambda message: message})

    def read(self, message_class: type[AnyMessageType], document: object) -> AnyMessageType:
        """Builds a message of the contract. Names may be lowerCamelCase or those of the proto.

        Raises `Invalid`: `UNKNOWN_FIELD` with a violation for each key that is not known, at most ten,
        `MALFORMED_REQUEST` where a value does not fit its field or is no name of its enum, and what `data` raises.
        """
        descriptor = cast("Descriptor", message_class.DESCRIPTOR)
        found: list[_Data] = []
        bare = self._without_data(descriptor, document, (), found)
        table = self._tables.table(descriptor)
        try:
            message = cast("AnyMessageType", table.message(bare))
        except Invalid as error:
            raise Invalid(
                Reason.MALFORMED_REQUEST,
                f"the JSON document is no {descriptor.full_name}: {error.message}",
                metadata=error.metadata,
                violations=error.violations,
            ) from error
        unknown = self._tables.unknown_paths(table, bare)
        if unknown:
            raise Invalid(
                Reason.UNKNOWN_FIELD,
                f"{descriptor.full_name} has no field {', '.join(map(repr, unknown))}.",
                metadata={"message": descriptor.full_name},
                violations=[FieldViolation(path, "there is no such field") for path in unknown],
            )
        misfit = self._tables.enum_names.misfit(table, bare)
        if misfit:
            path, problem = misfit
            raise Invalid(
                Reason.MALFORMED_REQUEST,
                f"the JSON document is no {descriptor.full_name}: {path} {problem}",
                metadata={"message": descriptor.full_name},
                violations=[FieldViolation(path, problem)],
            )
        for data in found:
            event = data.event_in(message)
            if event.HasField("raw"):
                raise Invalid.field(Reason.FIELD_INVALID, data.path("raw"), "data and raw exclude each other")
            self.put_data(event, data.document, data.path("data"), data.path("type"))
        return message

    def put_data(self, event: Event, document: object, path: str = "data", type_path: str = "type") -> None:
        """Gives an event its content: data by the schema of its type, or, if it has none, the document as it is.

        The latter is raw JSON, which whoever validates the event takes in open namespaces alone. Raises what `data` does, but
        for `UNKNOWN_EVENT_TYPE`.
        """
        try:
            event.data.CopyFrom(self.data(event.type, document, path, type_path))
        except Invalid as error:
            if error.reason is not Reason.UNKNOWN_EVENT_TYPE:
                raise
            event.raw.content_type, event.raw.bytes = _JSON, orjson.dumps(document)

    def data(self, event_type: str, document: object, path: str = "data", type_path: str = "type") -> AnyMessage:
        """Reads an event's data by the schema of its type; the paths are for violations.

        An `@type` may stand in it, if it names the schema's message. Raises `Invalid`: `FIELD_REQUIRED` without a type,
        `MALFORMED_URI`, `UNKNOWN_EVENT_TYPE`, `DATA_TYPE_MISMATCH`, `UNKNOWN_FIELD`, `DATA_MALFORMED`.
        """
        if not event_type:
            raise Invalid.field(Reason.FIELD_REQUIRED, type_path, "an event needs a type, by which its data is read")
        try:
            schema = self.schemas.lookup(event_type)
        except Invalid as error:
            raise _below(type_path, error) from error
        try:
            if isinstance(document, dict) and isinstance(document.get("@type"), str):
                schema.parse(document["@type"], b"")
                document = {key: value for key, value in document.items() if key != "@type"}
            message = schema.from_json_strict(document)
        except Invalid as error:
            raise _below(path, error) from error
        # Deterministic, so that sending the same document again makes the same bytes and is seen as a duplicate.
        return AnyMessage(type_url=schema.type_url, value=schema.encode(message))

    def document(self, message: Message) -> Document:
        """Returns the document of a message of the contract."""
        return self._contract.document(message, self.effort)

    def data_document(self, event: Event) -> Document:
        """Returns the document of an event's data. Raises `Invalid` if its schema is gone or does not fit."""
        schema = self.schemas.lookup(event.type)
        return schema.to_json(schema.parse(event.data.type_url, event.data.value), self.effort)

    def _event(self, event: Event) -> Document:
        document = self._contract.table(_EVENT_DESCRIPTOR).document(event)
        if "data" in document:
            try:
                document["data"] = self.data_document(event)
            except Invalid:
                # Kept longer than its schema: better shown as bytes than not at all.
                document["data"] = {"@type": event.data.type_url, "value": b64encode(event.data.value).decode()}
        return document

    def _without_data(self, descriptor: Descriptor, document: object, steps: _Steps, found: list[_Data]) -> object:
        """Returns a copy of a document in which events have no data, and notes in `found` what was taken out."""
        if not isinstance(document, dict):
            return document
        if descriptor.full_name == _EVENT:
            if document.get("data") is None:
                return document
            found.append(_Data(steps, document["data"]))
            return {key: value for key, value in document.items() if key != "data"}
        places = self._places_of(descriptor)
        if not places:
            return document
        bare = dict(document)
        for name, keys, is_repeated, child in places:
            for key in keys & bare.keys():
                value = bare[key]
                if not is_repeated:
                    bare[key] = self._without_data(child, value, (*steps, (name, None)), found)
                elif isinstance(value, list):
                    bare[key] = [
                        self._without_data(child, item, (*steps, (name, index)), found)
                        for index, item in enumerate(value)
                    ]
        return bare

    def _places_of(self, descriptor: Descriptor) -> tuple[_Place, ...]:
        places = self._places.get(descriptor.full_name)
        if places is None:
            self._places[descriptor.full_name] = ()  # a message that contains itself holds no events by that alone
            places = self._places[descriptor.full_name] = tuple(self._find_places(descriptor))
        return places

    def _find_places(self, descriptor: Descriptor) -> list[_Place]:
        places = []
        for field in descriptor.fields:
            child = field.message_type
            if child is None or child.GetOptions().map_entry:
                continue
            if child.full_name == _EVENT or self._places_of(child):
                keys = frozenset((field.name, field.json_name))
                places.append(_Place(field.name, keys, field.is_repeated, child))
        return places


_Steps = tuple[tuple[str, int | None], ...]
"""The way from a message to one within it: field names, with an index where the field is repeated."""


class _Place(NamedTuple):
    """A field in which events can be."""

    name: str
    keys: frozenset[str]
    is_repeated: bool
    message: Descriptor


class _Data(NamedTuple):
    """The data of one event, taken out of a document, and where the event is."""

    steps: _Steps
    document: object

    def event_in(self, message: Message) -> Event:
        """Returns the event of a message from which this was taken."""
        found: Any = message
        for name, index in self.steps:
            found = getattr(found, name)
            if index is not None:
                found = found[index]
        return cast("Event", found)

    def path(self, field: str) -> str:
        """The path of a field of the event, as violations name it."""
        steps = [name if index is None else f"{name}[{index}]" for name, index in self.steps]
        return ".".join([*steps, field])


_JSON: Final = "application/json"
_EVENT_DESCRIPTOR: Final = Event.DESCRIPTOR
_EVENT: Final = _EVENT_DESCRIPTOR.full_name
_ANY: Final = AnyMessage.DESCRIPTOR.full_name


def _below(path: str, error: Invalid) -> Invalid:
    """Says where in the request a refusal belongs; the refused knew only the part it was given."""
    violations = [FieldViolation(f"{path}.{v.field}", v.description) for v in error.violations]
    return Invalid(
        error.reason,
        f"{path}: {error.message}",
        metadata={**error.metadata, "field": violations[0].field if violations else path},
        violations=violations or [FieldViolation(path, error.message)],
        hint=error.hint,
    )
