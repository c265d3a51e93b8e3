"""Who runs which lane: kept in memory, since the lock on the data directory proves every earlier holder dead.

Only the newest epoch is stored, before any lease with it is answered, so that epochs grow over restarts, too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from certes_broker.domain.events import Micros
from certes_broker.engines.sqlite.queries import named_queries
from certes_broker.engines.sqlite.writer import WriteQueue

QUERIES: Final = named_queries("cursors")

LEASE_BYTES: Final = 64


class LeaseRequest(NamedTuple):
    """A call of `lease`, or, without `until`, of `release`."""

    subscriptions: Sequence[str]
    holder: str
    until: Micros | None
    now: Micros


class _Lease(NamedTuple):
    holder: str | None
    until: Micros
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

    def _change(self, subscription: str, request: LeaseRequest) -> int | None:
        present = self._leases.get(subscription)
        if request.until is None:
            if present is not None and present.holder == request.holder:
                self._leases[subscription] = present._replace(holder=None)
            return None
        if present is not None and present.holder == request.holder:
            epoch = present.epoch
        elif present is not None and present.holder is not None and present.until > request.now:
            return None
        else:
            self._epoch += 1
            epoch = self._epoch
        self._leases[subscription] = _Lease(request.holder, request.until, epoch)
        return epoch


class SqliteLeases:
    """The leases: every call goes through the writer."""

    def __init__(self, queue: WriteQueue[LeaseRequest, Sequence[int | None]]) -> None:
        self._queue = queue

    async def lease(
        self, subscriptions: Sequence[str], holder: str, until: Micros, now: Micros
    ) -> Sequence[int | None]:
        return await self._queue.submit(LeaseRequest(subscriptions, holder, until, now), LEASE_BYTES)

    async def release(self, subscriptions: Sequence[str], holder: str) -> None:
        await self._queue.submit(LeaseRequest(subscriptions, holder, None, Micros(0)), LEASE_BYTES)
