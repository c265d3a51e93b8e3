"""The shape of an rpc: a function over wire bytes, free of any transport.

Rules
-----
* A transport (`gateway/grpc`, `gateway/http`) carries bytes in and bytes out and knows nothing of what they mean, but
  for `Method.request` and `Method.response`, by which it can translate them to another form, such as JSON.
* A call refuses by raising a `CertesError`. What else it raises is a fault of the broker; `errors.refusal` makes a
  refusal of that, too. A transport renders either by the tables of `errors`.
* A call may be cancelled at any `await`. A server stream is an async generator, so that the transport can end it for
  certain: it closes it (`contextlib.aclosing`), whatever ended the rpc.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from certes.v1 import access_pb2
from certes_broker.domain.access import Needs
from certes_broker.domain.errors import CertesError
from certes_broker.gateway.requests import decode

Request = TypeVar("Request", bound=Message)

Send = Callable[[bytes], Awaitable[None]]
"""Sends one answer, and waits while the caller is not reading."""


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one answer.

    `answer_unread` answers for a request that could not be read from its JSON, where that is something to answer for. Where
    it returns None, and where there is none, the refusal stands.
    """

    call: Callable[[bytes], Awaitable[bytes]]
    answer_unread: Callable[[CertesError], bytes | None] | None = None


@dataclass(frozen=True, slots=True)
class ServerStream:
    """One request, many answers."""

    call: Callable[[bytes], AsyncGenerator[bytes, None]]


@dataclass(frozen=True, slots=True)
class BidiStream:
    """Many requests, many answers.

    The third argument is set when the transport drains: the call then takes no further request, answers those it has
    taken, and raises `Unavailable` (DRAINING).

    It sends instead of yielding, because it runs tasks: a `TaskGroup` must not be left suspended by a `yield`.
    """

    call: Callable[[AsyncIterator[bytes], Send, asyncio.Event], Awaitable[None]]


Call = Unary | ServerStream | BidiStream


@dataclass(frozen=True, slots=True)
class Method:
    """One rpc of the contract. `service` is its full name, such as `certes.v1.EventService`; `needs`, who may call it."""

    service: str
    name: str
    call: Call
    request: type[Message]
    response: type[Message]
    needs: Needs

    @property
    def path(self) -> str:
        """`/{service}/{name}`, as gRPC and Connect address it."""
        return f"/{self.service}/{self.name}"


def unary(request: type[Request], handle: Callable[[Request], Awaitable[Message]]) -> Unary:
    """Makes a call of a function over messages."""

    async def call(wire: bytes) -> bytes:
        answer = await handle(decode(request, wire))
        return answer.SerializeToString()

    return Unary(call)


def methods_of(service: ServiceDescriptor, calls: Mapping[str, Call]) -> tuple[Method, ...]:
    """Returns the methods of a service, each with its call.

    Raises `ValueError` if an rpc has no call, or a call no rpc: the contract is served as a whole; and if an rpc does not say
    who may call it.
    """
    differing = sorted(set(calls) ^ {rpc.name for rpc in service.methods})
    if differing:
        raise ValueError(f"{service.full_name} and its calls differ in {', '.join(differing)}")
    return tuple(
        Method(
            service.full_name,
            rpc.name,
            calls[rpc.name],
            GetMessageClass(rpc.input_type),
            GetMessageClass(rpc.output_type),
            needs_of(rpc),
        )
        for rpc in service.methods
    )


def needs_of(rpc: MethodDescriptor) -> Needs:
    """Returns who may call an rpc, as its option `certes.v1.access` says. Raises `ValueError` if it does not."""
    declared = rpc.GetOptions().Extensions[access_pb2.access]
    try:
        return Needs.declared(declared.role, unbound=declared.unbound)
    except ValueError:
        raise ValueError(
            f"{rpc.full_name} needs the role {declared.role!r}, which is none: "
            "give it `option (certes.v1.access)` with one of those that access.proto lists"
        ) from None
