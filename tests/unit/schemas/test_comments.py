"""The comments of schemas are found, whether a file came with them or only its source is at hand."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.comments import comments_of, compiled_comments, source_comments
from tests.unit.schemas.version_makers import IMPORTED, meetly_file, meetly_files

GENERATED = Path(__file__).resolve().parents[3] / "generated"


def compiled(tmp_path: Path, paths: list[str]) -> FileDescriptorSet:
    out = tmp_path / "files"
    arguments = [
        "protoc",
        f"--proto_path={GENERATED}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        "--include_source_info",
        f"--descriptor_set_out={out}",
    ]
    assert protoc.main([*arguments, *paths]) == 0
    return FileDescriptorSet.FromString(out.read_bytes())


def test_the_sources_that_are_shipped_have_the_comments_that_the_compiler_finds_in_them(tmp_path):
    paths = sorted(str(path.relative_to(GENERATED)) for path in GENERATED.rglob("*.proto"))
    compared = 0
    for file in compiled(tmp_path, paths).file:
        source = (GENERATED / file.name).read_text()
        expected = compiled_comments(file)
        found = source_comments(file.package, source)
        assert {name: found.get(name) for name in expected} == dict(expected)
        beside = {f"{file.package}.{one.name}" for one in (*file.service, *file.extension)}
        assert found.keys() <= {*expected, *beside}
        compared += len(expected)
    assert compared > 500


def test_a_version_of_the_catalogue_has_the_comments_of_its_sources():
    github = next(version for version in community_versions() if version.name.namespace == "github")
    assert github.comments["certes.community.github.v1.PushEvent"]
    assert github.comments["certes.community.github.v1.PushEvent.ref"]


def test_a_file_that_has_its_comments_needs_no_source():
    file = meetly_file({"booked": ["room"]})
    for path, comment in (((4, 0), " A room was booked.\n It is theirs.\n"), ((4, 0, 2, 0), " Which room.\n")):
        file.source_code_info.location.add(path=path, leading_comments=comment)
    version = replace(meetly_files({"booked": ["room"]}), files=(*IMPORTED, file.SerializeToString()))
    assert comments_of(version) == {
        "meetly.Booked": "A room was booked.\nIt is theirs.",
        "meetly.Booked.room": "Which room.",
    }


def test_without_either_there_are_none():
    assert comments_of(meetly_files({"booked": ["room"]})) == {}
