"""The default retry policies that are stored.

All of them are in memory, since each failure asks for one. What this broker has changed counts as soon as it is durable; what
another broker on the same engine has changed, as soon as the engine tells.
"""

from __future__ import annotations

import bisect
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from certes_broker.broker.paging import make_token, read_token
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.domain.backoff_defaults import (
    COLLECTION,
    MAXIMUM_DEFAULTS,
    BackoffDefault,
    Effective,
    Origin,
    Target,
    effective,
    parse_target,
    ranked,
)
from certes_broker.domain.errors import Aborted, Exhausted, NotFound, Reason
from certes_broker.domain.events import AcceptedEvent, Micros
from certes_broker.domain.retry import Backoff, RetryPolicy
from certes_broker.domain.subscriptions import Subscription
from certes_broker.domain.uris import parse_event_type
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Document, DocumentChange, Settings

_converter = make_converter(omit_if_default=True, forbid_extra_keys=True)
configure_tagged_union(Backoff, _converter, tag_name="kind")

PREFIX: Final = COLLECTION
"""The key of a document is the name of what it holds."""


@dataclass(frozen=True, slots=True)
class BackoffPage:
    """Some defaults, by name. `next_page_token` is empty if there is nothing more."""

    defaults: Sequence[BackoffDefault]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class _Body:
    """What a document holds."""

    policy: RetryPolicy
    update_time: Micros


class BackoffStore:
    """Finds, sets and deletes default policies, and says which policy holds."""

    def __init__(self, settings: Settings, clock: Clock, undisturbed: Undisturbed) -> None:
        self._settings = settings
        self._clock = clock
        self._undisturbed = undisturbed
        self._defaults: dict[Target, BackoffDefault] = {}

    async def start(self) -> AsyncIterator[DocumentChange]:
        """Learns what is stored, and returns the changes that `run` is to follow."""
        changes = self._settings.watch(PREFIX)
        for document in await self._settings.list(PREFIX):
            self._learn(document)
        return changes

    async def run(self, changes: AsyncIterator[DocumentChange]) -> None:
        """Keeps up with what is stored, until it is cancelled."""
        async for change in changes:
            if change.body is None:
                self._forget(parse_target(change.key), change.revision)
            else:
                self._learn(Document(change.key, change.body, change.revision))

    # Which policy holds.

    def policy(self, subscription: Subscription, event: AcceptedEvent) -> RetryPolicy:
        """Returns the policy that holds for deliveries of an event to a subscription."""
        return effective(subscription.retry_policy, self._defaults, event.type, event.source).policy

    def policies(self, subscription: Subscription) -> Sequence[Effective]:
        """Returns the policies of which one holds for each delivery to a subscription, first in rank first."""
        wanted = [
            default
            for default in self._defaults.values()
            if default.target.origin is not Origin.EVENT_TYPE or _may_select(subscription, default.target.value)
        ]
        return ranked(subscription.retry_policy, wanted)

    # Reading.

    def get(self, target: Target) -> BackoffDefault:
        """Returns a default. Raises `NotFound` (BACKOFF_NOT_FOUND)."""
        found = self._defaults.get(target)
        if found is None:
            raise _not_found(target)
        return found

    def list(self, *, page_size: int, page_token: str) -> BackoffPage:
        """Returns defaults by name."""
        by_name = {target.name: default for target, default in self._defaults.items()}
        names = sorted(by_name)
        names = names[bisect.bisect_right(names, read_token(page_token, PREFIX)) :]
        page = [by_name[name] for name in names[:page_size]]
        return BackoffPage(page, make_token(page[-1].target.name, PREFIX) if len(names) > page_size else "")

    # Changing.

    async def set(self, target: Target, policy: RetryPolicy, *, etag: str) -> BackoffDefault:
        """Stores a default, which holds from then on.

        Raises `Aborted` (ETAG_MISMATCH) if `etag` is not empty and not that of the stored one, and `Exhausted` (TOO_MANY_BACKOFFS)
        for one more than there can be.
        """
        return await self._undisturbed.do(self._set(target, policy, etag))

    async def _set(self, target: Target, policy: RetryPolicy, etag: str) -> BackoffDefault:
        known = self._defaults.get(target)
        if etag:
            _check_etag(target, known, etag)
        if known is None and len(self._defaults) >= MAXIMUM_DEFAULTS:
            raise Exhausted(
                Reason.TOO_MANY_BACKOFFS,
                f"There are {MAXIMUM_DEFAULTS} default policies, which is as many as there can be.",
                hint="Delete some, or give subscriptions policies of their own.",
            )
        body = _converter.dumps(_Body(policy, self._clock.now())).encode()
        expected = known.revision if etag and known is not None else None
        try:
            revision = await self._settings.put(target.name, body, expected)
        except Aborted as conflict:
            raise _changed(target, etag) from conflict
        return self._learn(Document(target.name, body, revision))

    async def delete(self, target: Target, *, etag: str) -> None:
        """Deletes a default. Raises `NotFound` (BACKOFF_NOT_FOUND), and `Aborted` as `set` does."""
        await self._undisturbed.do(self._delete(self.get(target), etag))

    async def _delete(self, known: BackoffDefault, etag: str) -> None:
        if etag:
            _check_etag(known.target, known, etag)
        try:
            await self._settings.delete(known.target.name, known.revision if etag else None)
        except Aborted as conflict:
            raise _changed(known.target, etag) from conflict
        present = self._defaults.get(known.target)
        if present is not None and present.revision <= known.revision:
            del self._defaults[known.target]

    def _learn(self, document: Document) -> BackoffDefault:
        body = _converter.loads(document.body.decode(), _Body)
        default = BackoffDefault(parse_target(document.key), body.policy, body.update_time, document.revision)
        known = self._defaults.get(default.target)
        if known is None or known.revision < default.revision:
            self._defaults[default.target] = default
        return default

    def _forget(self, target: Target, revision: int) -> None:
        known = self._defaults.get(target)
        if known is not None and known.revision <= revision:
            del self._defaults[target]


def _may_select(subscription: Subscription, event_type: str) -> bool:
    parsed = parse_event_type(event_type)
    return any(selector.pattern.matches(parsed) for selector in subscription.selectors)


def _check_etag(target: Target, known: BackoffDefault | None, etag: str) -> None:
    if known is None or known.etag != etag:
        raise _changed(target, etag)


def _changed(target: Target, etag: str) -> Aborted:
    return Aborted(
        Reason.ETAG_MISMATCH,
        f"{target.name} has changed since etag {etag!r} was read.",
        hint="Read it again, decide again, and send the etag that you read.",
        metadata={"name": target.name},
    )


def _not_found(target: Target) -> NotFound:
    return NotFound(
        Reason.BACKOFF_NOT_FOUND,
        f"There is no {target.name}.",
        hint="`certes backoffs list` shows which there are.",
        metadata={"name": target.name},
    )
