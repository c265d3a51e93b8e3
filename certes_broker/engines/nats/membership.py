"""Which brokers share the prefix, and how it is found that one has ended.

How it works
------------
* A member is a message, the last of its subject, which it renews every second. Each renewal says which message it follows.
* Every member looks at the others' messages every second, as the leader of the stream has them. One that sees the same
  message for six seconds (`sightings` says what counts) takes its sender for gone, and writes an end after exactly that
  message: if it was renewed in the meantime, that is refused. So a member ends once, for everybody, and what it would renew
  later is refused: then it ends itself.
* Before each look it asks the servers whether the others are connected to them. One that is not for more than four seconds is
  taken for gone sooner, also if a stream had no leader meanwhile and nobody could look.
* A member whose last renewal that was answered *began* more than four seconds ago is not current: it hands out nothing. Six
  seconds seen by another begin after that renewal was stored, so what is handed out is handed out by one.
* No two clocks are compared, only how long something takes on each.
* An end is taken away again: no message is as good as an end, since an id is never used twice.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final

import orjson
import structlog
from nats import errors
from nats.aio.msg import Msg

from certes_broker.concurrency import together
from certes_broker.domain.errors import CertesError, FailedPrecondition, Reason, Unavailable
from certes_broker.engines.nats.connection import WRONG_LAST_SEQUENCE, Connection, Refusal
from certes_broker.engines.nats.post_messages import Notice
from certes_broker.engines.nats.publishing import EXPECTED, ROLLUP, Message, Publisher
from certes_broker.engines.nats.reading import Kept, Reader
from certes_broker.engines.nats.sightings import Pace, Sightings
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.cluster import MemberId

END: Final = b""
"""The payload of an end."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


def boot_time() -> float:
    """Returns seconds that go on while the machine sleeps, where there are such."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Membership:
    """One member, and the others as it sees them."""

    is_shared: Final = True

    def __init__(
        self,
        connection: Connection,
        publisher: Publisher,
        reader: Reader,
        names: Names,
        pace: Pace,
        now: Callable[[], float] = boot_time,
    ) -> None:
        self.own: Final = MemberId(secrets.token_hex(8))
        self._connection = connection
        self._publisher = publisher
        self._reader = reader
        self._names = names
        self._pace = pace
        self._now = now
        self._about = orjson.dumps({"host": socket.gethostname(), "pid": os.getpid()})
        self._sequence = 0
        self._renewed = -pace.current
        self._sightings = Sightings(pace)
        self._gone: set[MemberId] = set()
        """Those whose end was seen or written. That there is no message may pass: a leader that was just elected can lag."""
        self._living = frozenset((self.own,))
        self._nudged = asyncio.Event()
        self._watches: list[asyncio.Event] = []

    @property
    def living(self) -> frozenset[MemberId]:
        return self._living

    def is_current(self) -> bool:
        return self._now() - self._renewed <= self._pace.current

    async def watch(self) -> AsyncIterator[frozenset[MemberId]]:
        changed = asyncio.Event()
        self._watches.append(changed)
        try:
            seen: frozenset[MemberId] | None = None
            while True:
                changed.clear()
                if seen != self._living:
                    seen = self._living
                    yield seen
                else:
                    await changed.wait()
        finally:
            self._watches.remove(changed)

    async def has_ended(self, member: MemberId) -> bool:
        if member in self._gone or member in self._living:
            return member in self._gone
        return not _lives(await self._reader.last(self._names.member(member)))

    async def join(self) -> None:
        """Becomes a member, and returns when each of the others is known to live, or has ended."""
        await self._connection.client.subscribe(self._names.members, cb=self._take_nudge)
        await self._renew()
        await self._look()
        met = self._sightings.sequences
        if met:
            log.info("members_met", members=sorted(met), waiting_seconds=self._pace.ended)
        await self._nudge()
        while met.items() & self._sightings.sequences.items():
            await asyncio.sleep(min(self._pace.renewal, self._pace.ended / 6) / 2)
            await self._renew()
            await self._look()

    async def run(self) -> None:
        """Renews and looks for ever. Raises `FailedPrecondition` (LEASE_LOST) when the others have ended this member."""
        due = self._now() + self._pace.renewal
        while True:
            wait = due - self._now()
            if self._sightings.misses_any:
                wait = min(wait, self._pace.renewal / 2)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(wait, 0)):
                    await self._nudged.wait()
            self._nudged.clear()
            if self._now() >= due:
                due = self._now() + self._pace.renewal
                try:
                    await self._renew()
                except Unavailable as error:
                    # Nor could the others, perhaps.
                    self._sightings.lose()
                    log.warning("member_not_renewed", error=str(error))
            await self._look()

    async def leave(self) -> None:
        """Ends this member, so that the others can have its lanes at once."""
        try:
            await self._end(self.own, self._sequence)
        except CertesError as error:
            log.warning("member_not_ended", error=str(error))

    async def _renew(self) -> None:
        began = self._now()
        headers = {**ROLLUP, EXPECTED: str(self._sequence)}
        try:
            stored = await self._publisher.store(Message(self._names.member(self.own), self._about, headers))
        except Refusal as refusal:
            if refusal.error_code != WRONG_LAST_SEQUENCE:
                raise self._connection.unavailable(refusal) from refusal
            kept = await self._reader.last(self._names.member(self.own))
            if kept is None or not _lives(kept):
                raise self._ended() from refusal
            # A renewal whose answer was lost: when it began is not known.
            self._sequence = kept.sequence
        else:
            self._sequence, self._renewed = stored.sequence, began

    async def _look(self) -> None:
        """Looks at the others, and ends those that were not renewed for too long."""
        await self._listen()
        began = self._now()
        try:
            subjects = await self._reader.subjects(self._names.member("*"))
            found = await together(self._reader.last(subject) for subject in subjects)
        except Unavailable:
            self._sightings.lose()
            return
        others: dict[MemberId, Kept] = {}
        for subject, kept in zip(subjects, found, strict=True):
            member = self._names.member_of(subject)
            if member == self.own or kept is None:
                continue
            if _lives(kept):
                others[member] = kept
            else:
                self._gone.add(member)
                await self._clear(member)
        sequences = {member: kept.sequence for member, kept in others.items()}
        for member in self._sightings.take(began, self._now(), sequences):
            if await self._take_for_gone(member, others[member]):
                self._sightings.remove(member)
        living = frozenset((self.own, *self._sightings.sequences))
        if living != self._living:
            log.info("members_changed", members=sorted(living), own=self.own)
            self._living = living
            for changed in self._watches:
                changed.set()

    async def _listen(self) -> None:
        """Asks which of the others are connected."""
        others, notice = list(self._sightings.sequences), Notice(self.own).encode()
        began = self._now()
        found = await together(self._connection.is_deserted(self._names.notices(one), notice) for one in others)
        unconnected = [one for one, is_deserted in zip(others, found, strict=True) if is_deserted]
        self._sightings.miss(began, self._now(), unconnected)

    async def _take_for_gone(self, member: MemberId, kept: Kept) -> bool:
        about = orjson.loads(kept.payload)
        log.warning("member_gone", member=member, host=about["host"], pid=about["pid"])
        try:
            return await self._end(member, kept.sequence)
        except CertesError as error:
            log.warning("member_not_ended", member=member, error=str(error))
            return False

    async def _end(self, member: MemberId, sequence: int) -> bool:
        """Writes a member's end after its message of this sequence; says whether it has ended."""
        message = Message(self._names.member(member), END, {**ROLLUP, EXPECTED: str(sequence)})
        try:
            await self._publisher.store(message)
        except Refusal as refusal:
            if refusal.error_code != WRONG_LAST_SEQUENCE:
                raise self._connection.unavailable(refusal) from refusal
            return not _lives(await self._reader.last(self._names.member(member)))
        self._gone.add(member)
        await self._clear(member)
        await self._nudge()
        return True

    async def _clear(self, member: MemberId) -> None:
        """Takes an end away."""
        with suppress(CertesError):  # The next that sees it does.
            await self._connection.api(f"STREAM.PURGE.{self._names.lanes}", {"filter": self._names.member(member)})

    async def _nudge(self) -> None:
        """Lets the others look now. It need not arrive: they look every second."""
        with suppress(errors.Error):
            await self._connection.client.publish(self._names.members, b"")

    async def _take_nudge(self, _: Msg) -> None:
        self._nudged.set()

    def _ended(self) -> FailedPrecondition:
        return FailedPrecondition(
            Reason.LEASE_LOST,
            f"The brokers that share the prefix {self._names.prefix!r} have taken this one for gone: it had not been"
            f" heard of for {self._pace.ended:g} s. Its lanes are others' now.",
            hint="Start it again. If that happens often, the machine or the network stands still for seconds.",
            metadata={"prefix": self._names.prefix, "member": self.own},
        )


def _lives(kept: Kept | None) -> bool:
    return kept is not None and kept.payload != END
