"""The shape of an rpc."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2

from certes.v1 import event_service_pb2 as pb
from certes_broker.domain.access import Needs, Role
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.gateway.methods import Unary, methods_of, unary

SERVICE = pb.DESCRIPTOR.services_by_name["EventService"]


async def echo(wire: bytes) -> bytes:
    return wire


CALLS = {rpc.name: Unary(echo) for rpc in SERVICE.methods}


def test_a_method_knows_its_path_and_its_messages() -> None:
    methods = {method.name: method for method in methods_of(SERVICE, CALLS)}
    assert methods["Publish"].path == "/certes.v1.EventService/Publish"
    assert (methods["Publish"].request, methods["Publish"].response) == (pb.PublishRequest, pb.PublishResponse)


def test_a_service_is_served_as_a_whole_or_not_at_all() -> None:
    with pytest.raises(ValueError, match="differ in Publish"):
        methods_of(SERVICE, {name: call for name, call in CALLS.items() if name != "Publish"})
    with pytest.raises(ValueError, match="differ in Unpublish"):
        methods_of(SERVICE, {**CALLS, "Unpublish": Unary(echo)})


async def test_a_call_over_messages_is_one_over_bytes() -> None:
    async def get(request: pb.GetEventRequest) -> pb.GetEventResponse:
        return pb.GetEventResponse(event=pb.KeptEvent(name=request.name))

    call = unary(pb.GetEventRequest, get).call
    answer = await call(pb.GetEventRequest(name="events/1").SerializeToString())
    assert pb.GetEventResponse.FromString(answer).event.name == "events/1"
    with pytest.raises(Invalid) as raised:
        await call(b"\xff")
    assert raised.value.reason is Reason.MALFORMED_REQUEST


def test_a_method_knows_who_may_call_it() -> None:
    needed = {method.name: method.needs for method in methods_of(SERVICE, CALLS)}
    assert needed["Publish"] == Needs(Role.EVENTS_WRITE)
    assert needed["Subscribe"] == Needs(Role.EVENTS_READ)


def test_an_rpc_that_does_not_say_who_may_call_it_is_not_served() -> None:
    health = health_pb2.DESCRIPTOR.services_by_name["Health"]
    with pytest.raises(ValueError, match="give it `option"):
        methods_of(health, {rpc.name: Unary(echo) for rpc in health.methods})
