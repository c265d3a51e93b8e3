"""The system events that tell of schemas: `_version` and `_drift`, which every version has without declaring them."""

from __future__ import annotations

from typing import Final

from google.protobuf import descriptor_pool

from certes.v1 import system_events_pb2 as pb
from certes_broker.domain.schemas import Origin, VersionName
from certes_broker.schemas.catalogue import generated_files
from certes_broker.schemas.schema_version import MessageTypes, SchemaVersion
from certes_broker.schemas.version_files import VersionFiles

VERSION: Final = "_version"
DRIFT: Final = "_drift"


class SystemTypes:
    """Makes the system events of versions. All of them have the same messages, and share what is made of these."""

    def __init__(self) -> None:
        self._types = MessageTypes(descriptor_pool.Default())
        self._files = generated_files(
            VersionName("", "", 0),
            {VERSION: pb.VersionUpdate.DESCRIPTOR, DRIFT: pb.SchemaDrift.DESCRIPTOR},
            "certes/v1/",
        )

    def of(self, name: VersionName) -> SchemaVersion:
        """Returns the schemas of the system events of a version."""
        files = VersionFiles(name, self._files.files, self._files.event_types, self._files.sources)
        return SchemaVersion(files, revision=1, origin=Origin.SYSTEM, types=self._types)
