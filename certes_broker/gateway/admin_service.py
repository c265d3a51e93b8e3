"""`certes.v1.AdminService`: looks after the broker itself."""

from __future__ import annotations

from certes.v1 import admin_service_pb2 as pb
from certes_broker.broker.broker import Broker
from certes_broker.gateway.backoff_calls import backoff_calls
from certes_broker.gateway.erasing import erasing
from certes_broker.gateway.key_calls import key_calls
from certes_broker.gateway.look_calls import look_calls
from certes_broker.gateway.methods import Method, methods_of


def admin_methods(broker: Broker) -> tuple[Method, ...]:
    """Returns the rpcs of `certes.v1.AdminService`."""
    calls = {
        **look_calls(broker),
        **key_calls(broker.keys),
        **backoff_calls(broker.backoffs),
        "DeleteSubscriberData": erasing(broker),
    }
    return methods_of(pb.DESCRIPTOR.services_by_name["AdminService"], calls)
