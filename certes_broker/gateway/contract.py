"""The whole contract: the methods of all its services."""

from __future__ import annotations

from certes_broker.broker.broker import Broker
from certes_broker.gateway.admin_service import admin_methods
from certes_broker.gateway.convert.sources import SourceRules
from certes_broker.gateway.delivery_service import delivery_methods
from certes_broker.gateway.event_service import event_methods
from certes_broker.gateway.ingestion import Ingestion
from certes_broker.gateway.limits import MAXIMUM_REQUEST_BYTES
from certes_broker.gateway.methods import Method
from certes_broker.gateway.schema_service import schema_methods
from certes_broker.gateway.source_service import source_methods
from certes_broker.gateway.subscription_service import subscription_methods


def contract_methods(
    broker: Broker, ingestion: Ingestion, rules: SourceRules, max_request_bytes: int = MAXIMUM_REQUEST_BYTES
) -> tuple[Method, ...]:
    """Returns every rpc of `certes.v1`; `max_request_bytes` bounds requests with events."""
    return (
        *event_methods(broker, max_request_bytes),
        *subscription_methods(broker),
        *schema_methods(broker),
        *source_methods(broker, ingestion, rules),
        *delivery_methods(broker),
        *admin_methods(broker),
    )
