"""Who runs which lane: kept in memory, since the lock on the data directory proves every earlier holder dead.

Only the newest epoch is stored, before any lease with it is answered, so that epochs grow over restarts, too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from certes_broker.engines.sqlite.queries import named_queries
from certes_broker.engines.sqlite.writer import WriteQueue
from certes_broker.ports.cluster import MemberId

QUERIES: Final = named_queries("cursors")

LEASE_BYTES: Final = 64


class LeaseRequest(NamedTuple):
    """A call of `lease`, or, with `release`, of that."""

    subscriptions: Sequence[str]
    release: bool = False


class _Lease(NamedTuple):
    is_held: bool
    epoch: int


class Leases:
    """A kind of write: leases. One that was given up keeps its epoch, so that older ones stay refused."""

    ready = True

    def __init__(self) -> None:
        self._leases: dict[str, _Lease] = {}
        self._epoch = 0
        self._stored = 0

    def load(self, db: sqlite3.Connection) -> None:
        """Reads the stored epoch. After a failed group the epochs given out in it stay given out."""
        row = db.execute(QUERIES["counter"], ("epoch",)).fetchone()
        self._stored = 0 if row is None else row[0]
        self._epoch = max(self._epoch, self._stored)

    def apply(self, db: sqlite3.Connection, requests: Sequence[LeaseRequest]) -> Sequence[Sequence[int | None]]:
        outcomes = [[self._change(name, request) for name in request.subscriptions] for request in requests]
        if self._epoch > self._stored:
            db.execute(QUERIES["set_counter"], ("epoch", self._epoch))
            self._stored = self._epoch
        return outcomes

    def announce(self) -> None:
        """Has nothing to hand on."""

    def epoch(self, subscription: str) -> int:
        """Returns the epoch of the newest lease of a subscription; 0 if it has had none since the start."""
        lease = self._leases.get(subscription)
        return 0 if lease is None else lease.epoch

    def forget(self, subscription: str) -> None:
        """Forgets the lease of a subscription."""
        self._leases.pop(subscription, None)

    def holds(self, subscription: str) -> bool:
        """Says whether a subscription is leased."""
        return subscription in self._leases and self._leases[subscription].is_held

    def _change(self, subscription: str, request: LeaseRequest) -> int | None:
        if request.release:
            if self.holds(subscription):
                self._leases[subscription] = self._leases[subscription]._replace(is_held=False)
            return None
        if not self.holds(subscription):
            self._epoch += 1
            self._leases[subscription] = _Lease(is_held=True, epoch=self._epoch)
        return self._leases[subscription].epoch


class SqliteLeases:
    """The leases: every change goes through the writer."""

    def __init__(self, leases: Leases, queue: WriteQueue[LeaseRequest, Sequence[int | None]], own: MemberId) -> None:
        self._leases = leases
        self._queue = queue
        self._own = own

    async def lease(self, subscriptions: Sequence[str]) -> Sequence[int | None]:
        return await self._queue.submit(LeaseRequest(subscriptions), LEASE_BYTES)

    async def holders(self, subscriptions: Sequence[str]) -> Sequence[MemberId | None]:
        return [self._own if self._leases.holds(name) else None for name in subscriptions]

    async def release(self, subscriptions: Sequence[str]) -> None:
        await self._queue.submit(LeaseRequest(subscriptions, release=True), LEASE_BYTES)
