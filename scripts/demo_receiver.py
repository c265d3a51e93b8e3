"""The demo's webhook receiver: a plain HTTP server that believes nothing but a signature."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from standardwebhooks import Webhook, WebhookVerificationError

from scripts.demo_subscribers import Inbox

_HELD_AT_MOST = 20.0


class WebhookReceiver:
    """Listens on a free port of 127.0.0.1, in threads. A request whose signature is no good is answered 401.

    `hold` makes it take requests and answer none, as one does that hangs, until `release`.
    """

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.secrets: list[str] = []
        self.refused = 0
        self.message_ids: dict[str, set[str]] = {}
        """The values of `webhook-id` under which each event came."""
        self._answers = threading.Event()
        self._answers.set()
        self._loop = asyncio.get_running_loop()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/webhooks"

    def hold(self) -> None:
        """Answers nothing from now on."""
        self._answers.clear()

    def release(self) -> None:
        """Answers again."""
        self._answers.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def is_genuine(self, body: bytes, headers: dict[str, str]) -> bool:
        """Judges a request by the library of the standard; one of the secrets must have signed it."""
        for secret in self.secrets:
            try:
                Webhook(secret).verify(body, headers)
            except WebhookVerificationError:
                continue
            return True
        return False

    def take(self, body: bytes, headers: dict[str, str]) -> int:
        """Takes one request and returns the status of the answer."""
        if not self.is_genuine(body, headers):
            self.refused += 1
            return 401
        event = json.loads(body)
        self.message_ids.setdefault(event["id"], set()).add(headers["webhook-id"])
        noted: Future[None] = asyncio.run_coroutine_threadsafe(self.inbox.add(event["id"], event["type"]), self._loop)
        noted.result(_HELD_AT_MOST)
        self._answers.wait(_HELD_AT_MOST)
        return 200

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.take(body, {name.lower(): value for name, value in self.headers.items()})
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the base class's
                """Says nothing: the demo shows what arrives."""

        return Handler


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # The sender is killed while it waits for answers; that is part of the demo and no error.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
