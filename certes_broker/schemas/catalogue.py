"""The community catalogue: the event types that are shipped with the broker.

A module of generated code below `certes.community` whose file has `(certes.v1.schema)` contributes each of its messages
that has `(certes.v1.event)`. The two options together are the event URI:
`<domain>/<namespace>/<version>/<name>`. Catalogue files spell all four, so that what is served is what is written there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType
from typing import Final

from google.protobuf.descriptor import Descriptor, FileDescriptor

import certes.community
from certes.v1 import options_pb2
from certes_broker.domain.uris import EventType, parse_event_type
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.json_out import PAYLOAD, DocumentTables
from certes_broker.schemas.json_table import JsonTables


def community_schemas(catalogue: ModuleType = certes.community) -> Iterator[EventSchema]:
    """Yields the schema of every event type in the generated code below a package."""
    tables, documents = JsonTables(), DocumentTables(PAYLOAD)
    for module in walk_packages(catalogue.__path__, f"{catalogue.__name__}."):
        if _GENERATED.search(module.name):
            yield from _schemas_of(import_module(module.name).DESCRIPTOR, tables, documents)


_GENERATED: Final = re.compile(r"\.v[1-9][0-9]*\.\w+_pb2$")


def _schemas_of(file: FileDescriptor, tables: JsonTables, documents: DocumentTables) -> Iterator[EventSchema]:
    if not file.GetOptions().HasExtension(options_pb2.schema):
        return
    binding = file.GetOptions().Extensions[options_pb2.schema]
    for descriptor in file.message_types_by_name.values():
        if descriptor.GetOptions().HasExtension(options_pb2.event):
            yield EventSchema(_event_type(binding, descriptor), descriptor, tables, documents)


def _event_type(binding: options_pb2.SchemaBinding, descriptor: Descriptor) -> EventType:
    name = descriptor.GetOptions().Extensions[options_pb2.event].name
    return parse_event_type(f"{binding.domain}/{binding.namespace}/{binding.version}/{name}")
