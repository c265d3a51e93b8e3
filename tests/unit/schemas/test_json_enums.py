"""A name that an enum does not have is a mistake where a document must be meant as it stands."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.text_format import Parse

from certes.v1 import source_service_pb2, subscription_service_pb2
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.json_table import JsonTable, JsonTables
from certes_broker.schemas.registry import Registry

FILE = """
name: "lamps.proto" package: "lamps" syntax: "proto3"
enum_type { name: "Colour" value { name: "NONE" number: 0 } value { name: "RED" number: 1 } value { name: "BLUE" number: 2 } }
message_type {
  name: "Lamp"
  field { name: "colour" number: 1 type: TYPE_ENUM type_name: ".lamps.Colour" label: LABEL_OPTIONAL }
  field { name: "colours" number: 2 type: TYPE_ENUM type_name: ".lamps.Colour" label: LABEL_REPEATED }
  field { name: "by_room" number: 3 type: TYPE_MESSAGE type_name: ".lamps.Lamp.ByRoomEntry" label: LABEL_REPEATED }
  field { name: "next_to" number: 4 type: TYPE_MESSAGE type_name: ".lamps.Lamp" label: LABEL_REPEATED }
  nested_type {
    name: "ByRoomEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_ENUM type_name: ".lamps.Colour" label: LABEL_OPTIONAL }
  }
}
message_type { name: "Plain" field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } }
"""


def table(name: str) -> tuple[JsonTables, JsonTable]:
    pool = DescriptorPool()
    pool.Add(Parse(FILE, FileDescriptorProto()))
    tables = JsonTables()
    return tables, tables.table(pool.FindMessageTypeByName(name))


def misfit(document: dict[str, Any], name: str = "lamps.Lamp") -> tuple[str, str] | None:
    tables, lamp = table(name)
    lamp.message(document)
    return tables.enum_names.misfit(lamp, document)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"colour": "GREEN"}, "colour"),
        ({"colour": "red"}, "colour"),
        ({"colour": ""}, "colour"),
        ({"colours": ["RED", "GREEN"]}, "colours[1]"),
        ({"byRoom": {"hall": "RED", "attic": "GREEN"}}, "byRoom[attic]"),
        ({"nextTo": [{}, {"next_to": [{"colour": "GREEN"}]}]}, "nextTo[1].next_to[0].colour"),
    ],
)
def test_a_name_that_the_enum_does_not_have_is_found(document, path):
    found = misfit(document)
    assert found is not None
    assert found[0] == path
    assert "it has RED, BLUE" in found[1]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"colour": "RED", "colours": ["BLUE", 2, 77], "byRoom": {"hall": "NONE"}},
        {"colour": "2"},
        {"colour": 5},
        {"colour": None, "nextTo": [], "unknown": "GREEN"},
    ],
)
def test_what_an_enum_takes_is_no_mistake(document):
    assert misfit(document) is None


def test_what_has_no_enums_is_not_looked_at():
    assert misfit({"name": "GREEN"}, "lamps.Plain") is None


@pytest.mark.parametrize(
    ("request_class", "document", "path"),
    [
        (
            subscription_service_pb2.CreateSubscriptionRequest,
            {"subscription": {"webhook": {"url": "https://a.example", "format": "ORIGINAL"}}},
            "subscription.webhook.format",
        ),
        (
            source_service_pb2.CreateSourceRequest,
            {"source": {"signature": {"hmac": {"header": "x", "algorithm": "sha256"}}}},
            "source.signature.hmac.algorithm",
        ),
    ],
)
def test_a_misspelt_choice_in_a_request_is_refused_and_never_the_default_one(request_class, document, path):
    with pytest.raises(Invalid) as refusal:
        EventDocuments(Registry(community_versions())).read(request_class, document)
    assert refusal.value.reason is Reason.MALFORMED_REQUEST
    assert refusal.value.violations[0].field == path
