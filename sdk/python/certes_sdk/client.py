"""A client of a gateway: what applications use."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from threading import current_thread
from types import TracebackType
from typing import Any, Self, TypeVar

from google.protobuf.message import Message

from certes_sdk.asgi import AsgiHandler
from certes_sdk.clock import Clock, SystemClock
from certes_sdk.coalescing import Receipt
from certes_sdk.connection import Finder
from certes_sdk.handlers import Handler, Handlers
from certes_sdk.outgoing import Outgoing
from certes_sdk.publishing import closed, timed_out
from certes_sdk.selectors import EventSelector, selectors_of
from certes_sdk.session import Session
from certes_sdk.settings import DEFAULT_CONCURRENCY, DEFAULT_MAX_OUTSTANDING, Arguments, read_settings
from certes_sdk.signals import stopped_by_signals
from certes_sdk.tls_files import read_tls_files
from certes_sdk.wsgi import WsgiHandler

H = TypeVar("H", bound=Handler)


class Client:
    """An application, as one gateway knows it.

    Arguments go before variables of the environment (`CERTES_TOKEN`, `CERTES_APP`, …); docs/reference/sdks.md has them all. Making
    one reads the files that settings name and asks nobody for anything, and it can be used from several event loops.

    Raises `MALFORMED_URI` for the URI, and `FIELD_INVALID`, which names the setting.
    """

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
        arguments = Arguments(
            uri=uri,
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
        self.settings = read_settings(arguments, os.environ)
        read_tls_files(self.settings)  # only to refuse what is wrong with them here, where it can be mended
        self._handlers = Handlers()
        self._clock: Clock = SystemClock()
        self._finder: Finder | None = None
        self._sessions: dict[asyncio.AbstractEventLoop, Session] = {}
        self._latest: tuple[int, Session | None] = (0, None)
        """The session that was used last, and the thread in which its loop runs: by the system's id, which a forked child's differs from."""
        self.is_closed = False
        """Whether it takes nothing more."""

    def on(self, pattern: str) -> Callable[[H], H]:
        """Registers a handler of the events that a pattern matches; used as a decorator.

        A coroutine function runs in the event loop, a plain function in a thread. An event whose handler raises is delivered again
        later. Raises `MALFORMED_PATTERN` or `UNMATCHABLE_PATTERN`.
        """

        def register(handler: H) -> H:
            self._handlers.add(pattern, handler)
            self.feed()
            return handler

        return register

    def feed(self) -> None:
        """Notes that there are handlers: events for them may come."""
        for loop, session in list(self._sessions.items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(session.feed)

    async def ensure_subscriptions(
        self,
        *events: EventSelector | str | Iterable[EventSelector | str],
        name: str | None = None,
        filter: str = "",  # noqa: A002 - the contract's word
    ) -> None:
        """Subscribes the application to exactly these events, and returns when the broker has stored that.

        `name` is that of another subscription beside the application's main one, `filter` a CEL expression. Idempotent; any number of
        replicas can do it at once. Without a callback URL, streams of them begin once there is a handler, in this event loop.

        Raises `CertesError`, of which `STALE_GENERATION` says that a newer release was here.
        """
        listed: list[EventSelector | str] = []
        for one in events:
            if isinstance(one, EventSelector | str):
                listed.append(one)
            else:
                listed.extend(one)
        selectors = selectors_of(listed)
        await self.session().ensure(selectors, name, filter)

    def send_outgoing_event(
        self,
        subscriber: str,
        message: Message,
        *,
        subject: str = "",
        ordering_key: str = "",
        id: str | None = None,  # noqa: A002 - the contract's word
        time: datetime | None = None,
        attributes: Mapping[str, str] | None = None,
        traceparent: str = "",
        tracestate: str = "",
        timeout: float | None = None,
    ) -> Coroutine[Any, Any, Receipt]:
        """Publishes an event for one subscriber, by the id that the producer knows it by, such as `org_123`.

        Otherwise as `publish`.
        """
        event = Outgoing(
            message,
            subscriber or "",
            False,
            subject,
            ordering_key,
            id,
            time,
            attributes,
            traceparent,
            tracestate,
        )
        return self._publish(event, timeout)

    def publish(
        self,
        message: Message,
        *,
        everyone: bool = False,
        subscriber: str | None = None,
        subject: str = "",
        ordering_key: str = "",
        id: str | None = None,  # noqa: A002 - the contract's word
        time: datetime | None = None,
        attributes: Mapping[str, str] | None = None,
        traceparent: str = "",
        tracestate: str = "",
        timeout: float | None = None,
    ) -> Coroutine[Any, Any, Receipt]:
        """Publishes an event for everyone or for one subscriber, and returns when it is durable.

        Calls at the same time share requests by themselves. Events of one `ordering_key` keep the order of the calls. Publishing
        again with the same `id` within a day stores nothing. `timeout` is seconds, 60 at most.

        Raises `CertesError`; after `TIMED_OUT`, and after being cancelled, it is not known whether the event was stored.
        """
        event = Outgoing(
            message,
            subscriber,
            everyone,
            subject,
            ordering_key,
            id,
            time,
            attributes,
            traceparent,
            tracestate,
        )
        return self._publish(event, timeout)

    async def publish_all(self, events: Iterable[Outgoing]) -> list[Receipt]:
        """Publishes events, made by `outgoing`, by one request: all of them, or none. At most 1,000, and 4 MiB.

        Their order among themselves is kept; no order is promised with calls that are under way at the same time.
        """
        return await self.session().publish_all(events)

    async def run(self) -> None:
        """Returns at SIGINT or SIGTERM, or when it is cancelled, and closes the client in order then.

        Meanwhile the handlers are fed: by streams, or, with a callback URL, by the handler that is mounted in a server.
        Signals that somebody else has taken, such as a server, are left alone. Raises `CertesError` where a subscription was deleted.
        """
        session = self.session()
        try:
            with stopped_by_signals(session.stop):
                await session.run()
        finally:
            await self.close()

    def asgi_handler(self) -> AsgiHandler:
        """Returns an ASGI application that takes webhooks, to be mounted in Starlette, FastAPI, or alone."""
        return AsgiHandler(lambda: self)

    def wsgi_handler(self) -> WsgiHandler:
        """Returns a WSGI application that takes webhooks, to be mounted in Flask or any other. Its handlers run in a loop of their own."""
        return WsgiHandler(lambda: self)

    async def close(self) -> None:
        """Takes nothing more, waits up to 30 s for what is under way, tells what was settled, and disconnects. Idempotent."""
        self.is_closed = True
        here = asyncio.get_running_loop()
        for loop, session in list(self._sessions.items()):
            if loop is here:
                await session.close()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(session.close(), loop))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def session(self) -> Session:
        """Returns the client in the running loop; for the handlers of servers. Raises `CLIENT_CLOSED`."""
        thread, latest = self._latest
        # To ask for the running loop is a system call in Python 3.11. A thread runs one loop at a time, so this is it.
        if latest is not None and thread == current_thread().native_id and latest.loop.is_running():
            return latest
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            if self.is_closed:
                raise closed()
            # What was begun in a loop ended with it.
            self._sessions = {other: kept for other, kept in self._sessions.items() if not other.is_closed()}
            session = self._sessions[loop] = Session(self.settings, self._handlers, self._clock, self._finder)
        self._latest = (current_thread().native_id or 0, session)
        return session

    def _with(
        self, *, handlers: Handlers | None = None, clock: Clock | None = None, finder: Finder | None = None
    ) -> Self:
        """Gives it other parts than the usual ones, before it is used."""
        self._handlers = handlers if handlers is not None else self._handlers
        self._clock = clock or self._clock
        self._finder = finder or self._finder
        return self

    async def _publish(self, event: Outgoing, timeout: float | None) -> Receipt:  # noqa: ASYNC109 - has an error of its own
        session = self.session()
        if timeout is None:
            entry = session.begin(event)
            if entry is None:
                return await session.publish(event)
            # Without a coroutine of the session's around it, which would cost as much as encoding the event.
            try:
                return await entry.answer
            except asyncio.CancelledError:
                session.give_up(entry)
                raise
        try:
            async with asyncio.timeout(timeout):
                return await session.publish(event)
        except TimeoutError:
            raise timed_out(f"Event {event.id!r}" if event.id else "An event", session.trouble) from None


def outgoing(
    message: Message,
    *,
    everyone: bool = False,
    subscriber: str | None = None,
    subject: str = "",
    ordering_key: str = "",
    id: str | None = None,  # noqa: A002 - the contract's word
    time: datetime | None = None,
    attributes: Mapping[str, str] | None = None,
    traceparent: str = "",
    tracestate: str = "",
) -> Outgoing:
    """Makes an event for `publish_all`, with what `publish` takes."""
    return Outgoing(message, subscriber, everyone, subject, ordering_key, id, time, attributes, traceparent, tracestate)
