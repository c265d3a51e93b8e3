"""The schema of one event type: its message, and what can be done with the messages of it."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final, Literal, Protocol, cast, overload

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, EncodeError, Message

from certes.v1 import options_pb2
from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.domain.uris import EventType
from certes_broker.schemas.json_effort import Effort
from certes_broker.schemas.json_out import DocumentTables
from certes_broker.schemas.json_table import JsonTables
from certes_broker.schemas.message_classes import message_class
from certes_broker.schemas.options import Option, compile_option
from certes_broker.schemas.unknown_keys import UnknownKey, UnknownKeys

TYPE_URL_PREFIX: Final = "type.googleapis.com/"


class EventSchema:
    """Knows the message of one event type.

    The descriptor may be of any pool: nothing here looks anything up in the default one. `tables` and
    `documents` are to be shared, because event types of one provider share most of their messages. They are asked for the
    table of a message when it is needed, so that event types of which no document is ever read or written have none.
    """

    __slots__ = (
        "__weakref__",
        "_documents",
        "_message_class",
        "_options",
        "_readers",
        "_tables",
        "decode",
        "descriptor",
        "is_system",
        "message_name",
        "revision",
        "type",
        "type_text",
        "type_url",
    )

    def __init__(
        self,
        event_type: EventType,
        descriptor: Descriptor,
        tables: JsonTables,
        documents: DocumentTables,
        *,
        revision: int = 1,
    ) -> None:
        self.type: Final = event_type
        self.type_text: Final = event_type.text
        self.is_system: Final = event_type.is_system
        """Whether only the broker itself sends such events."""
        self.revision: Final = revision
        """The revision of the version that the schema is of."""
        self.descriptor: Final = descriptor
        self.message_name: Final = descriptor.full_name
        """The full name of the message, such as `certes.community.github.v1.PushEvent`."""
        self.type_url: Final = TYPE_URL_PREFIX + descriptor.full_name
        """What an `Any` that holds the message says as its `type_url`."""
        self._message_class = message_class(descriptor)
        self.decode: Final = self._message_class.FromString
        """Reads a message; raises `DecodeError`. `parse` says what is wrong instead."""
        self._tables = tables
        self._documents = documents
        declared = descriptor.GetOptions().Extensions[options_pb2.event].options
        self._options: dict[str, Option] = {
            option.name: compile_option(descriptor, option.name, option.field)
            for option in sorted(declared, key=attrgetter("name"))
        }
        self._readers = tuple((name, option.read) for name, option in self._options.items())

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the subscription options that the event type declares, sorted."""
        return tuple(self._options)

    def new(self) -> Message:
        """Returns an empty message."""
        return self._message_class()

    def parse(self, type_url: str, value: bytes) -> Message:
        """Reads the content of an `Any`.

        Only what follows the last `/` of the `type_url` is compared, as `Any` says. Raises `Invalid`:
        `DATA_TYPE_MISMATCH` if it names another message, `DATA_MALFORMED` if the bytes are none of this message.
        """
        if type_url != self.type_url and type_url.rpartition("/")[2] != self.message_name:
            raise self._mismatch(type_url)
        try:
            return self._message_class.FromString(value)
        except DecodeError as error:
            raise Invalid(
                Reason.DATA_MALFORMED,
                f"data of {self.type} does not decode as {self.message_name}: {error}",
                metadata={"type": self.type.text, "message": self.message_name},
            ) from error

    def options_of(self, message: Message) -> tuple[tuple[str, str], ...]:
        """Returns the subscription options that the message has a value for, as (name, value), sorted by name."""
        found = [(name, value) for name, read in self._readers if (value := read(message))]
        return tuple(found)

    def option_problem(self, name: str, value: str) -> str:
        """Says why no event has a value of an option that is declared, and what one would have; empty if one can."""
        return self._options[name].values.problem(value)

    def has_unknown(self, message: Message) -> bool:
        """Says whether the message, or one within it, has fields that the schema does not know.

        Copies the message (a few microseconds for 8 KiB): for samples, not for every event.
        """
        known = self._message_class()
        known.CopyFrom(message)
        known.DiscardUnknownFields()
        return known.ByteSize() != message.ByteSize()

    def from_json(self, document: object) -> Message:
        """Reads a JSON document (what `json.loads` returns); keys that the schema does not know are left out.

        Raises `Invalid` / `DATA_MALFORMED` where a value does not fit its field, with its path.
        """
        return self._tables.table(self.descriptor).message(document)

    @overload
    def from_json_noting(
        self, document: object, unknown: UnknownKeys, *, careful: Literal[True] = True
    ) -> tuple[Message, Sequence[UnknownKey]]: ...

    @overload
    def from_json_noting(
        self, document: object, unknown: UnknownKeys, *, careful: bool
    ) -> tuple[Message, Sequence[UnknownKey]] | None: ...

    def from_json_noting(
        self, document: object, unknown: UnknownKeys, *, careful: bool = True
    ) -> tuple[Message, Sequence[UnknownKey]] | None:
        """Reads a JSON document like `from_json`; also returns the unknown keys that came for the first time with it.

        If it is not to be `careful`, returns None where the document needs it, because something in it is rare or wrong.
        """
        table = self._tables.table(self.descriptor)
        message = table.message(document) if careful else table.quick(document)
        if message is None:
            return None
        met = self._tables.met
        if not met or not unknown.are_new(self.type_text, met):
            return message, ()
        return message, unknown.note(self.type_text, (key for _, key in table.unknown_keys(document)))

    def encode(self, message: Message) -> bytes:
        """Writes a message as the content of an `Any`; the same message always becomes the same bytes.

        Raises `Invalid` / `DATA_MALFORMED` if fields are missing that the schema requires, with a violation for each, at most
        ten.
        """
        try:
            return message.SerializeToString(deterministic=True)
        except EncodeError as error:
            missing = cast("Any", message).FindInitializationErrors()[:_MOST_MISSING]
            raise Invalid(
                Reason.DATA_MALFORMED,
                f"{self.message_name} needs {', '.join(missing)}",
                metadata={"type": self.type.text, "message": self.message_name},
                violations=[FieldViolation(path, "is missing") for path in missing],
            ) from error

    def from_json_strict(self, document: object) -> Message:
        """Reads a JSON document like `from_json`, but refuses unknown keys, and names that an enum does not have.

        Raises `Invalid`: `UNKNOWN_FIELD` with a violation for each key, at most ten; `DATA_MALFORMED` for the first name.
        """
        table = self._tables.table(self.descriptor)
        message = table.message(document)
        unknown = self._tables.unknown_paths(table, document)
        if unknown:
            raise Invalid(
                Reason.UNKNOWN_FIELD,
                f"{self.message_name} has no field {', '.join(map(repr, unknown))}.",
                metadata={"type": self.type.text, "message": self.message_name},
                violations=[FieldViolation(path, f"{self.message_name} has no such field") for path in unknown],
                hint="Take the key out, or register a schema that has it.",
            )
        misfit = self._tables.enum_names.misfit(table, document)
        if misfit:
            path, problem = misfit
            raise Invalid(
                Reason.DATA_MALFORMED,
                f"reading JSON as {self.message_name}: {path} {problem}",
                metadata={"type": self.type.text, "message": self.message_name},
                violations=[FieldViolation(path, problem)],
            )
        return message

    def to_json(self, message: Message, effort: Effort | None = None) -> dict[str, Any]:
        """Writes a message as proto3 JSON under the proto's own field names, which are those of the payload it came from.

        Fields without presence are written also when they are empty or zero: a payload has said so. 64-bit integers are
        strings, as proto3 JSON wants it. Raises `TooMuchAtOnce` where an effort is given.
        """
        return self._documents.document(message, effort)

    def _mismatch(self, type_url: str) -> Invalid:
        found = type_url.rpartition("/")[2]
        return Invalid(
            Reason.DATA_TYPE_MISMATCH,
            f"data of {self.type} is a {self.message_name}, but the one given says it is {found or 'nothing'}.",
            metadata={"type": self.type.text, "expected": self.message_name, "found": found},
            hint=f"Set type_url to {self.type_url}.",
        )


_MOST_MISSING: Final = 10


class SchemaLookup(Protocol):
    """Finds schemas by event type. The registry is one; the schemas of a worker process are another."""

    changes: int
    """Grows whenever an event type may have another schema than before."""

    def lookup(self, type_text: str) -> EventSchema:
        """Returns the schema of an event type. Raises `Invalid`: MALFORMED_URI, UNKNOWN_EVENT_TYPE."""
