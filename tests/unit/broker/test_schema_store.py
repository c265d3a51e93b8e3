"""Schemas are registered whole, once, and for good, and every change of them is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from certes.v1.system_events_pb2 import VersionUpdate
from certes_broker.broker.schema_store import UNDER_WAY, Registered
from certes_broker.domain.errors import CertesError, FailedPrecondition, Invalid, PermissionDenied, Reason, Unavailable
from certes_broker.domain.schemas import Origin, VersionName
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.stored_versions import key_of, read_registration, write_version
from certes_broker.schemas.submissions import CompiledSet, Sources
from tests.fakes.broker_world import World
from tests.unit.schemas.version_makers import meetly_files

MEETLY = VersionName("events.meetly.com", "_", 1)
BOOKED = "events.meetly.com/_/1/booked"
MOVED = "events.meetly.com/_/1/moved"
VERSION = "events.meetly.com/_/1/_version"


def source(
    event: str = "Booked", *fields: str, version: int = 1, domain: str = "events.meetly.com", namespace: str = "_"
) -> tuple[str, str]:
    """A file with one event type that has string fields with these names."""
    lines = "\n".join(f"  string {name} = {number};" for number, name in enumerate(fields or ("room",), 1))
    return (
        f"meetly/v{version}/{event.lower()}.proto",
        f"""syntax = "proto3";
package meetly.v{version};
import "certes/v1/options.proto";
option (certes.v1.schema) = {{domain: "{domain}" namespace: "{namespace}"}};
// Something has happened.
message {event} {{
  option (certes.v1.event) = {{}};
{lines}
}}
""",
    )


async def register(world: World, *sources: tuple[str, str], dry_run: bool = False) -> Registered:
    async with asyncio.timeout(50):
        return await world.broker.schemas.register(Sources(sources), dry_run=dry_run)


def known(world: World) -> SchemaVersion:
    """The version that most tests register."""
    version = world.broker.registry.version(MEETLY)
    assert version is not None
    return version


async def told(world: World) -> list[tuple[str, VersionUpdate]]:
    """The `_version` events in the journal, with the versions that they are sent under."""
    page = await world.engine.journal.read(0, 1000, 1 << 20)
    found = []
    for entry in page.entries:
        schema = world.broker.registry.lookup(entry.event.type)
        event = world.event(entry)
        assert (entry.event.subscriber, event.everyone, event.source) == (None, True, "//events.example.com")
        update = VersionUpdate.FromString(event.data.value)
        assert schema.message_name == "certes.v1.VersionUpdate"
        found.append((entry.event.type, update))
    return found


def revisions(update: VersionUpdate) -> tuple[tuple[int, int], tuple[int, int]]:
    return (update.old.version, update.old.revision), (update.new.version, update.new.revision)


async def test_what_is_registered_is_known_at_once(world: World) -> None:
    registered = await register(world, source("Booked", "room", "guest"))
    [version] = registered.versions
    assert (version.name, version.revision, version.register_time) == (MEETLY, 1, world.clock.now())
    assert world.broker.registry.lookup(BOOKED).message_name == "meetly.v1.Booked"
    assert [comparison.registered_revision for comparison in registered.comparisons] == [0]


async def test_it_is_known_after_a_restart(either_world: World) -> None:
    world = either_world
    await register(world, source("Booked", "room"))
    await register(world, source("Booked", "room", "guest"), source("Moved"))
    before = known(world)
    await world.restart()
    after = known(world)
    assert after is not before
    assert (after.files, after.revision, after.register_time) == (before.files, 2, before.register_time)
    assert world.broker.registry.lookup(MOVED).revision == 2


async def test_registering_the_same_again_changes_nothing_and_tells_nobody(world: World) -> None:
    first = await register(world, source())
    again = await register(world, source())
    assert again.versions[0] is first.versions[0]
    assert again.comparisons[0].changes == ()
    assert len(await told(world)) == 1


async def test_a_file_takes_the_place_of_the_one_with_its_path_and_others_stay(world: World) -> None:
    await register(world, source("Booked", "room"), source("Moved"))
    registered = await register(world, source("Booked", "room", "guest"))
    assert registered.versions[0].revision == 2
    assert [(change.rule, change.element) for change in registered.comparisons[0].changes] == [
        ("FIELD_ADDED", "meetly.v1.Booked.guest")
    ]
    assert world.broker.registry.lookup(MOVED).revision == 2


async def test_another_comment_is_a_revision_of_its_own(world: World) -> None:
    await register(world, source())
    path, text = source()
    registered = await register(world, (path, text.replace("Something", "A booking")))
    assert registered.versions[0].revision == 2
    assert registered.comparisons[0].is_compatible
    assert (await told(world))[-1][1].backwards_compatible


async def test_a_breaking_change_is_refused_with_what_it_breaks_and_what_to_do(world: World) -> None:
    await register(world, source("Booked", "room", "guest"))
    with pytest.raises(FailedPrecondition) as refusal:
        await register(world, source("Booked", "room"), source("Moved"))
    assert refusal.value.reason is Reason.SCHEMA_INCOMPATIBLE
    assert [violation.field for violation in refusal.value.violations] == ["meetly.v1.Booked.guest"]
    assert refusal.value.violations[0].description.startswith("FIELD_REMOVED: ")
    assert refusal.value.metadata == {
        "version": "events.meetly.com/_/1",
        "registered_revision": "1",
        "breaking_changes": "1",
        "next_version": "events.meetly.com/_/2",
    }
    assert "version: 2" in refusal.value.hint
    assert world.broker.registry.lookup(BOOKED).revision == 1
    with pytest.raises(Invalid, match="no schema is registered"):
        world.broker.registry.lookup(MOVED)


async def test_the_next_major_version_is_the_one_after_all_that_there_are(world: World) -> None:
    await register(world, source("Booked", "room", "guest"))
    await register(world, source("Booked", "seat", version=4))
    with pytest.raises(FailedPrecondition) as refusal:
        await register(world, source("Booked", "room"))
    assert refusal.value.metadata["next_version"] == "events.meetly.com/_/5"


async def test_a_dry_run_says_what_would_be_and_stores_nothing(world: World) -> None:
    registered = await register(world, source(), dry_run=True)
    assert [(version.name, version.revision, version.register_time) for version in registered.versions] == [
        (MEETLY, 1, None)
    ]
    assert world.broker.registry.version(MEETLY) is None
    await register(world, source("Booked", "room", "guest"))
    with pytest.raises(FailedPrecondition):
        await register(world, source("Booked", "room"), dry_run=True)
    assert len(await told(world)) == 1


async def test_a_check_says_what_would_break_and_refuses_nothing(world: World) -> None:
    await register(world, source("Booked", "room", "guest"))
    [comparison] = await world.broker.schemas.check(Sources((source("Booked", "room"),)))
    assert (comparison.registered_revision, comparison.is_compatible) == (1, False)


async def test_a_domain_that_is_not_said_is_the_brokers_own(world: World) -> None:
    path, text = source()
    registered = await register(world, (path, text.replace('domain: "events.meetly.com" ', "")))
    assert registered.versions[0].name == VersionName("events.example.com", "_", 1)


@pytest.mark.parametrize(
    "mine",
    [
        source(domain="community.certes.dev", namespace="github"),
        source(domain="Community.Certes.DEV", namespace="mine"),
        tuple(part.replace("package meetly.v1", "package certes.meetly") for part in source()),
    ],
)
async def test_what_comes_with_the_broker_cannot_be_registered(world: World, mine: tuple[str, str]) -> None:
    with pytest.raises(PermissionDenied) as refusal:
        await register(world, mine)
    assert refusal.value.reason is Reason.SCHEMA_NOT_YOURS


async def test_bytes_that_are_no_descriptor_set_are_refused(world: World) -> None:
    with pytest.raises(Invalid) as refusal:
        await world.broker.schemas.register(CompiledSet(b"\xff"))
    assert refusal.value.reason is Reason.SCHEMA_MALFORMED


# What is told.


async def test_a_new_revision_is_told_to_its_subscribers(world: World) -> None:
    await world.create("app", VERSION)
    reader = await world.open()
    await register(world, source("Booked", "room"))
    await register(world, source("Booked", "room", "guest"), source("Moved"))
    assert len(await reader.take(2)) == 2
    [(first_type, first), (second_type, second)] = await told(world)
    assert (first_type, second_type) == (VERSION, VERSION)
    assert not first.HasField("old")
    assert revisions(first)[1] == (1, 1)
    assert revisions(second) == ((1, 1), (1, 2))
    assert second.backwards_compatible
    assert list(second.event_types) == ["booked", "moved"]
    assert {change.rule for change in second.changes} >= {"EVENT_TYPE_ADDED", "FIELD_ADDED"}


async def test_a_wildcard_does_not_get_what_is_told(world: World) -> None:
    await world.create("app", "events.meetly.com/**")
    reader = await world.open()
    await register(world, source())
    await reader.nothing_more()


async def test_a_new_major_version_is_told_to_every_lower_one_of_its_namespace(world: World) -> None:
    await register(world, source(version=1), source(version=2))
    await register(world, source(version=1, domain="events.other.com"))
    await register(world, source("Booked", "seat", version=3))
    found = (await told(world))[3:]
    assert [kind for kind, _ in found] == [
        "events.meetly.com/_/3/_version",
        "events.meetly.com/_/1/_version",
        "events.meetly.com/_/2/_version",
    ]
    assert [revisions(update) for _, update in found[1:]] == [((1, 1), (3, 1)), ((2, 1), (3, 1))]
    assert not any(update.backwards_compatible or update.changes for _, update in found[1:])


async def test_what_the_broker_tells_cannot_be_published_by_others(world: World) -> None:
    await register(world, source())
    event = world.event((await world.engine.journal.read(0, 1, 1 << 20)).entries[0])
    with pytest.raises(Invalid) as refusal:
        await world.publish(event)
    assert refusal.value.violations[0].field == "event.type"


# Trouble.


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("write", range(1, 6))
async def test_a_crash_at_any_write_registers_all_or_nothing_and_tells_once(
    either_world: World, write: int, done: bool
) -> None:
    world = either_world
    world.engine.crash_at(write, done=done)
    both = (source("Booked", version=1), source("Booked", version=2))
    try:
        await register(world, *both)
    except CertesError:
        assert world.engine.has_crashed
    await world.restart()
    present = [version for version in (1, 2) if world.broker.registry.version(MEETLY._replace(version=version))]
    assert present == ([] if write == 1 and not done else [1, 2])
    await register(world, *both)
    assert [kind for kind, _ in await told(world)] == [f"events.meetly.com/_/{version}/_version" for version in (1, 2)]
    assert await under_way(world) == ()


async def under_way(world: World) -> tuple[SchemaVersion, ...]:
    document = await world.engine.settings.get(UNDER_WAY)
    return () if document is None else read_registration(document.body).versions


@pytest.mark.parametrize("call", ["settings.put", "settings.get", "journal.append"])
async def test_a_registration_that_storage_interrupts_is_completed_by_repeating_it(world: World, call: str) -> None:
    world.engine.fail(call, 1)
    with pytest.raises(Unavailable):
        await register(world, source())
    registered = await register(world, source())
    assert registered.versions[0].revision == 1
    assert len(await told(world)) == 1
    assert await under_way(world) == ()


async def test_a_registration_whose_answer_was_lost_is_completed_by_the_next(world: World) -> None:
    world.engine.lose_answer("settings.put")
    with pytest.raises(Unavailable):
        await register(world, source("Booked"))
    assert world.broker.registry.version(MEETLY) is None
    registered = await register(world, source("Moved"))
    assert registered.versions[0].revision == 2
    assert [revisions(update)[1] for _, update in await told(world)] == [(1, 1), (1, 2)]


async def test_a_caller_that_goes_away_leaves_a_whole_registration(world: World) -> None:
    gate = world.engine.hold("journal.append")
    registering = world.tasks.create_task(register(world, source()))
    await world.eventually(lambda: world.engine.calls["journal.append"] > 0)
    registering.cancel()
    gate.set()
    await asyncio.wait([registering])
    await world.eventually(lambda: world.broker.registry.version(MEETLY) is not None)
    await world.quiet()
    assert await under_way(world) == ()
    assert world.broker.registry.lookup(BOOKED).revision == 1


async def test_two_registrations_at_once_happen_one_after_the_other(world: World) -> None:
    await register(world, source("Booked", "room"))
    outcomes = await asyncio.gather(
        register(world, source("Booked", "room", "guest")), register(world, source("Moved"))
    )
    assert sorted(outcome.versions[0].revision for outcome in outcomes) == [2, 3]
    assert [event_type.name for event_type in known(world).event_types] == ["booked", "moved"]
    assert [field.name for field in world.broker.registry.lookup(BOOKED).descriptor.fields] == ["room", "guest"]


@pytest.mark.parametrize("body", [b"no zlib", b"x\x9c\xab\xae\x05\x00\x01u\x00\xf9"])
async def test_a_stored_version_that_cannot_be_used_is_left_out_and_the_others_serve(world: World, body: bytes) -> None:
    await register(world, source())
    await world.engine.settings.put(key_of(VersionName("events.broken.com", "_", 1)), body)
    await world.restart()
    registered = [one for one in world.broker.registry.versions() if one.origin is Origin.REGISTERED]
    assert [one.name for one in registered] == [MEETLY]


async def test_a_registration_under_way_that_cannot_be_read_is_forgotten(world: World) -> None:
    await world.engine.settings.put(UNDER_WAY, b"no zlib")
    await world.restart()
    assert (await register(world, source())).versions[0].revision == 1
    assert await under_way(world) == ()


async def test_a_stored_version_that_no_longer_links_is_left_out_and_can_be_registered_anew(world: World) -> None:
    files = replace(meetly_files({"booked": ["room"]}), files=(b"\x0a\x03abc\x1a\x07missing",))
    broken = SchemaVersion(files, revision=7, origin=Origin.REGISTERED, register_time=world.clock.now())
    await world.engine.settings.put(key_of(MEETLY), write_version(broken))
    await world.restart()
    with pytest.raises(Invalid, match="no schema is registered"):
        world.broker.registry.lookup(BOOKED)
    registered = await register(world, source())
    assert registered.versions[0].revision == 1
    await world.restart()
    assert world.broker.registry.lookup(BOOKED).message_name == "meetly.v1.Booked"
