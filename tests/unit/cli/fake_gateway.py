"""A gateway that answers from a script, over a real socket, as the Connect protocol has it."""

from __future__ import annotations

import base64
import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from certes_broker.cli.connect import Broker
from certes_broker.domain.uris import GatewayUri


def connect_error(code: str, message: str, *details: Any) -> dict[str, Any]:
    """Spells an error with google.rpc details as a Connect server does."""
    return {
        "code": code,
        "message": message,
        "details": [
            {
                "type": detail.DESCRIPTOR.full_name,
                "value": base64.b64encode(detail.SerializeToString()).decode().rstrip("="),
            }
            for detail in details
        ],
    }


class FakeGateway:
    """Answers calls in the order in which answers were given to it, and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.authorizations: list[str | None] = []
        self._answers: dict[str, deque[tuple[str, int, bytes]]] = {}
        self._held: dict[str, threading.Event] = {}
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                method = self.path.rpartition("/")[2]
                body = self.rfile.read(int(self.headers["Content-Length"]))
                streams = self.headers["Content-Type"] == "application/connect+json"
                binary = self.headers["Content-Type"] == "application/proto"
                gateway.calls.append((method, body if binary else json.loads(body[5:] if streams else body)))
                gateway.authorizations.append(self.headers["Authorization"])
                content_type, status, answer = gateway._answers[method].popleft()
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                if method in gateway._held:
                    self.send_header("Connection", "close")
                else:
                    self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                self.wfile.flush()
                if method in gateway._held:
                    gateway._held[method].wait()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def broker(self) -> Broker:
        return Broker(GatewayUri("127.0.0.1", self._server.server_port))

    def requests(self, method: str) -> list[Any]:
        """What a method was asked: documents, or bytes where the request was a message."""
        return [request for called, request in self.calls if called == method]

    def answer(self, method: str, document: object, *, status: int = 200) -> None:
        """Answers with a document, or with bytes as they are."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self._answers.setdefault(method, deque()).append(("application/json", status, body))

    def refuse(self, method: str, error: dict[str, Any], *, status: int = 400) -> None:
        self.answer(method, error, status=status)

    def stream(self, method: str, *frames: dict[str, Any], end: dict[str, Any] | None = None) -> None:
        """Answers with frames; `end` is what the last envelope says, None breaks the stream off without one."""
        body = b"".join(_envelope(0, frame) for frame in frames)
        if end is not None:
            body += _envelope(2, end)
        self._answers.setdefault(method, deque()).append(("application/connect+json", 200, body))

    @contextmanager
    def hold(self, method: str, *frames: dict[str, Any]) -> Iterator[None]:
        """Answers with frames, and keeps the stream open as long as the block lasts."""
        self._held[method] = threading.Event()
        self.stream(method, *frames, end=None)
        try:
            yield
        finally:
            self._held.pop(method).set()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _envelope(flags: int, document: dict[str, Any]) -> bytes:
    body = json.dumps(document).encode()
    return bytes([flags]) + len(body).to_bytes(4, "big") + body
