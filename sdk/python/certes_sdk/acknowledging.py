"""Tells the broker what was settled on one stream: one `Acknowledge` at a time, and the next takes what was settled meanwhile.

It waits a little for more, for an rpc costs as much as hundreds of deliveries do; but not where much is waiting, nor for a
delivery whose key holds back others, nor for a failed one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from certes.v1.event_service_pb2 import AcknowledgeResponse
from certes_sdk.clock import Clock, Timer
from certes_sdk.connection import Connection, is_passing
from certes_sdk.errors import CertesError
from certes_sdk.reconnecting import wait_before
from certes_sdk.settlement import Report, Settlement

GATHERING: Final = 0.010
"""Seconds that a settled delivery waits for others."""
CALL_TIMEOUT: Final = 30.0

_log: Final = logging.getLogger("certes")


class Acknowledger:
    """Settles the deliveries of one open stream. `run` is its task."""

    def __init__(self, connection: Connection, clock: Clock, stream: str, plenty: int) -> None:
        """`plenty` settled deliveries are told without waiting for more."""
        self._connection = connection
        self._clock = clock
        self._stream = stream
        self._plenty = plenty
        self._due = asyncio.Event()
        self._timer: Timer | None = None
        self._all_told = asyncio.Event()
        self._all_told.set()
        self._deadline = 0.0
        self.book = Settlement()
        self.ended = False

    def ack(self, ordinal: int, *, hurry: bool) -> None:
        """Settles a delivery as done. `hurry` where it holds back others."""
        if self.ended:
            return
        book = self.book
        book.ack(ordinal)
        if hurry or book.untold >= self._plenty:
            self._due.set()
        elif self._timer is None:
            self._all_told.clear()
            self._timer = self._clock.call_later(GATHERING, self._due.set)

    def nack(self, ordinal: int, reason: str) -> None:
        """Settles a delivery as failed."""
        self.book.nack(ordinal, reason)
        self._due.set()

    def extend(self, deadline: float, age: float) -> None:
        """Asks for `deadline` seconds from now for what has been here for `age` seconds and is not settled."""
        self._deadline = deadline
        self.book.extend(self._clock.now(), age)
        self._due.set()

    async def run(self) -> None:
        """Tells what is due, for ever."""
        while True:
            await self._due.wait()
            self._due.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            report = self.book.report()
            if not report.is_empty and not self.ended:
                await self._tell(report)
            if self.book.untold == 0:
                self._all_told.set()
            elif not self._due.is_set() and self._timer is None:
                self._due.set()

    def abandon(self) -> None:
        """Notes that the stream has ended: nobody wants to hear anything of it."""
        self.ended = True
        self._all_told.set()

    async def flush(self) -> None:
        """Returns when everything that was settled was told, or nobody wants to hear it any more."""
        if not self.ended:
            self._all_told.clear()
            self._due.set()
            await self._all_told.wait()

    async def _tell(self, report: Report) -> None:
        tries = 0
        while not report.is_empty:
            try:
                request = report.request(self._stream, self._deadline)
                await self._connection.call("EventService/Acknowledge", request, AcknowledgeResponse, CALL_TIMEOUT)
            except CertesError as error:
                ordinal = error.metadata.get("ordinal", "")
                if error.reason == "ORDINAL_NOT_OUTSTANDING" and ordinal.isdecimal():
                    smaller = report.without(int(ordinal))
                    if smaller != report:
                        report = smaller
                        continue
                if error.reason == "STREAM_ENDED":
                    self.abandon()
                    return
                if not is_passing(error):
                    _log.warning("What was settled on %s could not be told to the broker: %s", self._stream, error)
                    return
                tries += 1
                await self._clock.sleep(error.retry_after or wait_before(tries, self._clock.chance()))
            else:
                return
