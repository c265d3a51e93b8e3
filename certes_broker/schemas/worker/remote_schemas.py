"""The schemas of a worker process: those that the broker knows, asked for when a job needs them.

Which schema an event type has may change from job to job, so it is asked anew for each. What a schema is made of does not
change: files are known by their fingerprint, and what was made of them is kept until there is too much of it.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from certes_broker.domain.uris import parse_event_type
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.schema_version import MessageTypes, link
from certes_broker.schemas.worker.frames import Files, Schema

KEPT_BYTES: Final = 4 * 1024 * 1024
"""Bytes of files of which the pools are kept. What is made of them takes up to fifty times as much."""


class RemoteSchemas:
    """Finds schemas by asking. `ask_schema` and `ask_files` raise what the broker refuses."""

    def __init__(self, ask_schema: Callable[[str], Schema], ask_files: Callable[[str], Files]) -> None:
        self._ask_schema = ask_schema
        self._ask_files = ask_files
        self._found: dict[str, EventSchema] = {}
        self._linked: OrderedDict[str, _Linked] = OrderedDict()
        self._linked_bytes = 0
        self.changes = 0
        """Counts the jobs, since each may see other schemas."""

    def begin(self) -> None:
        """Begins a job."""
        self._found.clear()
        self.changes += 1

    def lookup(self, type_text: str) -> EventSchema:
        """Returns the schema of an event type; raises what the broker's own registry raises."""
        schema = self._found.get(type_text)
        if schema is None:
            told = self._ask_schema(type_text)
            schema = self._found[type_text] = self._files_of(told.files).schema(told)
        return schema

    def _files_of(self, fingerprint: str) -> _Linked:
        linked = self._linked.get(fingerprint)
        if linked is not None:
            self._linked.move_to_end(fingerprint)
            return linked
        files = self._ask_files(fingerprint).files
        linked = self._linked[fingerprint] = _Linked(MessageTypes(link(files)), sum(map(len, files)))
        self._linked_bytes += linked.size
        while self._linked_bytes > KEPT_BYTES and len(self._linked) > 1:
            _, oldest = self._linked.popitem(last=False)
            self._linked_bytes -= oldest.size
            del oldest
            gc.collect()
        return linked


class _Linked:
    """What was made of the files of a version."""

    def __init__(self, types: MessageTypes, size: int) -> None:
        self._types = types
        self.size: Final = size
        self._schemas: dict[Schema, EventSchema] = {}

    def schema(self, told: Schema) -> EventSchema:
        schema = self._schemas.get(told)
        if schema is None:
            types = self._types
            schema = self._schemas[told] = EventSchema(
                parse_event_type(told.type),
                types.descriptor(told.message),
                types.tables,
                types.documents,
                revision=told.revision,
            )
        return schema
