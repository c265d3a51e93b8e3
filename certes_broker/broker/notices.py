"""Notices: tells the owners of subscriptions, by operational events, what became of them.

Rules
-----
* What is told is true, and what is true is told, also across a crash. A fact and its event are two writes; so an
  *intent* is stored before the fact, the event is published after it, and the intent goes with the event.
* What an intent says may not have come about: the broker crashed, or storage failed, between the two. Such a fact is
  *unsure*, and looked up where it is kept before it is told; one that is not there is not told.
* The id of an event is decided with its intent, so that publishing it again is a duplicate.
* Of one kind about one subscription a broker publishes at most one event a minute. What happens meanwhile gathers in one batch
  of bounded size (`domain/notices.py`), in memory and in one settings document. So a receiver that brings about a dead
  letter with every answer costs one event a minute.

Theory of operation
-------------------
There is one `_Desk` for each kind and subscription of which something is to be told, or was in the last minute. It holds
two batches: the one that is being told, which does not change any more, and the one that gathers. The document has both.
What a living broker is about to tell is its own: nobody else can know which of its facts are still to come about. When one
has ended, another takes its documents on (`inheritance`), each on a desk of its own.
Facts that are kept nowhere, those of breakers and filters, need no intent: a crash undoes them too. Nor do those that a batch
only counts, so that what a flood has written is bounded; by a crash its count may become too low.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

import structlog

from certes_broker.broker import subscription_documents
from certes_broker.broker.lane import Lane
from certes_broker.broker.notice_documents import PREFIX, key_of, read_batches, subject_of, write_batches
from certes_broker.broker.publisher import Publisher
from certes_broker.concurrency import together
from certes_broker.domain.consent import Consent, Granted, Withheld
from certes_broker.domain.cursor_state import CursorChange
from certes_broker.domain.errors import Aborted, CertesError
from certes_broker.domain.events import Position
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.notices import (
    Batch,
    BreakerClosed,
    BreakerOpened,
    ConsentGranted,
    ConsentWithheld,
    Disabled,
    Exhausted,
    Fact,
    FilterFailed,
    Fleeting,
    Kind,
    Unread,
    exhausted,
    is_told_of,
    kind_of,
    unread,
)
from certes_broker.domain.subscriptions import State, Subscription, WebhookDelivery
from certes_broker.ports.clock import Clock
from certes_broker.ports.cluster import Members
from certes_broker.ports.engine import Cursors, Document, Settings
from certes_broker.schemas.operational_events import OwnName, operational_event

INTERVAL: Final = 60.0
"""Seconds from one event of a kind about a subscription to the next."""
_AT_ONCE: Final = 64
AGAIN_AFTER: Final = 1.0
"""Seconds after which what could not be told is tried again."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NoticeSurroundings:
    """What notices are told by, and where facts are looked up."""

    members: Members
    settings: Settings
    cursors: Cursors
    publisher: Publisher
    clock: Clock
    own: OwnName


@dataclass(slots=True, eq=False)
class _Desk:
    """What is to be told of one kind about one subscription. `key` is its document's."""

    key: str
    name: SubscriptionName
    kind: Kind
    telling: Batch | None = None
    gathering: Batch | None = None
    intents: int = 0
    """How many intents have not come about yet, or failed."""
    is_resting: bool = False
    """Whether something was told within the last interval."""
    is_queued: bool = False
    is_stored: bool = False
    inherited: int | None = None
    """The revision of a document that another member wrote, as it is known here."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whose turn it is to write the document."""

    @property
    def batches(self) -> Sequence[Batch]:
        return [batch for batch in (self.telling, self.gathering) if batch is not None]

    @property
    def is_due(self) -> bool:
        """Whether it has something that may be told now."""
        if self.telling is not None:
            return True
        return self.gathering is not None and not self.intents and not self.is_resting

    def close(self) -> None:
        """Lets what has gathered be told, unless something is being told already."""
        if self.telling is None:
            self.telling, self.gathering = self.gathering, None

    def add(self, fact: Fact) -> bool:
        """Adds a fact; returns whether the document has to be written for it."""
        before = self.gathering or Batch(f"notice-{uuid.uuid4()}")
        self.gathering = before.with_fact(fact)
        # What did not come about at first is about to again: whoever took this broker for gone may have found that it did not.
        return before.unsure or self.gathering.facts != before.facts


class Intent:
    """Facts that are about to be made durable: `store` before, then either `happened` or `is_unsure`."""

    def __init__(self, notices: Notices, desks: Sequence[_Desk], unwritten: Sequence[_Desk]) -> None:
        self._notices = notices
        self._desks = desks
        self._unwritten = unwritten
        for desk in desks:
            desk.intents += 1

    async def store(self) -> None:
        """Stores what is about to be. It may be done again where it failed. Raises what storage raises."""
        while self._unwritten:
            await self._notices.write(self._unwritten[:_AT_ONCE])
            self._unwritten = self._unwritten[_AT_ONCE:]

    def happened(self, but: Iterable[str] = ()) -> None:
        """Hears that it has come about, but for the subscriptions that are named."""
        refused = frozenset(but)
        for desk in self._desks:
            self._notices.resolve(desk, unsure=desk.name.text in refused)

    def is_unsure(self) -> None:
        """Hears that it may not have come about."""
        for desk in self._desks:
            self._notices.resolve(desk, unsure=True)


class Notices:
    """Tells owners what became of their subscriptions. See the module for the rules."""

    def __init__(self, around: NoticeSurroundings) -> None:
        self._around = around
        # By key. Bounded by the kinds of every subscription, and what those had that have ended.
        self._desks: dict[str, _Desk] = {}
        self._due: deque[_Desk] = deque()
        self._added = asyncio.Event()
        self._publishing = asyncio.Lock()

    def __len__(self) -> int:
        """How many kinds and subscriptions there is something to tell about, or was in the last minute."""
        return len(self._desks)

    @property
    def waiting(self) -> int:
        """How many events wait to be published."""
        return len(self._due)

    # What happened.

    def tell(self, subscription: Subscription, fact: Fleeting) -> None:
        """Tells of something that is kept nowhere. Waits for nothing."""
        if is_told_of(subscription):
            desk = self._desk(subscription.name, kind_of(fact))
            desk.add(fact)
            self._queue(desk)

    def intend(self, name: SubscriptionName, fact: Fact) -> Intent:
        """Returns the intent of a fact that is about to be stored."""
        return self._intent([(name, fact)])

    def settling(self, changes: Iterable[tuple[Lane, CursorChange]]) -> Intent:
        """Returns the intent of the dead letters and gaps of changes that are about to be settled."""
        facts: list[tuple[SubscriptionName, Fact]] = []
        for lane, change in changes:
            if (change.dead or change.gaps) and is_told_of(lane.subscription):
                name = lane.subscription.name
                told: list[Fact] = [fact for letter in change.dead if (fact := exhausted(letter)) is not None]
                facts += [(name, fact) for fact in (*told, *map(unread, change.gaps))]
        return self._intent(facts)

    def _intent(self, facts: Iterable[tuple[SubscriptionName, Fact]]) -> Intent:
        desks: dict[_Desk, None] = {}
        unwritten: dict[_Desk, None] = {}
        for name, fact in facts:
            desk = self._desk(name, kind_of(fact))
            desks[desk] = None
            if desk.add(fact):
                unwritten[desk] = None
        return Intent(self, list(desks), list(unwritten))

    def resolve(self, desk: _Desk, *, unsure: bool) -> None:
        """Ends an intent."""
        desk.intents -= 1
        if unsure and desk.gathering is not None:
            desk.gathering = replace(desk.gathering, unsure=True)
        self._queue(desk)

    async def forget(self, name: SubscriptionName) -> None:
        """Tells nothing more of a subscription that is to be forgotten, also what others had not told. Raises what storage raises."""
        async with self._publishing:
            for desk in self._desks.values():
                if desk.name == name:
                    desk.telling = desk.gathering = None
        settings = self._around.settings
        for document in await settings.list(PREFIX):
            if subject_of(document.key)[1] == name:
                await settings.delete(document.key)

    # What others had not told, or not to the end.

    def has(self, key: str) -> bool:
        """Whether a document of this key is being told, or was in the last minute."""
        return key in self._desks

    def take_on(self, document: Document) -> None:
        """Tells what a broker has left that has ended: what of it has come about must be found where facts are kept."""
        _, name, kind = subject_of(document.key)
        batches = read_batches(document)
        desk = self._desks[document.key] = _Desk(document.key, name, kind, is_stored=True, inherited=document.revision)
        desk.telling = batches[0] if batches else None
        desk.gathering = batches[1] if len(batches) > 1 else None
        self._queue(desk)

    # Telling.

    async def run(self) -> None:
        """Publishes what is due, for ever. What could not be published or stored is tried again."""
        while True:
            await self._added.wait()
            self._added.clear()
            while self._due:
                desks = [self._due.popleft() for _ in range(min(_AT_ONCE, len(self._due)))]
                for desk in desks:
                    desk.is_queued = False
                # An intent may have begun since it was queued; its end will queue it again.
                desks = [desk for desk in desks if desk.is_due]
                for desk in desks:
                    desk.close()
                await self._until_done(lambda: self._publish(desks))  # noqa: B023  it is done before the next round
                for desk in desks:
                    desk.telling = None
                    self._rest(desk)
                await self._until_done(lambda: self.write([one for one in desks if one.is_stored]))  # noqa: B023  as above

    async def _until_done(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except CertesError as error:
                log.warning("notices_not_told", error=str(error))
                again = asyncio.Event()
                self._around.clock.alarm(AGAIN_AFTER, again.set)
                await again.wait()
            else:
                return

    async def _publish(self, desks: Sequence[_Desk]) -> None:
        around = self._around
        async with self._publishing:
            now = around.clock.now()
            events = []
            for desk in desks:
                desk.telling = await self._verified(desk.name, desk.telling)
                if desk.telling is not None:
                    events.append(operational_event(desk.name, desk.telling, around.own, now))
            if events:
                await around.publisher.publish([event.accepted(now) for event in events])
                log.info("owners_told", events=len(events))

    async def _verified(self, name: SubscriptionName, batch: Batch | None) -> Batch | None:
        """Returns what of a batch has come about; None if nothing has."""
        if batch is None or not batch.unsure:
            return batch
        facts = tuple([fact for fact in batch.facts if await self._holds(name, fact)])
        return replace(batch, facts=facts, unsure=False) if facts else None

    async def _holds(self, name: SubscriptionName, fact: Fact) -> bool:
        around = self._around
        match fact:
            case Exhausted(position=position):
                found = await around.cursors.dead_letters(name.text, Position(position - 1), 1)
                return any(letter.position == position for letter in found)
            case Unread(first=first, last=last):
                return any((gap.first, gap.last) == (first, last) for gap in await around.cursors.gaps(name.text))
            case Disabled(time=time):
                subscription = await self._stored(name)
                return (
                    subscription is not None
                    and subscription.state is State.DISABLED
                    and subscription.update_time == time
                )
            case ConsentWithheld(time=time):
                consent = await self._stored_consent(name)
                return isinstance(consent, Withheld) and consent.since == time
            case ConsentGranted(time=time):
                consent = await self._stored_consent(name)
                return isinstance(consent, Granted) and consent.time == time
            case BreakerOpened() | BreakerClosed() | FilterFailed():
                return True
            case _:
                assert_never(fact)

    async def _stored_consent(self, name: SubscriptionName) -> Consent | None:
        subscription = await self._stored(name)
        delivery = None if subscription is None else subscription.delivery
        return delivery.consent if isinstance(delivery, WebhookDelivery) else None

    async def _stored(self, name: SubscriptionName) -> Subscription | None:
        document = await self._around.settings.get(subscription_documents.key_of(name))
        return None if document is None else subscription_documents.read_document(document)

    def _rest(self, desk: _Desk) -> None:
        """Tells nothing more for an interval, and forgets a desk that has nothing to tell by then."""
        desk.is_resting = True

        def rested() -> None:
            desk.is_resting = False
            self._queue(desk)
            if not desk.batches and not desk.intents:
                self._desks.pop(desk.key, None)

        self._around.clock.alarm(INTERVAL, rested)

    def _queue(self, desk: _Desk) -> None:
        if desk.is_due and not desk.is_queued:
            desk.is_queued = True
            self._due.append(desk)
            self._added.set()

    def _desk(self, name: SubscriptionName, kind: Kind) -> _Desk:
        key = key_of(self._around.members.own, name, kind)
        desk = self._desks.get(key)
        if desk is None:
            desk = self._desks[key] = _Desk(key, name, kind)
        return desk

    async def write(self, desks: Sequence[_Desk]) -> None:
        """Writes the documents of desks as they are now. Raises what storage raises."""
        await together(map(self._write, desks))

    async def _write(self, desk: _Desk) -> None:
        async with desk.turn:
            try:
                await self._store(desk)
            except Aborted:
                # Whoever has ended has written it since, and it has what is left to tell: it is taken on again.
                desk.telling = desk.gathering = None
                desk.is_stored = False

    async def _store(self, desk: _Desk) -> None:
        settings, key = self._around.settings, desk.key
        batches = desk.batches
        if batches:
            desk.is_stored = True
            revision = await settings.put(key, write_batches(batches), desk.inherited)
            if desk.inherited is not None:
                desk.inherited = revision
        elif desk.is_stored:
            await settings.delete(key, desk.inherited)
            desk.is_stored = False
