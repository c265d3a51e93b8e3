"""The methods that ask nobody who they are: health says that the broker is there, reflection what its published protos say.

Rules
-----
* Whoever reaches the port may call them, and may then neither send nor read. So they are served as other methods are, and not by the
  servicers of grpcio's own packages, which wait for such a caller for ever: for its request, or in the middle of telling it something,
  so that others and the end of the server wait too.
* They have places of their own (`places`), so that rpcs of callers who are known always find one. Where all are taken, more are refused,
  of which nothing stays. None can be freed for another: nothing in grpcio ends an rpc whose caller does not read but its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from certes_broker.domain.access import Needs
from certes_broker.domain.errors import NotFound, Reason
from certes_broker.gateway.methods import BidiStream, Call, Method, Send, ServerStream, Unary
from certes_broker.gateway.requests import parse

# Their stubs name the descriptors of protobuf's own implementation.
_HEALTH: Final[Any] = health_pb2.DESCRIPTOR.services_by_name["Health"]
_REFLECTION: Final[Any] = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


def open_methods(services: Sequence[str], draining: asyncio.Event) -> tuple[Method, ...]:
    """Returns the methods of health and reflection of a server of these services, which stops when `draining` is set."""
    health = _Health(services, draining)
    names = (*services, _HEALTH.full_name, _REFLECTION.full_name)
    # Its stubs take a generator for a coroutine.
    servicer: Any = reflection.aio.ReflectionServicer(names)

    async def reflect(requests: AsyncIterator[bytes], send: Send, _draining: asyncio.Event) -> None:
        read = (parse(reflection_pb2.ServerReflectionRequest, wire) async for wire in requests)
        async with aclosing(servicer.ServerReflectionInfo(read, None)) as answers:
            async for answer in answers:
                await send(answer.SerializeToString())

    return (
        _method(_HEALTH, "Check", Unary(health.check)),
        _method(_HEALTH, "Watch", ServerStream(health.watch)),
        _method(_REFLECTION, "ServerReflectionInfo", BidiStream(reflect)),
    )


def _method(service: ServiceDescriptor, name: str, call: Call) -> Method:
    rpc = service.methods_by_name[name]
    request, response = GetMessageClass(rpc.input_type), GetMessageClass(rpc.output_type)
    return Method(service.full_name, name, call, request, response, Needs(None))


class _Health:
    """The protocol `grpc.health.v1`: every service serves until the server drains."""

    def __init__(self, services: Sequence[str], draining: asyncio.Event) -> None:
        self._services = {"", *services}
        self._draining = draining

    async def check(self, wire: bytes) -> bytes:
        request = parse(health_pb2.HealthCheckRequest, wire)
        if request.service not in self._services:
            raise NotFound(Reason.METHOD_NOT_FOUND, "No service of that name is served here.")
        return self._now()

    async def watch(self, wire: bytes) -> AsyncGenerator[bytes, None]:
        request = parse(health_pb2.HealthCheckRequest, wire)
        if request.service in self._services:
            if not self._draining.is_set():
                yield self._now()
            await self._draining.wait()
            yield self._now()
        else:
            unknown = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            yield unknown.SerializeToString()
        # A watch lasts for as long as its caller wants it, although nothing changes any more.
        await asyncio.Event().wait()

    def _now(self) -> bytes:
        serves = health_pb2.HealthCheckResponse.SERVING
        stops = health_pb2.HealthCheckResponse.NOT_SERVING
        return health_pb2.HealthCheckResponse(status=stops if self._draining.is_set() else serves).SerializeToString()
