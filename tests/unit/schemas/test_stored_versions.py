"""What is stored of a version is what was registered."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest

from certes_broker.domain.errors import Internal
from certes_broker.domain.events import Micros
from certes_broker.domain.schemas import Origin
from certes_broker.schemas.compiling.shared_files import shared_files
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.stored_versions import (
    Registration,
    read_registration,
    read_version,
    write_registration,
    write_version,
)
from certes_broker.schemas.system_events import VersionState, version_update
from tests.unit.schemas.version_makers import MEETLY, meetly_files


def version() -> SchemaVersion:
    files = replace(meetly_files({"booked": ["room"]}), sources=(("meetly.proto", "syntax = …"),))
    return SchemaVersion(files, revision=3, origin=Origin.REGISTERED, register_time=Micros(1_800_000_000_000_001))


def facts(one: SchemaVersion) -> tuple[object, ...]:
    return one.name, one.files, one.revision, one.origin, one.register_time


def test_a_version_is_read_as_it_was_written():
    assert facts(read_version(write_version(version()))) == facts(version())


def test_a_registration_is_read_as_it_was_written():
    event = version_update(VersionState(MEETLY, 2), VersionState(MEETLY, 3), (), ("//me", "id-1", Micros(5)))
    read = read_registration(write_registration(Registration((version(),), (event,))))
    assert [facts(one) for one in read.versions] == [facts(version())]
    assert read.events == (event,)


def test_files_that_the_broker_has_too_are_kept_once():
    first, second = (read_version(write_version(version())) for _ in range(2))
    shared = shared_files()["google/protobuf/descriptor.proto"]
    assert any(file is shared for file in first.files.files)
    assert any(file is shared for file in second.files.files)


@pytest.mark.parametrize("read", [read_version, read_registration])
@pytest.mark.parametrize(
    "body", [b"", b"{}", zlib.compress(b"{}"), zlib.compress(b"[1]"), write_version(version())[:-9]]
)
def test_what_is_neither_is_a_fault(read, body):
    with pytest.raises(Internal, match="cannot be read"):
        read(body)
