"""Replays: dead letters, and kept events, that are handed to a subscription once more.

Rules
-----
* A replay is a row of the subscription's cursor. It goes out by the lane, as a retry does, so every limit of the subscription holds;
  it has no part in the order of keys, and its attempts count from 1.
* It is handed over when that row is durable. A crash before leaves the dead letter, a crash after leaves row and dead letter;
  neither loses it, and since a subscription has one row for a position, asking again does not multiply it.
* The dead letter stays until the replay has ended, and goes with the row, in one write: its copy is what is sent where the journal
  has forgotten the event. A replay that is given up on is a new dead letter in its place.
* What is on its way already, as after a seek back, is not sent twice: it does for the replay, and its dead letter goes when it is
  done. What waits behind an event of its key has no row for that, so that a crash before its turn leaves the dead letter.
* What waits for its next attempt waits no longer: whoever asks wants it now. Its attempts are counted on, and it keeps its key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from certes_broker.broker.dead_letters import AT_ONCE, DeadLetters, Sees, Selection
from certes_broker.broker.lane import Lane
from certes_broker.broker.lanes import Lanes
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.domain.errors import Exhausted, Reason
from certes_broker.domain.events import Position
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.subscriptions import State, Subscription, deleted

LIMIT: Final = 10_000
_AGAIN_AFTER: Final = 5.0


class Replayed(NamedTuple):
    """What a call has handed over, and how much of what was meant was on its way already."""

    replayed: int
    replaying: int
    next_page_token: str


class Replays:
    """Hands deliveries over once more."""

    def __init__(
        self,
        letters: DeadLetters,
        lanes: Lanes,
        find: Callable[[SubscriptionName], Subscription],
        undisturbed: Undisturbed,
    ) -> None:
        self._letters = letters
        self._lanes = lanes
        self._find = find
        self._undisturbed = undisturbed
        self.limit = LIMIT
        """Deliveries that a subscription may be owed before no more replays are taken."""

    async def replay(self, name: SubscriptionName, selection: Selection) -> Replayed:
        """Hands over the dead letters that are meant; one call does a part. Durable when it returns.

        Raises `NotFound` (SUBSCRIPTION_NOT_FOUND), `FailedPrecondition` (SUBSCRIPTION_DELETED) and `Exhausted` (BUFFER_FULL).
        """
        return await self._undisturbed.do(self._replay(name, selection))

    async def replay_named(self, name: SubscriptionName, letter_ids: Sequence[str], sees: Sees) -> Replayed:
        """Hands over dead letters, or, where one is not found, none. Raises as `replay` does, and DEAD_LETTER_NOT_FOUND."""
        return await self._undisturbed.do(self._replay_named(name, letter_ids, sees))

    async def redeliver(self, name: SubscriptionName, position: Position) -> bool:
        """Hands a kept event over, whatever became of it before; False if it is on its way already. Raises as `replay` does."""
        return await self._undisturbed.do(self._redeliver(name, position))

    async def _replay(self, name: SubscriptionName, selection: Selection) -> Replayed:
        async with self._awake(name) as lane:
            selected = await self._letters.select(name, selection, min(AT_ONCE, self._room(lane)))
            return await self._begin(lane, selected.positions, selected.next_page_token)

    async def _replay_named(self, name: SubscriptionName, letter_ids: Sequence[str], sees: Sees) -> Replayed:
        async with self._awake(name) as lane:
            positions = await self._letters.positions(name, letter_ids, sees)
            if len(positions) > self._room(lane):
                raise self._full(lane)
            return await self._begin(lane, positions, "")

    async def _redeliver(self, name: SubscriptionName, position: Position) -> bool:
        async with self._awake(name) as lane:
            self._room(lane)
            return (await self._begin(lane, [position], "")).replayed == 1

    async def _begin(self, lane: Lane, positions: Sequence[Position], token: str) -> Replayed:
        begun = sum(lane.cursor.replay(position) for position in positions)
        lane.go_on(frozenset(positions))
        lane.changed()
        await self._lanes.settled(lane)
        return Replayed(begun, len(positions) - begun, token)

    @asynccontextmanager
    async def _awake(self, name: SubscriptionName) -> AsyncIterator[Lane]:
        """Keeps everybody else from a subscription, whose lane is awake meanwhile."""
        async with self._lanes.alone(name.text):
            subscription = self._find(name)
            if subscription.state is State.DELETED:
                raise deleted(name)
            [lane] = await self._lanes.wake([subscription])
            try:
                yield lane
            finally:
                await self._lanes.rest(lane)

    def _room(self, lane: Lane) -> int:
        """Returns how many replays a lane takes. Raises `Exhausted` (BUFFER_FULL) for none."""
        if lane.cursor.owed >= self.limit:
            raise self._full(lane)
        return self.limit - lane.cursor.owed

    def _full(self, lane: Lane) -> Exhausted:
        return Exhausted(
            Reason.BUFFER_FULL,
            f"{lane.cursor.owed} deliveries are owed to {lane.name} already; replays wait beyond {self.limit}.",
            hint="Go on when some of them are settled.",
            metadata={"limit": str(self.limit)},
            retry_after=_AGAIN_AFTER,
        )
