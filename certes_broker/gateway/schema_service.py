"""`certes.v1.SchemaService`: registers schemas and shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from google.protobuf.message import DecodeError

from certes.v1 import event_pb2
from certes.v1 import schema_service_pb2 as pb
from certes_broker.broker.broker import Broker
from certes_broker.domain.errors import CertesError, Invalid, NotFound, Reason
from certes_broker.domain.schemas import Comparison
from certes_broker.domain.uris import TypePattern, parse_pattern
from certes_broker.gateway import overlay
from certes_broker.gateway.convert.lists import read_page_size
from certes_broker.gateway.convert.schemas import (
    fill_comparison,
    fill_descriptions,
    fill_schema,
    fill_version,
    read_submission_message,
)
from certes_broker.gateway.errors import problem
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.foreign_schemas import discover_schemas
from certes_broker.gateway.methods import Method, Unary, methods_of, unary
from certes_broker.gateway.requests import decode
from certes_broker.gateway.schema_pages import ANSWER_BYTES, Wanted, schema_page
from certes_broker.schemas.descriptions import describe_messages
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.unknown_fields import unknown_fields

SHOWN_BYTES: Final = 4 * 1024 * 1024 - 64 * 1024
"""Of one schema: its version's files, their imports and sources have bounds of their own, what is left is for messages."""
MOST_UNKNOWN_FIELDS: Final = 100
COMPARISON_BYTES: Final = 512 * 1024
"""Of the changes in one answer."""
SCHEMAS_BYTES: Final = 1024 * 1024
"""Of the event types in the answer to a registration."""


def schema_methods(broker: Broker) -> tuple[Method, ...]:
    """Returns the rpcs of `certes.v1.SchemaService`."""
    service = _SchemaService(broker)
    return methods_of(
        pb.DESCRIPTOR.services_by_name["SchemaService"],
        {
            "RegisterSchemas": Unary(service.register),
            "GetSchema": unary(pb.GetSchemaRequest, service.get),
            "ListSchemas": unary(pb.ListSchemasRequest, service.list),
            "CheckCompatibility": Unary(service.check),
            "ValidateEvent": Unary(service.validate, service.answer_unread),
            "DiscoverSchemas": unary(pb.DiscoverSchemasRequest, service.discover),
        },
    )


@dataclass(frozen=True, slots=True)
class _SchemaService:
    broker: Broker

    async def register(self, wire: bytes) -> bytes:
        request: Any = decode(overlay.RegisterSchemasRequest, wire)
        registered = await self.broker.schemas.register(read_submission_message(request), dry_run=request.dry_run)
        answer = overlay.RegisterSchemasResponse()
        self._fill_comparisons(answer.comparisons, registered.comparisons)
        await _fill_schemas(answer, registered.versions)
        room = ANSWER_BYTES - answer.ByteSize()
        for version in registered.versions:
            room -= sum(map(len, version.files.files))
            fill_version(answer.versions.add(), version, with_descriptors=room > 0, with_sources=False)
        return _bytes(answer)

    async def get(self, request: pb.GetSchemaRequest) -> Any:
        if not request.type:
            raise Invalid.field(Reason.FIELD_REQUIRED, "type", "is required; it is an event URI")
        schema, version = self._find(request.type)
        # Thousands of messages and their comments take a tenth of a second: not of the loop, which has others to serve.
        return await asyncio.to_thread(_shown, schema, version)

    async def list(self, request: pb.ListSchemasRequest) -> Any:
        faults = Faults()
        page_size = read_page_size(faults, request)
        pattern: TypePattern | None = None
        if request.pattern:
            with faults.at("pattern"):
                pattern = parse_pattern(request.pattern)
        if request.view not in pb.SchemaView.values():
            faults.invalid("view", f"{request.view} is no SchemaView")
        faults.check()
        with_versions = request.view == pb.SCHEMA_VIEW_FULL
        wanted = Wanted(request.domain.lower(), request.namespace, pattern, with_versions)
        return await schema_page(self.broker.registry, wanted, page_size, request.page_token)

    async def check(self, wire: bytes) -> bytes:
        request: Any = decode(overlay.CheckCompatibilityRequest, wire)
        comparisons = await self.broker.schemas.check(read_submission_message(request))
        answer = pb.CheckCompatibilityResponse(compatible=all(one.is_compatible for one in comparisons))
        self._fill_comparisons(answer.comparisons, comparisons)
        return _bytes(answer)

    async def validate(self, wire: bytes) -> bytes:
        request: Any = decode(overlay.ValidateEventRequest, wire)
        if not request.event:
            raise Invalid.field(Reason.FIELD_REQUIRED, "event", "is required")
        answer = pb.ValidateEventResponse()
        try:
            self.broker.validator.read(request.event, self.broker.clock.now())
        except CertesError as error:
            answer.problem.CopyFrom(problem(error))
        self._fill_findings(answer, request.event)
        return _bytes(answer)

    @staticmethod
    def answer_unread(error: CertesError) -> bytes | None:
        """Answers `ValidateEvent` for an event whose JSON does not fit its schema: that is what was asked for."""
        fields = [violation.field for violation in error.violations]
        if not fields or not all(f"{field}.".startswith("event.") for field in fields):
            return None
        return _bytes(pb.ValidateEventResponse(problem=problem(error)))

    async def discover(self, request: pb.DiscoverSchemasRequest) -> Any:
        return await discover_schemas(self.broker, request)

    def _find(self, type_text: str) -> tuple[EventSchema, SchemaVersion]:
        try:
            schema = self.broker.registry.lookup(type_text)
        except Invalid as error:
            if error.reason is not Reason.UNKNOWN_EVENT_TYPE:
                raise Invalid.field(error.reason, "type", error.message, **error.metadata) from error
            raise NotFound(error.reason, error.message, metadata=error.metadata, hint=error.hint) from error
        version = self.broker.registry.version_of(schema.type)
        assert version is not None  # The schema is of it.
        return schema, version

    def _fill_findings(self, answer: pb.ValidateEventResponse, wire: bytes) -> None:
        """Says what schema an event was held against, and what that does not know."""
        try:
            event = event_pb2.Event.FromString(wire)
            schema, version = self._find(event.type)
        except (DecodeError, CertesError):
            return
        fill_schema(answer.schema, schema, version)
        try:
            message = schema.parse(event.data.type_url, event.data.value)
        except Invalid:
            return
        answer.unknown_fields.extend(found.path for found in islice(unknown_fields(message), MOST_UNKNOWN_FIELDS))

    def _fill_comparisons(self, messages: Any, comparisons: Sequence[Comparison]) -> None:
        room = COMPARISON_BYTES
        for comparison in comparisons:
            room = fill_comparison(messages.add(), comparison, room)


async def _fill_schemas(answer: Any, versions: Sequence[SchemaVersion]) -> None:
    """Tells the event types of versions, as many as fit, and how many others there are."""
    room = SCHEMAS_BYTES
    left_out = sum(len(version.event_types) for version in versions)
    for version in versions:
        await asyncio.to_thread(version.read_comments)
        for event_type in version.event_types:
            # Others are served in between: to link a version can take 20 ms, its thousand event types 30 ms.
            await asyncio.sleep(0)
            schema = version.schema(event_type.name)
            assert schema is not None  # The version has just told of it.
            told = answer.schemas.add()
            fill_schema(told, schema, version)
            room -= told.ByteSize()
            if room < 0:
                del answer.schemas[-1]
                answer.schemas_left_out = left_out
                return
            left_out -= 1


def _shown(schema: EventSchema, version: SchemaVersion) -> Any:
    """Returns a `GetSchemaResponse`."""
    answer = overlay.GetSchemaResponse()
    fill_schema(answer.schema, schema, version)
    fill_version(answer.version, version, with_descriptors=True, with_sources=True)
    descriptions = describe_messages(schema, version.comments)
    answer.messages_left_out = fill_descriptions(answer.messages, descriptions, SHOWN_BYTES - answer.ByteSize())
    return answer


def _bytes(answer: Any) -> bytes:
    wire: bytes = answer.SerializeToString()
    return wire
