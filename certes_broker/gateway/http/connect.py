"""`POST /api/{service}/{method}`: the Connect protocol, around the same methods that gRPC serves.

The protocol is connectrpc's; this file only joins it to ours. Its codecs hand bytes through as they are. What came as JSON is
translated around each call by `EventDocuments`, in a worker process where it is large. So a call sees the same bytes whichever
way they came, and a message is never made by connectrpc's own protobuf runtime, except the details of errors. See
docs/decisions/0020-connect.md.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple, assert_never

import orjson
from connectrpc.code import Code
from connectrpc.codec import Codec
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from protobuf.wkt import Any as Detail
from protobuf.wkt import Struct

from certes_broker.broker.conversion import WIRE_BYTES, Conversion
from certes_broker.domain.errors import CertesError, Invalid, Reason, Unimplemented
from certes_broker.gateway import errors
from certes_broker.gateway.http.exchange import App, Headers, exceeds, media_type
from certes_broker.gateway.methods import BidiStream, Method, ServerStream, Unary
from certes_broker.schemas.json_jobs import answer_json, is_heavy, request_wire


class ConnectApi:
    """Serves methods below a path by the Connect protocol. `max_bytes` bounds a request message."""

    def __init__(self, methods: Sequence[Method], conversion: Conversion, root: str, max_bytes: int) -> None:
        self._methods = {method.path: method for method in methods}
        self._app = _ConnectApp(self._methods, conversion, root, max_bytes)
        self._root = root
        self._max_bytes = max_bytes

    def method_at(self, path: str) -> Method:
        """Returns the method that a path names, which begins with the root. Raises `Unimplemented` (METHOD_NOT_FOUND, as by gRPC)."""
        method = self._methods.get(path.removeprefix(self._root))
        if method is None:
            raise Unimplemented(Reason.METHOD_NOT_FOUND, f"there is no method {path[:200]!r} here.")
        return method

    def app_for(self, method: Method, headers: Headers) -> App:
        """Returns what serves a POST to a method.

        Raises, before anything is read, `Unimplemented` (NOT_BUILT for a stream of requests), and `Invalid`
        (CONTENT_TYPE_UNSUPPORTED, REQUEST_TOO_LARGE where the length is declared; where it is not, connectrpc refuses what
        turns out too large as `resource_exhausted`).
        """
        if isinstance(method.call, BidiStream):
            raise Unimplemented(
                Reason.NOT_BUILT,
                f"{method.name} streams both ways, which HTTP/1.1 cannot.",
                hint="Call it by gRPC, or publish by Publish.",
            )
        taken = _UNARY_TYPES if isinstance(method.call, Unary) else _STREAM_TYPES
        kind = media_type(headers)
        if kind not in taken:
            raise Invalid(
                Reason.CONTENT_TYPE_UNSUPPORTED,
                f"{method.name} takes {' or '.join(taken)}, not {kind[:100]!r}.",
            )
        if exceeds(headers, self._max_bytes):
            raise Invalid(
                Reason.REQUEST_TOO_LARGE,
                f"the request is larger than {self._max_bytes} bytes, which is the limit.",
                metadata={"limit": str(self._max_bytes)},
            )
        return self._app


class _Content(NamedTuple):
    """A request or an answer as it goes over the line: the wire bytes of a message, or JSON."""

    body: bytes
    is_json: bool


class _Codec(Codec[_Content, _Content]):
    """Hands bytes through, and says what they are. It cannot wait for a worker to translate them; the calls can."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json

    def name(self) -> str:
        return "json" if self._is_json else "proto"

    def encode(self, message: _Content) -> bytes:
        return message.body

    def decode(self, data: bytes | bytearray, message_class: type[_Content]) -> _Content:
        return _Content(bytes(data), self._is_json)


class _Unread(Exception):
    """A request in JSON that could not be read, and why."""

    def __init__(self, error: CertesError) -> None:
        super().__init__(error)
        self.error = error


class _Translation:
    """Translates the requests and answers of one method, where they are JSON."""

    def __init__(self, conversion: Conversion, method: Method) -> None:
        self._conversion = conversion
        self._request: Any = method.request
        self._response: Any = method.response

    async def wire(self, request: _Content) -> bytes:
        """Returns the wire bytes of a request. Raises `_Unread` if its JSON is none of the method's request."""
        if not request.is_json:
            return request.body
        heavy = is_heavy(request.body)
        try:
            converted = await self._conversion.do(request_wire, request.body, self._request, heavy=heavy)
        except CertesError as error:
            raise _Unread(error) from error
        return converted.blobs[0]

    async def answer(self, request: _Content, wire: bytes) -> _Content:
        """Returns an answer in the form of the request."""
        if not request.is_json:
            return _Content(wire, is_json=False)
        converted = await self._conversion.do(answer_json, wire, self._response, heavy=len(wire) > WIRE_BYTES)
        return _Content(converted.blobs[0], is_json=True)


class _ConnectApp(ConnectASGIApplication[Mapping[str, Method]]):
    def __init__(self, methods: Mapping[str, Method], conversion: Conversion, root: str, max_bytes: int) -> None:
        self._path = root
        super().__init__(
            service=methods,
            endpoints=lambda served: {
                root + path: _endpoint(method, _Translation(conversion, method))
                for path, method in served.items()
                if not isinstance(method.call, BidiStream)
            },
            read_max_bytes=max_bytes,
            # Nothing is compressed: the loop that would do it has other work, and a proxy in front can.
            compressions=(),
            codecs=(_Codec(is_json=False), _Codec(is_json=True)),
        )

    @property
    def path(self) -> str:
        return self._path


def connect_error(error: CertesError) -> ConnectError:
    """Returns a refusal as Connect carries it, with the same details as by gRPC."""
    status = errors.rich_status(error)
    return ConnectError(_CODES[status.code], status.message, [_ReadableDetail(detail) for detail in status.details])


def refusal_document(error: CertesError) -> dict[str, object]:
    """Returns a refusal as Connect's JSON, for what is refused before Connect is asked."""
    status = errors.rich_status(error)
    return {
        "code": _CODES[status.code].value,
        "message": status.message,
        "details": [
            {
                "type": detail.TypeName(),
                # "Values are unpadded base64" (Connect protocol, Error)
                "value": b64encode(detail.value).decode().rstrip("="),
                "debug": _readable(detail),
            }
            for detail in status.details
        ],
    }


class _ReadableDetail(ErrorDetail):
    """A detail that shows also as JSON, as `debug`: who calls by curl cannot read the bytes in base64."""

    def __init__(self, detail: AnyMessage) -> None:
        super().__init__(Detail(type_url=detail.type_url, value=detail.value))
        self._readable = Struct.from_json(orjson.dumps(_readable(detail)))

    def value(self, *_: object) -> Any:
        return self._readable


def _readable(detail: AnyMessage) -> dict[str, object]:
    for kind in _DETAILS:
        if detail.TypeName() == kind.DESCRIPTOR.full_name:
            return json_format.MessageToDict(kind.FromString(detail.value))
    return {}


_DETAILS: Final[tuple[type[Message], ...]] = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
)
_UNARY_TYPES: Final = ("application/json", "application/proto")
_STREAM_TYPES: Final = ("application/connect+json", "application/connect+proto")
_CODES: Final[Mapping[int, Code]] = {
    number: Code(name.lower()) for name, number in code_pb2.Code.items() if name not in ("OK", "CANCELLED")
}


def _endpoint(
    method: Method, translation: _Translation
) -> Any:  # connectrpc does not publish the types of its endpoints
    match method.call:
        case Unary(call, answer_unread):

            async def unary(request: _Content, _context: RequestContext[Any, Any]) -> _Content:
                try:
                    return await translation.answer(request, await call(await translation.wire(request)))
                except _Unread as unread:
                    answer = answer_unread(unread.error) if answer_unread is not None else None
                    if answer is None:
                        raise connect_error(unread.error) from unread
                    return await translation.answer(request, answer)
                except Exception as error:
                    raise _refused(error, method) from error

            return Endpoint.unary(_info(method, StreamType.UNARY), unary)
        case ServerStream(open_stream):

            async def stream(request: _Content, _context: RequestContext[Any, Any]) -> AsyncIterator[_Content]:
                try:
                    async with aclosing(open_stream(await translation.wire(request))) as answers:
                        async for answer in answers:
                            yield await translation.answer(request, answer)
                except _Unread as unread:
                    raise connect_error(unread.error) from unread
                except Exception as error:
                    raise _refused(error, method) from error

            return Endpoint.server_stream(_info(method, StreamType.SERVER_STREAM), stream)
        case BidiStream():
            # Refused by `app_for` already; connectrpc would wait for a client that cannot do it.
            raise AssertionError(method.path)
        case _:
            assert_never(method.call)


def _info(method: Method, kind: StreamType) -> MethodInfo[Any, Any]:
    return MethodInfo(
        name=method.name,
        service_name=method.service,
        input=method.request,
        output=method.response,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=kind,
    )


def _refused(exception: Exception, method: Method) -> ConnectError:
    return connect_error(errors.refusal(exception, method.path))
