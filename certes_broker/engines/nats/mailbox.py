"""Answers to what was asked: one subscription for all single ones, each known by the last token of its subject.

The client has requests of its own, which wait by `asyncio.wait_for`; in Python 3.11 that can swallow a cancellation when the
answer comes at the same moment, and a task that was told to end would go on for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import Final

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg

NO_RESPONDERS: Final = "503"
STATUS: Final = "Status"


class Mailbox:
    """The answers to one client. Made by `open`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._tokens = count(1)
        self._takers: dict[str, Callable[[Msg], None]] = {}

    @classmethod
    async def open(cls, client: Client) -> Mailbox:
        """Subscribes to answers."""
        mailbox = cls(client)
        await client.subscribe(f"{mailbox._inbox}.*", cb=mailbox._take, pending_msgs_limit=-1, pending_bytes_limit=-1)
        return mailbox

    async def ask(self, subject: str, payload: bytes, headers: dict[str, str] | None, seconds: float) -> Msg:
        """Sends a request and returns the answer. Raises `TimeoutError` and what the client raises."""
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        with self.box(lambda message: None if answer.done() else answer.set_result(message)) as reply:
            async with asyncio.timeout(seconds):
                await self._client.publish(subject, payload, reply=reply, headers=headers)
                message = await answer
        if (message.headers or {}).get(STATUS) == NO_RESPONDERS:
            raise errors.NoRespondersError
        return message

    async def ask_many(
        self, subject: str, payload: bytes, seconds: float, is_last: Callable[[Sequence[Msg]], bool]
    ) -> Sequence[Msg]:
        """Sends a request and returns its answers: up to one that is a status, until `is_last`, or nothing has come for so long."""
        found: list[Msg] = []
        came = asyncio.Event()
        ended = False

        async def take(message: Msg) -> None:
            nonlocal ended
            if (message.headers or {}).get(STATUS):
                ended = True
            elif not ended:
                found.append(message)
                ended = is_last(found)
            came.set()

        # What a consumer delivers has the subject that it was stored with, so that no token would tell.
        inbox = self._client.new_inbox()
        answers = await self._client.subscribe(inbox, cb=take, pending_msgs_limit=-1, pending_bytes_limit=-1)
        try:
            await self._client.publish(subject, payload, reply=inbox)
            while not ended:
                came.clear()
                async with asyncio.timeout(seconds):
                    await came.wait()
        except TimeoutError:
            return found
        finally:
            # What it raised would take the place of a cancellation.
            with suppress(errors.Error):
                await answers.unsubscribe()
        return found

    @contextmanager
    def box(self, taker: Callable[[Msg], None]) -> Iterator[str]:
        """Gives out an address, whose messages go to `taker` while the block runs."""
        token = str(next(self._tokens))
        self._takers[token] = taker
        try:
            yield f"{self._inbox}.{token}"
        finally:
            del self._takers[token]

    async def _take(self, message: Msg) -> None:
        taker = self._takers.get(message.subject.rpartition(".")[2])
        if taker is not None:
            taker(message)
