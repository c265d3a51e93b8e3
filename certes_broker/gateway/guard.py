"""What stands before every method, for whoever calls: names of others are refused, and streams are counted and ended.

Rules
-----
* A transport serves methods as `guarded` returns them, never bare. So what is refused here is refused for rpcs that are yet to
  be written, whatever they do with a name.
* Whoever is bound to subscribers may not name another, anywhere in a request: in a resource name, or in a field called
  `subscriber`. It is refused before anybody looks whether what is named exists. `subscribers/-` names them all.
* Whatever a caller who does not see every event is told of a point that is no longer kept, it is not told what is kept instead:
  the earliest event may be another's.
* Events within requests are not looked into here: publishing reads them once, and judges them then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any, Final, assert_never

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from certes.v1.event_pb2 import Event
from certes_broker.domain.access import Caller, check_subscriber
from certes_broker.domain.errors import OutOfRange, Reason
from certes_broker.gateway.callers import current_caller
from certes_broker.gateway.methods import BidiStream, Method, Send, ServerStream, Unary
from certes_broker.gateway.open_streams import OpenStreams
from certes_broker.gateway.requests import parse

SUBSCRIBERS: Final = "subscribers/"
_SINGLE: Final = (Message, str, bytes, int, float)


def guarded(method: Method, streams: OpenStreams) -> Method:
    """Returns a method that looks at who calls before it does what it does."""
    match method.call:
        case Unary():
            return replace(method, call=_guarded_unary(method, method.call))
        case ServerStream():
            return replace(method, call=_guarded_stream(method, method.call, streams))
        case BidiStream():
            return replace(method, call=_guarded_exchange(method.call, streams))
        case _:
            assert_never(method.call)


def _guarded_unary(method: Method, inner: Unary) -> Unary:
    async def call(wire: bytes) -> bytes:
        caller = current_caller()
        if caller.sees_all_events:
            return await inner.call(wire)
        if caller.is_bound:
            check_names(caller, parse(method.request, wire))
        with _untold(caller):
            return await inner.call(wire)

    return replace(inner, call=call)


def _guarded_stream(method: Method, inner: ServerStream, streams: OpenStreams) -> ServerStream:
    async def call(wire: bytes) -> AsyncGenerator[bytes, None]:
        caller = current_caller()
        if caller.is_bound:
            check_names(caller, parse(method.request, wire))
        with streams.opened(caller) as stream:
            async with aclosing(inner.call(wire)) as answers:
                while True:
                    async with stream.waiting():
                        with _untold(caller):
                            answer = await anext(answers, None)
                    if answer is None:
                        return
                    yield answer

    return ServerStream(call)


def _guarded_exchange(inner: BidiStream, streams: OpenStreams) -> BidiStream:
    async def call(requests: AsyncIterator[bytes], send: Send, draining: asyncio.Event) -> None:
        with streams.opened(current_caller()) as stream:
            async with stream.waiting():
                await inner.call(requests, send, draining)

    return BidiStream(call)


def check_names(caller: Caller, request: Message) -> None:
    """Raises `PermissionDenied` (NOT_BOUND_TO) if a request names a subscriber that is not the caller's."""
    for field, text in _texts(request):
        if text.startswith(SUBSCRIBERS):
            check_subscriber(caller, text.removeprefix(SUBSCRIBERS).partition("/")[0])
        elif field == "subscriber" and text:
            check_subscriber(caller, text)


def _texts(message: Message) -> Iterator[tuple[str, str]]:
    """Yields every text of a message, with the name of its field, but for those of maps and of events."""
    if message.DESCRIPTOR is Event.DESCRIPTOR:
        return
    field: FieldDescriptor
    value: Any
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        for item in (value,) if isinstance(value, _SINGLE) else value:
            if isinstance(item, Message):
                yield from _texts(item)
            elif isinstance(item, str):
                yield field.name, item


@contextmanager
def _untold(caller: Caller) -> Iterator[None]:
    """Keeps from a caller what others have: which event is the earliest, where a point is no longer kept."""
    try:
        yield
    except OutOfRange as error:
        if error.reason is not Reason.CURSOR_EXPIRED or caller.sees_all_events:
            raise
        raise OutOfRange(error.reason, error.message, hint="Seek to the beginning of what is kept.") from error
