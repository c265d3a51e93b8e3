from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from hypothesis import given
from hypothesis import strategies as st

from certes.v1 import options_pb2
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.schemas import VersionName
from certes_broker.domain.uris import parse_event_type
from certes_broker.schemas.compiling import limits
from certes_broker.schemas.compiling.binding import bind
from certes_broker.schemas.compiling.descriptor_sets import checked_set
from certes_broker.schemas.compiling.shared_files import shared_descriptors
from certes_broker.schemas.version_files import VersionFiles
from tests.unit.schemas.compiling.schema_sets import OPTIONS, schema_file, schema_set, text_field

VECTORS = json.loads((Path(__file__).resolve().parents[3] / "vectors" / "event_types.json").read_text())["types"]
OWN = "events.orders.example"
PATH = "orders/v1/orders.proto"


def types(*files: FileDescriptorProto) -> list[str]:
    return [f"{version.name}/{name}" for version in bind(schema_set(*files), OWN) for name, _ in version.event_types]


def parsed(version: VersionFiles, path: str = PATH) -> FileDescriptorProto:
    files = {file.name: file for file in map(FileDescriptorProto.FromString, version.files)}
    return files[path]


def refused(*files: FileDescriptorProto) -> Invalid:
    with pytest.raises(Invalid) as refusal:
        bind(schema_set(*files), OWN)
    return refusal.value


def test_what_is_said_is_the_event_uri():
    schema = {"domain": "other.example", "namespace": "payments/cards", "version": 3}
    assert types(schema_file(events={"Paid": {"name": "card_paid"}}, schema=schema)) == [
        "other.example/payments/cards/3/card_paid"
    ]


def test_what_is_not_said_has_a_default():
    assert types(schema_file(events={"OrderPaid": {}}, package="orders.v2")) == [f"{OWN}/_/2/order_paid"]


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if vector["event"] is not None and vector["broker_domain"]],
    ids=lambda vector: vector["why"],
)
def test_an_sdk_makes_the_event_uri_that_the_broker_makes(vector):
    file = schema_file(package=vector["package"], events={vector["message"]: vector["event"]}, schema=vector["schema"])
    [version] = bind(schema_set(file), vector["broker_domain"])
    assert [f"{version.name}/{name}" for name, _ in version.event_types] == [vector["expect"]]


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("orders.v1", 1),
        ("my.events.v2", 2),
        ("v7", 7),
        ("orders.v10", 10),
        ("", 1),
        ("orders", 1),
        ("v2.orders", 1),
        ("orders.v2beta1", 1),
        ("orders.v02", 1),
        ("orders.dev2", 1),
        ("orders.V2", 1),
    ],
)
def test_the_version_is_the_number_in_the_last_part_of_the_package(package, version):
    (bound,) = bind(schema_set(schema_file(package=package, events={"Paid": {}})), OWN)
    assert bound.name.version == version


def test_a_version_that_is_said_goes_before_that_of_the_package():
    assert types(schema_file(package="orders.v2", events={"Paid": {}}, schema={"version": 5})) == [f"{OWN}/_/5/paid"]


def test_the_domain_is_compared_in_lower_case():
    assert types(schema_file(events={"Paid": {}}, schema={"domain": "Events.Orders.EXAMPLE"})) == [f"{OWN}/_/1/paid"]


def test_both_options_are_written_back_complete():
    file = schema_file(events={"OrderPaid": {"options": [{"name": "by", "field": "id"}]}}, schema={"namespace": "shop"})
    (bound,) = bind(schema_set(file), OWN)
    stamped = parsed(bound)
    schema = stamped.options.Extensions[options_pb2.schema]
    assert (schema.domain, schema.namespace, schema.version) == (OWN, "shop", 1)
    event = stamped.message_type[0].options.Extensions[options_pb2.event]
    assert event.name == "order_paid"
    assert [(option.name, option.field) for option in event.options] == [("by", "id")]
    assert not file.message_type[0].options.Extensions[options_pb2.event].HasField("name"), (
        "the given set is left alone"
    )


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"domain": ""}, "domain"),
        ({"domain": "orders.example:443"}, "no port"),
        ({"domain": "https://orders.example"}, "domain"),
        ({"domain": "orders.example/shop"}, "has no '/'"),
        ({"domain": "127.0.0.1"}, "DNS name"),
        ({"domain": "*"}, "domain"),
        ({"domain": "orders..example"}, "empty"),
        ({"domain": "a" * 300}, "63"),
        ({"namespace": ""}, "empty"),
        ({"namespace": "Shop"}, "namespace 'Shop'"),
        ({"namespace": "shop/"}, "empty"),
        ({"namespace": "/shop"}, "empty"),
        ({"namespace": "*"}, "namespace"),
        ({"namespace": "shop cards"}, "namespace"),
        ({"namespace": "/".join("a" * 129)}, "128"),
        ({"version": 0}, "version"),
        ({"version": 2**32 - 1}, "version"),
    ],
)
def test_a_malformed_place_is_refused(schema, problem):
    refusal = refused(schema_file(events={"Paid": {}}, schema=schema))
    assert refusal.reason is Reason.SCHEMA_MALFORMED
    assert problem in refusal.message
    assert [violation.field for violation in refusal.violations] == [PATH]
    assert len(refusal.message) < 500


def test_version_zero_of_a_package_is_refused_too():
    assert "orders.v0" in refused(schema_file(package="orders.v0", events={"Paid": {}})).message


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({"name": ""}, "word"),
        ({"name": "Paid"}, "word"),
        ({"name": "paid/late"}, "word"),
        ({"name": "*"}, "word"),
        ({"name": "pa\nid"}, "word"),
        ({"name": "_paid"}, "begins with '_'"),
        ({"name": "_version"}, "begins with '_'"),
        ({"name": "a" * 2048}, "2048 characters"),
    ],
)
def test_a_malformed_name_is_refused(event, problem):
    refusal = refused(schema_file(events={"Paid": event}))
    assert refusal.reason is Reason.SCHEMA_MALFORMED
    assert problem in refusal.message
    assert refusal.message.isprintable()


def test_a_message_whose_own_name_is_no_event_name_needs_another():
    assert "say another in the option" in refused(schema_file(events={"_Paid": {}})).message
    assert types(schema_file(events={"_Paid": {"name": "paid"}})) == [f"{OWN}/_/1/paid"]


def test_two_messages_cannot_be_one_event_type():
    first = schema_file(events={"OrderPaid": {}})
    second = schema_file("b.proto", package="b", events={"Other": {"name": "order_paid"}})
    refusal = refused(first, second)
    assert "b.Other and orders.v1.OrderPaid are both" in refusal.message
    assert types(first, schema_file("b.proto", package="b.v2", events={"OrderPaid": {}})) == [
        f"{OWN}/_/1/order_paid",
        f"{OWN}/_/2/order_paid",
    ]


def test_a_message_within_another_cannot_be_an_event_type():
    file = schema_file(events={"Paid": {}})
    inner = file.message_type[0].nested_type.add(name="Part").nested_type.add(name="Deep")
    inner.options.Extensions[options_pb2.event].SetInParent()
    assert "Paid.Part.Deep: a message within another" in refused(file).message


def test_a_set_that_binds_nothing_is_refused_with_how_to_bind():
    refusal = refused(schema_file(messages=["Paid"], schema={"namespace": "shop"}))
    assert refusal.reason is Reason.SCHEMA_MALFORMED
    assert "option (certes.v1.schema)" in refusal.hint
    assert "option (certes.v1.event)" in refusal.hint


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([{"name": "by", "field": "nothing"}], "nothing"),
        ([{"name": "by", "field": ""}], "''"),
        ([{"name": "", "field": "id"}], "word"),
        ([{"name": "By", "field": "id"}], "word"),
        ([{"name": "by", "field": "id"}, {"name": "by", "field": "id"}], "declared twice"),
        ([{"name": "by", "field": "many"}], "no singular field"),
        ([{"name": "by", "field": "id.x"}], "no singular message"),
        ([{"name": "by", "field": "raw"}], "only strings"),
        ([{"name": "by", "field": ".".join(["id"] * 1000)}], "no singular message"),
    ],
)
def test_a_subscription_option_that_cannot_be_is_refused(options, problem):
    file = schema_file(events={"Paid": {"options": options}})
    message = file.message_type[0]
    message.field.add(name="many", number=2, type=Field.TYPE_STRING, label=Field.LABEL_REPEATED)
    message.field.add(name="raw", number=3, type=Field.TYPE_BYTES, label=Field.LABEL_OPTIONAL)
    refusal = refused(file)
    assert refusal.reason is Reason.SCHEMA_MALFORMED
    assert problem in refusal.message or len(options[0]["field"]) > 1000
    assert len(refusal.message) < 700
    assert all(len(violation.description) < 600 for violation in refusal.violations)


def test_subscription_options_are_counted():
    file = schema_file(events={"Paid": {}})
    event = file.message_type[0].options.Extensions[options_pb2.event]
    for number in range(limits.MAXIMUM_OPTIONS + 1):
        event.options.add(name=f"o{number}", field="id")
    assert refused(file).reason is Reason.SCHEMA_TOO_LARGE


def test_event_types_are_counted():
    events = {f"E{number}": {} for number in range(limits.MAXIMUM_EVENT_TYPES + 1)}
    assert refused(schema_file(events=events)).reason is Reason.SCHEMA_TOO_LARGE


def test_every_version_gets_its_own_event_files_and_all_that_they_import():
    first = schema_file("first.proto", "a", events={"One": {}}, imports=["parts.proto"])
    second = schema_file("second.proto", "b.v2", events={"Two": {}}, imports=["first.proto"])
    parts = schema_file("parts.proto", "p", messages=["Part"])
    unused = schema_file("unused.proto", "u", messages=["Unused"], schema={"version": 9})
    one, two = bind(schema_set(parts, first, second, unused), OWN, {"first.proto": "1", "unused.proto": "u"})
    assert (one.name, one.event_types) == (VersionName(OWN, "_", 1), (("one", "a.One"),))
    assert (two.name, two.event_types) == (VersionName(OWN, "_", 2), (("two", "b.v2.Two"),))
    paths = [[FileDescriptorProto.FromString(file).name for file in version.files] for version in (one, two)]
    assert paths[0][2:] == ["parts.proto", "first.proto"]
    assert paths[1][2:] == ["parts.proto", "first.proto", "second.proto"]
    assert (one.sources, two.sources) == ((("first.proto", "1"),), (("first.proto", "1"),))


def test_what_every_broker_has_is_imported_and_never_bound():
    push = "certes/community/github/v1/push_event.proto"
    file = schema_file(events={"Paid": {}}, imports=[push])
    (bound,) = bind(checked_set(schema_set(file)), OWN)
    assert bound.event_types == (("paid", "orders.v1.Paid"),)
    assert parsed(bound, push) == shared_descriptors()[push]


def test_a_foreign_copy_of_the_options_means_the_same():
    """It has the same numbers under another path, and nobody here has seen its descriptors."""
    copy = FileDescriptorProto()
    copy.CopyFrom(shared_descriptors()[OPTIONS])
    copy.name = "vendor/certes/v1/options.proto"
    file = schema_file(events={"Paid": {"options": [{"name": "by", "field": "id"}]}})
    file.dependency[:] = [copy.name]
    found = schema_set(copy, file)
    del found.file[1]
    (bound,) = bind(found, OWN)
    assert bound.event_types == (("paid", "orders.v1.Paid"),)


def test_faults_are_said_of_the_request_with_line_and_column_where_the_source_is_known():
    file = schema_file(events={"Paid": {"name": "Bad"}, "Sent": {}}, schema={"version": 0})
    place = file.source_code_info.location.add(path=[4, 0, 7, options_pb2.event.number], span=[4, 2, 60])
    file.source_code_info.location.add(path=[4, 0], span=[3, 0, 6, 1])
    with pytest.raises(Invalid) as refusal:
        bind(schema_set(file), OWN, {"other.proto": "", PATH: ""})
    found = [(violation.field, violation.description.partition(": ")[0]) for violation in refusal.value.violations]
    assert found == [("files[1]", PATH), ("files[1]", f"{PATH}:5:3")]
    file.source_code_info.location.remove(place)
    with pytest.raises(Invalid) as refusal:
        bind(schema_set(file), OWN)
    assert f"{PATH}:4:1: Paid" in refusal.value.violations[1].description


def test_of_the_source_information_the_comments_are_kept_and_can_be_shown():
    file = schema_file(events={"Paid": {}})
    file.source_code_info.location.add(path=[4, 0], span=[3, 0, 6, 1], leading_comments=" An order\x1b[2J was paid.\n")
    file.source_code_info.location.add(path=[4, 0, 2, 0], span=[4, 0, 6])
    file.source_code_info.location.add(path=[12], span=[0, 0, 6], leading_detached_comments=[" Licence\n"])
    (bound,) = bind(schema_set(file), OWN)
    (kept,) = parsed(bound).source_code_info.location
    assert (list(kept.path), kept.leading_comments) == ([4, 0], " An order [2J was paid.\n")


def test_a_version_has_a_size_that_can_be_shown():
    file = schema_file(events={"Paid": {}})
    file.source_code_info.location.add(path=[4, 0], span=[0, 0, 1], leading_comments="x" * limits.MAXIMUM_VERSION_BYTES)
    refusal = refused(file)
    assert refusal.reason is Reason.SCHEMA_TOO_LARGE
    assert f"{OWN}/_/1" in refusal.message


def test_so_have_all_versions_of_a_registration():
    parts = schema_file("parts.proto", "p", messages=["Part"])
    parts.source_code_info.location.add(path=[4, 0], span=[0, 0, 1], leading_comments="x" * (1 << 20))
    files = [schema_file(f"{n}.proto", f"a.v{n}", events={"E": {}}, imports=["parts.proto"]) for n in range(1, 5)]
    assert "Register fewer versions" in str(refused(parts, *files))


def test_a_file_that_several_versions_import_is_kept_once():
    parts = schema_file("parts.proto", "p", messages=["Part"])
    files = [schema_file(f"{n}.proto", f"a.v{n}", events={"E": {}}, imports=["parts.proto"]) for n in range(1, 9)]
    first, *others = bind(schema_set(parts, *files), OWN)
    kept = {id(file) for file in first.files}
    assert all(len(kept & {id(file) for file in version.files}) == len(kept) - 1 for version in others)


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 2**32 - 1), st.text(max_size=20))
def test_whatever_is_said_it_becomes_an_event_uri_or_is_refused(domain, namespace, version, name):
    schema = {"domain": domain, "namespace": namespace, "version": version}
    try:
        (text,) = types(schema_file(events={"Paid": {"name": name}}, schema=schema))
    except Invalid as refusal:
        assert refusal.reason is Reason.SCHEMA_MALFORMED  # noqa: PT017 (it may be refused or not)
    else:
        event_type = parse_event_type(text)
        assert (event_type.domain, event_type.namespace) == (domain.lower(), namespace)
        assert (event_type.version, event_type.name) == (version, name)


def test_binding_again_what_was_bound_changes_nothing():
    file = schema_file(events={"OrderPaid": {}}, package="orders.v2")
    file.message_type[0].field.append(text_field("note", 2))
    (once,) = bind(schema_set(file), OWN)
    again = schema_set()
    again.ClearField("file")
    again.file.extend(map(FileDescriptorProto.FromString, once.files))
    assert bind(again, "another.example") == (once,)
