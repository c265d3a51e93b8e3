"""The same names for programs without an event loop: each call returns when it is done.

The client works in an event loop of a thread of its own. It is the client of `certes_sdk`, with the same handlers: plain functions run
in threads, coroutine functions in that loop.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from certes_sdk import (
    CertesError,
    EventOptions,
    EventSelector,
    FieldViolation,
    Outgoing,
    RawEvent,
    Receipt,
    asgi_handler,
    event,
    init,
    on,
    outgoing,
    wsgi_handler,
)
from certes_sdk.client import Client as AsyncClient
from certes_sdk.client import H
from certes_sdk.default_client import DEFAULT
from certes_sdk.loop_thread import LOOP_THREAD
from certes_sdk.settings import DEFAULT_CONCURRENCY, DEFAULT_MAX_OUTSTANDING
from certes_sdk.wsgi import WsgiHandler

__all__ = [
    "CertesError",
    "Client",
    "EventOptions",
    "EventSelector",
    "FieldViolation",
    "Outgoing",
    "RawEvent",
    "Receipt",
    "asgi_handler",
    "close",
    "ensure_subscriptions",
    "event",
    "init",
    "on",
    "outgoing",
    "publish",
    "publish_all",
    "run",
    "send_outgoing_event",
    "wsgi_handler",
]

P = ParamSpec("P")
R = TypeVar("R")


def _of_default(method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, R]]) -> Callable[P, R]:
    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        client = DEFAULT.get()
        return LOOP_THREAD.call(lambda: method(client, *args, **kwargs))

    return call


def _of_client(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Client, P], R]:
    @wraps(method)
    def call(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return LOOP_THREAD.call(lambda: method(client._client, *args, **kwargs))

    return call


class Client:
    """A client of a gateway, as `certes_sdk.Client` is, for programs without an event loop."""

    def __init__(
        self,
        uri: str,
        *,
        token: str | None = None,
        app: str | None = None,
        callback_url: str | None = None,
        subscriber: str | None = None,
        source: str | None = None,
        generation: int | None = None,
        webhook_keys: Iterable[str] | None = None,
        ca_file: str | None = None,
        certificate: str | None = None,
        certificate_key: str | None = None,
        resolve: Mapping[str, str] | str | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        max_outstanding: int = DEFAULT_MAX_OUTSTANDING,
    ) -> None:
        self._client = AsyncClient(
            uri,
            token=token,
            app=app,
            callback_url=callback_url,
            subscriber=subscriber,
            source=source,
            generation=generation,
            webhook_keys=webhook_keys,
            ca_file=ca_file,
            certificate=certificate,
            certificate_key=certificate_key,
            resolve=resolve,
            concurrency=concurrency,
            max_outstanding=max_outstanding,
        )

    def on(self, pattern: str) -> Callable[[H], H]:
        """Registers a handler, as `certes_sdk.Client.on` does."""
        return self._client.on(pattern)

    def wsgi_handler(self) -> WsgiHandler:
        """Returns a WSGI application that takes webhooks."""
        return self._client.wsgi_handler()

    ensure_subscriptions = _of_client(AsyncClient.ensure_subscriptions)
    send_outgoing_event = _of_client(AsyncClient.send_outgoing_event)
    publish = _of_client(AsyncClient.publish)
    publish_all = _of_client(AsyncClient.publish_all)
    close = _of_client(AsyncClient.close)

    def run(self) -> None:
        """Feeds the handlers until SIGINT or SIGTERM; then it closes the client in order. As `certes_sdk.Client.run`."""
        _run(self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def run() -> None:
    """Feeds the handlers until SIGINT or SIGTERM; then it closes the client in order. As `certes_sdk.run`."""
    _run(DEFAULT.get())


ensure_subscriptions = _of_default(AsyncClient.ensure_subscriptions)
send_outgoing_event = _of_default(AsyncClient.send_outgoing_event)
publish = _of_default(AsyncClient.publish)
publish_all = _of_default(AsyncClient.publish_all)
close = _of_default(AsyncClient.close)


def _run(client: AsyncClient) -> None:
    async def stop() -> None:
        client.session().stop()

    with _on_signals(lambda: LOOP_THREAD.post(stop)):
        LOOP_THREAD.call(client.run)


@contextmanager
def _on_signals(stop: Callable[[], object]) -> Generator[None]:
    """Calls `stop` when the process is asked to stop, where this is the thread that gets signals."""
    former: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            former[number] = signal.signal(number, lambda *_: stop())
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
