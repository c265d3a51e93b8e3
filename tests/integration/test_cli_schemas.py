"""`certes schemas` against the real broker, and what other tools make of what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from scripts.broker_process import BrokerProcess
from tests.integration.conftest import Certes

BUF = Path(sys.executable).with_name("buf")
PROTOC = (sys.executable, "-m", "grpc_tools.protoc")
PATH = "meetly/rooms/v1/booked.proto"
TYPE = "events.meetly.com/rooms/1/booked"
SOURCE = """syntax = "proto3";
package meetly.rooms.v1;
import "certes/v1/options.proto";
import "google/protobuf/descriptor.proto";
import "google/protobuf/timestamp.proto";
option (certes.v1.schema) = {domain: "events.meetly.com" namespace: "rooms"};

extend google.protobuf.FieldOptions {
  string unit = 70123;
}

// A room was booked.
message Booked {
  option (certes.v1.event) = {options {name: "building" field: "building"}};
  string building = 1;
  google.protobuf.Timestamp start_time = 2;
  int64 hours = 3 [(unit) = "h"];
}
"""

URI_OF = """
import sys
from importlib import import_module
sys.path.insert(0, sys.argv[1])
from certes.v1 import options_pb2
message = getattr(import_module(sys.argv[2]), sys.argv[3]).DESCRIPTOR
schema = message.file.GetOptions().Extensions[options_pb2.schema]
event = message.GetOptions().Extensions[options_pb2.event]
print(f"{schema.domain}/{schema.namespace}/{schema.version}/{event.name}")
"""


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def uri_of(stubs: Path, module: str, message: str) -> str:
    """The event URI that generated code knows, asked where nothing of Certes is installed."""
    # -I and -S leave nothing but the standard library; protobuf itself is all that is given back.
    protobuf = Path(sys.modules["google.protobuf"].__path__[0]).parents[1]
    program = f"import sys; sys.path.append({str(protobuf)!r})\n{URI_OF}"
    return run(sys.executable, "-I", "-S", "-c", program, stubs, module, message).strip()


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[[Path], Path]:
    """Compiles every `.proto` file of a folder, and nothing else, to Python, and returns where the stubs are."""

    def compile_all(folder: Path) -> Path:
        stubs = tmp_path / f"{folder.name}-stubs"
        stubs.mkdir()
        files = sorted(path.relative_to(folder) for path in folder.rglob("*.proto"))
        run(*PROTOC, "-I", folder, "--python_out", stubs, *files, cwd=folder)
        return stubs

    return compile_all


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A producer's sources."""
    file = tmp_path / "schemas" / PATH
    file.parent.mkdir(parents=True)
    file.write_text(SOURCE)
    return tmp_path / "schemas"


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--domain", "events.meetly.com", "--namespace", "rooms/small", "--event", "my_event", "--version", "3"],
        # Words that languages keep for themselves, and packages that are others'.
        ["--domain", "google.com", "--namespace", "import/message", "--event", "string"],
        ["--domain", "events.certes.dev", "--event", "2d"],
    ],
)
def test_what_init_writes_passes_every_tool_and_is_taken_as_it_is(certes: Certes, tmp_path, compiled, words) -> None:
    folder = tmp_path / "schemas"
    ok(certes("schemas", "init", str(folder), *words))
    run(BUF, "lint", cwd=folder)
    run(BUF, "format", "--diff", "--exit-code", cwd=folder)
    compiled(folder)
    assert "new" in ok(certes("schemas", "push", str(folder)))
    assert "unchanged" in ok(certes("schemas", "push", str(folder / next(folder.rglob("v*/*_event.proto")).parent)))


def test_what_is_pushed_is_listed_shown_and_pulled_as_it_was(certes: Certes, tmp_path, folder, compiled) -> None:
    ok(certes("schemas", "push", str(folder)))
    (listed,) = json.loads(ok(certes("schemas", "list", "--namespace", "rooms", "--json")))
    assert listed["type"] == TYPE
    shown = ok(certes("schemas", "get", TYPE))
    assert "building = building (string)" in shown
    assert "start_time\tgoogle.protobuf.Timestamp" in shown
    assert ok(certes("schemas", "get", TYPE, "--proto")) == SOURCE
    out = tmp_path / "out"
    ok(certes("schemas", "pull", TYPE, "--out", str(out)))
    assert (out / PATH).read_text() == SOURCE
    run(BUF, "build", "-o", "/dev/null", cwd=out)
    # Its source leaves the version and the event's name to defaults, so code that is made of it cannot know them.
    assert uri_of(compiled(out), "meetly.rooms.v1.booked_pb2", "Booked") == "events.meetly.com/rooms/0/"
    # What was pulled can be pushed; the copies that came with it are left out.
    assert "unchanged" in ok(certes("schemas", "push", str(out)))


def test_descriptor_sets_make_stubs_that_know_their_event_uris(certes: Certes, tmp_path, folder) -> None:
    ok(certes("schemas", "push", str(folder)))
    ok(certes("schemas", "pull", TYPE, "--out", str(tmp_path), "--descriptor-sets"))
    pulled = tmp_path / "events.meetly.com" / "rooms" / "1.binpb"
    (tmp_path / "stubs").mkdir()
    files = [file.name for file in FileDescriptorSet.FromString(pulled.read_bytes()).file if "google/" not in file.name]
    run(*PROTOC, f"--descriptor_set_in={pulled}", "--python_out", tmp_path / "stubs", *files)
    assert uri_of(tmp_path / "stubs", "meetly.rooms.v1.booked_pb2", "Booked") == TYPE


@pytest.fixture
def descriptor_set(certes: Certes, tmp_path: Path, folder: Path) -> Path:
    """The producer's schemas as protoc compiles them."""
    ok(certes("schemas", "init", str(tmp_path / "tools")))
    file = tmp_path / "set.binpb"
    run(*PROTOC, "-I", folder, "-I", tmp_path / "tools", "--include_imports", "--descriptor_set_out", file, PATH)
    return file


def test_a_descriptor_set_is_registered_and_pulled_with_the_options_of_others(certes: Certes, tmp_path, descriptor_set):
    assert "compatible" in ok(certes("schemas", "check", "--descriptor-set", str(descriptor_set), "--json"))
    assert f"{TYPE}\t1\tnew" in ok(certes("schemas", "push", "--descriptor-set", str(descriptor_set)))
    assert certes("schemas", "get", TYPE, "--proto").returncode == 2
    assert "(descriptor set)" in ok(certes("schemas", "pull", TYPE, "--out", str(tmp_path / "out")))
    pulled = FileDescriptorSet.FromString((tmp_path / "out/events.meetly.com/rooms/1.binpb").read_bytes())
    (file,) = (file for file in pulled.file if file.name == PATH)
    (hours,) = (field for field in file.message_type[0].field if field.name == "hours")
    assert hours.options.SerializeToString() == bytes.fromhex("da9e2201") + b"h"


def test_a_provider_of_the_catalogue_can_be_pulled_and_compiled(certes: Certes, tmp_path, compiled) -> None:
    out = tmp_path / "out"
    ok(certes("schemas", "pull", "community.certes.dev/github/1/push", "--out", str(out)))
    assert len(list(out.rglob("*_event.proto"))) >= 58
    uri = uri_of(compiled(out), "certes.community.github.v1.push_event_pb2", "PushEvent")
    assert uri == "community.certes.dev/github/1/push"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[BrokerProcess]:
    """Another broker."""
    with BrokerProcess(tmp_path / "other") as process:
        yield process.start()


def test_schemas_of_another_gateway_are_pulled_as_descriptors(certes: Certes, other, tmp_path, folder) -> None:
    ok(certes("schemas", "push", str(folder), "--broker", other.http))
    uri = f"events://{other.http}/rooms"
    assert TYPE in ok(certes("schemas", "discover", uri))
    ok(certes("schemas", "pull", uri, "--out", str(tmp_path / "out")))
    pulled = FileDescriptorSet.FromString((tmp_path / "out/events.meetly.com/rooms/1.binpb").read_bytes())
    assert PATH in [file.name for file in pulled.file]
    assert certes("schemas", "get", TYPE).returncode == 1


def test_what_would_break_is_refused_and_check_says_so_beforehand(certes: Certes, folder) -> None:
    assert f"{TYPE}\t1\tnew" in ok(certes("schemas", "push", str(folder), "--dry-run"))
    assert "rooms/1\tnone\tnew" in ok(certes("schemas", "check", str(folder)))
    ok(certes("schemas", "push", str(folder)))
    (folder / PATH).write_text(
        SOURCE.replace("string building = 1;", "bytes building = 1;").split("  option")[0] + "}\n"
    )
    for command in ("check", "push"):
        done = certes("schemas", command, str(folder))
        assert done.returncode == 1
        assert "SCHEMA_" in done.stderr
    (folder / PATH).write_text(SOURCE.replace("int64 hours = 3", "int32 hours = 3"))
    for command in ("check", "push"):
        done = certes("schemas", command, str(folder))
        assert done.returncode == 1
        assert "FIELD_TYPE_CHANGED\tmeetly.rooms.v1.Booked.hours\tint64 hours = 3" in done.stdout
        assert "SCHEMA_INCOMPATIBLE" in done.stderr
    assert "int64" in ok(certes("schemas", "get", TYPE))


def test_an_event_is_validated_and_not_published(certes: Certes, folder) -> None:
    ok(certes("schemas", "push", str(folder)))
    assert "It fits" in ok(certes("schemas", "validate", TYPE, "-", stdin='{"building": "north", "hours": "2"}'))
    refused = certes("schemas", "validate", TYPE, "-", "--json", stdin='{"building": 7}')
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["problem"]["reason"] == "DATA_MALFORMED"
    unknown = certes("schemas", "validate", "events.meetly.com/rooms/1/bookd", "-", stdin="{}")
    assert "Did you mean" in unknown.stderr
