from __future__ import annotations

import json

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from certes.v1 import schema_service_pb2 as pb

PATTERN = "events.meetly.com/**"
BOOKED = {"type": "events.meetly.com/rooms/1/booked"}
LEFT = {"type": "events.meetly.com/rooms/1/left"}


def descriptors(*names):
    found = FileDescriptorSet()
    for name in names:
        found.file.add(name=name)
    return found


def version(*sources, number=1, files=("google/protobuf/any.proto", "certes/v1/options.proto", "a/booked.proto")):
    made = pb.GetSchemaResponse()
    made.version.domain, made.version.namespace, made.version.version = "events.meetly.com", "rooms", number
    made.version.revision = 2
    made.version.descriptor_set.CopyFrom(descriptors(*files))
    for path, content in sources:
        made.version.sources.add(path=path, content=content)
    return made


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def pull(certes, gateway, tmp_path):
    def run(*answers, words=(), schemas=(BOOKED,)):
        gateway.answer("ListSchemas", {"schemas": list(schemas)})
        for answer in answers:
            gateway.answer("GetSchema", answer.SerializeToString())
        return certes("schemas", "pull", PATTERN, "--out", str(tmp_path / "out"), *words, "--broker", gateway.address)

    return run


def test_sources_are_written_with_what_they_import(pull, gateway, tmp_path):
    result = pull(version(("a/booked.proto", "text")), schemas=(BOOKED, LEFT))
    assert result.exit_code == 0
    assert written(tmp_path / "out") == ["a/booked.proto", "certes/v1/options.proto"]
    assert (tmp_path / "out/a/booked.proto").read_text() == "text"
    assert result.stdout.splitlines()[1] == "events.meetly.com/rooms/1\t2\t2 .proto"
    assert result.stderr == f"Wrote 2 of 2 files below {tmp_path}/out.\n"
    assert gateway.requests("ListSchemas")[0]["pattern"] == PATTERN
    # Both event types are of one version, which is fetched once.
    assert [pb.GetSchemaRequest.FromString(request).type for request in gateway.requests("GetSchema")] == [
        BOOKED["type"]
    ]


def test_what_is_there_already_stays_unless_forced(pull, tmp_path):
    pull(version(("a/booked.proto", "1")))
    again = pull(version(("a/booked.proto", "1")))
    assert "Wrote 0 of 2 files" in again.stderr
    refused = pull(version(("a/booked.proto", "2"), ("a/new.proto", "")))
    assert refused.exit_code == 2
    assert f"{tmp_path}/out/a/booked.proto" in refused.stderr
    assert not (tmp_path / "out/a/new.proto").exists()
    assert (tmp_path / "out/a/booked.proto").read_text() == "1"
    assert pull(version(("a/booked.proto", "2")), words=["--force"]).exit_code == 0
    assert (tmp_path / "out/a/booked.proto").read_text() == "2"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (version(), ()),
        (version(("a/booked.proto", "text"), files=("a/booked.proto", "a/unknown.proto")), ()),
        (version(("a/booked.proto", "text"), files=("a/booked.proto", "certes/../../x.proto")), ()),
        (version(("a/booked.proto", "text")), ("--descriptor-sets",)),
    ],
    ids=["no sources", "not all sources", "an import that is nobody's", "asked for"],
)
def test_a_descriptor_set_is_written_where_sources_are_not_known_or_not_wanted(pull, tmp_path, answer, words):
    result = pull(answer, words=words)
    place = "events.meetly.com/rooms/1.binpb"
    assert written(tmp_path / "out") == [place]
    assert FileDescriptorSet.FromString((tmp_path / "out" / place).read_bytes()) == answer.version.descriptor_set
    assert result.stdout.splitlines()[1].endswith(f"{tmp_path}/out/{place} (descriptor set)")


@pytest.mark.parametrize("path", ["../a.proto", "/a.proto", "a/../../b.proto", "a\\b.proto", "a.sh"])
def test_a_hostile_path_writes_nothing_at_all(pull, tmp_path, path):
    result = pull(version(("a/booked.proto", "text"), (path, "text")))
    assert result.exit_code == 3
    assert "not to be written" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_versions_with_different_files_of_one_path_are_not_mixed(pull, tmp_path):
    second = version(("a/booked.proto", "2"), number=2)
    result = pull(
        version(("a/booked.proto", "1")), second, schemas=(BOOKED, {"type": "events.meetly.com/rooms/2/booked"})
    )
    assert result.exit_code == 2
    assert "events.meetly.com/rooms/1 and events.meetly.com/rooms/2" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_stands_in_the_way_is_told(pull, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("")
    result = pull(version(("a/booked.proto", "1")))
    assert result.exit_code == 2
    assert "no folder" in result.stderr


def test_nothing_that_matches_is_no_failure(pull):
    result = pull(schemas=())
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Nothing matches" in result.stderr


def test_as_json_it_says_which_files_there_are(pull):
    result = pull(version(("a/booked.proto", "1")), words=["--json"])
    assert json.loads(result.stdout) == [
        {
            "version": "events.meetly.com/rooms/1",
            "revision": 2,
            "files": ["a/booked.proto", "certes/v1/options.proto"],
        }
    ]


def test_foreign_schemas_come_page_by_page_as_descriptor_sets(certes, gateway, tmp_path):
    uri = "events://events.meetly.com/rooms"
    gateway.answer(
        "DiscoverSchemas",
        pb.DiscoverSchemasResponse(versions=[version().version], next_page_token="t").SerializeToString(),
    )
    gateway.answer(
        "DiscoverSchemas", pb.DiscoverSchemasResponse(versions=[version(number=2).version]).SerializeToString()
    )
    result = certes("schemas", "pull", uri, "--out", str(tmp_path), "--broker", gateway.address)
    assert result.exit_code == 0
    assert written(tmp_path) == ["events.meetly.com/rooms/1.binpb", "events.meetly.com/rooms/2.binpb"]
    first, second = [pb.DiscoverSchemasRequest.FromString(each) for each in gateway.requests("DiscoverSchemas")]
    assert (first.uri, first.view, first.page_token) == (uri, pb.SCHEMA_VIEW_FULL, "")
    assert second.page_token == "t"


@pytest.mark.parametrize("domain", ["..", "../..", "a/../..", "", "/etc"])
def test_a_foreign_version_whose_name_is_none_is_not_written(certes, gateway, tmp_path, domain):
    hostile = version().version
    hostile.domain = domain
    gateway.answer("DiscoverSchemas", pb.DiscoverSchemasResponse(versions=[hostile]).SerializeToString())
    folder = tmp_path / "out"
    result = certes("schemas", "pull", "events://x.y", "--out", str(folder), "--broker", gateway.address)
    assert result.exit_code == 3
    assert list(tmp_path.iterdir()) == []
