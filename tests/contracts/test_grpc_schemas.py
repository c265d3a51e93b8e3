"""SchemaService: schemas registered, shown, listed, compared, and events held against them."""

from __future__ import annotations

import itertools
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1 import options_pb2, schema_pb2
from certes.v1 import schema_service_pb2 as pb
from certes.v1.schema_service_pb2_grpc import SchemaServiceStub
from tests.contracts.grpc_callers import PUSH, TIMEOUT, Caller, Refusal, event, refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNKNOWN = b"\x80\x7d\x01"
"""A field 2000 on the wire, which is the integer 1."""

_numbers = itertools.count(1)
_FIELDS = " ".join(f"string a{number} = {number};" for number in range(1, 31))

SOURCE = """syntax = "proto3";
package meetly.v1;
import "certes/v1/options.proto";
import "google/protobuf/timestamp.proto";
option (certes.v1.schema) = {domain: "DOMAIN"};
// Somebody was invited.
//
// To a meeting.
message Invited {
  option (certes.v1.event) = {options {name: "room" field: "room.name"} options {name: "kind" field: "kind"}};
  // Who was.
  string email = 1;
  Room room = 2;
  repeated Guest guests = 3;
  enum Kind {
    KIND_UNSPECIFIED = 0;
    IN_PERSON = 1;
  }
  Kind kind = 4;
  map<string, Room> others = 5;
}
// Where.
message Room {
  string name = 1;
  optional int64 floor = 2;
  google.protobuf.Timestamp opened = 3;
}
message Guest {
  oneof who {
    string name = 1;
    Guest bringer = 2;
  }
}
"""


class Schemas:
    """Calls the service, for a domain that no other test has."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub
        self.domain = f"events{next(_numbers)}.meetly.com"

    def type(self, name: str = "invited", version: int = 1) -> str:
        return f"{self.domain}/_/{version}/{name}"

    def source(self, text: str = SOURCE, path: str = "meetly/v1/invited.proto") -> schema_pb2.SourceFile:
        return schema_pb2.SourceFile(path=path, content=text.replace("DOMAIN", self.domain))

    def ask(self, rpc: str, **fields: Any) -> Any:
        return getattr(self.stub, rpc)(getattr(pb, f"{rpc}Request")(**fields), timeout=TIMEOUT)

    def register(self, *sources: schema_pb2.SourceFile, **fields: Any) -> pb.RegisterSchemasResponse:
        return self.ask("RegisterSchemas", files={"files": sources or [self.source()]}, **fields)

    def register_small(self, *names: str, version: int = 1) -> pb.RegisterSchemasResponse:
        """Registers event types of nothing but a name."""
        return self.register(self.small(*names, version=version))

    def small(self, *names: str, version: int = 1) -> schema_pb2.SourceFile:
        messages = "".join(f"message {name} {{ option (certes.v1.event) = {{}}; }}\n" for name in names)
        text = f"""syntax = "proto3";
package small.v{version};
import "certes/v1/options.proto";
option (certes.v1.schema) = {{domain: "DOMAIN"}};
{messages}"""
        return self.source(text, f"small/v{version}.proto")

    def register_large(self, version: int) -> pb.RegisterSchemasResponse:
        """Registers an event type with a comment of 800 KB."""
        padding = "\n".join(f"// {'x' * 100}" for _ in range(8_000))
        text = f"""syntax = "proto3";
package large.v{version};
import "certes/v1/options.proto";
option (certes.v1.schema) = {{domain: "DOMAIN"}};
{padding}
message Large {{ option (certes.v1.event) = {{}}; }}
"""
        return self.register(self.source(text, f"large/v{version}.proto"))

    def listed(self, **fields: Any) -> pb.ListSchemasResponse:
        return self.ask("ListSchemas", **{"domain": self.domain, **fields})

    def pages(self, **fields: Any) -> list[pb.ListSchemasResponse]:
        pages = [self.listed(**fields)]
        while pages[-1].next_page_token:
            pages.append(self.listed(**fields, page_token=pages[-1].next_page_token))
        return pages

    def refused(self, rpc: str, **fields: Any) -> Refusal:
        return refused(lambda: self.ask(rpc, **fields))


@pytest.fixture
def schemas(grpc_channel: grpc.Channel, caller: Caller) -> Schemas:
    return Schemas(SchemaServiceStub(grpc_channel))


def names(answer: Any) -> list[str]:
    return [schema.type.rpartition("/")[2] for schema in answer.schemas]


# RegisterSchemas.


def test_registering_answers_with_the_schemas_and_their_completed_descriptors(schemas):
    answer = schemas.register()
    [schema], [version], [comparison] = answer.schemas, answer.versions, answer.comparisons
    assert (schema.type, schema.message, schema.revision) == (schemas.type(), "meetly.v1.Invited", 1)
    assert schema.file == "meetly/v1/invited.proto"
    assert schema.comment == "Somebody was invited.\n\nTo a meeting."
    assert schema.origin == schema_pb2.Schema.ORIGIN_REGISTERED
    assert schema.HasField("register_time")
    assert [(one.name, one.field, one.field_type) for one in schema.options] == [
        ("kind", "kind", "meetly.v1.Invited.Kind"),
        ("room", "room.name", "string"),
    ]
    assert (version.domain, version.namespace, version.version, version.revision) == (schemas.domain, "_", 1, 1)
    assert not version.sources
    assert (comparison.registered_revision, comparison.compatible) == (0, True)
    file = version.descriptor_set.file[-1]
    assert file.options.Extensions[options_pb2.schema] == options_pb2.SchemaBinding(
        domain=schemas.domain, namespace="_", version=1
    )
    assert file.message_type[0].options.Extensions[options_pb2.event].name == "invited"


def test_the_descriptors_of_an_answer_can_be_registered_and_change_nothing(schemas):
    first = schemas.register()
    again = schemas.ask("RegisterSchemas", descriptor_set=first.versions[0].descriptor_set)
    # But for the source, which a descriptor set has not.
    assert again.versions[0].descriptor_set == first.versions[0].descriptor_set


def test_descriptors_may_have_options_that_nobody_else_knows(schemas):
    files = schemas.register(dry_run=True).versions[0].descriptor_set
    files.file[-1].message_type[0].field[0].options.MergeFromString(b"\x82\xf1\x17\x04\x0a\x02hi")
    answer = schemas.ask("RegisterSchemas", descriptor_set=files)
    assert answer.versions[0].descriptor_set.file[-1].message_type[0].field[0].options.ByteSize() > 0


def test_what_does_not_compile_is_refused_with_the_place_of_each_fault(schemas):
    refusal = schemas.refused(
        "RegisterSchemas", files={"files": [schemas.source(SOURCE.replace("string email", "strin email"))]}
    )
    assert (refusal.code, refusal.reason) == (INVALID, "SCHEMA_MALFORMED")
    assert refusal.fields == ["files[0]"]
    assert "meetly/v1/invited.proto:12:3: " in refusal.message


def test_a_breaking_change_is_refused_with_a_violation_for_each(schemas):
    schemas.register()
    text = SOURCE.replace("string email = 1;", "").replace("optional int64 floor", "optional int32 floor")
    refusal = schemas.refused("RegisterSchemas", files={"files": [schemas.source(text)]})
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SCHEMA_INCOMPATIBLE")
    assert sorted(refusal.fields) == ["meetly.v1.Invited.email", "meetly.v1.Room.floor"]
    assert refusal.metadata["next_version"] == f"{schemas.domain}/_/2"
    assert refusal.metadata["version"] == f"{schemas.domain}/_/1"


def test_an_answer_about_large_versions_leaves_descriptors_out_rather_than_be_too_large(schemas):
    for version in range(1, 6):
        schemas.register_large(version)
    answer = schemas.register(*(schemas.small("More", version=version) for version in range(1, 6)))
    assert [version.revision for version in answer.versions] == [2, 2, 2, 2, 2]
    assert answer.ByteSize() < 4 << 20
    assert answer.versions[0].descriptor_set.file
    assert not answer.versions[-1].descriptor_set.file


def test_what_does_not_fit_into_an_answer_is_counted(schemas):
    text = SOURCE.replace(
        "message Guest {", "".join(f"message M{n} {{ {_FIELDS} }}" for n in range(150)) + "message Guest {"
    )
    answer = schemas.register(schemas.source(text))
    assert answer.schemas_left_out == 0
    changed = schemas.ask("CheckCompatibility", files={"files": [schemas.source(text.replace("string a", "bytes a"))]})
    (comparison,) = changed.comparisons
    assert not changed.compatible
    assert comparison.changes_left_out > 0
    assert comparison.changes_left_out + len(comparison.changes) == 150 * 30
    refusal = schemas.refused("RegisterSchemas", files={"files": [schemas.source(text.replace("string a", "bytes a"))]})
    assert refusal.metadata["breaking_changes"] == "4500"
    assert int(refusal.metadata["violations_left_out"]) + len(refusal.fields) == 150 * 30


def test_the_event_types_of_a_large_registration_are_told_as_many_as_fit(schemas):
    comment = "x" * 4_000
    for part in ("a", "b"):
        messages = "".join(
            f"// {comment}\nmessage {part.upper()}{n} {{ option (certes.v1.event) = {{}}; }}\n" for n in range(180)
        )
        answer = schemas.register(
            schemas.source(
                f"""syntax = "proto3"; package wide.v1; import "certes/v1/options.proto";
option (certes.v1.schema) = {{domain: "DOMAIN" namespace: "wide"}};
{messages}""",
                f"wide/{part}.proto",
            )
        )
    assert len(answer.schemas) + answer.schemas_left_out == 360
    assert answer.schemas_left_out > 0
    assert answer.ByteSize() < 4 << 20


def test_the_domain_of_the_community_catalogue_is_refused(schemas):
    schemas.domain = "community.certes.dev"
    refusal = refused(schemas.register)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCHEMA_NOT_YOURS")


@pytest.mark.parametrize("rpc", ["RegisterSchemas", "CheckCompatibility"])
def test_no_schemas_are_refused(schemas, rpc):
    assert schemas.refused(rpc).reason == "FIELD_REQUIRED"


def test_a_dry_run_registers_nothing(schemas):
    assert schemas.register(dry_run=True).schemas[0].revision == 1
    assert not schemas.listed().schemas


# GetSchema.


def test_a_schema_is_shown_with_sources_and_messages(schemas):
    schemas.register()
    answer = schemas.ask("GetSchema", type=schemas.type().upper().replace("/_/1/INVITED", "/_/1/invited"))
    assert answer.schema.type == schemas.type()
    assert [source.path for source in answer.version.sources] == ["meetly/v1/invited.proto"]
    assert schemas.source().content == answer.version.sources[0].content
    pool = DescriptorPool()
    for file in answer.version.descriptor_set.file:
        pool.Add(file)
    assert pool.FindMessageTypeByName(answer.schema.message)
    assert [message.name for message in answer.messages] == ["meetly.v1.Invited", "meetly.v1.Room", "meetly.v1.Guest"]
    invited, room, guest = answer.messages
    assert invited.comment.startswith("Somebody was invited.")
    told = {field.name: field for field in (*invited.fields, *room.fields, *guest.fields)}
    assert invited.fields[0].comment == "Who was."
    assert (told["guests"].type, told["guests"].repeated, told["guests"].described) == ("meetly.v1.Guest", True, True)
    assert (told["others"].type, told["others"].described) == ("map<string, meetly.v1.Room>", True)
    assert list(told["kind"].enum_values) == ["KIND_UNSPECIFIED", "IN_PERSON"]
    assert (told["floor"].type, told["floor"].optional) == ("int64", True)
    assert (told["opened"].type, told["opened"].described) == ("google.protobuf.Timestamp", False)
    assert told["bringer"].oneof == "who"


def test_a_schema_of_the_catalogue_is_shown_with_its_comments(schemas):
    answer = schemas.ask("GetSchema", type=PUSH)
    assert answer.schema.origin == schema_pb2.Schema.ORIGIN_COMMUNITY
    assert not answer.schema.HasField("register_time")
    assert answer.schema.comment
    assert answer.messages[0].name == PushEvent.DESCRIPTOR.full_name
    assert any(field.comment for field in answer.messages[0].fields)
    assert any(source.path.endswith("/push_event.proto") for source in answer.version.sources)


def test_the_schema_of_a_system_event_is_shown(schemas):
    schemas.register()
    answer = schemas.ask("GetSchema", type=schemas.type("_version"))
    assert (answer.schema.message, answer.schema.origin) == ("certes.v1.VersionUpdate", schema_pb2.Schema.ORIGIN_SYSTEM)


@pytest.mark.parametrize(
    ("uri", "code", "reason"),
    [
        ("", INVALID, "FIELD_REQUIRED"),
        ("nonsense", INVALID, "MALFORMED_URI"),
        ("events.meetly.com/_/1/unheard_of", grpc.StatusCode.NOT_FOUND, "UNKNOWN_EVENT_TYPE"),
    ],
)
def test_a_schema_that_is_not_there_is_refused(schemas, uri, code, reason):
    refusal = schemas.refused("GetSchema", type=uri)
    assert (refusal.code, refusal.reason) == (code, reason)


# ListSchemas.


def test_schemas_are_listed_by_event_uri_and_by_what_is_asked_for(schemas):
    schemas.register_small("Moved", "Booked")
    schemas.register_small("Closed", version=2)
    assert [schema.type for schema in schemas.listed().schemas] == [
        schemas.type("booked"),
        schemas.type("moved"),
        schemas.type("closed", 2),
    ]
    assert names(schemas.listed(pattern=f"{schemas.domain}/_/1/*")) == ["booked", "moved"]
    assert names(schemas.listed(pattern=f"{schemas.domain}/_/*/_drift")) == ["_drift", "_drift"]
    assert names(schemas.listed(namespace="other")) == []
    assert "push" in names(schemas.listed(domain="Community.certes.dev", namespace="github", page_size=1000))
    assert not schemas.listed().versions


def test_pages_follow_each_other_whatever_is_registered_meanwhile(schemas):
    schemas.register_small("B", "D", "F")
    first = schemas.listed(page_size=2)
    assert names(first) == ["b", "d"]
    schemas.register_small("A", "B", "D", "E", "F")
    second = schemas.listed(page_size=2, page_token=first.next_page_token)
    assert (names(second), second.next_page_token) == (["e", "f"], "")


def test_a_full_view_has_each_version_once(schemas):
    schemas.register_small("A", "B", "C")
    schemas.register_small("D", version=2)
    pages = schemas.pages(page_size=2, view=pb.SCHEMA_VIEW_FULL)
    assert [names(page) for page in pages] == [["a", "b"], ["c", "d"]]
    assert [[version.version for version in page.versions] for page in pages] == [[1], [2]]
    assert all(version.descriptor_set.file and not version.sources for page in pages for version in page.versions)


def test_a_full_page_stays_below_three_mebibytes(schemas):
    for version in range(1, 6):
        schemas.register_large(version)
    pages = schemas.pages(view=pb.SCHEMA_VIEW_FULL)
    assert len(pages) > 1
    assert max(page.ByteSize() for page in pages) <= 3 << 20
    assert [version.version for page in pages for version in page.versions] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"page_size": 0}, "FIELD_INVALID"),
        ({"page_size": 1001}, "FIELD_INVALID"),
        ({"pattern": "*"}, "MALFORMED_PATTERN"),
        ({"view": 9}, "FIELD_INVALID"),
        ({"page_token": "nonsense"}, "PAGE_TOKEN_INVALID"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(schemas, fields, reason):
    assert schemas.refused("ListSchemas", **fields).reason == reason


def test_a_page_token_is_of_one_list_only(schemas):
    schemas.register_small("A", "B")
    token = schemas.listed(page_size=1).next_page_token
    assert schemas.refused("ListSchemas", domain="", page_token=token).reason == "PAGE_TOKEN_INVALID"


# CheckCompatibility.


def test_a_check_names_every_change_and_registers_nothing(schemas):
    schemas.register()
    text = SOURCE.replace("string email = 1;", "").replace("// Where.", "// The place.")
    answer = schemas.ask("CheckCompatibility", files={"files": [schemas.source(text)]})
    [comparison] = answer.comparisons
    assert (answer.compatible, comparison.compatible, comparison.registered_revision) == (False, False, 1)
    first = comparison.changes[0]
    assert (first.rule, first.element, first.breaking) == ("FIELD_REMOVED", "meetly.v1.Invited.email", True)
    assert first.description
    assert "meetly.v1.Room" in {change.element for change in comparison.changes if not change.breaking}
    assert schemas.listed().schemas[0].revision == 1


# ValidateEvent.


def invited(schemas: Schemas, message: bytes = b"", **fields: Any) -> Any:
    data = AnyMessage(type_url="type.googleapis.com/meetly.v1.Invited", value=message)
    return event(type=schemas.type(), data=data, **fields)


def test_an_event_that_would_be_taken_has_no_problem(schemas):
    schemas.register()
    answer = schemas.ask("ValidateEvent", event=invited(schemas))
    assert not answer.HasField("problem")
    assert answer.schema.type == schemas.type()
    assert not answer.unknown_fields


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"everyone": False}, "FIELD_INVALID", "event.everyone"),
        ({"source": ""}, "FIELD_REQUIRED", "event.source"),
        ({"data": None}, "FIELD_REQUIRED", "event.data"),
        ({"type": "events.meetly.com/_/1/unheard_of"}, "UNKNOWN_EVENT_TYPE", "event.type"),
    ],
)
def test_the_problem_is_what_publishing_would_answer(schemas, fields, reason, field):
    answer = schemas.ask("ValidateEvent", event=event(**fields))
    assert answer.problem.reason == reason
    assert [violation.field for violation in answer.problem.field_violations] == [field]
    assert answer.problem.code == INVALID.value[0]
    assert answer.HasField("schema") == (reason != "UNKNOWN_EVENT_TYPE")


def test_bytes_that_are_not_the_message_are_a_problem(schemas):
    schemas.register()
    answer = schemas.ask("ValidateEvent", event=invited(schemas, b"\xff"))
    assert answer.problem.reason == "DATA_MALFORMED"


def test_what_the_schema_does_not_know_is_listed_and_no_problem(schemas):
    schemas.register()
    answer = schemas.ask("ValidateEvent", event=invited(schemas, UNKNOWN + b"\x12\x03" + UNKNOWN))
    assert not answer.HasField("problem")
    assert list(answer.unknown_fields) == ["2000", "room.2000"]


def test_no_event_is_refused(schemas):
    assert schemas.refused("ValidateEvent").fields == ["event"]


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({}, "FIELD_REQUIRED", "uri"),
        ({"uri": "https://localhost"}, "MALFORMED_URI", "uri"),
        ({"uri": "events://localhost/Rooms"}, "MALFORMED_URI", "uri"),
        ({"uri": "events://localhost", "page_size": 0}, "FIELD_INVALID", "page_size"),
        ({"uri": "events://localhost", "view": 9}, "FIELD_INVALID", "view"),
        ({"uri": "events://localhost", "page_token": "x"}, "PAGE_TOKEN_INVALID", "page_token"),
    ],
)
def test_other_gateways_are_asked_by_what_can_be_meant(schemas, fields, reason, field):
    refusal = schemas.refused("DiscoverSchemas", **fields)
    assert (refusal.reason, refusal.fields) == (reason, [field])


def test_a_registered_type_is_published_and_delivered_at_once(schemas, caller):
    schemas.register()
    caller.create(selectors=[{"pattern": schemas.type(), "options": {"room": "blue"}}])
    stream = caller.open()
    blue, red = (b"\x12\x06\x0a\x04blue", b"\x12\x05\x0a\x03red")
    caller.publish(invited(schemas, red, id="red"), invited(schemas, blue, id="blue"))
    assert list(stream.take(1).values()) == ["blue"]


def test_a_descriptor_set_that_is_none_is_refused(schemas):
    assert schemas.refused("RegisterSchemas", descriptor_set=FileDescriptorSet()).reason == "SCHEMA_MALFORMED"
