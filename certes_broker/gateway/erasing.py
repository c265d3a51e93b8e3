"""The rpc of `certes.v1.AdminService` that erases a subscriber."""

from __future__ import annotations

from certes.v1 import admin_service_pb2 as pb
from certes_broker.broker.broker import Broker
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.names import parse_subscriber_name
from certes_broker.gateway.faults import located
from certes_broker.gateway.methods import Unary, unary


def erasing(broker: Broker) -> Unary:
    """Returns the call."""

    async def erase(request: pb.DeleteSubscriberDataRequest) -> pb.DeleteSubscriberDataResponse:
        if not request.name:
            raise Invalid.field(Reason.FIELD_REQUIRED, "name", "is required")
        try:
            name = parse_subscriber_name(request.name)
        except Invalid as error:
            raise located(error, "name") from None
        report = await broker.erasure.erase(name)
        return pb.DeleteSubscriberDataResponse(
            subscriptions=report.subscriptions,
            events=report.events,
            dead_letters=report.dead_letters,
            attempts=report.attempts,
            rejected=report.rejected,
            remains=report.remains,
        )

    return unary(pb.DeleteSubscriberDataRequest, erase)
