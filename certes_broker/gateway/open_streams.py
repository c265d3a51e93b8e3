"""The streams that callers have open: how many, and that they end with the credential that opened them.

Theory of operation
-------------------
A stream waits for its next answer within `OpenStream.waiting`. Ending it marks it, and interrupts that wait if there is one; if
the stream is busy handing an answer over instead, it finds the mark before it waits again. So an answer is whole or not sent,
and the caller learns why the stream ended.

Between the caller's being let in and the opening of the stream its request has to arrive, and whoever sends that can take as long
as requests may. So a stream that is opened asks once more (`is_good`), in the same step in which it becomes one that `end` finds.

That a certificate was taken back is in a file, of which nobody tells. So a stream that was opened by one asks again now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from certes_broker.broker.system_clock import SystemClock
from certes_broker.domain.access import Caller
from certes_broker.domain.errors import Exhausted, Reason, Unauthenticated
from certes_broker.ports.clock import Alarm, Clock

DEFAULT_STREAMS: Final = 1_000
ASKED_AGAIN: Final = 15.0
"""Seconds between two questions whether the certificate that opened a stream is good still."""


class OpenStreams:
    """All streams that are open, by caller. At most `limit` of each."""

    def __init__(self, clock: Clock | None = None, limit: int = DEFAULT_STREAMS) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._limit = limit
        self._open: dict[str, set[OpenStream]] = {}
        self.is_good: Callable[[Caller], bool] = lambda _: True
        """Says whether what let a caller in is good still."""

    def count(self, caller: str) -> int:
        """Returns how many streams a caller has open."""
        return len(self._open.get(caller, ()))

    @contextmanager
    def opened(self, caller: Caller) -> Iterator[OpenStream]:
        """Counts a stream while it is open. Raises `Unauthenticated` (CREDENTIALS_INVALID) and `Exhausted` (TOO_MANY_STREAMS)."""
        if not self.is_good(caller):
            raise _no_longer_good()
        streams = self._open.setdefault(caller.id, set())
        if len(streams) >= self._limit:
            raise _too_many(caller, self._limit)
        stream = OpenStream()
        streams.add(stream)
        try:
            with self._ended_in_time(stream, caller):
                yield stream
        finally:
            streams.discard(stream)
            if not streams and self._open.get(caller.id) is streams:
                del self._open[caller.id]

    @contextmanager
    def _ended_in_time(self, stream: OpenStream, caller: Caller) -> Iterator[None]:
        """Ends a stream when its caller's credential is no longer good by itself: when its time is over, or its certificate revoked."""
        if caller.until is None:
            yield
            return
        alarm: Alarm | None = None
        over = self._clock.monotonic() + (caller.until - self._clock.now()) / 1_000_000

        def look() -> None:
            nonlocal alarm
            left = over - self._clock.monotonic()
            if left <= 0 or not self.is_good(caller):
                stream.end()
            else:
                alarm = self._clock.alarm(min(left, ASKED_AGAIN) if caller.certificate else left, look)

        look()
        try:
            yield
        finally:
            if alarm is not None:
                alarm.cancel()

    def end(self, caller: str) -> None:
        """Ends all streams of a caller: its credential is no longer good."""
        for stream in list(self._open.get(caller, ())):
            stream.end()


class OpenStream:
    """One stream that is open."""

    def __init__(self) -> None:
        self._waiting: asyncio.Timeout | None = None
        self._has_ended = False

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Waits within for what comes next. Raises `Unauthenticated` (CREDENTIALS_INVALID) if the stream is or was ended."""
        self._check()
        try:
            async with asyncio.timeout(None) as self._waiting:
                yield
        except TimeoutError:
            self._check()
            raise
        finally:
            self._waiting = None

    def end(self) -> None:
        """Ends the stream. Idempotent."""
        self._has_ended = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    def _check(self) -> None:
        if self._has_ended:
            raise _no_longer_good()


def _no_longer_good() -> Unauthenticated:
    return Unauthenticated(
        Reason.CREDENTIALS_INVALID,
        "The credential that opened this stream was revoked, or its time is over.",
        hint="Open the stream again with one that is good.",
    )


def _too_many(caller: Caller, limit: int) -> Exhausted:
    return Exhausted(
        Reason.TOO_MANY_STREAMS,
        f"{caller.id} has {limit} streams open, which is the limit; limits.streams_per_caller is the setting.",
        hint="Close some, or share one: a stream carries as many subscriptions' events as its selectors name.",
        metadata={"limit": str(limit), "setting": "limits.streams_per_caller"},
    )
