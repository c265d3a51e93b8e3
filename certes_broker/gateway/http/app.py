"""The ASGI application of the HTTP gateway: guards, paths, and refusals.

Paths are told apart by hand, those that carry events first: they are few, and a router costs more than it spares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from certes_broker.broker.broker import Broker
from certes_broker.domain.access import Needs, Role
from certes_broker.domain.errors import NotFound, Reason, Unimplemented
from certes_broker.gateway.callers import Credentials, Door, acting_as
from certes_broker.gateway.errors import http_status, refusal
from certes_broker.gateway.guard import guarded
from certes_broker.gateway.http import connect
from certes_broker.gateway.http.about import WEBHOOK_KEYS, about, webhook_keys
from certes_broker.gateway.http.connect import ConnectApi
from certes_broker.gateway.http.events import CloudEvents
from certes_broker.gateway.http.exchange import (
    CLIENT_CERTIFICATE,
    App,
    ClientGone,
    Receive,
    Scope,
    Send,
    answer_json,
    headers_of,
    refusal_document,
    refusal_headers,
)
from certes_broker.gateway.http.guard import Guard
from certes_broker.gateway.http.ingress import Ingress
from certes_broker.gateway.http.metrics import PATH as METRICS
from certes_broker.gateway.http.metrics import metrics
from certes_broker.gateway.http.settings import HttpSettings
from certes_broker.gateway.ingestion import Ingestion
from certes_broker.gateway.methods import Method

EVENTS: Final = "/events"
API: Final = "/api"


def build_app(
    broker: Broker, ingestion: Ingestion, methods: Sequence[Method], settings: HttpSettings, door: Door | None = None
) -> App:
    """Builds the application. `ingestion` takes in what comes to the sources, `door` lets in all else that carries events."""
    door = Door() if door is None else door
    served = [guarded(method, door.streams) for method in methods]
    return HttpGateway(
        Guard(settings.allowed_hosts),
        door,
        Ingress(broker, ingestion, settings.max_payload_bytes),
        CloudEvents(broker, settings.max_request_bytes),
        ConnectApi(served, broker.conversion, API, settings.max_request_bytes),
        about(broker, settings),
        metrics(broker),
        webhook_keys(broker),
    )


class HttpGateway:
    """Serves HTTP requests. Whatever is refused before an answer has begun is answered as a refusal, in one form a path."""

    def __init__(
        self,
        guard: Guard,
        door: Door,
        ingress: Ingress,
        cloud_events: CloudEvents,
        api: ConnectApi,
        about: Mapping[str, App],
        metrics: App,
        webhook_keys: App,
    ) -> None:
        self._guard = guard
        self._door = door
        self._ingress = ingress
        self._cloud_events = cloud_events
        self._api = api
        self._about = about
        self._metrics = metrics
        self._webhook_keys = webhook_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request. Lifespan and websockets are not for it: the server is told to offer neither."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        try:
            self._guard.check(scope["headers"])
            serve = await self._handler(scope)
        except Exception as error:  # noqa: BLE001 — whatever it is, the client is owed an answer
            await _refuse(scope, send, error)
            return
        await serve(scope, receive, send)

    async def _handler(self, scope: Scope) -> App:
        """Says who serves a request, once whoever calls was let in, where that is asked for."""
        path: str = scope["path"]
        if path.startswith(_SOURCE_PREFIX):
            _allow(scope, "POST")
            return self._take_webhook
        if path == EVENTS:
            _allow(scope, "POST")
            return await self._admitted(scope, _PUBLISHING, "Publishing", self._take_cloud_events)
        if path.startswith(_API_PREFIX):
            _allow(scope, "POST")
            method = self._api.method_at(path)
            # Connect answers for itself from here on, refusals included.
            serve = self._api.app_for(method, headers_of(scope))
            return await self._admitted(scope, method.needs, method.name, serve)
        if path == METRICS:
            _allow(scope, "GET", "HEAD")
            return await self._admitted(scope, _LOOKING, "Reading metrics", self._metrics)
        if path.startswith(WEBHOOK_KEYS):
            _allow(scope, "GET", "HEAD")
            return self._webhook_keys
        if path not in self._about:
            raise NotFound(Reason.METHOD_NOT_FOUND, f"there is nothing at {path[:200]!r}.")
        _allow(scope, "GET", "HEAD")
        return self._about[path]

    async def _admitted(self, scope: Scope, needs: Needs, doing: str, serve: App) -> App:
        """Returns what serves a request for the caller whom the door let in."""
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        credentials = Credentials(tuple(value.decode("latin-1") for value in values), scope.get(CLIENT_CERTIFICATE))
        caller = await self._door.admit(credentials, needs, doing)

        async def serve_caller(scope: Scope, receive: Receive, send: Send) -> None:
            with acting_as(caller):
                await serve(scope, receive, send)

        return serve_caller

    async def _take_webhook(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._ingress.take(scope["path"][len(_SOURCE_PREFIX) :], scope, receive, send)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 — whatever it is, the client is owed an answer
            await _refuse(scope, send, error)

    async def _take_cloud_events(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._cloud_events.take(scope, receive, send)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 — whatever it is, the client is owed an answer
            await _refuse(scope, send, error)


_PUBLISHING: Final = Needs(Role.EVENTS_WRITE)
_LOOKING: Final = Needs(Role.CONFIG_READ, unbound=True)
_SOURCE_PREFIX: Final = f"{EVENTS}/"
_API_PREFIX: Final = f"{API}/"


class _NotAllowed(Unimplemented):
    """The path is there, but not for this HTTP method."""

    def __init__(self, method: str, path: str, allowed: Sequence[str]) -> None:
        super().__init__(
            Reason.METHOD_NOT_FOUND, f"{path[:200]} is for {' and '.join(allowed)}, not for {method[:20]}."
        )
        self.allowed = allowed


def _allow(scope: Scope, *allowed: str) -> None:
    if scope["method"] not in allowed:
        raise _NotAllowed(scope["method"], scope["path"], allowed)


async def _refuse(scope: Scope, send: Send, exception: Exception) -> None:
    path: str = scope["path"]
    error = exception if isinstance(exception, _NotAllowed) else refusal(exception, f"{scope['method']} {path}")
    headers = refusal_headers(error)
    if isinstance(error, _NotAllowed):
        status = 405
        headers.append((b"allow", ", ".join(error.allowed).encode()))
        error = Unimplemented(error.reason, error.message)
    else:
        status = http_status(error)
    is_api = path.startswith(_API_PREFIX)
    await answer_json(send, status, connect.refusal_document(error) if is_api else refusal_document(error), headers)
