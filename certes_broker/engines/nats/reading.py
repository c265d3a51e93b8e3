"""Reading messages: one by one from a stream's leader, which knows the newest, or many at once from any replica.

A replica may lag behind, or not answer. So whoever reads many says through which sequence, which the leader has told; what a
replica does not have of these, the leader is asked for.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

from nats import errors
from nats.aio.msg import Msg

from certes_broker.domain.errors import CertesError
from certes_broker.engines.nats.connection import AGAIN, NO_MESSAGE, PATIENCE, Connection, Refusal

T = TypeVar("T")

PAGE: Final = 256
PAGE_BYTES: Final = 8 << 20
ALL: Final = ">"
"""The subject that is every one."""
FEW: Final = 4
"""Up to so many sequences the leader is asked for one by one."""
SOON: Final = 0.5
"""Seconds in which the next message comes from a replica. One that stands still sends none, and goes on being chosen for a minute."""
APART: Final = 16
"""So many sequences the leader is asked for one by one, where a replica did not answer, before another one is tried."""
SCANNED: Final = 1000
"""Messages that one request for headers asks for."""
SCANNING: Final = 1.5
"""Seconds in which the next message of headers comes: more than a request for them lives."""


class Kept(NamedTuple):
    """A message of a stream."""

    sequence: int
    subject: str
    headers: Mapping[str, str]
    payload: bytes


class StreamState(NamedTuple):
    """What a stream holds: the sequences of its first and last message, how many, and bytes. Without messages first is last + 1.

    `deleted` are how many messages between the first and the last are missing.
    """

    first: int
    last: int
    messages: int
    bytes: int
    deleted: int


class Reader:
    """Reads one stream."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._stream = stream

    async def state(self) -> StreamState:
        """Returns what the leader knows of the stream."""
        state = (await self._connection.api(f"STREAM.INFO.{self._stream}"))["state"]
        last = state["last_seq"]
        messages = state["messages"]
        first = state["first_seq"] if messages else last + 1
        return StreamState(first, last, messages, state["bytes"], state.get("num_deleted", 0))

    async def subjects(self, pattern: str) -> Sequence[str]:
        """Returns the subjects that the stream has messages of, as the leader knows them."""
        found: list[str] = []
        while True:
            body = {"subjects_filter": pattern, "offset": len(found)}
            answer = await self._connection.api(f"STREAM.INFO.{self._stream}", body)
            page = answer["state"].get("subjects") or {}
            found += page
            if not page or len(found) >= answer.get("total", 0):
                return found

    async def at(self, sequence: int, subject: str | None = None) -> Kept | None:
        """Returns the message of a sequence, or, with a subject, the first of that from there on; from the leader."""
        query: dict[str, Any] = {"seq": sequence}
        if subject is not None:
            query["next_by_subj"] = subject
        return await self._get(query)

    async def last(self, subject: str) -> Kept | None:
        """Returns the newest message of a subject, from the leader."""
        return await self._get({"last_by_subj": subject})

    async def between(
        self, subject: str, after: int, through: int, *, page: int = PAGE, page_bytes: int = PAGE_BYTES
    ) -> AsyncIterator[Kept]:
        """Yields the messages of a subject above one sequence and up to another, which the leader has, in order."""
        following = paged = after + 1
        while following <= through:
            found: Sequence[Kept] = ()
            if paged <= following <= through - FEW:
                found = await self._page(subject, following, page, page_bytes)
                paged = following + (0 if found else APART)
            if not found:
                kept = await self.at(following, subject)
                found = [] if kept is None else [kept]
            for kept in found:
                if kept.sequence > through:
                    return
                yield kept
                following = kept.sequence + 1
            if not found:
                return

    async def messages(self, subject: str) -> AsyncIterator[Kept]:
        """Yields the messages of a subject that there are now, in order."""
        async for kept in self.between(subject, 0, (await self.state()).last):
            yield kept

    async def headers(self, first: int, through: int) -> AsyncIterator[Kept]:
        """Yields all messages from one sequence to another, without their payloads."""
        if first > through:
            return
        name = self._connection.client.new_inbox().rpartition(".")[2]
        await self._connection.api(
            f"CONSUMER.CREATE.{self._stream}.{name}",
            {
                "stream_name": self._stream,
                "config": {
                    "name": name,
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": first,
                    "ack_policy": "none",
                    "headers_only": True,
                    "mem_storage": True,
                    "num_replicas": 1,
                    "inactive_threshold": 60_000_000_000,
                },
            },
        )
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{name}"
        done = first - 1
        loop = asyncio.get_running_loop()
        moved = loop.time()
        while done < through:
            begun = done
            query = {"batch": SCANNED, "expires": 1_000_000_000}
            for message in await self._answers(
                subject,
                query,
                lambda found: len(found) == SCANNED or bool(found[-1].metadata.sequence.stream >= through),
                SCANNING,
            ):
                done = message.metadata.sequence.stream
                if done <= through:
                    yield Kept(done, message.subject, message.headers or {}, b"")
            if done > begun:
                moved = loop.time()
            elif (left := await self.at(done + 1, ALL)) is None or left.sequence > through:
                break
            elif loop.time() - moved > PATIENCE:
                raise self._connection.unavailable(f"reading {self._stream} stands still at {done}")
            else:
                await asyncio.sleep(AGAIN)  # Where it was made just now, it may not be known everywhere.
        with suppress(CertesError):  # It goes by itself after a while.
            await self._connection.api(f"CONSUMER.DELETE.{self._stream}.{name}")

    async def _get(self, query: dict[str, Any]) -> Kept | None:
        try:
            answer = await self._connection.try_api(f"STREAM.MSG.GET.{self._stream}", query)
        except Refusal as refusal:
            if refusal.error_code == NO_MESSAGE:
                return None
            raise self._connection.unavailable(refusal) from refusal
        message = answer["message"]
        headers = _parse(base64.b64decode(message["hdrs"])) if "hdrs" in message else {}
        return Kept(message["seq"], message["subject"], headers, base64.b64decode(message.get("data", "")))

    async def _page(self, subject: str, first: int, limit: int, size: int) -> Sequence[Kept]:
        query = {"seq": first, "next_by_subj": subject, "batch": limit, "max_bytes": size}
        found: list[Kept] = []
        for message in await self._answers(f"$JS.API.DIRECT.GET.{self._stream}", query, lambda _: False, SOON):
            headers = message.headers or {}
            found.append(Kept(int(headers["Nats-Sequence"]), headers["Nats-Subject"], headers, message.data))
        return found

    async def _answers(
        self, subject: str, query: Mapping[str, Any], is_last: Callable[[Sequence[Msg]], bool], seconds: float
    ) -> Sequence[Msg]:
        """Asks for many messages, and returns those that have come when the last has, or when for so long nothing has."""
        if not self._connection.client.is_connected:
            return ()
        try:
            return await self._connection.mailbox.ask_many(subject, json.dumps(query).encode(), seconds, is_last)
        except errors.Error:
            return ()


def _parse(headers: bytes) -> Mapping[str, str]:
    lines = headers.decode("utf-8", "replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip(): value.strip() for name, _, value in pairs}
