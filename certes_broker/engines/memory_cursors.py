"""The cursors and leases of the reference engine: a store that several members share, and how one of them sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from certes_broker.domain.events import BEGINNING, Micros, Position
from certes_broker.engines.kept import raised, within
from certes_broker.engines.memory_cluster import MemoryMembers
from certes_broker.ports.cluster import MemberId
from certes_broker.ports.engine import CursorChange, CursorState, DeadLetter, Gap, Owed, StoredCursor


@dataclass(slots=True)
class _Subscription:
    """All that cursors keep of one subscription. `writer` is the member that wrote the state."""

    state: CursorState
    writer: MemberId
    owed: dict[Position, Owed] = field(default_factory=dict)
    dead: dict[Position, DeadLetter] = field(default_factory=dict)
    gaps: dict[tuple[Position, Position], Gap] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Lease:
    holder: MemberId | None
    epoch: int


@dataclass(slots=True)
class LaneStore:
    """What all members keep of subscriptions. A lease that was given up keeps its epoch, so that its holder's settles stay
    refused later.
    """

    kept: dict[str, _Subscription] = field(default_factory=dict)
    watermarks: dict[MemberId, Position] = field(default_factory=dict)
    leases: dict[str, _Lease] = field(default_factory=dict)
    epoch: int = 0

    def state(self, subscription: str) -> CursorState | None:
        """Returns a cursor's state as the watermark of its writer says it is."""
        kept = self.kept.get(subscription)
        return None if kept is None else raised(kept.state, self.watermarks.get(kept.writer, BEGINNING))

    def erase(self, subscriber: str) -> int:
        """Forgets the dead letters of events for a subscriber, and returns how many there were."""
        erased = 0
        for kept in self.kept.values():
            gone = [one.position for one in kept.dead.values() if one.event.subscriber == subscriber]
            erased += len(gone)
            for position in gone:
                del kept.dead[position]
        return erased


class MemoryCursors:
    """The cursors of one member."""

    def __init__(self, store: LaneStore, members: MemoryMembers) -> None:
        self._store = store
        self._own = members.own

    async def load(self, subscriptions: Sequence[str]) -> Sequence[StoredCursor | None]:
        return [self._load(subscription) for subscription in subscriptions]

    def _load(self, subscription: str) -> StoredCursor | None:
        state = self._store.state(subscription)
        if state is None:
            return None
        owed = self._store.kept[subscription].owed
        return StoredCursor(state, tuple(owed[position] for position in sorted(owed)))

    async def settle(self, changes: Sequence[CursorChange], watermark: Position | None = None) -> Sequence[str]:
        refused = []
        for change in changes:
            lease = self._store.leases.get(change.subscription)
            if change.epoch != (0 if lease is None else lease.epoch):
                refused.append(change.subscription)
            else:
                self._apply(change)
        if watermark is not None:
            self._store.watermarks[self._own] = max(self._store.watermarks.get(self._own, BEGINNING), watermark)
        return refused

    def _apply(self, change: CursorChange) -> None:
        kept = self._store.kept.setdefault(change.subscription, _Subscription(change.state, self._own))
        kept.state, kept.writer = change.state, self._own
        if change.reset:
            kept.owed.clear()
        for position in change.drop:
            kept.owed.pop(position, None)
        kept.owed.update((owed.position, owed) for owed in change.put)
        for position in change.buried:
            kept.dead.pop(position, None)
        kept.dead.update(
            (dead.position, replace(dead, event=dead.event._replace(digest=None, original=None)))
            for dead in change.dead
        )
        kept.gaps.update(((gap.first, gap.last), gap) for gap in change.gaps)

    async def watermark(self) -> Position:
        return max(self._store.watermarks.values(), default=BEGINNING)

    async def dead_letters(
        self, subscription: str, after: Position, limit: int, max_bytes: int | None = None
    ) -> Sequence[DeadLetter]:
        dead = self._dead(subscription)
        return within((dead[position] for position in sorted(dead) if position > after), limit, max_bytes)

    async def dead_letter(self, subscription: str, position: Position) -> DeadLetter | None:
        return self._dead(subscription).get(position)

    async def count_dead_letters(self, subscription: str) -> int:
        return len(self._dead(subscription))

    async def bury(self, subscription: str, positions: Sequence[Position]) -> int:
        kept = self._store.kept.get(subscription)
        gone = [] if kept is None else [one for one in positions if one in kept.dead and one not in kept.owed]
        for position in gone:
            self._dead(subscription).pop(position, None)
        return len(gone)

    async def expire(self, before: Micros) -> None:
        for subscription, kept in self._store.kept.items():
            await self.bury(subscription, [one.position for one in kept.dead.values() if one.time < before])

    def _dead(self, subscription: str) -> dict[Position, DeadLetter]:
        kept = self._store.kept.get(subscription)
        return {} if kept is None else kept.dead

    async def gaps(self, subscription: str) -> Sequence[Gap]:
        kept = self._store.kept.get(subscription)
        return [] if kept is None else sorted(kept.gaps.values(), key=lambda gap: (gap.time, gap.first, gap.last))

    async def forget(self, subscription: str) -> None:
        self._store.kept.pop(subscription, None)
        self._store.leases.pop(subscription, None)


class MemoryLeases:
    """The leases as one member sees them."""

    def __init__(self, store: LaneStore, members: MemoryMembers) -> None:
        self._store = store
        self._members = members

    async def lease(self, subscriptions: Sequence[str]) -> Sequence[int | None]:
        return [self._take(subscription) for subscription in subscriptions]

    def _take(self, subscription: str) -> int | None:
        own = self._members.own
        holder = self._holder(subscription)
        if holder == own:
            return self._store.leases[subscription].epoch
        if holder is not None:
            return None
        self._store.epoch += 1
        self._store.leases[subscription] = _Lease(own, self._store.epoch)
        state = self._store.state(subscription)
        if state is not None and state.level and self._store.kept[subscription].writer != own:
            self._store.kept[subscription].state = replace(state, level=False)
        return self._store.epoch

    async def holders(self, subscriptions: Sequence[str]) -> Sequence[MemberId | None]:
        return list(map(self._holder, subscriptions))

    async def release(self, subscriptions: Sequence[str]) -> None:
        for subscription in subscriptions:
            if self._holder(subscription) == self._members.own:
                self._store.leases[subscription] = replace(self._store.leases[subscription], holder=None)

    def _holder(self, subscription: str) -> MemberId | None:
        lease = self._store.leases.get(subscription)
        return None if lease is None or lease.holder not in self._members.living else lease.holder
