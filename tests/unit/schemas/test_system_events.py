"""What the broker tells of schemas is an event like any other, made once, within bounds."""

from __future__ import annotations

from certes.v1.event_pb2 import Event
from certes.v1.system_events_pb2 import VersionUpdate
from certes_broker.domain.events import Micros
from certes_broker.domain.schemas import SchemaChange
from certes_broker.schemas.system_events import MOST_BYTES, SystemEvent, VersionState, version_update
from tests.unit.schemas.version_makers import MEETLY

TIME = Micros(1_800_000_000_000_001)
ENVELOPE = ("//events.example.com", "id-1", TIME)
NEXT = MEETLY._replace(version=2)


def update_of(event: SystemEvent) -> VersionUpdate:
    return VersionUpdate.FromString(Event.FromString(event.body).data.value)


def test_it_is_a_whole_event_for_everyone():
    told = version_update(VersionState(MEETLY, 1), VersionState(MEETLY, 2, ["booked"]), (), ENVELOPE)
    event = Event.FromString(told.body)
    assert (event.id, event.type, event.source, event.everyone) == (
        "id-1",
        "events.meetly.com/_/1/_version",
        "//events.example.com",
        True,
    )
    assert event.time.ToMicroseconds() == TIME
    assert event.data.type_url == "type.googleapis.com/certes.v1.VersionUpdate"
    accepted = told.accepted(Micros(TIME + 1))
    assert (accepted.body, accepted.type, accepted.id, accepted.subscriber) == (told.body, told.type, "id-1", None)
    assert accepted.digest == told.accepted(TIME).digest


def test_a_revision_is_compatible_and_another_version_is_not():
    assert update_of(
        version_update(VersionState(MEETLY, 1), VersionState(MEETLY, 2), (), ENVELOPE)
    ).backwards_compatible
    told = version_update(VersionState(MEETLY, 4), VersionState(NEXT, 1), (), ENVELOPE)
    assert told.type == "events.meetly.com/_/1/_version"
    update = update_of(told)
    assert not update.backwards_compatible
    assert (update.old.version, update.old.revision, update.new.version, update.new.revision) == (1, 4, 2, 1)


def test_before_the_first_revision_there_was_nothing():
    update = update_of(version_update(VersionState(MEETLY, 0), VersionState(MEETLY, 1), (), ENVELOPE))
    assert not update.HasField("old")
    assert update.backwards_compatible


def test_changes_are_told_as_many_as_fit():
    changes = [SchemaChange("FIELD_ADDED", f"a.B.f{number}", "", "string", False, "New.") for number in range(500)]
    update = update_of(version_update(VersionState(MEETLY, 1), VersionState(MEETLY, 2), changes, ENVELOPE))
    assert [change.element for change in update.changes] == [f"a.B.f{number}" for number in range(100)]
    long = [SchemaChange("FIELD_ADDED", "e" * 1000, "b" * 1000, "a" * 1000, False, "d" * 1000)] * 100
    told = version_update(VersionState(MEETLY, 1), VersionState(MEETLY, 2), long, ENVELOPE)
    assert 10 < len(update_of(told).changes) < 100
    assert update.changes_left_out == 400
    assert update_of(told).changes_left_out == 100 - len(update_of(told).changes)


def test_an_event_is_bounded_whatever_it_tells_of():
    long = [SchemaChange("FIELD_ADDED", "e" * 9000, "", "", False, "")] * 100
    names = ["n" * 1500 for _ in range(2000)]
    told = version_update(VersionState(MEETLY, 1), VersionState(MEETLY, 2, names), long, ENVELOPE)
    assert len(told.body) < 2 * MOST_BYTES + 4096
    update = update_of(told)
    assert update.event_types_left_out == 2000 - len(update.event_types)
