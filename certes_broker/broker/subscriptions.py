"""The subscriptions: what is stored of them, and what happens to their lanes when they change.

A change is first made durable and then takes effect, and whatever happens to one subscription happens one thing after
the other (`Lanes.alone`). The subscriptions are all in memory too; reading them waits for nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from certes_broker.broker.kept_events import KeptEvents
from certes_broker.broker.lane import Lane
from certes_broker.broker.lanes import Lanes
from certes_broker.broker.notices import Notices
from certes_broker.broker.placement import Placement
from certes_broker.broker.posting import signing_now
from certes_broker.broker.streak_log import streak_key
from certes_broker.broker.streams import Streams
from certes_broker.broker.subscription_documents import PREFIX, key_of, read_document, write_document
from certes_broker.broker.subscription_index import SubscriptionIndex, SubscriptionPage
from certes_broker.broker.subscription_secrets import public_keys, rotated, webhook_of, with_secret
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.domain.errors import Aborted, AlreadyExists, Reason
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.names import SubscriptionName, parse_subscription_name
from certes_broker.domain.notices import Fact
from certes_broker.domain.seeking import SeekEnd, SeekPoint
from certes_broker.domain.subscriptions import (
    RESTORABLE,
    State,
    StoredSecret,
    Subscription,
    deleted,
    in_state,
    revise,
)
from certes_broker.ports.clock import Clock
from certes_broker.ports.engine import Document, DocumentChange, Engine
from certes_broker.schemas.wire import Closing

_ETAG_BYTES: Final = 8
_TRIES: Final = 20

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What subscriptions act upon."""

    engine: Engine
    clock: Clock
    index: SubscriptionIndex
    lanes: Lanes
    streams: Streams
    placement: Placement
    kept_events: KeptEvents
    undisturbed: Undisturbed
    notices: Notices


class Subscriptions:
    """Creates and manages subscriptions."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._index = around.index

    async def start(self) -> None:
        """Loads what is stored and wakes the lanes of webhooks."""
        for document in await self._around.engine.settings.list(PREFIX):
            self._index.put(read_document(document))
        await self._around.lanes.stand_alone(
            [one for one in self._index.all() if not (one.is_webhook and one.state is State.ACTIVE)]
        )
        await self._around.placement.start()

    async def follow(self, change: DocumentChange) -> None:
        """Takes over what another broker has stored."""
        name = parse_subscription_name(change.key.removeprefix(PREFIX))
        async with self._around.lanes.alone(name.text):
            known = self._index.find(name.text)
            if known is None or known.revision < change.revision:
                await self._adopt(name)

    async def look_again(self, name: SubscriptionName) -> None:
        """Takes over what is stored of a subscription now, also if nobody has said yet that it has changed."""
        async with self._around.lanes.alone(name.text):
            await self._adopt(name)

    # Reading.

    def get(self, name: SubscriptionName) -> Subscription:
        """Returns a subscription. Raises `NotFound` (SUBSCRIPTION_NOT_FOUND)."""
        return self._index.get(name)

    def list(self, subscriber: str | None, *, show_deleted: bool, page_size: int, page_token: str) -> SubscriptionPage:
        """Returns subscriptions by name: those of a subscriber, or of all for None."""
        return self._index.list(subscriber, show_deleted=show_deleted, page_size=page_size, page_token=page_token)

    def signing_secrets(self, name: SubscriptionName) -> Sequence[StoredSecret]:
        """Returns the secrets that sign now, newest first. Raises `FailedPrecondition` for a stream subscription."""
        delivery = webhook_of(self.get(name))
        return signing_now(delivery.secrets, self._around.clock.now())

    def verifying_keys(self, known: str) -> Sequence[str] | None:
        """Returns the public keys of whichever webhook has signed by the one that is `known`, newest first; None for an unknown one.

        A key is known to whom it was given; to guess one is to guess 32 bytes.
        """
        subscription = self._index.find_by_key(known)
        if subscription is None or subscription.state is State.DELETED:
            return None
        return public_keys(subscription, self._around.clock.now())

    # Changing.

    async def create(self, subscription: Subscription, start: SeekPoint | None) -> Subscription:
        """Stores a new subscription. It gets what is accepted after this, or after `start`.

        Raises `AlreadyExists` (SUBSCRIPTION_EXISTS); a deleted one's name is free.
        """
        name = subscription.name
        return await self._around.undisturbed.do(self._alone(name, lambda: self._create(subscription, start)))

    async def _create(self, subscription: Subscription, start: SeekPoint | None) -> Subscription:
        name = subscription.name
        present = self._index.find(name.text)
        if present is not None and present.state is not State.DELETED:
            raise AlreadyExists(
                Reason.SUBSCRIPTION_EXISTS,
                f"{name.text} exists.",
                hint="Update it, with allow_missing where it may be new.",
                metadata={"name": name.text},
            )
        if present is not None:
            await self._around.lanes.check_free(name.text)
            # The deleted one's last requests may still be under way.
            self._around.lanes.abandon(name.text)
            await self._around.engine.cursors.forget(name.text)
        now = self._around.clock.now()
        position = await self._around.kept_events.position_of(SeekEnd() if start is None else start)
        fresh = replace(with_secret(subscription), start=position, create_time=now, update_time=now, state=State.ACTIVE)
        stored = await self._store(_with_etag(fresh), 0 if present is None else present.revision)
        await self._around.placement.take_effect(stored)
        return stored

    async def update(
        self,
        name: SubscriptionName,
        change: Callable[[Subscription], Subscription],
        *,
        etag: str,
        generation: int | None,
        restore: bool,
    ) -> Subscription:
        """Changes a subscription by `change`, which gets it as it is stored and must not do anything else.

        Raises `NotFound`, `Aborted` (ETAG_MISMATCH) and `FailedPrecondition` (STALE_GENERATION, and
        SUBSCRIPTION_DELETED unless `restore`).
        """

        def revised(stored: Subscription) -> Subscription:
            if stored.state is State.DELETED and not restore:
                raise deleted(name)
            changed = revise(stored, change, etag=etag, generation=generation, now=self._around.clock.now())
            if changed.state is State.DELETED:
                changed = replace(changed, state=State.ACTIVE, state_reason="", delete_time=None)
            return changed

        return await self.apply(name, revised)

    async def delete(self, name: SubscriptionName, *, etag: str) -> Subscription:
        """Deletes a subscription; it can be restored for 24 hours. Raises as `update` does."""

        def revised(stored: Subscription) -> Subscription:
            if stored.state is State.DELETED:
                raise deleted(name)
            now = self._around.clock.now()
            return revise(
                stored,
                lambda one: replace(one, state=State.DELETED, delete_time=now, state_reason=""),
                etag=etag,
                generation=None,
                now=now,
            )

        return await self.apply(name, revised)

    async def pause(self, name: SubscriptionName) -> Subscription:
        """Stops deliveries. Idempotent."""
        return await self._set_state(name, State.PAUSED)

    async def resume(self, name: SubscriptionName) -> Subscription:
        """Lets deliveries go out again. Idempotent."""
        return await self._set_state(name, State.ACTIVE)

    async def seek(self, name: SubscriptionName, point: SeekPoint) -> tuple[Subscription, int]:
        """Moves a subscription; returns how many pending deliveries were discarded."""
        return await self._around.undisturbed.do(self._seek(name, point))

    async def _seek(self, name: SubscriptionName, point: SeekPoint) -> tuple[Subscription, int]:
        around = self._around
        async with around.lanes.alone(name.text):
            subscription = self.get(name)
            if subscription.state is State.DELETED:
                raise deleted(name)
            position = await around.kept_events.position_of(point)
            [lane] = await around.lanes.wake([subscription])
            discarded = await self._move(lane, position)
            await around.lanes.rest(lane)
            return subscription, discarded

    async def _move(self, lane: Lane, position: Position) -> int:
        """Moves a lane, of which nobody knows anything any more; returns how many deliveries were discarded."""
        for stream in self._around.streams.of(lane):
            stream.forget()
            stream.end(Closing.REASON_SOUGHT, "The subscription was moved; open the stream again.")
        return await self._around.lanes.seek(lane, position)

    async def rotate_secret(
        self, name: SubscriptionName, overlap: float, *, pair: bool | None = None
    ) -> Sequence[StoredSecret]:
        """Makes a new signing secret; the others stop signing after `overlap` seconds, or earlier as they had to.

        With `pair` the new one is a key pair; None makes one like the newest.
        """
        now = self._around.clock.now()
        subscription = await self.update(
            name, lambda one: rotated(one, now, overlap, pair=pair), etag="", generation=None, restore=False
        )
        return signing_now(webhook_of(subscription).secrets, self._around.clock.now())

    async def purge(self, now: Micros) -> int:
        """Forgets deleted subscriptions that can no longer be restored; returns how many."""
        gone = [one for one in self._index.all() if one.delete_time is not None and one.delete_time + RESTORABLE <= now]
        for subscription in gone:
            await self._forget(subscription)
        return len(gone)

    async def erase(self, name: SubscriptionName) -> None:
        """Deletes a subscription and forgets it at once: it cannot be restored. Raises `NotFound`."""
        if self.get(name).state is not State.DELETED:
            await self.delete(name, etag="")
        await self._forget(self.get(name))

    async def _forget(self, subscription: Subscription) -> None:
        name = subscription.name
        async with self._around.lanes.alone(name.text):
            if self._index.find(name.text) is not subscription:
                return
            # What is still under way would be kept again when it ends.
            self._around.lanes.abandon(name.text)
            # The document last: it is what a round that was interrupted here begins again with.
            await self._around.engine.cursors.forget(name.text)
            await self._around.notices.forget(name)
            await self._around.engine.settings.delete(streak_key(name.text))
            await self._around.engine.settings.delete(key_of(name))
            self._index.remove(name.text)

    # Below: how a change takes effect.

    async def _set_state(self, name: SubscriptionName, state: State) -> Subscription:
        def revised(stored: Subscription) -> Subscription:
            if stored.state is State.DELETED:
                raise deleted(name)
            return revise(
                stored,
                lambda one: in_state(one, state),
                etag="",
                generation=None,
                now=self._around.clock.now(),
            )

        return await self.apply(name, revised)

    async def apply(
        self,
        name: SubscriptionName,
        revised: Callable[[Subscription], Subscription],
        fact: Callable[[Subscription], Fact | None] = lambda _changed: None,
        *,
        same_etag: bool = False,
    ) -> Subscription:
        """Stores what `revised` makes of a subscription, and lets it take effect; `fact` says what its owner is told of it, None for nothing.

        With `same_etag` whoever has seen the subscription before may still change it: none of its settings has changed. Raises
        `NotFound`.
        """

        async def change() -> Subscription:
            return await self._change(name, revised, fact, same_etag=same_etag)

        return await self._around.undisturbed.do(self._alone(name, change))

    async def _change(
        self,
        name: SubscriptionName,
        revised: Callable[[Subscription], Subscription],
        fact: Callable[[Subscription], Fact | None],
        *,
        same_etag: bool,
    ) -> Subscription:
        lanes = self._around.lanes
        stored = self.get(name)
        changed = with_secret(revised(stored))
        if changed == stored:
            # Storage may have failed after it was stored and before it took effect; saying it again mends that.
            await self._around.placement.take_effect(stored)
            return stored
        if not same_etag:
            changed = _with_etag(changed)
        lane: Lane | None = None
        if _differ(changed, stored):
            [lane] = await lanes.wake([stored])
        try:
            if lane is not None:
                await lanes.freeze(lane)
            told = fact(changed)
            if told is None:
                changed = await self._store(changed, stored.revision)
            else:
                changed = await self._store_told(changed, stored.revision, told)
        finally:
            if lane is not None:
                lanes.thaw(lane, self._index.get(name))
        await self._around.placement.take_effect(changed)
        return changed

    async def _alone(self, name: SubscriptionName, work: Callable[[], Awaitable[Subscription]]) -> Subscription:
        """Does work on a subscription, alone with it, and again if another broker or a write that seemed to fail changed it."""
        async with self._around.lanes.alone(name.text):
            for _ in range(_TRIES):
                try:
                    return await work()
                except Aborted as conflict:
                    if conflict.reason is not Reason.REVISION_CONFLICT:
                        raise
                await self._adopt(name)
            return await work()

    async def _adopt(self, name: SubscriptionName) -> None:
        """Takes over a subscription as it is stored."""
        lanes = self._around.lanes
        document = await self._around.engine.settings.get(key_of(name))
        known, lane = self._index.find(name.text), lanes.get(name.text)
        if document is None:
            if known is not None:
                # Another broker has forgotten it. What is still under way here would be kept again when it ends.
                lanes.abandon(name.text)
                self._index.remove(name.text)
                await self._around.notices.forget(name)
                await self._around.engine.settings.delete(streak_key(name.text))
            return
        stored = read_document(document)
        if lane is not None and known is not None and _differ(stored, known):
            await lanes.freeze(lane)
            self._index.put(stored)
            lanes.thaw(lane, stored)
        self._index.put(stored)
        await self._around.placement.take_effect(stored)

    async def _store(self, subscription: Subscription, expected: int) -> Subscription:
        key, body = key_of(subscription.name), write_document(subscription)
        stored = read_document(Document(key, body, await self._around.engine.settings.put(key, body, expected)))
        self._index.put(stored)
        return stored

    async def _store_told(self, subscription: Subscription, expected: int, fact: Fact) -> Subscription:
        """Stores a subscription, and sees to it that its owner is told of what has happened to it."""
        intent = self._around.notices.intend(subscription.name, fact)
        try:
            await intent.store()
            stored = await self._store(subscription, expected)
        except BaseException:
            intent.is_unsure()
            raise
        intent.happened()
        return stored


def _with_etag(subscription: Subscription) -> Subscription:
    """Gives a subscription a new etag."""
    # Random: made of the settings it would be made of the secrets too, and whoever sees it could try weak ones.
    return replace(subscription, etag=secrets.token_hex(_ETAG_BYTES))


def _differ(one: Subscription, other: Subscription) -> bool:
    """Whether two states of a subscription want different events."""
    return (one.selectors, one.filter, one.scope) != (other.selectors, other.filter, other.scope)
