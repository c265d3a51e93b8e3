"""What requests of lists have in common: a parent and pages."""

from __future__ import annotations

from typing import Final

from certes.v1 import (
    admin_service_pb2,
    delivery_service_pb2,
    event_service_pb2,
    schema_service_pb2,
    source_service_pb2,
    subscription_service_pb2,
)
from certes_broker.domain.names import parse_subscriber_name
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.limits import DEFAULT_PAGE_SIZE, MAXIMUM_PAGE_SIZE

ListRequest = event_service_pb2.ListEventsRequest | subscription_service_pb2.ListSubscriptionsRequest
PagedRequest = (
    ListRequest
    | admin_service_pb2.ListApiKeysRequest
    | admin_service_pb2.ListBackoffsRequest
    | source_service_pb2.ListSourcesRequest
    | source_service_pb2.ListRejectedRequest
    | delivery_service_pb2.ListDeadLettersRequest
    | delivery_service_pb2.ListAttemptsRequest
    | schema_service_pb2.ListSchemasRequest
    | schema_service_pb2.DiscoverSchemasRequest
)

ANY_SUBSCRIBER: Final = "subscribers/-"
"""The parent of a list over all subscribers (AIP-159)."""


def read_parent(faults: Faults, request: ListRequest) -> str | None:
    """Returns the id of the subscriber whose list is wanted; None for all of them."""
    if not request.parent:
        faults.required("parent")
    elif request.parent != ANY_SUBSCRIBER:
        with faults.at("parent"):
            return parse_subscriber_name(request.parent).subscriber
    return None


def read_page_size(faults: Faults, request: PagedRequest) -> int:
    """Returns how many are wanted at most."""
    if not request.HasField("page_size"):
        return DEFAULT_PAGE_SIZE
    if not 1 <= request.page_size <= MAXIMUM_PAGE_SIZE:
        faults.invalid("page_size", f"{request.page_size} is outside 1 to {MAXIMUM_PAGE_SIZE}")
        return DEFAULT_PAGE_SIZE
    return request.page_size
