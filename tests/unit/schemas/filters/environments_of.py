"""Environments and messages that tests of filters have in common."""

from __future__ import annotations

from typing import Any

from google.protobuf.message_factory import GetMessageClass

from certes_broker.domain.uris import parse_event_type
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.filters.environments import Environment
from certes_broker.schemas.json_out import PAYLOAD, DocumentTables
from certes_broker.schemas.json_table import JsonTables
from tests.unit.schemas.every_kind import every_kind

EVERY = "events.example.com/_/1/every"
_DESCRIPTOR = every_kind()
EveryKind: Any = GetMessageClass(_DESCRIPTOR)
EVERY_SCHEMA = EventSchema(parse_event_type(EVERY), _DESCRIPTOR, JsonTables(), DocumentTables(PAYLOAD))
EVERY_ENVIRONMENT = Environment(EVERY_SCHEMA)
