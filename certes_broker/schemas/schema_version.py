"""A version of schemas as it is served: its files, its revision, and the schemas made of them.

Theory of operation
-------------------
Every version has a descriptor pool of its own, so that two domains may use one full message name, and so that a version
which is replaced takes all that was made of it away. What has not been asked for has not been made: a version that no event
uses is its files alone, a pool is linked when the first of its event types is looked up, and a table when the first document
is read. What is shipped with the broker is in the pool of the generated code instead, which is there anyway.

Nothing made of a version refers back to it or into a list outside it. But message classes are in a cycle with themselves, as
all classes are, so a pool that was used goes with the next collection of cycles; see `Registry.put`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import Micros
from certes_broker.domain.schemas import Origin, VersionName
from certes_broker.domain.uris import EventType
from certes_broker.schemas.comments import Comments, comments_of
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.json_out import PAYLOAD, DocumentTables
from certes_broker.schemas.json_table import JsonTables
from certes_broker.schemas.version_files import VersionFiles

OPTIONS_FILE: Final = "certes/v1/options.proto"
DESCRIPTOR_FILE: Final = "google/protobuf/descriptor.proto"


class MessageTypes:
    """The message types of one descriptor pool, and the tables that their documents are read and written by."""

    __slots__ = ("documents", "pool", "tables")

    def __init__(self, pool: DescriptorPool) -> None:
        self.pool: Final = pool
        self.tables: Final = JsonTables()
        self.documents: Final = DocumentTables(PAYLOAD)

    def descriptor(self, message_name: str) -> Descriptor:
        """Returns a message type by its full name. Raises `KeyError` if there is none."""
        return self.pool.FindMessageTypeByName(message_name)


class SchemaVersion:
    """All schemas of a domain, namespace and major version, in one revision. It never changes: a new revision replaces it."""

    __slots__ = ("_comments", "_messages", "_schemas", "_types", "files", "name", "origin", "register_time", "revision")

    def __init__(
        self,
        files: VersionFiles,
        *,
        revision: int,
        origin: Origin,
        register_time: Micros | None = None,
        types: MessageTypes | None = None,
    ) -> None:
        """`types` is given where the files are those of generated code, in whose pool they are already."""
        self.files: Final = files
        self.name: Final[VersionName] = files.name
        self.revision: Final = revision
        self.origin: Final = origin
        self.register_time: Final = register_time
        """None for what is shipped with the broker."""
        self._types = types
        self._messages = dict(files.event_types)
        self._schemas: dict[str, EventSchema] = {}
        self._comments: Comments | None = None

    @property
    def event_types(self) -> Sequence[EventType]:
        """The event types, by name."""
        return [self._event_type(name) for name in self._messages]

    @property
    def comments(self) -> Comments:
        """The comments in the files, as far as they are known; the first call reads them."""
        return self.read_comments()

    def read_comments(self) -> Comments:
        """Returns the same. Of a large version that takes 30 ms the first time, and may be done in a thread."""
        if self._comments is None:
            self._comments = comments_of(self.files)
        return self._comments

    @property
    def types(self) -> MessageTypes:
        """The message types; the first call links the files. Raises what `link` does."""
        if self._types is None:
            self._types = MessageTypes(link(self.files.files))
        return self._types

    @property
    def is_linked(self) -> bool:
        """Whether there is a pool of its files."""
        return self._types is not None

    def check_links(self) -> None:
        """Raises what `link` does; keeps nothing."""
        if self._types is None:
            link(self.files.files)

    def schema(self, event_name: str) -> EventSchema | None:
        """Returns the schema of an event type by the last segment of its URI; None if there is none.

        Always the same one. Raises what `link` does.
        """
        schema = self._schemas.get(event_name)
        if schema is None and event_name in self._messages:
            types = self.types
            schema = self._schemas[event_name] = EventSchema(
                self._event_type(event_name),
                types.descriptor(self._messages[event_name]),
                types.tables,
                types.documents,
                revision=self.revision,
            )
        return schema

    def _event_type(self, event_name: str) -> EventType:
        domain, namespace, version = self.name
        return EventType(domain, namespace, version, event_name)


def link(files: Sequence[bytes]) -> DescriptorPool:
    """Makes a descriptor pool of serialized `FileDescriptorProto`s, each after those it imports.

    Raises `Invalid` (SCHEMA_MALFORMED) if they do not fit together.
    """
    try:
        return _pool_of(_without_bindings(files))
    except TypeError:
        # Somebody may use a message of the files that were left out.
        pass
    try:
        return _pool_of(files)
    except TypeError as error:
        raise Invalid(Reason.SCHEMA_MALFORMED, f"the files do not fit together: {error}") from error


def _pool_of(files: Iterable[bytes]) -> DescriptorPool:
    pool = DescriptorPool()
    for file in files:
        pool.AddSerializedFile(file)
    return pool


def _without_bindings(files: Sequence[bytes]) -> Sequence[bytes]:
    """Leaves out the files that are imported only for `(certes.v1.schema)` and `(certes.v1.event)`.

    Options are read by the generated code whatever their pool knows of them, and `descriptor.proto` takes more memory than
    most schemas: 150 KB, in every pool.
    """
    kept: list[bytes] = []
    wanted: set[str] = set()
    for wire in reversed(files):
        file = FileDescriptorProto.FromString(wire)
        if file.name in (OPTIONS_FILE, DESCRIPTOR_FILE) and file.name not in wanted:
            continue
        # Public and weak imports are named by their places in the list, which must then stay as it is.
        if OPTIONS_FILE in file.dependency and not (file.public_dependency or file.weak_dependency):
            file.dependency.remove(OPTIONS_FILE)
            wire = file.SerializeToString()
        wanted.update(file.dependency)
        kept.append(wire)
    return kept[::-1]
