from __future__ import annotations

import json

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from certes.v1 import schema_service_pb2 as pb
from tests.unit.cli.fake_gateway import connect_error

TYPE = "events.meetly.com/rooms/1/booked"
ELEMENT = "meetly.rooms.v1.Booked.by"
VERSION = {"domain": "events.meetly.com", "namespace": "rooms", "version": 1}
BREAKING = {
    "rule": "FIELD_TYPE_CHANGED",
    "element": ELEMENT,
    "before": "string by = 2;",
    "after": "bytes by = 2;",
    "breaking": True,
    "description": "A field has another type. Add a field of the new type.",
}
ADDED = {"rule": "FIELD_ADDED", "element": "meetly.rooms.v1.Booked.note", "after": "string note = 3;"}
TYPE_ADDED = {"rule": "EVENT_TYPE_ADDED", "element": f"{VERSION['domain']}/rooms/1/left", "after": "message Left"}


def schema(name="booked", revision="1"):
    return {"type": f"events.meetly.com/rooms/1/{name}", "revision": revision}


def refusal(reason, message, *violations):
    described = [BadRequest.FieldViolation(field=field, description=description) for field, description in violations]
    return connect_error("invalid_argument", message, ErrorInfo(reason=reason), BadRequest(field_violations=described))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "meetly").mkdir()
    (tmp_path / "meetly" / "booked.proto").write_text("a text")
    return str(tmp_path)


def test_push_sends_the_files_and_says_each_event_type_with_its_revision(certes, gateway, folder):
    comparison = VERSION | {"compatible": True}
    gateway.answer("RegisterSchemas", {"schemas": [schema()], "comparisons": [comparison]})
    result = certes("schemas", "push", folder, "--broker", gateway.address)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["TYPE\tREVISION\tSTATE", f"{TYPE}\t1\tnew"]
    files = [{"path": "meetly/booked.proto", "content": "a text"}]
    assert gateway.requests("RegisterSchemas") == [{"files": {"files": files}, "dryRun": False}]


def test_push_says_what_changed(certes, gateway, folder):
    comparison = VERSION | {"registeredRevision": "1", "compatible": True, "changes": [TYPE_ADDED, ADDED]}
    answer = {"schemas": [schema("booked", "2"), schema("left", "2")], "comparisons": [comparison]}
    gateway.answer("RegisterSchemas", answer)
    result = certes("schemas", "push", folder, "--broker", gateway.address)
    assert result.stdout.splitlines() == [
        "TYPE\tREVISION\tSTATE",
        f"{TYPE}\t2\tnew revision",
        "events.meetly.com/rooms/1/left\t2\tnew",
        "",
        "CHANGE\tELEMENT\tFROM → TO",
        "EVENT_TYPE_ADDED\tevents.meetly.com/rooms/1/left\t– → message Left",
        "FIELD_ADDED\tmeetly.rooms.v1.Booked.note\t– → string note = 3;",
    ]


def test_push_of_the_same_says_so(certes, gateway, folder):
    comparison = VERSION | {"registeredRevision": "1", "compatible": True}
    gateway.answer("RegisterSchemas", {"schemas": [schema()], "comparisons": [comparison]})
    assert f"{TYPE}\t1\tunchanged" in certes("schemas", "push", folder, "--broker", gateway.address).stdout


def test_a_dry_run_says_that_it_was_one(certes, gateway, folder):
    gateway.answer("RegisterSchemas", {"schemas": [schema()], "comparisons": [VERSION]})
    result = certes("schemas", "push", folder, "--dry-run", "--broker", gateway.address)
    assert "nothing is registered" in result.stderr
    assert gateway.requests("RegisterSchemas")[0]["dryRun"] is True


def test_push_as_json_is_what_the_api_answered(certes, gateway, folder):
    answer = {"schemas": [schema()], "versions": [VERSION], "comparisons": [VERSION]}
    gateway.answer("RegisterSchemas", answer)
    assert json.loads(certes("schemas", "push", folder, "--json", "--broker", gateway.address).stdout) == answer


def test_what_does_not_compile_is_told_as_compilers_do(certes, gateway, folder):
    first, second = 'meetly/booked.proto:3:1: "strin" is not defined.', "meetly/booked.proto:4:7: Missing field number."
    message = f"the schemas do not compile: 2 errors. {first} Imports are found among the files."
    error = refusal("SCHEMA_MALFORMED", message, ("files[0]", first), ("files[0]", second))
    for command, method in (("push", "RegisterSchemas"), ("check", "CheckCompatibility")):
        gateway.refuse(method, error)
        result = certes("schemas", command, folder, "--broker", gateway.address)
        assert result.exit_code == 1
        assert result.stdout == ""
        *faults, heading, rest = result.stderr.splitlines()
        assert faults == [f"{folder}/{first}", f"{folder}/{second}"]
        assert heading.endswith("1 file: the broker refused (SCHEMA_MALFORMED).")
        assert rest == "  the schemas do not compile: 2 errors. Imports are found among the files."


def test_a_breaking_push_is_refused_with_the_changes_and_the_hint(certes, gateway, folder):
    message = "1 of the changes would break those who use it. Register them as the next major version, 2."
    gateway.refuse("RegisterSchemas", refusal("SCHEMA_INCOMPATIBLE", message, (ELEMENT, "FIELD_TYPE_CHANGED: …")))
    gateway.answer("CheckCompatibility", {"comparisons": [VERSION | {"changes": [BREAKING, ADDED]}]})
    result = certes("schemas", "push", folder, "--broker", gateway.address)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "BREAKING\tELEMENT\tFROM → TO, AND WHAT TO DO",
        f"FIELD_TYPE_CHANGED\t{ELEMENT}\tstring by = 2; → bytes by = 2; {BREAKING['description']}",
    ]
    assert result.stderr.splitlines() == [
        "Error: Registering 1 file: the broker refused (SCHEMA_INCOMPATIBLE).",
        f"  {message}",
    ]
    files = gateway.requests("RegisterSchemas")[0]["files"]
    assert gateway.requests("CheckCompatibility") == [{"files": files}]


def test_a_breaking_push_that_is_asked_for_json_prints_none(certes, gateway, folder):
    gateway.refuse("RegisterSchemas", refusal("SCHEMA_INCOMPATIBLE", "no", (ELEMENT, "FIELD_TYPE_CHANGED: …")))
    result = certes("schemas", "push", folder, "--json", "--broker", gateway.address)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{ELEMENT}: FIELD_TYPE_CHANGED" in result.stderr


@pytest.mark.parametrize(
    ("comparison", "verdict", "code"),
    [
        ({"compatible": True}, "none\tnew", 0),
        ({"compatible": True, "registeredRevision": "3"}, "3\tcompatible: nothing changed", 0),
        ({"compatible": True, "registeredRevision": "3", "changes": [ADDED]}, "3\tcompatible: 1 change", 0),
        ({"registeredRevision": "3", "changes": [BREAKING, ADDED]}, "3\tbreaking: 1 of 2 changes", 1),
    ],
)
def test_check_ends_with_one_if_something_would_break(certes, gateway, folder, comparison, verdict, code):
    answer = {"compatible": comparison.get("compatible", False), "comparisons": [VERSION | comparison]}
    for words in ([], ["--json"]):
        gateway.answer("CheckCompatibility", answer)
        result = certes("schemas", "check", folder, *words, "--broker", gateway.address)
        assert result.exit_code == code
        if words:
            assert json.loads(result.stdout) == answer
        else:
            assert f"events.meetly.com/rooms/1\t{verdict}" in result.stdout
            assert ("FIELD_TYPE_CHANGED" in result.stdout) is (code == 1)
    assert not gateway.requests("RegisterSchemas")


def test_a_descriptor_set_goes_as_it_is_with_options_that_json_could_not_spell(certes, gateway, tmp_path):
    descriptors = FileDescriptorSet()
    file = descriptors.file.add(name="a.proto", package="a")
    # An option of somebody else's, as the compiler writes it: field 70000, of which nobody here knows.
    file.options.MergeFromString(bytes.fromhex("828a22") + b"\x03abc")
    (tmp_path / "set.binpb").write_bytes(descriptors.SerializeToString())
    named = ["--descriptor-set", str(tmp_path / "set.binpb"), "--broker", gateway.address]

    registered = pb.RegisterSchemasResponse(schemas=[{"type": TYPE, "revision": 1}])
    registered.comparisons.add(**VERSION, compatible=True)
    gateway.answer("RegisterSchemas", registered.SerializeToString())
    assert f"{TYPE}\t1\tnew" in certes("schemas", "push", "--dry-run", *named).stdout
    request = pb.RegisterSchemasRequest.FromString(gateway.requests("RegisterSchemas")[0])
    assert request.descriptor_set == descriptors
    assert request.dry_run

    compared = pb.CheckCompatibilityResponse(compatible=True)
    gateway.answer("CheckCompatibility", compared.SerializeToString())
    assert certes("schemas", "check", *named).exit_code == 0
    assert (
        pb.CheckCompatibilityRequest.FromString(gateway.requests("CheckCompatibility")[0]).descriptor_set == descriptors
    )


def test_faults_of_a_descriptor_set_are_told_too(certes, gateway, tmp_path):
    (tmp_path / "set.binpb").write_bytes(b"")
    gateway.refuse(
        "RegisterSchemas", refusal("SCHEMA_MALFORMED", "bad: 1 error. a.proto: x", ("a.proto", "a.proto: x"))
    )
    named = ["--descriptor-set", str(tmp_path / "set.binpb"), "--broker", gateway.address]
    assert "a.proto: x\nError: " in certes("schemas", "push", *named).stderr


def test_a_descriptor_set_that_is_none_is_a_mistake(certes, gateway, tmp_path):
    (tmp_path / "set.binpb").write_bytes(b"\xff")
    named = ["--descriptor-set", str(tmp_path / "set.binpb"), "--broker", gateway.address]
    result = certes("schemas", "push", *named)
    assert (result.exit_code, gateway.calls) == (2, [])
    assert "no FileDescriptorSet" in result.stderr
    assert certes("schemas", "push", str(tmp_path), *named).exit_code == 2


def test_an_answer_that_no_gateway_gives_is_told_as_one(certes, gateway, tmp_path):
    (tmp_path / "set.binpb").write_bytes(b"")
    gateway.answer("RegisterSchemas", b"<html>")
    named = ["--descriptor-set", str(tmp_path / "set.binpb"), "--broker", gateway.address]
    result = certes("schemas", "push", *named)
    assert result.exit_code == 3
    assert "does not speak as a Certes gateway" in result.stderr
