"""Storing messages: each once, however often it must be sent, and durable when it is answered.

A message has an id of its own (`Nats-Msg-Id`), by which its stream knows it when it comes again. A few messages are sent
one after the other and answered as they are stored, each by a write that is synced. Many are sent as an atomic batch,
which the stream stores together, by one.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import count
from typing import Final, NamedTuple

from certes_broker.concurrency import together
from certes_broker.domain.errors import Unavailable
from certes_broker.engines.nats.connection import Connection, Refusal

FEW: Final = 12
"""Up to so many messages are faster alone than as a batch."""
BATCH: Final = 500
"""Messages of one atomic batch. Servers take 1,000."""
BATCH_BYTES: Final = 4 << 20

MESSAGE_ID: Final = "Nats-Msg-Id"
EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
ROLLUP: Final = {"Nats-Rollup": "sub"}
"""Lets a message take the place of all before it of its subject."""


class Message(NamedTuple):
    """A message to be stored."""

    subject: str
    payload: bytes
    headers: dict[str, str]


class Stored(NamedTuple):
    """Where a message was stored; `duplicate` says that it had been before."""

    sequence: int
    duplicate: bool


class Publisher:
    """Stores messages."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._writer = secrets.token_hex(6)
        self._numbers = count(1)

    def identified(self, message: Message) -> Message:
        """Returns the message with an id of its own, unless it has one."""
        if MESSAGE_ID in message.headers:
            return message
        return message._replace(headers={**message.headers, MESSAGE_ID: f"{self._writer}-{next(self._numbers)}"})

    async def store(self, message: Message, reserve: int = 0) -> Stored:
        """Stores a message durably.

        Raises `Refusal`, `Unavailable` (it may be stored or not), and `Invalid` (it is not) for one that is not smaller by
        `reserve` than what the servers take.
        """
        subject, payload, headers = self.identified(message)
        self._connection.check_size(payload, headers, reserve)
        answer = await self._connection.ask(subject, payload, headers)
        return Stored(answer["seq"], answer.get("duplicate", False))

    async def store_all(self, messages: Sequence[Message]) -> Sequence[Stored | Refusal]:
        """Stores messages of one stream and of different subjects, and returns what became of each, in order.

        Raises `Unavailable` when of one it is not known, and `Invalid` for one too large; others may be stored then.
        """
        outcomes: list[Stored | Refusal] = []
        for part in _parts([self.identified(message) for message in messages]):
            stored = await self.store_together(part) if len(part) > FEW else None
            outcomes += await self._each(part) if stored is None else stored
        return outcomes

    async def store_together(self, messages: Sequence[Message], reserve: int = 0) -> Sequence[Stored] | None:
        """Stores messages of one stream as an atomic batch: all or none. None where they were refused, or not answered.

        They have ids, so that storing them again one by one stores none twice.
        """
        for message in messages:
            self._connection.check_size(message.payload, message.headers, reserve)
        client = self._connection.client
        batch = f"{self._writer}-b{next(self._numbers)}"
        try:
            for number, (subject, payload, headers) in enumerate(messages[:-1], 1):
                if not client.is_connected:
                    return None
                await client.publish(subject, payload, headers=_in_batch(headers, batch, number))
            subject, payload, headers = messages[-1]
            last = _in_batch(headers, batch, len(messages)) | {"Nats-Batch-Commit": "1"}
            answer = await self._connection.ask(subject, payload, last)
        except (Refusal, Unavailable):
            return None
        first: int = answer["seq"] - len(messages) + 1
        return [Stored(first + index, duplicate=False) for index in range(len(messages))]

    async def _each(self, messages: Sequence[Message]) -> Sequence[Stored | Refusal]:
        if len(messages) == 1:
            return [await self._outcome(messages[0])]
        return await together(map(self._outcome, messages))

    async def _outcome(self, message: Message) -> Stored | Refusal:
        try:
            return await self.store(message)
        except Refusal as refusal:
            return refusal


def _in_batch(headers: dict[str, str], batch: str, number: int) -> dict[str, str]:
    return {**headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}


def _parts(messages: Sequence[Message]) -> Sequence[Sequence[Message]]:
    parts: list[list[Message]] = []
    size = 0
    for message in messages:
        size += len(message.payload)
        if not parts or len(parts[-1]) == BATCH or size > BATCH_BYTES:
            parts.append([])
            size = len(message.payload)
        parts[-1].append(message)
    return parts
