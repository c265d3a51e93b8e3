"""The engine on NATS JetStream.

How it works
------------
* Events are blocks in a stream (`journal`), what is kept of subscriptions is the last value of each (`lanes`), settings are
  a key-value bucket, attempts and rejected payloads are streams of their own. All begin with one prefix (`subjects`).
* A write is answered when the stream has acknowledged it. With `sync_interval: always` that means that it is on the disks
  of a majority of the replicas (`checks` says where it does not).
* What waits is written together (`groups`), because a stored message costs the same whether it holds one event or
  a thousand.
* Every write that depends on what was before says so, and the stream refuses it if that is no longer true. So no answer that
  was lost, no message that was late, and no broker that stood still can undo or double anything.
* Brokers that share a prefix are members (`membership`), each of whom follows what the others store (`following`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from certes_broker.domain.errors import FailedPrecondition, Reason
from certes_broker.domain.events import Entry
from certes_broker.engines.feed import Feeds
from certes_broker.engines.nats.appends import RESERVE, Appends, Call
from certes_broker.engines.nats.attempts import AttemptLog, NatsAttempts
from certes_broker.engines.nats.carried_ids import CarriedIds
from certes_broker.engines.nats.checks import Finding, check_jetstream, check_version, look
from certes_broker.engines.nats.connection import PING, Connection, connected
from certes_broker.engines.nats.cursors import NatsCursors, NatsLeases
from certes_broker.engines.nats.deleting import Deletion
from certes_broker.engines.nats.erasure import Deletions, NatsErasure
from certes_broker.engines.nats.following import Follower
from certes_broker.engines.nats.groups import Bound, Groups
from certes_broker.engines.nats.ids import KEY_BYTES, Ids
from certes_broker.engines.nats.journal import NatsJournal
from certes_broker.engines.nats.journal_blocks import JournalBlocks
from certes_broker.engines.nats.lanes import Company, Lanes, Request
from certes_broker.engines.nats.membership import Membership
from certes_broker.engines.nats.place import Place
from certes_broker.engines.nats.post import NatsPost
from certes_broker.engines.nats.publishing import Publisher
from certes_broker.engines.nats.reading import Reader
from certes_broker.engines.nats.rejections import NatsRejections
from certes_broker.engines.nats.settings import NatsSettings
from certes_broker.engines.nats.sightings import Pace
from certes_broker.engines.nats.streams import Streams
from certes_broker.engines.nats.subjects import Names
from certes_broker.engines.nats.turns import Turns
from certes_broker.engines.nats.watermarks import Watermarks
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Appended, Attempt, DocumentChange

MICROS_PER_SECOND: Final = 1_000_000
MEBIBYTE: Final = 1 << 20
DEFAULT_PACE: Final = Pace()
BLOCK_BYTES: Final = MEBIBYTE
BLOCK_HEADERS: Final = 32 << 10

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """The engine's bounds.

    `tail_entries` (an entry counts once more for every 4 KiB) may wait for the journal's tail, and `watch_changes` for
    each watch of the settings, before writes of that kind are held back. `append_bytes` and `append_calls` may wait to be
    stored; more is refused. `pace` says how members live, `ping` after how
    many seconds a silent connection is tried.
    """

    tail_entries: int = 16_384
    watch_changes: int = 1_024
    append_bytes: int = 64 * MEBIBYTE
    append_calls: int = 10_000
    other_bytes: int = 16 * MEBIBYTE
    other_calls: int = 10_000
    pace: Pace = DEFAULT_PACE
    ping: int = PING


DEFAULT_LIMITS: Final = Limits()


class NatsEngine:
    """Keeps events, cursors and settings on NATS servers. Made by `open`."""

    def __init__(self, connection: Connection, names: Names, ids: Ids, clock: Clock, limits: Limits) -> None:
        publisher = Publisher(connection)
        tail: Feeds[Sequence[Entry]] = Feeds(limits.tail_entries, self._wake)
        self._tail = tail
        self._watch: Feeds[DocumentChange] = Feeds(limits.watch_changes)
        journal_reader, lanes_reader = Reader(connection, names.journal), Reader(connection, names.lanes)
        self._members = Membership(connection, publisher, lanes_reader, names, limits.pace)
        self._post = NatsPost(connection, names, self._members.own)
        settings_reader = Reader(connection, names.settings)
        self._followers = (
            Follower(connection, names.journal, journal_reader),
            Follower(connection, names.settings, settings_reader),
        )
        attempts_reader, rejected_reader = Reader(connection, names.attempts), Reader(connection, names.rejected)
        blocks = JournalBlocks(journal_reader, lanes_reader, names)
        deletions = Deletions(
            Deletion(connection, names.journal, journal_reader),
            Deletion(connection, names.lanes, lanes_reader),
            Deletion(connection, names.attempts, attempts_reader),
            Deletion(connection, names.rejected, rejected_reader),
        )
        appends = Appends(publisher, blocks, names, ids, tail, clock, Turns(connection, names, self._members.own))
        appends.block_bytes = min(BLOCK_BYTES, connection.max_payload - BLOCK_HEADERS - RESERVE)
        self._appending = appends
        others = Bound(limits.other_bytes, limits.other_calls, refuses=False)
        self._appends: Groups[Call, Sequence[Appended]] = Groups(
            appends.write, Bound(limits.append_bytes, limits.append_calls, refuses=True), lambda: tail.has_room
        )
        watermarks = Watermarks(connection, publisher, lanes_reader, names, self._members.own)
        company = Company(self._members, watermarks)
        self._lanes = Lanes(connection, publisher, lanes_reader, names, company, deletions.lanes)
        self._changes: Groups[Request, object] = Groups(self._lanes.write, others)
        log_of_attempts = AttemptLog(connection, publisher, names)
        self._recording: Groups[Sequence[Attempt], None] = Groups(log_of_attempts.write, others)
        carried = CarriedIds(connection, publisher, lanes_reader, names)
        self._journal = NatsJournal(connection, blocks, names, ids, carried, tail, appends, self._appends)
        self._cursors = NatsCursors(self._lanes, watermarks, lanes_reader, names, self._changes)
        self._leases = NatsLeases(self._lanes, self._changes)
        self._attempts = NatsAttempts(connection, attempts_reader, names, self._recording)
        self._rejections = NatsRejections(connection, publisher, rejected_reader, names, deletions.rejected)
        self._settings = NatsSettings(connection, publisher, settings_reader, names, self._watch)
        readers = (lanes_reader, attempts_reader)
        self._erasure = NatsErasure(connection, publisher, names, blocks, readers, deletions, self._journal.forget)
        self.findings: Sequence[Finding] = ()
        """Which guarantees are weaker than they should be."""

    @property
    def journal(self) -> NatsJournal:
        return self._journal

    @property
    def cursors(self) -> NatsCursors:
        return self._cursors

    @property
    def leases(self) -> NatsLeases:
        return self._leases

    @property
    def attempts(self) -> NatsAttempts:
        return self._attempts

    @property
    def rejections(self) -> NatsRejections:
        return self._rejections

    @property
    def settings(self) -> NatsSettings:
        return self._settings

    @property
    def members(self) -> Membership:
        return self._members

    @property
    def post(self) -> NatsPost:
        return self._post

    @property
    def weaker(self) -> Sequence[str]:
        return [finding.fact for finding in self.findings]

    @property
    def erasure(self) -> NatsErasure:
        return self._erasure

    @property
    def waiting(self) -> int:
        return sum(map(len, self._queues)) + self._settings.waiting

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        place: Place,
        clock: Clock,
        *,
        dedupe_window: float = 86400.0,
        limits: Limits = DEFAULT_LIMITS,
        shared: bool = False,
    ) -> AsyncIterator[NatsEngine]:
        """Opens the engine, makes its streams where they are missing, and becomes a member. Leaving stores what waits.

        `dedupe_window` is seconds. With `shared` there may be other members. Raises `FailedPrecondition`: DATA_DIR_LOCKED
        if there are, and it is not shared, STORAGE_UNAVAILABLE if the servers cannot be reached or do not do what is needed.
        """
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(connected(place.access, ping=limits.ping))
            version = check_version(connection)
            await check_jetstream(connection)
            names = Names(place.prefix)
            replicas, secret = await Streams(connection, names, place.replicas).ensure(secrets.token_hex(KEY_BYTES))
            ids = Ids(clock, round(dedupe_window * MICROS_PER_SECOND), bytes.fromhex(secret))
            engine = cls(connection, names, ids, clock, limits)
            engine._appending.batches = replicas > 1
            engine.findings = await look(connection, replicas, place.needs)
            for finding in engine.findings:
                log.warning(
                    "guarantee_weaker", weakness=finding.weakness.value, fact=finding.fact, advice=finding.advice
                )
            await engine._begin()
            # Not before: it may take longer than others wait for a member, who would leave webhooks to it meanwhile.
            await engine._members.join()
            stack.push_async_callback(engine._members.leave)
            if not shared and len(engine._members.living) > 1:
                raise _held(place.prefix)
            log.info("nats_ready", version=version, prefix=place.prefix, replicas=replicas)
            async with engine._running():
                # Finds what was stored while others were waited for, also where they have ended, and nobody is followed.
                await engine._journal.bounds()
                yield engine

    async def _follow_journal(self) -> None:
        """Follows the journal from when there was another member: who is alone knows what is in it."""
        async for living in self._members.watch():
            if len(living) > 1:
                await self._appending.follow(self._followers[0])

    def _wake(self) -> None:
        self._appends.wake()

    @property
    def _queues(
        self,
    ) -> Sequence[Groups[Call, Sequence[Appended]] | Groups[Request, object] | Groups[Sequence[Attempt], None]]:
        return (self._appends, self._changes, self._recording)

    async def _begin(self) -> None:
        await self._settings.open()
        await self._rejections.open()
        await self._journal.open()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        """Runs the queues while the block runs, and until what waits is stored.

        What the block raises goes on as it is, not in the group's `ExceptionGroup`.
        """
        failure: BaseException | None = None
        async with asyncio.TaskGroup() as tasks:
            others = [
                tasks.create_task(self._members.run(), name="nats membership"),
                tasks.create_task(self._post.run(), name="nats post"),
                tasks.create_task(self._follow_journal(), name="nats journal"),
                tasks.create_task(self._settings.follow(self._followers[1]), name="nats settings"),
            ]
            writing = [tasks.create_task(queue.run(), name="nats writer") for queue in self._queues]
            try:
                yield
            except BaseException as error:  # noqa: BLE001 - raised again below, once what waits is stored
                failure = error
            self._tail.close()
            self._watch.close()
            for queue in self._queues:
                queue.close()
            await asyncio.wait(writing)
            for task in others:
                task.cancel()
            await asyncio.wait(others)
        if failure is not None:
            raise failure


def _held(prefix: str) -> FailedPrecondition:
    return FailedPrecondition(
        Reason.DATA_DIR_LOCKED,
        f"Another broker keeps its events under the prefix {prefix!r} of these NATS servers.",
        hint="Stop that broker, or give this one a prefix of its own: nats.prefix is the setting.",
        metadata={"prefix": prefix},
    )
