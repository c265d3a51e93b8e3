"""Holding the prefix: one broker at a time keeps its events under it.

Whoever holds it renews a message; the broker that finds it renewed while it waits is refused, and the one that does not
takes its place. No two clocks are compared. A holder that was displaced, because it stood still for too long, finds its
renewal refused and ends; its writes were refused before, since each says what it follows.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from dataclasses import dataclass
from typing import Final

import orjson
import structlog

from certes_broker.domain.errors import CertesError, FailedPrecondition, Reason, Unavailable
from certes_broker.engines.nats.connection import WRONG_LAST_SEQUENCE, Refusal
from certes_broker.engines.nats.publishing import EXPECTED, ROLLUP, Message, Publisher
from certes_broker.engines.nats.reading import Reader
from certes_broker.engines.nats.subjects import Names

LOOKS: Final = 12
"""How often a broker looks at a prefix that is held before it takes it for abandoned."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Hold:
    """How a prefix is held, in seconds: the time between renewals, and after how long without one it is abandoned."""

    renewal: float = 1.0
    abandoned: float = 6.0


class Tenancy:
    """Holds the prefix for one broker."""

    def __init__(self, publisher: Publisher, reader: Reader, names: Names, hold: Hold) -> None:
        self._publisher = publisher
        self._reader = reader
        self._names = names
        self._hold = hold
        self._holder = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"
        self._sequence = 0
        self.epoch = 0
        """The sequence of the message with which it was taken: whatever was leased before is abandoned."""

    async def take(self) -> None:
        """Takes the prefix. Raises `FailedPrecondition` (DATA_DIR_LOCKED; metadata `holder`) if a broker holds it."""
        subject = self._names.tenant
        kept = await self._reader.last(subject)
        if kept is not None and (holder := orjson.loads(kept.payload)["holder"]):
            log.info("prefix_held", prefix=self._names.prefix, holder=holder, waiting_seconds=self._hold.abandoned)
            for _ in range(LOOKS):
                await asyncio.sleep(self._hold.abandoned / LOOKS)
                newer = await self._reader.last(subject)
                if newer is not None and newer.sequence != kept.sequence:
                    if not orjson.loads(newer.payload)["holder"]:
                        kept = newer
                        break
                    raise _held(self._names.prefix, holder)
        await self._write(0 if kept is None else kept.sequence, self._holder)
        self.epoch = self._sequence

    async def run(self) -> None:
        """Renews for ever. Raises `FailedPrecondition` (DATA_DIR_LOCKED) when another broker has taken the prefix."""
        while True:
            await asyncio.sleep(self._hold.renewal)
            try:
                await self._write(self._sequence, self._holder)
            except Unavailable as error:
                log.warning("prefix_not_renewed", error=str(error))

    async def give_up(self) -> None:
        """Lets the next broker have it at once."""
        try:
            await self._write(self._sequence, "")
        except CertesError as error:
            log.warning("prefix_not_given_up", error=str(error))

    async def _write(self, expected: int, holder: str) -> None:
        headers = {**ROLLUP, EXPECTED: str(expected)}
        message = Message(self._names.tenant, orjson.dumps({"holder": holder}), headers)
        try:
            self._sequence = (await self._publisher.store(message)).sequence
        except Refusal as refusal:
            if refusal.error_code != WRONG_LAST_SEQUENCE:
                raise _unusable(refusal) from refusal
            kept = await self._reader.last(self._names.tenant)
            present = "" if kept is None else orjson.loads(kept.payload)["holder"]
            if kept is None or present != self._holder:
                raise _held(self._names.prefix, present) from refusal
            # A renewal whose answer was lost.
            self._sequence = kept.sequence


def _held(prefix: str, holder: str) -> FailedPrecondition:
    host, _, pid = holder.rpartition(" ")[0].rpartition(" ")
    return FailedPrecondition(
        Reason.DATA_DIR_LOCKED,
        f"Another broker (process {pid or 'unknown'} on {host or 'another machine'}) keeps its events under the prefix"
        f" {prefix!r} of these NATS servers. For now one broker at a time does.",
        hint="Stop that broker, or give this one a prefix of its own: nats.prefix is the setting.",
        metadata={"prefix": prefix, "holder": holder},
    )


def _unusable(refusal: Refusal) -> Unavailable:
    return Unavailable(Reason.STORAGE_UNAVAILABLE, f"The prefix cannot be held: {refusal}.", retry_after=1.0)
