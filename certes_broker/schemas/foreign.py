"""The schemas of other gateways, as their API answers: read with suspicion, shown, and never served as own.

Nothing of a foreign answer is linked or compiled here. What is kept are wire bytes, each checked to be what it says: a schema
whose type is an event URI, a version that bears a sound name. Whatever else an answer holds is left out, and so are letters
that no text should show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from certes.v1.schema_pb2 import Schema, SchemaVersion
from certes.v1.schema_service_pb2 import SCHEMA_VIEW_FULL, ListSchemasRequest, ListSchemasResponse
from certes_broker.domain.errors import Invalid
from certes_broker.domain.schemas import VersionName
from certes_broker.domain.uris import EventType, parse_event_type
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.worker.jobs import Converted

LIST_PATH: Final = "/certes.v1.SchemaService/ListSchemas"
CONTENT_TYPE: Final = "application/proto"
PAGE_SIZE: Final = 1000
"""How many schemas are asked for at once; a page that has more of anything is no answer to that."""

MOST_SCHEMA_BYTES: Final = 128 << 10
MOST_VERSION_BYTES: Final = 3 << 20
"""Both together have to fit into one answer of ours. What registers its schemas as this broker does has smaller ones."""
MOST_FILES: Final = 1_000


class ForeignAnswerMalformed(Exception):
    """An answer that no gateway gives; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ForeignSchema:
    """One schema of another gateway. `body` is a `certes.v1.Schema` that says where it comes from."""

    type: EventType
    body: bytes

    @property
    def version(self) -> VersionName:
        """The version that it belongs to."""
        return VersionName(self.type.domain, self.type.namespace, self.type.version)


@dataclass(frozen=True, slots=True)
class ForeignPage:
    """One page of another gateway's schemas. `versions` are `certes.v1.SchemaVersion`s, by their names."""

    schemas: tuple[ForeignSchema, ...]
    versions: tuple[tuple[VersionName, bytes], ...]
    next_page_token: str


def list_request(namespace: str, page_token: str) -> bytes:
    """Returns the body of a request for a page of schemas, with their descriptors."""
    request = ListSchemasRequest(namespace=namespace, page_size=PAGE_SIZE, page_token=page_token, view=SCHEMA_VIEW_FULL)
    return request.SerializeToString()


def read_foreign_page(_documents: EventDocuments, body: bytes, gateway: str) -> Converted:
    """Reads an answer of the gateway `events://…`. A job: what takes 4 MiB as bytes can take a hundred times as much read."""
    try:
        page = _read_page(body, gateway)
    except ForeignAnswerMalformed as error:
        return Converted(str(error))
    fact = {
        "types": [schema.type.text for schema in page.schemas],
        "versions": [list(name) for name, _ in page.versions],
        "next_page_token": page.next_page_token,
    }
    return Converted(fact, tuple(schema.body for schema in page.schemas) + tuple(wire for _, wire in page.versions))


def foreign_page_of(converted: Converted) -> ForeignPage:
    """Reads what `read_foreign_page` returned. Raises `ForeignAnswerMalformed`."""
    fact, blobs = converted
    if isinstance(fact, str):
        raise ForeignAnswerMalformed(fact)
    types = [parse_event_type(text) for text in fact["types"]]
    names = [VersionName(*name) for name in fact["versions"]]
    return ForeignPage(
        tuple(ForeignSchema(event_type, body) for event_type, body in zip(types, blobs[: len(types)], strict=True)),
        tuple(zip(names, blobs[len(types) :], strict=True)),
        fact["next_page_token"],
    )


def _read_page(body: bytes, gateway: str) -> ForeignPage:
    try:
        answer = ListSchemasResponse.FromString(body)
    except DecodeError:
        raise ForeignAnswerMalformed("the answer is no list of schemas") from None
    if max(len(answer.schemas), len(answer.versions)) > PAGE_SIZE:
        raise ForeignAnswerMalformed(f"one page has more than {PAGE_SIZE} schemas or versions")
    return ForeignPage(
        tuple(_read_schema(schema, gateway) for schema in answer.schemas),
        tuple(_read_version(version) for version in answer.versions),
        answer.next_page_token,
    )


def _read_schema(schema: Schema, gateway: str) -> ForeignSchema:
    try:
        event_type = parse_event_type(schema.type)
    except Invalid as error:
        raise ForeignAnswerMalformed(f"one of its schemas has no event URI: {error.message}") from None
    schema.DiscardUnknownFields()
    schema.type = event_type.text
    schema.origin = Schema.ORIGIN_FOREIGN
    schema.gateway = gateway
    schema.message, schema.file, schema.comment = map(_shown, (schema.message, schema.file, schema.comment))
    for option in schema.options:
        option.name, option.field, option.field_type = map(_shown, (option.name, option.field, option.field_type))
    if schema.ByteSize() > MOST_SCHEMA_BYTES:
        raise ForeignAnswerMalformed(f"the schema {event_type} has more than {MOST_SCHEMA_BYTES} bytes")
    return ForeignSchema(event_type, schema.SerializeToString())


def _read_version(version: SchemaVersion) -> tuple[VersionName, bytes]:
    name = VersionName(version.domain, version.namespace, version.version)
    try:
        parse_event_type(f"{name.text}/x")
    except Invalid as error:
        raise ForeignAnswerMalformed(f"one of its versions has no sound name: {error.message}") from None
    version.ClearField("sources")
    if len(version.descriptor_set.file) > MOST_FILES:
        raise ForeignAnswerMalformed(f"the version {name} has more than {MOST_FILES} files")
    version.DiscardUnknownFields()
    if version.ByteSize() > MOST_VERSION_BYTES:
        raise ForeignAnswerMalformed(f"the version {name} has more than {MOST_VERSION_BYTES} bytes")
    return name, version.SerializeToString()


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in text)
