"""The sender port on libcurl.

Theory of operation
-------------------
`send` gives a request a place if one is free, else puts it at the end of the queue; a try that ends gives its place to the head of the
queue in the same step, so no place is empty while somebody waits. A try's timeout and duration run from when it has its place. Handles
are kept for the next request, and so are connections.

What a receiver can do to the broker is bounded: `transfer` says how much of an answer is read, `addresses` where a connection may lead.
A name that could not be looked up gives its place back first; `lookups` says then whose fault that was.
All there is to say about a try comes back as a `SendResult`: the sender raises nothing, repeats nothing and logs nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace

import pycurl

from certes_broker.ports.sender import SendFailure, SendRequest, SendResult
from certes_broker.webhook.addresses import AddressPolicy
from certes_broker.webhook.curl_loop import CurlLoop
from certes_broker.webhook.lookups import LookUp, Lookups, SystemResolver
from certes_broker.webhook.transfer import Transfer, TransferSettings, host_of, unsent
from certes_broker.webhook.trust import trusted_authorities


class CurlSender:
    """Sends requests by libcurl, at most `max_in_flight` at a time; the others wait their turn, first come, first served.

    `authorities` is a file of certificate authorities (PEM); without one, the system's are trusted. `look_up` is what names are looked
    up by where libcurl could not, the system's resolver if it is left out. A sender belongs to the event loop in which it first sends.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        max_in_flight: int = 512,
        user_agent: str = "Certes",
        authorities: str | None = None,
        look_up: LookUp | None = None,
    ) -> None:
        self._lookups = Lookups(look_up or SystemResolver().look_up)
        self._settings = TransferSettings(policy, user_agent, authorities or trusted_authorities(), self._lookups.found)
        self._max_in_flight = max_in_flight
        self._curl_loop: CurlLoop | None = None
        self._idle: list[Transfer] = []
        self._tries: dict[pycurl.Curl, _Try] = {}
        self._queue: OrderedDict[_Try, None] = OrderedDict()
        self._closed = False

    async def send(self, request: SendRequest) -> SendResult:
        """Sends one request and returns what came of it. Raises nothing but `asyncio.CancelledError`, after which the try is ended.

        An answer counts once it has been read to its end or to 64 KiB; one that breaks off before is `BROKEN`, whatever its status.
        `SendResult.headers` holds those of `HEADERS_KEPT` that the receiver sent, and no others.
        """
        if self._closed:
            return unsent(SendFailure.OURS, "The sender is closed.")
        loop = asyncio.get_running_loop()
        if self._curl_loop is None:
            self._curl_loop = CurlLoop(loop, self._finish, self._max_in_flight)
        one = _Try(request, loop.create_future())
        if len(self._tries) < self._max_in_flight:
            self._start(one, self._curl_loop)
        else:
            self._queue[one] = None
        try:
            result = await one.answer
        except asyncio.CancelledError:
            self._abandon(one, self._curl_loop)
            raise
        if result.failure is SendFailure.RESOLVE and await self._lookups.is_ours(host_of(request.url)):
            error = f"The resolver of this machine has no answer for now: {result.error}."
            return replace(result, failure=SendFailure.OURS, error=error)
        return result

    @property
    def in_flight(self) -> int:
        """How many requests are under way. Those that wait for a place are not."""
        return len(self._tries)

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return len(self._queue)

    async def close(self) -> None:
        """Ends what is under way or waiting, each with the failure `OURS`, and frees the connections. Idempotent."""
        self._closed = True
        if self._curl_loop is None:
            return
        ended = [*self._tries.values(), *self._queue]
        for curl in self._tries:
            self._curl_loop.remove(curl)
        self._idle += [one.transfer for one in self._tries.values() if one.transfer is not None]
        self._tries.clear()
        self._queue.clear()
        self._curl_loop.close()
        self._curl_loop = None
        for transfer in self._idle:
            transfer.close()
        self._idle.clear()
        for one in ended:
            one.end(unsent(SendFailure.OURS, "The sender was closed before the receiver had answered."))

    def _start(self, one: _Try, curl_loop: CurlLoop) -> None:
        try:
            transfer = self._idle.pop() if self._idle else Transfer(self._settings)
            refusal = transfer.prepare(one.request)
            if refusal is None:
                curl_loop.add(transfer.curl)
        except (pycurl.error, MemoryError) as error:
            one.end(unsent(SendFailure.OURS, f"libcurl could not take the request: {error}."))
            return
        if refusal is not None:
            self._idle.append(transfer)
            one.end(refusal)
            return
        one.transfer = transfer
        self._tries[transfer.curl] = one

    def _finish(self, curl: pycurl.Curl, code: int, message: str) -> None:
        one = self._tries.pop(curl)
        if one.transfer is not None:
            one.end(one.transfer.result(code, message))
            self._put_back(one.transfer)

    def _abandon(self, one: _Try, curl_loop: CurlLoop) -> None:
        self._queue.pop(one, None)
        transfer = one.transfer
        # The handle may have ended in this very turn of the loop, and even serve another try already.
        if transfer is not None and self._tries.get(transfer.curl) is one:
            del self._tries[transfer.curl]
            curl_loop.remove(transfer.curl)
            self._put_back(transfer)

    def _put_back(self, transfer: Transfer) -> None:
        transfer.forget()
        self._idle.append(transfer)
        while self._queue and self._curl_loop is not None and len(self._tries) < self._max_in_flight:
            self._start(self._queue.popitem(last=False)[0], self._curl_loop)


@dataclass(eq=False, slots=True)
class _Try:
    """One request, waiting for a place or under way in `transfer`."""

    request: SendRequest
    answer: asyncio.Future[SendResult]
    transfer: Transfer | None = None

    def end(self, result: SendResult) -> None:
        if not self.answer.done():
            self.answer.set_result(result)
