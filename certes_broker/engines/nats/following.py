"""Following a stream: every message above a sequence, in order, as soon as it is stored, whoever stored it.

Messages are pulled by an ordered consumer, which lives in the memory of one server and numbers what it sends. Where a number
is missing, or nothing at all comes any more, another consumer goes on from the last message that came. Consumers are placed by
the servers' leader, which may be away, and at any of the servers, which may stand still. So another is asked for soon, and while
there is none, the stream's own leader is asked what has been stored.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from itertools import cycle
from typing import Final

import structlog
from nats import errors
from nats.aio.msg import Msg

from certes_broker.domain.errors import Unavailable
from certes_broker.engines.nats.connection import Connection, Refusal
from certes_broker.engines.nats.mailbox import STATUS
from certes_broker.engines.nats.reading import ALL, Kept, Reader

BATCH: Final = 64
"""Messages that one request asks for."""
EXPIRES: Final = 30.0
HEARTBEAT: Final = 1.0
SILENCE: Final = 2.5
"""Seconds without a heartbeat after which nothing comes any more."""
AGAIN: Final = 0.2
BEGINNING: Final = (1.0, 0.25, 0.25, 0.25)
"""Seconds that a consumer may take to be made, attempt by attempt and over again. Between them what is stored is read without one."""
_NANOSECONDS: Final = 1_000_000_000
_IDLE: Final = "100"
_EXPIRED: Final = "408"

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Follower:
    """Follows one stream, which `reader` reads."""

    def __init__(self, connection: Connection, stream: str, reader: Reader) -> None:
        self._connection = connection
        self._stream = stream
        self._reader = reader

    async def messages(self, last: Callable[[], int]) -> AsyncGenerator[Kept]:
        """Yields the messages above a sequence for ever. Where it must begin anew, it asks for the sequence again."""
        attempts = cycle(BEGINNING)
        while True:
            name = await self._begin(last() + 1, next(attempts))
            messages = self._read(last()) if name is None else self._pull(name)
            async with aclosing(messages):
                async for kept in messages:
                    yield kept
            if name is not None:
                attempts = cycle(BEGINNING)
                log.info("following_anew", stream=self._stream, after=last())
            await asyncio.sleep(AGAIN)

    async def _begin(self, first: int, within: float) -> str | None:
        """Makes a consumer, and returns its name; None where there is none in time."""
        name = self._connection.client.new_inbox().rpartition(".")[2]
        config = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": first,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 60 * _NANOSECONDS,
        }
        body = {"stream_name": self._stream, "config": config}
        try:
            # Asked for again under its name it would still be where it was placed.
            await self._connection.try_api(f"CONSUMER.CREATE.{self._stream}.{name}", body, within=within)
        except (Unavailable, Refusal):
            return None
        return name

    async def _read(self, after: int) -> AsyncGenerator[Kept]:
        """Yields what is stored above a sequence by now, as far as it can be read."""
        with suppress(Unavailable):
            through = (await self._reader.state()).last
            async for kept in self._reader.between(ALL, after, through):
                yield kept

    async def _pull(self, consumer: str) -> AsyncGenerator[Kept]:
        client = self._connection.client
        came: deque[Msg] = deque()
        news = asyncio.Event()

        async def take(message: Msg) -> None:
            came.append(message)
            news.set()

        inbox = client.new_inbox()
        try:
            answers = await client.subscribe(inbox, cb=take, pending_msgs_limit=-1, pending_bytes_limit=-1)
        except errors.Error:
            return
        request = {
            "batch": BATCH,
            "expires": round(EXPIRES * _NANOSECONDS),
            "idle_heartbeat": round(HEARTBEAT * _NANOSECONDS),
        }
        number = left = 0
        try:
            while True:
                if not left:
                    await client.publish(
                        f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}", json.dumps(request).encode(), inbox
                    )
                    left = BATCH
                while not came:
                    news.clear()
                    async with asyncio.timeout(SILENCE):
                        await news.wait()
                message = came.popleft()
                status = (message.headers or {}).get(STATUS)
                if status == _EXPIRED:
                    left = 0
                elif status is None:
                    at = message.metadata.sequence
                    number += 1
                    left -= 1
                    if at.consumer != number:
                        return
                    yield Kept(at.stream, message.subject, message.headers or {}, message.data)
                elif status != _IDLE:
                    return
        except (TimeoutError, errors.Error):
            return
        finally:
            with suppress(errors.Error):
                await answers.unsubscribe()
