"""The lanes' stream: what is kept of all subscriptions, and writing it by compare and set.

Everything that changes a lane goes through one queue, in order. What a lane was stored as is remembered, so that the next
write can say what it follows; where that turns out wrong, or it is not known what became of a write, it is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeVar

from certes_broker.domain.errors import Aborted, CertesError, Invalid, Reason
from certes_broker.domain.events import BEGINNING, Position
from certes_broker.engines.nats import lane_records
from certes_broker.engines.nats.connection import HEADERS, WRONG_LAST_SEQUENCE, Connection, Refusal
from certes_broker.engines.nats.keepsakes import keepsakes
from certes_broker.engines.nats.lane_records import WHOLE, LaneRecord, Lease, Rows, Written
from certes_broker.engines.nats.publishing import BATCH, EXPECTED, ROLLUP, Message, Publisher, Stored
from certes_broker.engines.nats.reading import Reader
from certes_broker.engines.nats.subjects import Names
from certes_broker.ports.cluster import MemberId
from certes_broker.ports.engine import CursorChange

T = TypeVar("T")

AT_ONCE: Final = 64
"""How many lanes are read at once."""
TRIES: Final = 5
"""How often a write that another came before is decided again."""


class Settle(NamedTuple):
    """A call of `settle`."""

    changes: Sequence[CursorChange]
    watermark: Position | None


class LeaseRequest(NamedTuple):
    """A call of `lease`, or, with `release`, of that."""

    subscriptions: Sequence[str]
    release: bool = False


class Forget(NamedTuple):
    """A call of `forget`."""

    subscription: str


Request = Settle | LeaseRequest | Forget


@dataclass(slots=True)
class _Plan:
    """How one lane is to change."""

    after: LaneRecord
    rows: Rows
    changes: list[CursorChange]


class Lanes:
    """All lanes. `tenancy` is the epoch since which this broker holds the prefix: leases of before are nobody's any more."""

    def __init__(
        self, connection: Connection, publisher: Publisher, reader: Reader, names: Names, own: MemberId
    ) -> None:
        self._own = own
        self._connection = connection
        self._publisher = publisher
        self._reader = reader
        self._names = names
        self._records: dict[str, LaneRecord] = {}
        self._watermark_sequence = 0
        self.watermark = BEGINNING
        self.tenancy = 0

    async def open(self) -> None:
        """Reads the watermark."""
        kept = await self._reader.last(self._names.watermark)
        self._watermark_sequence = 0 if kept is None else kept.sequence
        self.watermark = BEGINNING if kept is None else Position(int(kept.payload))

    async def records(self, subscriptions: Iterable[str]) -> Mapping[str, LaneRecord]:
        """Returns the records of subscriptions, read where they are not known."""
        wanted = dict.fromkeys(subscriptions)
        unknown = [name for name in wanted if name not in self._records]
        for start in range(0, len(unknown), AT_ONCE):
            part = unknown[start : start + AT_ONCE]
            for name, record in zip(part, await _all(self._read(name) for name in part), strict=True):
                self._records.setdefault(name, record)
        return {name: self._records[name] for name in wanted}

    def holds(self, record: LaneRecord) -> MemberId | None:
        """Returns who holds a lease."""
        lease = record.lease
        return None if lease.holder is None or lease.epoch <= self.tenancy else MemberId(lease.holder)

    async def write(self, requests: Sequence[Request]) -> Sequence[object]:
        """Makes writes in order; those of one kind that follow each other together."""
        outcomes: list[object] = []
        start = 0
        while start < len(requests):
            first, stop = requests[start], start + 1
            while stop < len(requests) and type(requests[stop]) is type(first):
                stop += 1
            if isinstance(first, Settle):
                outcomes += await self._settle([one for one in requests[start:stop] if isinstance(one, Settle)])
            elif isinstance(first, LeaseRequest):
                stop = start + 1
                outcomes.append(await self._lease(first))
            else:
                stop = start + 1
                await self._forget(first.subscription)
                outcomes.append(None)
            start = stop
        return outcomes

    # Settling.

    async def _settle(self, requests: Sequence[Settle]) -> Sequence[Sequence[str]]:
        refused = await self._carry_out(
            {change.subscription for request in requests for change in request.changes},
            lambda records: self._settled(requests, records),
        )
        watermarks = [request.watermark for request in requests if request.watermark is not None]
        if watermarks and max(watermarks) > self.watermark:
            await self._raise_watermark(max(watermarks))
        return [
            list(dict.fromkeys(one.subscription for one in request.changes if (one.subscription, one.epoch) in refused))
            for request in requests
        ]

    @staticmethod
    def _settled(
        requests: Sequence[Settle], records: Mapping[str, LaneRecord]
    ) -> tuple[Mapping[str, _Plan], set[tuple[str, int]]]:
        plans: dict[str, _Plan] = {}
        refused: set[tuple[str, int]] = set()
        for change in (change for request in requests for change in request.changes):
            name = change.subscription
            if name not in records:
                continue
            if change.epoch < records[name].lease.epoch:
                refused.add((name, change.epoch))
                continue
            plan = plans.setdefault(name, _Plan(records[name], Rows(), []))
            plan.rows = plan.rows.then(change)
            plan.changes.append(change)
            plan.after = replace(records[name], state=change.state)
        for name, plan in plans.items():
            plan.after = replace(plan.after, owed=plan.rows.apply(records[name].owed))
        return plans, refused

    async def _raise_watermark(self, watermark: Position) -> None:
        for _ in range(TRIES):
            headers = {**ROLLUP, EXPECTED: str(self._watermark_sequence)}
            try:
                message = Message(self._names.watermark, b"%d" % watermark, headers)
                stored = await self._publisher.store(message)
            except Refusal as refusal:
                if refusal.error_code != WRONG_LAST_SEQUENCE:
                    raise self._connection.unavailable(refusal) from refusal
                await self.open()
                if self.watermark >= watermark:
                    return
            else:
                self._watermark_sequence, self.watermark = stored.sequence, watermark
                return
        raise self._connection.unavailable("others write the watermark all the time")

    # Leases.

    async def _lease(self, request: LeaseRequest) -> Sequence[int | None]:
        epochs: dict[str, int | None] = {}
        await self._carry_out(
            set(request.subscriptions), lambda records: (self._leased(request, records, epochs), None)
        )
        records = await self.records(request.subscriptions)
        return [
            records[name].lease.epoch if name in epochs and records[name].lease.holder == self._own else None
            for name in request.subscriptions
        ]

    def _leased(
        self, request: LeaseRequest, records: Mapping[str, LaneRecord], epochs: dict[str, int | None]
    ) -> Mapping[str, _Plan]:
        plans: dict[str, _Plan] = {}
        for name in dict.fromkeys(request.subscriptions):
            if name not in records:
                continue
            record = records[name]
            lease = record.lease
            is_held = lease.holder is not None and lease.epoch > self.tenancy
            if request.release:
                if lease.holder != self._own:
                    continue
                # The epoch stays, so that what its holder wrote later stays refused.
                plans[name] = _Plan(replace(record, lease=replace(lease, holder=None)), Rows(), [])
                continue
            epochs.pop(name, None)
            if is_held and lease.holder != self._own:
                continue
            epochs[name] = None
            if not is_held:
                plans[name] = _Plan(replace(record, lease=Lease(self._own)), Rows(), [])
        return plans

    # Forgetting.

    async def _forget(self, subscription: str) -> None:
        self._records.pop(subscription, None)
        names = self._names
        patterns = (names.dead_letter(subscription, "*"), names.gap(subscription, "*", "*"), names.lane(subscription))
        for pattern in patterns:
            await self._connection.api(f"STREAM.PURGE.{names.lanes}", {"filter": pattern})

    # Writing.

    async def _carry_out(
        self,
        subscriptions: set[str],
        decide: Callable[[Mapping[str, LaneRecord]], tuple[Mapping[str, _Plan], set[T] | None]],
    ) -> set[T]:
        """Changes lanes as is decided by their records, and again where another write came first."""
        left = sorted(subscriptions)
        refused: set[T] = set()
        for _ in range(TRIES):
            if not left:
                return refused
            plans, more = decide(await self.records(left))
            refused |= more or set()
            left = await self._store(plans)
        raise Aborted(Reason.LEASE_LOST, "Others write the same subscriptions all the time.", retry_after=1.0)

    async def _store(self, plans: Mapping[str, _Plan]) -> list[str]:
        """Stores records, and returns the names of those that have changed meanwhile."""
        limit = self._connection.max_payload - HEADERS
        written = {name: lane_records.write(plan.after, plan.rows, limit) for name, plan in plans.items()}
        plain = [name for name, plan in plans.items() if not any(one.dead or one.gaps for one in plan.changes)]
        messages = [self._message(name, plans[name].after, written[name]) for name in plain]
        changed: list[str] = []
        try:
            for name, outcome in zip(plain, await self._publisher.store_all(messages), strict=True):
                self._note(name, plans[name].after, written[name], outcome, changed)
            for name in plans.keys() - set(plain):
                outcome = await self._store_with_keepsakes(name, plans[name], written[name])
                self._note(name, plans[name].after, written[name], outcome, changed)
        except BaseException as error:
            for name in plans:
                self._records.pop(name, None)
            if isinstance(error, Invalid):
                # Nobody asked for it to be so large; and with servers that take more, it can be stored.
                raise self._connection.unavailable(error) from error
            raise
        return changed

    async def _store_with_keepsakes(self, name: str, plan: _Plan, written: Written) -> Stored | Refusal:
        """Stores a record with its new dead letters and gaps, together.

        Where these are more than a batch takes, the first go before: a crash may leave dead letters of deliveries that are
        still owed.
        """
        messages = [one for change in plan.changes for one in keepsakes(self._names, change)]
        record = self._message(name, plan.after, written)
        while len(messages) >= BATCH:
            for outcome in await self._publisher.store_all(messages[: BATCH - 1]):
                if isinstance(outcome, Refusal):
                    raise self._connection.unavailable(outcome)
            messages = messages[BATCH - 1 :]
        together = [self._publisher.identified(message) for message in (*messages, record)]
        stored = await self._publisher.store_together(together)
        if stored is not None:
            return stored[-1]
        # Refused, or not answered. The record alone tells which: it has an id, and says what it follows.
        outcome = (await self._publisher.store_all([together[-1]]))[0]
        if isinstance(outcome, Stored) and not outcome.duplicate:
            # It was too large for a batch, or none could be begun: the order then is the wrong one, but nothing is lost.
            for one in await self._publisher.store_all(together[:-1]):
                if isinstance(one, Refusal):
                    raise self._connection.unavailable(one)
        return outcome

    def _note(
        self, name: str, record: LaneRecord, written: Written, outcome: Stored | Refusal, changed: list[str]
    ) -> None:
        if isinstance(outcome, Stored):
            self._records[name] = lane_records.stored(record, outcome.sequence, is_whole=written.is_whole)
        elif outcome.error_code == WRONG_LAST_SEQUENCE:
            self._records.pop(name, None)
            changed.append(name)
        else:
            raise self._connection.unavailable(outcome)

    def _message(self, name: str, record: LaneRecord, written: Written) -> Message:
        headers = {EXPECTED: str(record.sequence)}
        if written.is_whole:
            headers |= ROLLUP | {WHOLE: "1"}
        return Message(self._names.lane(name), written.payload, headers)

    async def _read(self, subscription: str) -> LaneRecord:
        subject = self._names.lane(subscription)
        newest = await self._reader.last(subject)
        if newest is None:
            return LaneRecord()
        if WHOLE in newest.headers:
            return lane_records.read(LaneRecord(), newest.sequence, newest.payload)
        record = LaneRecord()
        async for kept in self._reader.between(subject, 0, newest.sequence):
            record = lane_records.read(record, kept.sequence, kept.payload)
        return record


async def _all(coroutines: Iterable[Awaitable[T]]) -> Sequence[T]:
    """Runs coroutines at once, and returns what they return, in order."""
    try:
        async with asyncio.TaskGroup() as tasks:
            under_way = [tasks.create_task(_awaited(one)) for one in coroutines]
    except* CertesError as group:
        raise group.exceptions[0] from None
    return [task.result() for task in under_way]


async def _awaited(one: Awaitable[T]) -> T:
    return await one
