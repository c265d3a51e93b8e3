"""Many revisions of one version, one after the other: what a replaced one took is given back."""

from __future__ import annotations

import os
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from certes_broker.domain.schemas import Origin
from certes_broker.schemas.compiling.binding import bind
from certes_broker.schemas.compiling.compiler import SchemaCompiler
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.version_files import VersionFiles

TYPE = "events.orders.example/_/1/paid"
SOURCE = 'syntax = "proto3"; package orders.v1; import "certes/v1/options.proto"; ' + "".join(
    f"message {'Paid' if number == 0 else f'M{number}'} {{"
    + ("option (certes.v1.event) = {};" if number == 0 else "")
    + f"M{number % 39 + 1} next = 1;"
    + "".join(f"string field_{index} = {index};" for index in range(2, 32))
    + "}"
    for number in range(40)
)


def revised(files: VersionFiles, revision: int) -> SchemaVersion:
    """The version with one more message."""
    *imported, own = files.files
    file = FileDescriptorProto.FromString(own)
    file.message_type.add(name=f"Revision{revision}")
    changed = VersionFiles(files.name, (*imported, file.SerializeToString()), files.event_types)
    return SchemaVersion(changed, revision=revision, origin=Origin.REGISTERED)


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_many_revisions_take_no_more_memory_than_a_few():
    (files,) = bind(await SchemaCompiler().compile_sources({"orders.proto": SOURCE}), "events.orders.example")
    registry = Registry()
    sizes: list[int] = []
    for revision in range(1, 121):
        registry.put(revised(files, revision))
        schema = registry.lookup(TYPE)
        assert schema.revision == revision
        schema.to_json(schema.from_json({"next": {"next": {"field_2": "x"}}}))
        sizes.append(resident())
    # Kept, they would take more than a MB each.
    assert max(sizes[50:]) < 1.25 * max(sizes[:50])
