"""The system events: those that tell of schemas, which every version has without declaring them, and operational events.

Operational events are types of the broker's own domain, in its default namespace: `<domain>/_/1/_gap`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor

from certes.v1 import operational_events_pb2
from certes.v1 import system_events_pb2 as pb
from certes_broker.domain.notices import Kind
from certes_broker.domain.schemas import Origin, VersionName
from certes_broker.schemas.catalogue import generated_files
from certes_broker.schemas.schema_version import MessageTypes, SchemaVersion
from certes_broker.schemas.version_files import VersionFiles

VERSION: Final = "_version"
DRIFT: Final = "_drift"

SCHEMA_EVENTS: Final[Mapping[str, Descriptor]] = {
    VERSION: pb.VersionUpdate.DESCRIPTOR,
    DRIFT: pb.SchemaDrift.DESCRIPTOR,
}
OPERATIONAL_EVENTS: Final[Mapping[str, Descriptor]] = {
    Kind.DISABLED.value: operational_events_pb2.SubscriptionDisabled.DESCRIPTOR,
    Kind.CONSENT_WITHHELD.value: operational_events_pb2.ConsentWithheld.DESCRIPTOR,
    Kind.CONSENT_GRANTED.value: operational_events_pb2.ConsentGranted.DESCRIPTOR,
    Kind.EXHAUSTED.value: operational_events_pb2.DeliveryExhausted.DESCRIPTOR,
    Kind.GAP.value: operational_events_pb2.BacklogGap.DESCRIPTOR,
    Kind.BREAKER_OPENED.value: operational_events_pb2.BreakerOpened.DESCRIPTOR,
    Kind.BREAKER_CLOSED.value: operational_events_pb2.BreakerClosed.DESCRIPTOR,
    Kind.FILTER_FAILED.value: operational_events_pb2.FilterFailed.DESCRIPTOR,
}


def operational_version(domain: str) -> VersionName:
    """Returns the version that the operational events of a broker are of, whose own domain this is."""
    return VersionName(domain, "_", 1)


class SystemTypes:
    """Makes the system events of versions. All of them have the same messages, and share what is made of these."""

    def __init__(self, messages: Mapping[str, Descriptor] = SCHEMA_EVENTS) -> None:
        self._types = MessageTypes(descriptor_pool.Default())
        self._files = generated_files(VersionName("", "", 0), messages, "certes/v1/")

    def of(self, name: VersionName) -> SchemaVersion:
        """Returns the schemas of the system events of a version."""
        files = VersionFiles(name, self._files.files, self._files.event_types, self._files.sources)
        return SchemaVersion(files, revision=1, origin=Origin.SYSTEM, types=self._types)
