"""Webhooks by ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from certes_sdk.errors import CertesError
from certes_sdk.webhooks import MAXIMUM_BODY_BYTES, NOT_A_POST, Answer, may_be_taken, refusal, too_large

if TYPE_CHECKING:
    from certes_sdk.client import Client

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiHandler:
    """An ASGI application that takes webhooks at whatever path it is mounted."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. Served alone, it closes the client when its server stops."""
        match scope["type"]:
            case "http":
                answer = await self._answer(scope, receive)
                if answer is not None:
                    await _send(answer, send)
            case "lifespan":
                await self._live(receive, send)
            case _:
                await receive()
                await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        if not may_be_taken(scope["method"], headers):
            return NOT_A_POST
        try:
            session = self._client().session()
            body = await _body(receive)
        except CertesError as error:
            return refusal(error)
        if body is None:
            return None
        return await session.take_webhook(scope["method"], headers, body)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._client().close()
                await send({"type": "lifespan.shutdown.complete"})
                return


async def _body(receive: Receive) -> bytes | None:
    """Reads a body; None if its sender went away. Raises `PAYLOAD_TOO_LARGE`."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        piece = message.get("body", b"")
        size += len(piece)
        if size > MAXIMUM_BODY_BYTES:
            raise too_large()
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _send(answer: Answer, send: Send) -> None:
    headers = [(name.encode(), value.encode()) for name, value in answer.all_headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
