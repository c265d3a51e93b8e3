"""The system events that the broker sends about schemas: what is said, to whom, and their bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

from certes.v1 import event_pb2
from certes.v1 import system_events_pb2 as pb
from certes.v1.schema_pb2 import SchemaChange as ChangeMessage
from certes_broker.domain.events import AcceptedEvent, Micros, Options
from certes_broker.domain.schemas import SchemaChange, VersionName
from certes_broker.schemas.event_schema import TYPE_URL_PREFIX
from certes_broker.schemas.system_types import DRIFT, VERSION

MOST_CHANGES: Final = 100
MOST_EVENT_TYPES: Final = 1_000
MOST_BYTES: Final = 64 * 1024
"""Of the changes, and of the names of event types: such an event is one of many in a journal."""


@dataclass(frozen=True, slots=True)
class SystemEvent:
    """A system event that is to be published. `body` is the wire form of the whole `certes.v1.Event`.

    Its id is decided with what it says: published twice, even with another time, it is stored once.
    """

    type: str
    id: str
    source: str
    body: bytes
    options: Options = ()
    subscriber: str | None = None
    """Whom it is for; None for everyone."""

    def accepted(self, now: Micros) -> AcceptedEvent:
        """Returns the event as the publisher takes it."""
        digest = sha256(self.id.encode()).digest()[:_DIGEST_BYTES]
        return AcceptedEvent(
            self.body, self.type, self.id, self.source, self.subscriber, "", self.options, now, digest, None
        )


@dataclass(frozen=True, slots=True)
class VersionState:
    """A version, in a revision, and the names of its event types; `revision` 0 is before the first."""

    name: VersionName
    revision: int
    event_names: Sequence[str] = ()


def version_update(
    old: VersionState, new: VersionState, changes: Sequence[SchemaChange], envelope: tuple[str, str, Micros]
) -> SystemEvent:
    """Makes the `_version` event that tells the subscribers of `old` of `new`; `envelope` is its source, id and time.

    Within one version the update is compatible, from one to another it is not. What is too much to be said is cut off.
    """
    source, event_id, time = envelope
    update = pb.VersionUpdate(
        new=_reference(new),
        backwards_compatible=old.name == new.name,
        changes=_within_bounds(map(_change, changes[:MOST_CHANGES])),
        event_types=_names_within_bounds(new.event_names[:MOST_EVENT_TYPES]),
    )
    update.changes_left_out = len(changes) - len(update.changes)
    update.event_types_left_out = len(new.event_names) - len(update.event_types)
    if old.revision:
        update.old.CopyFrom(_reference(old))
    event = event_pb2.Event(id=event_id, type=f"{old.name}/{VERSION}", source=source, everyone=True)
    event.time.FromMicroseconds(time)
    event.data.type_url = TYPE_URL_PREFIX + pb.VersionUpdate.DESCRIPTOR.full_name
    event.data.value = update.SerializeToString(deterministic=True)
    return SystemEvent(event.type, event_id, source, event.SerializeToString(deterministic=True))


class SeenIn(NamedTuple):
    """The event in which something was seen: its source, its id, and the subscriber that it is for, None for everyone."""

    source: str
    event_id: str
    subscriber: str | None


@dataclass(frozen=True, slots=True)
class DriftFinding:
    """A field that a schema does not know, and the first event that had it."""

    version: VersionName
    type: str
    field: str
    message: str
    revision: int
    first: SeenIn


def schema_drift(finding: DriftFinding, source: str, time: Micros) -> SystemEvent:
    """Makes the `_drift` event of a finding, for whom the event was that had the field: what others send is not theirs to know.

    Its id follows from type and field, so that telling it again is a duplicate.
    """
    drift = pb.SchemaDrift(
        type=finding.type,
        field=finding.field,
        message=finding.message,
        revision=finding.revision,
        source=finding.first.source,
        event_id=finding.first.event_id,
    )
    subscriber = finding.first.subscriber
    audience: dict[str, Any] = {"everyone": True} if subscriber is None else {"subscriber": subscriber}
    event_id = f"drift-{sha256(f'{finding.type} {finding.field}'.encode()).hexdigest()[:32]}"
    event = event_pb2.Event(id=event_id, type=f"{finding.version}/{DRIFT}", source=source, **audience)
    event.time.FromMicroseconds(time)
    event.data.type_url = TYPE_URL_PREFIX + pb.SchemaDrift.DESCRIPTOR.full_name
    event.data.value = drift.SerializeToString(deterministic=True)
    body = event.SerializeToString(deterministic=True)
    return SystemEvent(event.type, event_id, source, body, (("type", finding.type),), subscriber)


_DIGEST_BYTES: Final = 16


def _reference(state: VersionState) -> pb.VersionReference:
    domain, namespace, version = state.name
    return pb.VersionReference(domain=domain, namespace=namespace, version=version, revision=state.revision)


def _change(change: SchemaChange) -> ChangeMessage:
    return ChangeMessage(
        rule=change.rule,
        element=change.element,
        before=change.before,
        after=change.after,
        breaking=change.breaking,
        description=change.description,
    )


def _within_bounds(changes: Iterator[ChangeMessage]) -> Iterator[ChangeMessage]:
    room = MOST_BYTES
    for change in changes:
        room -= change.ByteSize()
        if room < 0:
            return
        yield change


def _names_within_bounds(names: Sequence[str]) -> Iterator[str]:
    room = MOST_BYTES
    for name in names:
        room -= len(name)
        if room < 0:
            return
        yield name
