"""The way to the broker: finds it, and keeps the one gRPC channel of a client in one loop.

A channel takes care of its connections itself. What was found is asked for again after the broker was unreachable, because it may
have moved; where the gateway does not answer then, what was found before holds. The files of TLS are read again then, too: others renew
them. While they do not fit together, what was in them before holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from certes_sdk.clock import Clock
from certes_sdk.discovery import TIMEOUT, Found, discover
from certes_sdk.errors import CertesError, failed_precondition, from_rpc, unavailable
from certes_sdk.reconnecting import wait_before
from certes_sdk.settings import Settings
from certes_sdk.tls_files import TlsFiles, read_tls_files

USER_AGENT: Final = "certes-sdk-python"
MAXIMUM_MESSAGE_BYTES: Final = 8 << 20

_OPTIONS: Final = (
    ("grpc.primary_user_agent", USER_AGENT),
    # An event of 3 MiB comes whole, and one of 1 MiB beside a full batch of others.
    ("grpc.max_receive_message_length", MAXIMUM_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAXIMUM_MESSAGE_BYTES),
    # A connection whose other end has gone without a word is noticed within 40 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Two clients of one process are two, also in their fates.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In spite of its name: how long an attempt to connect may take. What answers later than that is never connected to.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 10_000),
    # What is tried again is decided here, with the broker's own reasons.
    ("grpc.enable_retries", 0),
)

_log: Final = logging.getLogger("certes")

A = TypeVar("A", bound=Message)
T = TypeVar("T")

Finder = Callable[[], Found]
"""Finds the gateway. Blocks; raises `CertesError`."""


class Connection:
    """The broker, as one client in one loop reaches it."""

    def __init__(self, settings: Settings, clock: Clock, finder: Finder | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._finder = finder or (lambda: discover(settings.gateway, self._files.context))
        self._lock = asyncio.Lock()
        self._files = TlsFiles()
        self._found: Found | None = None
        self._shown = self._files
        """What the channel was opened with."""
        self._doubtful = False
        self._channel: aio.Channel | None = None
        self.metadata = (("authorization", f"Bearer {settings.token}"),) if settings.token else ()

    @property
    def domain(self) -> str:
        """The broker's own domain; empty until the gateway was found, or where it does not say it."""
        return self._found.domain if self._found else ""

    async def channel(self) -> aio.Channel:
        """Returns the channel; looks for the gateway first if need be.

        Raises `GATEWAY_UNREACHABLE`, `PROTOCOL_UNSUPPORTED`, `GATEWAY_INSECURE`, `CERTIFICATE_MISSING`, and `FIELD_INVALID` for a file of TLS.
        """
        if self._channel is not None and not self._doubtful:
            return self._channel
        async with self._lock:
            if self._channel is None or self._doubtful:
                await self._find()
            assert self._channel is not None
            return self._channel

    def doubt(self) -> None:
        """Notes that the broker was not reached: where it is will be asked for again."""
        self._doubtful = True

    async def call(self, method: str, request: Message | bytes, answer: type[A], timeout: float | None = None) -> A:  # noqa: ASYNC109
        """Calls a unary rpc; `method` is `Service/Method`. Raises `CertesError`."""
        channel = await self.channel()
        wire = request if isinstance(request, bytes) else request.SerializeToString()
        rpc: Any = channel.unary_unary(f"/certes.v1.{method}")
        try:
            return answer.FromString(await rpc(wire, metadata=self.metadata, timeout=timeout))
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                self.doubt()
            raise self.refusal(error) from None
        except DecodeError:
            raise unavailable("UNAVAILABLE", f"The broker's answer to {method} makes no sense.") from None
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise unavailable("UNAVAILABLE", "The connection was closed.") from None

    def refusal(self, raised: aio.AioRpcError) -> CertesError:
        """Makes an error of what a call raised.

        A connection lives longer than the certificate that it began with. So what is refused for its caller may succeed over another
        one, where the certificate has been renewed since.
        """
        error = from_rpc(raised)
        if error.code != "UNAUTHENTICATED" or self._read_files() == self._shown:
            return error
        self.doubt()
        return unavailable("UNAVAILABLE", f"The certificate was renewed, and the connection is not yet: {error}")

    async def patiently(self, attempt: Callable[[], Awaitable[T]], patience: float) -> T:
        """Tries something again and again for `patience` seconds, while its refusals are retryable. Raises `CertesError`."""
        deadline = self._clock.now() + patience
        tries = 0
        while True:
            try:
                return await attempt()
            except CertesError as error:
                tries += 1
                wait = error.retry_after or wait_before(tries, self._clock.chance())
                if not is_passing(error) or self._clock.now() + wait > deadline:
                    raise
                _log.debug("It is tried again in %.2f s: %s", wait, error)
                await self._clock.sleep(wait)

    async def close(self) -> None:
        """Ends the connection, and all calls with it."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def _find(self) -> None:
        if self._channel is None:
            self._files = await asyncio.to_thread(read_tls_files, self._settings)
        else:
            self._files = await asyncio.to_thread(self._read_files)
        try:
            found = await self._ask()
        except CertesError as error:
            if self._channel is None or not error.retryable:
                raise
            found = self._found
        assert found is not None
        if found.asks_certificate and self._files.certificate is None:
            raise failed_precondition(
                "CERTIFICATE_MISSING",
                f"The gateway says that gRPC at {found.address} asks clients for certificates, and none is set.",
                hint="Set certificate and certificate_key, or CERTES_CERTIFICATE and CERTES_CERTIFICATE_KEY.",
            )
        self._doubtful = False
        if (found, self._files) == (self._found, self._shown) and self._channel is not None:
            return
        former, self._channel = self._channel, _open(found, self._files)
        self._found, self._shown = found, self._files
        if former is not None:
            await former.close(grace=None)

    async def _ask(self) -> Found | None:
        try:
            # Its own deadline does not bound the time in which a name is resolved.
            async with asyncio.timeout(2 * TIMEOUT):
                return await asyncio.to_thread(self._finder)
        except TimeoutError:
            raise unavailable("GATEWAY_UNREACHABLE", "The gateway could not be found in time.") from None

    def _read_files(self) -> TlsFiles:
        """Returns what is in the files of TLS; what was, while they are no good."""
        try:
            return read_tls_files(self._settings)
        except CertesError as error:
            _log.warning("What was in the files of TLS is used on: %s", error)
            return self._files


def _open(found: Found, files: TlsFiles) -> aio.Channel:
    if found.tls:
        credentials = grpc.ssl_channel_credentials(files.authorities, files.key, files.certificate)
        return aio.secure_channel(found.address, credentials, options=_OPTIONS)
    # On loopback, where no proxy of the environment is meant.
    return aio.insecure_channel(found.address, options=(*_OPTIONS, ("grpc.enable_http_proxy", 0)))


def is_cancelled() -> bool:
    """Says whether the current task was asked to end. What a call raises when its channel is closed looks the same."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def is_passing(error: CertesError) -> bool:
    """Says whether an error may be one of the connection alone.

    A call that races the end of a connection gets INTERNAL of gRPC itself, without a reason of the broker's, and one that a proxy
    cuts off gets UNKNOWN or CANCELLED.
    """
    return error.retryable or (error.reason == error.code and error.code in {"INTERNAL", "UNKNOWN", "CANCELLED"})
