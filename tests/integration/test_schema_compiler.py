"""Sources through the real compiler in its child process: what is sound becomes versions, what is hostile a clear refusal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from hypothesis import given, settings
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.schemas import Origin
from certes_broker.schemas.compiling.binding import bind
from certes_broker.schemas.compiling.children import Children
from certes_broker.schemas.compiling.compiler import SchemaCompiler, source_files
from certes_broker.schemas.compiling.shared_files import shared_files
from certes_broker.schemas.schema_version import SchemaVersion

OWN = "events.orders.example"
HEAD = 'syntax = "proto3";\npackage orders.v1;\nimport "certes/v1/options.proto";\n'
EVENT = "message Paid {\n  option (certes.v1.event) = {};\n  string id = 1;\n}\n"
PROTO2 = 'syntax = "proto2";\npackage orders.v1;\nimport "certes/v1/options.proto";\n'
OPTIONS_SOURCE = Path(__file__).resolve().parents[2] / "proto" / "certes" / "v1" / "options.proto"


@pytest.fixture
def place(tmp_path) -> Path:
    """The folder in which children get theirs."""
    place = tmp_path / "place"
    place.mkdir()
    return place


@pytest.fixture
def compiler(place) -> SchemaCompiler:
    return SchemaCompiler(Children(place=place))


async def compiled(compiler: SchemaCompiler, text: str, **others: str) -> FileDescriptorSet:
    return await compiler.compile_sources({"orders.proto": text, **{f"{name}.proto": o for name, o in others.items()}})


async def types(compiler: SchemaCompiler, files: Mapping[str, str]) -> list[str]:
    """Compiles, binds, links, and returns the event types, of each of which there is a schema."""
    bound = bind(await compiler.compile_sources(files), OWN, files)
    versions = [SchemaVersion(version, revision=1, origin=Origin.REGISTERED) for version in bound]
    schemas = [version.schema(event.name) for version in versions for event in version.event_types]
    for schema in schemas:
        assert schema is not None
        schema.to_json(schema.new())
    return [schema.type_text for schema in schemas if schema is not None]


def is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


async def refused(compiler: SchemaCompiler, files: Mapping[str, str], place: Path) -> Invalid:
    with pytest.raises(Invalid) as refusal:
        bind(await compiler.compile_sources(files), OWN, files)
    error = refusal.value
    said = f"{error} {error.violations} {error.metadata}"
    assert str(place) not in said
    assert "/tmp" not in said
    assert said.isprintable()
    assert len(error.violations) <= 20
    assert is_empty(place)
    return error


async def test_sources_become_versions_with_comments_sources_and_all_they_import(compiler, place):
    files = {
        "orders/paid.proto": HEAD + 'import "orders/part.proto";\n// An order was paid.\n' + EVENT,
        "orders/part.proto": 'syntax = "proto3";\nimport "google/protobuf/timestamp.proto";\nmessage Part {}\n',
    }
    (version,) = bind(await compiler.compile_sources(files), OWN, files)
    paths = [FileDescriptorProto.FromString(file).name for file in version.files]
    assert paths[-2:] == ["orders/part.proto", "orders/paid.proto"]
    assert {"certes/v1/options.proto", "google/protobuf/timestamp.proto"} < set(paths)
    assert version.event_types == (("paid", "orders.v1.Paid"),)
    assert version.sources == tuple(sorted(files.items()))
    comments = FileDescriptorProto.FromString(version.files[-1]).source_code_info.location
    assert [place.leading_comments for place in comments] == [" An order was paid.\n"]
    assert not list(place.iterdir())


async def test_what_every_broker_has_can_be_imported_and_is_our_own(compiler):
    imports = "".join(f'import "{path}";\n' for path in shared_files() if path != "certes/v1/options.proto")
    files = await compiled(compiler, HEAD + imports + EVENT)
    ours = {file.name: file.SerializeToString() for file in files.file if file.name in shared_files()}
    assert ours == shared_files()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('edition = "2023"; package orders.v1; import "certes/v1/options.proto";' + EVENT, id="edition 2023"),
        pytest.param('edition = "2024"; package orders.v1; import option "certes/v1/options.proto";' + EVENT, id="2024"),
        pytest.param(PROTO2 + EVENT.replace("string", "required string"), id="proto2"),
        pytest.param("\ufeff" + HEAD + EVENT, id="byte order mark"),
        pytest.param((HEAD + EVENT).replace("\n", "\r\n"), id="lines of another system"),
        pytest.param(HEAD + EVENT.replace(" id ", " class ") + "message None {} message True { None is = 1; }", id="keywords"),
        pytest.param(PROTO2 + EVENT.replace("string id = 1;", "optional group G = 1 { optional int32 a = 1; }"), id="group"),
        pytest.param(PROTO2 + EVENT.replace("string id = 1;", "extensions 4 to max;") + "extend Paid { optional int32 x = 9; }", id="extension"),
        pytest.param(HEAD + EVENT + "service S { rpc Do(Paid) returns (stream Paid); }", id="service"),
        pytest.param(HEAD + EVENT + "message Tree { repeated Tree tree = 1; map<string, Tree> by = 2; }", id="recursion"),
        pytest.param(HEAD + "/*" + "x\n" * 500_000 + "*/\n" + EVENT, id="a MiB of comments"),
    ],
)  # fmt: skip
async def test_whatever_protobuf_has_is_taken(compiler, text):
    assert await types(compiler, {"orders.proto": text}) == [f"{OWN}/_/1/paid"]


@pytest.mark.parametrize("keyword", ["", "public ", "weak "])
async def test_imports_of_every_kind_are_found_among_the_files(compiler, keyword):
    syntax = PROTO2 if keyword == "weak " else HEAD
    text = syntax + f'import {keyword}"a b,c=d:é.proto";\n' + EVENT.replace("string id = 1;", "")
    files = {"orders.proto": text, "a b,c=d:é.proto": 'syntax = "proto3"; message Part {}'}
    assert await types(compiler, files) == [f"{OWN}/_/1/paid"]


async def test_a_public_import_is_seen_through(compiler):
    files = {
        "orders.proto": HEAD + 'import "through.proto";\n' + EVENT.replace("string", "Part"),
        "through.proto": 'syntax = "proto3"; import public "part.proto";',
        "part.proto": 'syntax = "proto3"; message Part {}',
    }
    assert await types(compiler, files) == [f"{OWN}/_/1/paid"]


async def test_a_copy_of_our_options_at_another_path_means_the_same(compiler):
    files = {
        "vendor/options.proto": OPTIONS_SOURCE.read_text(),
        "orders.proto": (HEAD + EVENT).replace("certes/v1/options.proto", "vendor/options.proto"),
    }
    assert await types(compiler, files) == [f"{OWN}/_/1/paid"]


async def test_errors_come_with_file_line_and_column(compiler, place):
    files = {
        "fine.proto": HEAD + EVENT,
        "bad.proto": 'syntax = "proto3";\nmessage M {\n  strin a = 1;\n  int32 b;\n}\n',
    }
    refusal = await refused(compiler, files, place)
    assert refusal.reason is Reason.SCHEMA_MALFORMED
    assert {violation.field for violation in refusal.violations} == {"files[1]"}
    assert refusal.violations[0].description.startswith("bad.proto:4:10: ")


async def test_faults_of_our_options_come_with_file_line_and_column(compiler, place):
    text = HEAD + 'message Sent {\n  option (certes.v1.event) = {name: "Sent"};\n}\n'
    refusal = await refused(compiler, {"a.proto": HEAD + EVENT, "b.proto": text}, place)
    (violation,) = refusal.violations
    assert violation.field == "files[1]"
    assert violation.description.startswith("b.proto:5:3: Sent: event name 'Sent'")


TEXT_OF_OURS = """\
syntax = "proto3";
import "google/protobuf/descriptor.proto";
extend google.protobuf.MessageOptions { string mine = 59600; }
message M { option (mine) = "abc"; }
"""
MALFORMED = {
    "an absolute import": (HEAD + 'import "/etc/passwd";\n' + EVENT, "was not found"),
    "an import from above": (HEAD + 'import "../../../../etc/passwd";\n' + EVENT, "was not found"),
    "an import from above with a backslash": (HEAD + 'import "..\\\\..\\\\secret.proto";\n' + EVENT, "was not found"),
    "an import of a file of the compiler's": (HEAD + 'import "google/protobuf/compiler/plugin.proto";\n', "was not found"),
    "an import of the order": (HEAD + 'import "../order.json";\n' + EVENT, "was not found"),
    "an import of the shared set": (HEAD + 'import "../shared.binpb";\n' + EVENT, "was not found"),
    "an import of a device": (HEAD + 'import "dev/stdin";\n' + EVENT, "was not found"),
    "an import of itself": (HEAD + 'import "orders.proto";\n' + EVENT, "recursively imports itself"),
    "an import of a contract that is not shared": (HEAD + 'import "certes/v1/event.proto";\n', "was not found"),
    "an empty file": ("", "bind no event type"),
    "no text": ("\0\0\0", "control characters"),
    "no proto": ("#!/bin/sh\nrm -rf /\n", "Expected top-level statement"),
    "a surrogate": ("\ud800", "no Unicode text"),
    "100k nested messages": (HEAD + "message M{" * 95_000 + "}" * 95_000, "recursion limit"),
    "100k nested messages that do not end": (HEAD + "message M{" * 100_000, "recursion limit"),
    "an option that does not end": (HEAD + "message M{option (certes.v1.event) = " + "{a " * 100_000, "aggregate"),
    "an option of 100k names": (HEAD + "message M{option " + "(a)." * 100_000 + "b = 1;}", "unknown"),
    "an unknown option": (HEAD + "message M { string a = 1 [(their.option) = 1]; }", "unknown"),
    "an annotation without its import": (
        HEAD + EVENT + 'service S { rpc A(Paid) returns (Paid) { option (google.api.http) = {get: "/x"}; } }',
        "google.api.http",
    ),
    "an extension of another's message": (
        HEAD + 'import "certes/community/github/v1/user.proto";\n' + EVENT + "extend certes.community.github.v1.User { string x = 1000; }",
        "does not declare 1000",
    ),
    "a definition in another's package": (
        HEAD.replace("orders.v1", "certes.v1") + EVENT + "message EventBinding {}",
        "already defined",
    ),
    "a number of ours": (
        HEAD + 'import "google/protobuf/descriptor.proto";\n' + EVENT + "extend google.protobuf.MessageOptions { int32 mine = 59600; }",
        "59600",
    ),
    "a text of ours": (TEXT_OF_OURS, "59600"),
    "bytes in an option": (HEAD + 'message M { option (certes.v1.event) = {name: "\\377"}; }', "not UTF-8"),
    "bytes in a default": (PROTO2 + 'message M { optional string a = 1 [default = "\\377"]; }', "not UTF-8"),
    "a JSON name twice": (PROTO2 + EVENT.replace("string id = 1;", "optional int32 a_b = 1; optional int32 aB = 2;"), "JSON name"),
    "a JSON name that no terminal should show": (HEAD + EVENT.replace("= 1", '= 1 [json_name = "\\033[2J"]'), "cannot be shown"),
    "a package of 200k parts": ('syntax = "proto3"; package ' + ".".join(["a"] * 200_000) + "; message M {}", "too long"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_hostile_source_gets_a_clear_refusal_and_the_broker_lives(name, compiler, place):
    text, problem = MALFORMED[name]
    refusal = await refused(compiler, {"orders.proto": text}, place)
    assert refusal.reason is Reason.SCHEMA_MALFORMED
    assert problem in f"{refusal} {refusal.violations}"
    assert await types(compiler, {"orders.proto": HEAD + EVENT}) == [f"{OWN}/_/1/paid"]


TOO_LARGE = {
    "15k fields": (HEAD + "message M {" + "".join(f"string f{n} = {n};" for n in range(1, 15_001)) + "}", "15000"),
    "6k messages": (HEAD + "".join(f"message M{n} {{}}" for n in range(6000)), "messages of a registration"),
    "20k values": (HEAD + "enum E {" + "".join(f"V{n} = {n};" for n in range(20_000)) + "}", "values of enum"),
    "2k reserved": (HEAD + f"message M {{ reserved {', '.join(map(str, range(1, 2001)))}; }}", "reserved ranges"),
    "more descriptors than there is room for": (
        'syntax="proto3";package ' + "b" * 500 + ";message A{}" + "".join(
            f"message M{m}{{" + "".join(f"A a{n}={n};" for n in range(1, 901)) + "}" for m in range(70)
        ),
        "16 MiB",
    ),
    "50k nested groups": (PROTO2 + "message M {" + "optional group A = 1 {" * 45_000, "more memory"),
    "40k nested groups in oneofs": (PROTO2 + "message M {" + "oneof A { group B = 1 {" * 40_000, "more memory"),
    "more than a MiB": ("//" + "x" * (1 << 20), "bytes of all sources"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_LARGE)
async def test_a_source_beyond_a_limit_is_refused_with_the_limit(name, compiler, place):
    text, limit = TOO_LARGE[name]
    refusal = await refused(compiler, {"orders.proto": text}, place)
    assert refusal.reason is Reason.SCHEMA_TOO_LARGE
    assert limit in refusal.message
    assert refusal.metadata["maximum"]


async def test_files_that_import_each_other_are_named(compiler, place):
    files = {f"{a}.proto": f'syntax = "proto3"; import "{b}.proto";' for a, b in ("ab", "bc", "ca")}
    refusal = await refused(compiler, files, place)
    assert "a.proto -> b.proto -> c.proto -> a.proto" in str(refusal.violations)


async def test_an_error_in_a_file_is_that_files_alone(compiler, place):
    files = {"a.proto": 'syntax = "proto3"; import "b.proto";', "b.proto": "nonsense"}
    refusal = await refused(compiler, files, place)
    assert refusal.violations[0].field in {"files[0]", "files[1]"}
    assert {violation.field for violation in refusal.violations} == {"files[0]", "files[1]"}


@pytest.mark.parametrize(
    "path", ["/etc/x.proto", "../x.proto", "a/../../x.proto", "-I/.proto", "@x.proto", "x\0.proto"]
)
async def test_a_path_that_leads_elsewhere_never_reaches_a_disk(path, compiler, place):
    refusal = await refused(compiler, {path: HEAD + EVENT}, place)
    assert [violation.field for violation in refusal.violations] == ["files[0].path"]


def test_a_file_that_is_given_twice_or_none_is_refused():
    assert source_files([("a.proto", "1"), ("b.proto", "2")]) == {"a.proto": "1", "b.proto": "2"}
    for files in ([("a.proto", "1"), ("a.proto", "2")], []):
        with pytest.raises(Invalid) as refusal:
            source_files(files)
        assert refusal.value.reason is Reason.SCHEMA_MALFORMED
    with pytest.raises(Invalid) as refusal:
        source_files((f"{number}.proto", "") for number in range(501))
    assert refusal.value.reason is Reason.SCHEMA_TOO_LARGE


@settings(max_examples=40)
@given(st.data())
async def test_a_sound_source_with_a_part_of_it_disturbed_is_taken_or_refused(data):
    text = HEAD + 'option (certes.v1.schema) = {namespace: "shop" version: 2};\n' + EVENT
    at = data.draw(st.integers(0, len(text)), label="at")
    length = data.draw(st.integers(0, 12), label="length")
    put = data.draw(
        st.text(max_size=6) | st.sampled_from(['"', "{", "}", ";", "\0", "(", "extend", "\\377", "99999999999"])
    )
    try:
        await types(SchemaCompiler(), {"orders.proto": text[:at] + put + text[at + length :]})
    except Invalid as refusal:
        assert refusal.reason in {Reason.SCHEMA_MALFORMED, Reason.SCHEMA_TOO_LARGE}  # noqa: PT017 (either may be)
