"""`POST /api/{service}/{method}`: the Connect protocol, around the same methods that gRPC serves.

The protocol is connectrpc's; this file only joins it to ours. Its codecs are made to carry wire bytes: the proto codec
hands a request's bytes through, the JSON codec reads and writes them by `EventDocuments`. So a call sees the same bytes
whichever way they came, and a message is never made by connectrpc's own protobuf runtime, except the details of errors.
See docs/decisions/0020-connect.md.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
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

from certes_broker.domain.errors import CertesError, Invalid, Reason, Unimplemented
from certes_broker.gateway import errors
from certes_broker.gateway.http.exchange import App, Headers, exceeds, media_type
from certes_broker.gateway.methods import BidiStream, Method, ServerStream, Unary
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.outgoing import json_bytes


class ConnectApi:
    """Serves methods below a path by the Connect protocol. `max_bytes` bounds a request message."""

    def __init__(self, methods: Sequence[Method], documents: EventDocuments, root: str, max_bytes: int) -> None:
        self._methods = {method.path: method for method in methods}
        self._app = _ConnectApp(self._methods, documents, root, max_bytes)
        self._root = root
        self._max_bytes = max_bytes

    def app_for(self, path: str, headers: Headers) -> App:
        """Returns what serves a POST to `path`, which begins with the root.

        Raises, before anything is read, `Unimplemented` (METHOD_NOT_FOUND, as by gRPC; NOT_BUILT for a stream of
        requests), and `Invalid` (CONTENT_TYPE_UNSUPPORTED, REQUEST_TOO_LARGE where the length is declared; where it is not,
        connectrpc refuses what turns out too large as `resource_exhausted`).
        """
        method = self._methods.get(path.removeprefix(self._root))
        if method is None:
            raise Unimplemented(Reason.METHOD_NOT_FOUND, f"there is no method {path[:200]!r} here.")
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


class _Answer(NamedTuple):
    """The wire bytes of an answer, and the message they are."""

    response: type[Message]
    wire: bytes


class _Answered(bytes):
    """The wire bytes of an answer, in the place of a request that could not be read."""


class _ProtoCodec(Codec[_Answer, bytes]):
    """Carries wire bytes as they are; what they hold is for the call to judge."""

    def name(self) -> str:
        return "proto"

    def encode(self, message: _Answer) -> bytes:
        return message.wire

    def decode(self, data: bytes | bytearray, message_class: type[bytes]) -> bytes:
        return bytes(data)


class _JsonCodec(Codec[_Answer, bytes]):
    """Translates JSON to wire bytes and back."""

    def __init__(self, documents: EventDocuments, methods: Iterable[Method]) -> None:
        self._documents = documents
        self._answers = {
            method.request: method.call.answer_unread
            for method in methods
            if isinstance(method.call, Unary) and method.call.answer_unread is not None
        }

    def name(self) -> str:
        return "json"

    def encode(self, message: _Answer) -> bytes:
        return json_bytes(self._documents.document(message.response.FromString(message.wire)))

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> bytes:
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            refusal = Invalid(Reason.MALFORMED_REQUEST, f"the body is no JSON: {error}")
            raise connect_error(refusal) from error
        try:
            message: Message = self._documents.read(message_class, document)
        except CertesError as error:
            answer = self._answers[message_class](error) if message_class in self._answers else None
            if answer is not None:
                return _Answered(answer)
            raise connect_error(error) from error
        return message.SerializeToString(deterministic=True)


class _ConnectApp(ConnectASGIApplication[Mapping[str, Method]]):
    def __init__(self, methods: Mapping[str, Method], documents: EventDocuments, root: str, max_bytes: int) -> None:
        self._path = root
        super().__init__(
            service=methods,
            endpoints=lambda served: {
                root + path: _endpoint(method)
                for path, method in served.items()
                if not isinstance(method.call, BidiStream)
            },
            read_max_bytes=max_bytes,
            # Nothing is compressed: the loop that would do it has other work, and a proxy in front can.
            compressions=(),
            codecs=(_ProtoCodec(), _JsonCodec(documents, methods.values())),
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


def _endpoint(method: Method) -> Any:  # connectrpc does not publish the types of its endpoints
    match method.call:
        case Unary(call):

            async def unary(request: bytes, _context: RequestContext[Any, Any]) -> _Answer:
                if isinstance(request, _Answered):
                    return _Answer(method.response, request)
                try:
                    return _Answer(method.response, await call(request))
                except Exception as error:
                    raise _refused(error, method) from error

            return Endpoint.unary(_info(method, StreamType.UNARY), unary)
        case ServerStream(open_stream):

            async def stream(request: bytes, _context: RequestContext[Any, Any]) -> AsyncIterator[_Answer]:
                try:
                    async with aclosing(open_stream(request)) as answers:
                        async for answer in answers:
                            yield _Answer(method.response, answer)
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
