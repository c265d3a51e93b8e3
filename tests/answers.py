"""What brokers answer to clients of this process, over HTTP and gRPC, is searched for secrets.

Rules
-----
* It is done within the libraries, httpx and grpc.aio, which offer no place for it: so no test has to remember it, and what the SDK
  for Python is answered is looked at, too.
* What answers tell that are there to tell secrets (`TELLING`) is searched for from then on. Their refusals are looked at like others.
* Nothing is different for who calls, whatever is found: the brokers tell when they end.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import pytest
from grpc.aio._channel import Channel

from scripts.broker_process import look_for_secrets
from scripts.emitted_secrets import TELLING

SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
"""Of methods of gRPC."""


@contextmanager
def searched() -> Iterator[None]:
    """Has all answers in this process shown to its brokers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", _sending(httpx.Client.send))
        patch.setattr(httpx.AsyncClient, "send", _sending_async(httpx.AsyncClient.send))
        for shape in SHAPES:
            patch.setattr(Channel, shape, _calling(getattr(Channel, shape)))
        yield


def _sending(send: Callable[..., httpx.Response]) -> Callable[..., httpx.Response]:
    def sent(client: httpx.Client, request: httpx.Request, **how: Any) -> httpx.Response:
        answer = send(client, request, **how)
        _look_at_response(answer)
        return answer

    return sent


def _sending_async(send: Callable[..., Coroutine[Any, Any, httpx.Response]]) -> Callable[..., Any]:
    async def sent(client: httpx.AsyncClient, request: httpx.Request, **how: Any) -> httpx.Response:
        answer = await send(client, request, **how)
        _look_at_response(answer)
        return answer

    return sent


def _look_at_response(answer: httpx.Response) -> None:
    where = f"the answer to {answer.request.method} {answer.request.url.path}"
    look_for_secrets("\n".join(f"{name}: {value}" for name, value in answer.headers.multi_items()), where)
    if answer.is_stream_consumed:
        is_telling = answer.is_success and _is_telling(answer.request.url.path)
        look_for_secrets(answer.content, where, is_telling=is_telling)


def _calling(make: Callable[..., Any]) -> Callable[..., Any]:
    """Makes what calls a method; it is asked for with the names that generated stubs use."""

    def made(
        channel: Channel,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Callable[..., Any]:
        def read(wire: bytes) -> Any:
            answer = wire if response_deserializer is None else response_deserializer(wire)
            is_telling = _is_telling(method)
            # A text is in a message as it is, so that usually nothing has to be written out.
            look_for_secrets(str(answer) if is_telling else wire, f"an answer of {method}", is_telling=is_telling)
            return answer

        def look_at_end(ended: Any) -> None:
            metadata = _now(ended.trailing_metadata()) or ()
            values = [value if isinstance(value, bytes) else value.encode() for _, value in metadata]
            look_for_secrets(b"\n".join([(_now(ended.details()) or "").encode(), *values]), f"the end of {method}")

        begin = make(channel, method, request_serializer, read, _registered_method)

        def call(*request: Any, **how: Any) -> Any:
            begun = begin(*request, **how)
            begun.add_done_callback(look_at_end)
            return begun

        return call

    return made


def _is_telling(path: str) -> bool:
    return path.rpartition("/")[2] in TELLING


def _now(told: Coroutine[Any, Any, Any]) -> Any:
    """Returns what a call that has ended tells, for which nobody has to wait; None if that was called off before it began."""
    try:
        told.send(None)
    except StopIteration as end:
        return end.value
    except grpc.aio.AioRpcError:
        return None
    told.close()
    return None
