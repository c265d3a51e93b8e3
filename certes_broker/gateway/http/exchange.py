"""One HTTP request and its answer, as the gateway's own handlers see them: plain ASGI, no framework.

The hot path (`POST /events/{source}`) runs thousands of times a second, and a framework's request and response objects
cost more than what it does itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, TypeAlias

import orjson
from google.rpc.code_pb2 import Code

from certes_broker.domain.errors import CertesError, Invalid, Reason
from certes_broker.gateway.errors import grpc_code, http_status
from certes_broker.gateway.http.compression import GZIP, decompress

Scope: TypeAlias = MutableMapping[str, Any]
AsgiMessage: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[AsgiMessage]]
Send: TypeAlias = Callable[[AsgiMessage], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
CLIENT_CERTIFICATE: Final = "certes.client_certificate"
"""Where in a scope the client's certificate stands (PEM), if TLS has verified one."""

Headers: TypeAlias = dict[bytes, bytes]
"""Lower-case names; where a name came more than once, the last value."""


class ClientGone(Exception):
    """The client hung up before its request was complete. There is nobody to answer."""


def headers_of(scope: Scope) -> Headers:
    """Returns a request's headers."""
    return dict(scope["headers"])


def media_type(headers: Headers) -> str:
    """Returns what kind of body a request declares, without parameters, in lower case; empty if it does not say."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")


def exceeds(headers: Headers, limit: int) -> bool:
    """Says whether a request declares a body of more than `limit` bytes."""
    declared = headers.get(b"content-length", b"0")
    # Long numbers are not read: `int` takes a time that grows with the square of their length.
    return len(declared) > _LONGEST_LENGTH or not declared.isdigit() or int(declared) > limit


async def read_body(receive: Receive, headers: Headers, limit: int) -> bytes:
    """Reads a request's body, of at most `limit` bytes, also once gzip is undone. How long it may take the server watches.

    Raises `Invalid` (PAYLOAD_TOO_LARGE as soon as that is known, CONTENT_TYPE_UNSUPPORTED for another compression,
    PAYLOAD_MALFORMED for a body that is not compressed as it says) and `ClientGone`.
    """
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding not in _NOT_ENCODED and encoding not in GZIP:
        raise Invalid(
            Reason.CONTENT_TYPE_UNSUPPORTED,
            f"the body has the content encoding {encoding.decode('latin-1')[:100]!r}; gzip is taken here.",
            hint="Send it uncompressed.",
            metadata={"content_encoding": encoding.decode("latin-1")[:100]},
        )
    body = await _read_whole(receive, headers, limit)
    if encoding in _NOT_ENCODED:
        return body
    decompressed = await decompress(body, limit)
    if decompressed is None:
        raise _too_large(limit)
    return decompressed


async def answer(send: Send, status: int, content_type: bytes, body: bytes, headers: Iterable[_Header] = ()) -> None:
    """Sends a whole answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", b"%d" % len(body)),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def answer_json(send: Send, status: int, document: object, headers: Iterable[_Header] = ()) -> None:
    """Sends a JSON document."""
    await answer(send, status, JSON, orjson.dumps(document), headers)


async def answer_refusal(send: Send, error: CertesError) -> None:
    """Answers a request with its refusal."""
    await answer_json(send, http_status(error), refusal_document(error), refusal_headers(error))


def refusal_headers(error: CertesError) -> list[_Header]:
    """Returns the headers that go with a refusal."""
    challenge = _CHALLENGES.get(error.reason)
    if challenge is not None:
        return [(b"www-authenticate", challenge)]
    if error.retry_after is None:
        return []
    # "a non-negative decimal integer, representing time in seconds" (RFC 9110, 10.2.3)
    return [(b"retry-after", b"%d" % max(1, round(error.retry_after)))]


def refusal_document(error: CertesError) -> dict[str, object]:
    """Returns a refusal as a JSON document: what `certes.v1.Problem` says, in its JSON names, with the code by name.

    The form is the same for every path but those of the Connect protocol, which has its own: docs/reference/http.md.
    """
    told: dict[str, object] = {
        "code": Code.Name(grpc_code(error)),
        "reason": error.reason.value,
        "message": str(error),
    }
    if error.metadata:
        told["metadata"] = dict(error.metadata)
    if error.violations:
        told["fieldViolations"] = [{"field": v.field, "description": v.description} for v in error.violations]
    if error.retry_after is not None:
        told["retryDelay"] = f"{error.retry_after:g}s"
    return {"error": told}


JSON: Final = b"application/json"
_Header: TypeAlias = tuple[bytes, bytes]
# "The server generating a 401 response MUST send a WWW-Authenticate header field" (RFC 9110, 15.5.2), for these as RFC 6750, 3, says.
# Who signs webhooks shows no credentials that a challenge could name.
_CHALLENGES: Final = {
    Reason.CREDENTIALS_MISSING: b'Bearer realm="certes"',
    Reason.CREDENTIALS_INVALID: b'Bearer realm="certes", error="invalid_token"',
}
_NOT_ENCODED: Final = (b"", b"identity")
_LONGEST_LENGTH: Final = 15


async def _read_whole(receive: Receive, headers: Headers, limit: int) -> bytes:
    if exceeds(headers, limit):
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunk if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> Invalid:
    return Invalid(
        Reason.PAYLOAD_TOO_LARGE,
        f"the body is larger than {limit} bytes, which is the limit here.",
        metadata={"limit": str(limit)},
    )
