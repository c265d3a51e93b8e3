"""Webhooks by WSGI (PEP 3333). The client works in an event loop of its own, beside the server's threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from certes_sdk.errors import CertesError
from certes_sdk.loop_thread import LOOP_THREAD
from certes_sdk.webhooks import MAXIMUM_BODY_BYTES, NOT_A_POST, Answer, Headers, may_be_taken, refusal, too_large

if TYPE_CHECKING:
    from certes_sdk.client import Client

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class WsgiHandler:
    """A WSGI application that takes webhooks at whatever path it is mounted."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request."""
        answer = self._answer(environ)
        status = HTTPStatus(answer.status)
        start_response(f"{status.value} {status.phrase}", list(answer.all_headers))
        return [answer.body] if answer.body else []

    def _answer(self, environ: Environ) -> Answer:
        method, headers = environ["REQUEST_METHOD"], _headers(environ)
        if not may_be_taken(method, headers):
            return NOT_A_POST
        try:
            client = self._client()
            body = _body(environ)
        except CertesError as error:
            return refusal(error)
        return LOOP_THREAD.call(lambda: _take(client, method, headers, body))


async def _take(client: Client, method: str, headers: Headers, body: bytes) -> Answer:
    try:
        return await client.session().take_webhook(method, headers, body)
    except CertesError as error:
        return refusal(error)


def _headers(environ: Environ) -> list[tuple[str, str]]:
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-").lower(), value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    return [*headers, ("content-type", environ.get("CONTENT_TYPE") or "")]


def _body(environ: Environ) -> bytes:
    """Reads a body. Raises `PAYLOAD_TOO_LARGE`."""
    length = environ.get("CONTENT_LENGTH") or ""
    if environ.get("wsgi.input_terminated"):
        # The server ends the input where the body ends, chunked bodies too.
        most = MAXIMUM_BODY_BYTES + 1
    else:
        most = min(int(length) if length.isdecimal() else 0, MAXIMUM_BODY_BYTES + 1)
    pieces: list[bytes] = []
    while most > 0 and (piece := environ["wsgi.input"].read(most)):
        pieces.append(piece)
        most -= len(piece)
    body = b"".join(pieces)
    if len(body) > MAXIMUM_BODY_BYTES:
        raise too_large()
    return body
