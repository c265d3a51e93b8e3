"""The lanes' stream: what is kept of all subscriptions, and writing it by compare and set.

Everything that changes a lane goes through one queue, in order. What a lane that this member holds was stored as is
remembered, so that the next write can say what it follows; where that turns out wrong, or it is not known what became of a
write, it is read again. What others hold is read whenever it is wanted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from certes_broker.concurrency import together
from certes_broker.domain.errors import Aborted, Invalid, Reason
from certes_broker.domain.events import BEGINNING, Position
from certes_broker.engines.kept import raised
from certes_broker.engines.nats import lane_records
from certes_broker.engines.nats.connection import HEADERS, WRONG_LAST_SEQUENCE, Connection, Refusal
from certes_broker.engines.nats.deleting import Deletion
from certes_broker.engines.nats.keepsakes import buried, keepsakes
from certes_broker.engines.nats.lane_records import WHOLE, LaneRecord, Lease, Rows, Written
from certes_broker.engines.nats.membership import Membership
from certes_broker.engines.nats.publishing import BATCH, EXPECTED, ROLLUP, Message, Publisher, Stored
from certes_broker.engines.nats.reading import Reader
from certes_broker.engines.nats.subjects import Names
from certes_broker.engines.nats.watermarks import Watermarks
from certes_broker.ports.cluster import MemberId
from certes_broker.ports.engine import CursorChange, CursorState

AT_ONCE: Final = 64
"""How many lanes are read at once."""
TRIES: Final = 5
"""How often a write that another came before is decided again."""


class Company(NamedTuple):
    """What lanes must know of other members, and they of this one."""

    members: Membership
    watermarks: Watermarks


class Settle(NamedTuple):
    """A call of `settle`."""

    changes: Sequence[CursorChange]
    watermark: Position | None


class LeaseRequest(NamedTuple):
    """A call of `lease`, or, with `release`, of that."""

    subscriptions: Sequence[str]
    release: bool = False


class Bury(NamedTuple):
    """A call of `bury`."""

    subscription: str
    positions: Sequence[Position]


class Forget(NamedTuple):
    """A call of `forget`."""

    subscription: str


Request = Settle | LeaseRequest | Bury | Forget


@dataclass(slots=True)
class _Plan:
    """How one lane is to change."""

    after: LaneRecord
    rows: Rows
    changes: list[CursorChange]


class Lanes:
    """All lanes, as one member reads and writes them."""

    def __init__(
        self,
        connection: Connection,
        publisher: Publisher,
        reader: Reader,
        names: Names,
        company: Company,
        deletion: Deletion,
    ) -> None:
        self._connection = connection
        self._deletion = deletion
        self._publisher = publisher
        self._reader = reader
        self._names = names
        self._members, self._watermarks = company
        self._own: Final = self._members.own
        self._held: dict[str, LaneRecord] = {}

    async def records(self, subscriptions: Iterable[str]) -> Mapping[str, LaneRecord]:
        """Returns the records of subscriptions, read unless this member holds them."""
        wanted = dict.fromkeys(subscriptions)
        unknown = [name for name in wanted if name not in self._held]
        found: dict[str, LaneRecord] = {}
        for start in range(0, len(unknown), AT_ONCE):
            part = unknown[start : start + AT_ONCE]
            for name, record in zip(part, await together(self._read(name) for name in part), strict=True):
                if record.lease.holder == self._own:
                    self._held.setdefault(name, record)
                found[name] = record
        return {name: self._held.get(name) or found[name] for name in wanted}

    async def states(self, records: Iterable[LaneRecord]) -> Sequence[CursorState | None]:
        """Returns the states of records, as the watermarks of their writers say they are, in order."""
        states = [(record.state, record.writer) for record in records]
        watermarks = await self._watermarks.of({writer for state, writer in states if state and state.level})
        return [None if state is None else raised(state, watermarks.get(writer, BEGINNING)) for state, writer in states]

    async def holders(self, records: Iterable[LaneRecord]) -> Sequence[MemberId | None]:
        """Returns who holds the leases of records, in order; None where nobody does who has not ended."""
        named = [record.lease.holder for record in records]
        members = {MemberId(holder) for holder in named if holder is not None}
        ended = {member for member in members if member != self._own and await self._members.has_ended(member)}
        return [None if holder is None or holder in ended else MemberId(holder) for holder in named]

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
            elif isinstance(first, Bury):
                stop = start + 1
                outcomes.append(await self._bury(first))
            else:
                stop = start + 1
                await self._forget(first.subscription)
                outcomes.append(None)
            start = stop
        return outcomes

    # Settling.

    async def _settle(self, requests: Sequence[Settle]) -> Sequence[Sequence[str]]:
        refused: set[tuple[str, int]] = set()
        await self._carry_out(
            {change.subscription for request in requests for change in request.changes},
            lambda records: self._settled(requests, records, refused),
        )
        watermarks = [request.watermark for request in requests if request.watermark is not None]
        if watermarks:
            await self._watermarks.raise_to(max(watermarks))
        return [
            list(dict.fromkeys(one.subscription for one in request.changes if (one.subscription, one.epoch) in refused))
            for request in requests
        ]

    async def _settled(
        self, requests: Sequence[Settle], records: Mapping[str, LaneRecord], refused: set[tuple[str, int]]
    ) -> Mapping[str, _Plan]:
        plans: dict[str, _Plan] = {}
        for change in (change for request in requests for change in request.changes):
            name = change.subscription
            if name not in records:
                continue
            if change.epoch != records[name].lease.epoch:
                refused.add((name, change.epoch))
                continue
            plan = plans.setdefault(name, _Plan(records[name], Rows(), []))
            plan.rows = plan.rows.then(change)
            plan.changes.append(change)
            plan.after = replace(records[name], state=change.state, writer=self._own)
        for name, plan in plans.items():
            plan.after = replace(plan.after, owed=plan.rows.apply(records[name].owed))
        return plans

    # Leases.

    async def _lease(self, request: LeaseRequest) -> Sequence[int | None]:
        decide = self._released if request.release else self._leased
        await self._carry_out(set(request.subscriptions), decide)
        held = (self._held.get(name) for name in request.subscriptions)
        return [None if record is None else record.lease.epoch for record in held]

    async def _leased(self, records: Mapping[str, LaneRecord]) -> Mapping[str, _Plan]:
        holders = zip(records, await self.holders(records.values()), strict=True)
        free = {name: records[name] for name, holder in holders if holder is None}
        plans: dict[str, _Plan] = {}
        for (name, record), state in zip(free.items(), await self.states(free.values()), strict=True):
            # What another wrote as level follows its watermark no more.
            after = (
                record if record.writer == self._own else replace(record, state=state and replace(state, level=False))
            )
            plans[name] = _Plan(replace(after, lease=Lease(self._own)), Rows(), [])
        return plans

    async def _released(self, records: Mapping[str, LaneRecord]) -> Mapping[str, _Plan]:
        # The epoch stays, so that what its holder wrote later stays refused.
        return {
            name: _Plan(replace(record, lease=replace(record.lease, holder=None)), Rows(), [])
            for name, record in records.items()
            if record.lease.holder == self._own
        }

    # Forgetting.

    async def _bury(self, request: Bury) -> int:
        owed = (await self.records([request.subscription]))[request.subscription].owed
        return await self._purge_dead(request.subscription, [one for one in request.positions if one not in owed])

    async def _purge_dead(self, subscription: str, positions: Sequence[Position]) -> int:
        """Forgets dead letters, and returns how many there were."""
        purged = 0
        for position in positions:
            purged += await self._deletion.all(self._names.dead_letter(subscription, position))
        return purged

    async def _forget(self, subscription: str) -> None:
        self._held.pop(subscription, None)
        names = self._names
        patterns = (names.dead_letter(subscription, "*"), names.gap(subscription, "*", "*"), names.lane(subscription))
        for pattern in patterns:
            await self._deletion.all(pattern)

    # Writing.

    async def _carry_out(
        self,
        subscriptions: set[str],
        decide: Callable[[Mapping[str, LaneRecord]], Awaitable[Mapping[str, _Plan]]],
    ) -> None:
        """Changes lanes as is decided by their records, and again where another write came first."""
        left = sorted(subscriptions)
        for _ in range(TRIES):
            if not left:
                return
            left = await self._store(await decide(await self.records(left)))
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
            for name in plans.keys() - set(changed):
                await self._purge_dead(name, buried(plans[name].changes))
        except BaseException as error:
            for name in plans:
                self._held.pop(name, None)
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
        self._held.pop(name, None)
        if isinstance(outcome, Stored):
            if record.lease.holder == self._own:
                self._held[name] = lane_records.stored(record, outcome.sequence, is_whole=written.is_whole)
        elif outcome.error_code == WRONG_LAST_SEQUENCE:
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
