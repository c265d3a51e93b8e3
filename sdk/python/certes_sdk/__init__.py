"""Certes for Python: subscribe to asynchronous web events, handle them, publish them.

    import certes_sdk as certes

    certes.init("events://events.meetly.com")

    @certes.on("community.certes.dev/github/1/push")
    async def push(raw: certes.RawEvent) -> None:
        event = raw.to(PushEvent)

    async def main() -> None:
        await certes.ensure_subscriptions(certes.event("community.certes.dev/github/1/push"))
        await certes.run()

The functions here are the methods of one client, which `init` makes. `Client` is for programs that need several, `certes_sdk.blocking`
for those that have no event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from certes_sdk.asgi import AsgiHandler
from certes_sdk.client import Client, H, outgoing
from certes_sdk.coalescing import Receipt
from certes_sdk.default_client import DEFAULT
from certes_sdk.errors import CertesError, FieldViolation
from certes_sdk.outgoing import Outgoing
from certes_sdk.raw_event import RawEvent
from certes_sdk.selectors import EventOptions, EventSelector, event
from certes_sdk.wsgi import WsgiHandler

__all__ = [
    "AsgiHandler",
    "CertesError",
    "Client",
    "EventOptions",
    "EventSelector",
    "FieldViolation",
    "Outgoing",
    "RawEvent",
    "Receipt",
    "WsgiHandler",
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


def _init(make: Callable[P, Client]) -> Callable[P, None]:
    @wraps(make)
    def init(*args: P.args, **kwargs: P.kwargs) -> None:
        DEFAULT.set(make(*args, **kwargs))

    return init


def _of_default(method: Callable[Concatenate[Client, P], R]) -> Callable[P, R]:
    """Makes a function that does what a method of the default client does. Raises `NOT_INITIALIZED` where there is none."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return method(DEFAULT.get(), *args, **kwargs)

    return call


init = _init(Client)
ensure_subscriptions = _of_default(Client.ensure_subscriptions)
send_outgoing_event = _of_default(Client.send_outgoing_event)
publish = _of_default(Client.publish)
publish_all = _of_default(Client.publish_all)
run = _of_default(Client.run)
close = _of_default(Client.close)


def on(pattern: str) -> Callable[[H], H]:
    """Registers a handler of the events that a pattern matches; used as a decorator, also before `init`."""
    return DEFAULT.on(pattern)


def asgi_handler() -> AsgiHandler:
    """Returns an ASGI application that takes webhooks, to be mounted in Starlette, FastAPI, or alone."""
    return AsgiHandler(DEFAULT.get)


def wsgi_handler() -> WsgiHandler:
    """Returns a WSGI application that takes webhooks, to be mounted in Flask or any other."""
    return WsgiHandler(DEFAULT.get)
