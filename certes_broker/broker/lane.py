"""A lane: the in-memory working state of one awake subscription.

Rules
-----
* A lane decides nothing about deliveries; its cursor does. A lane says where its events come from and when others must
  be told: the settler that something became due to be durable, the catch-up that it needs the journal, its consumers
  that something is ready.
* A lane is **live** while everything that is routed goes into it from memory. When it holds as much as it may it falls
  **behind**: it takes nothing more from the router, and reads the journal from its read mark once there is room again.
  It is live again when its reading has reached what has been routed. How much that is falls when memory is short (`memory.py`).
* While it is **frozen**, it takes in nothing at all: its selectors are changing.
* What waits for a time of day waits no longer when the clock is set back: what of it is left is what was left before. Its rows are
  not written anew; who wakes a lane later sees by the journal that the clock was set back.

Nothing here waits, so every method is one step as seen by everybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, Protocol

from certes_broker.broker.backoff_store import BackoffStore
from certes_broker.broker.filtering import Filtering
from certes_broker.broker.items import Item
from certes_broker.broker.memory import Memory
from certes_broker.domain.cursor import Cursor
from certes_broker.domain.cursor_state import CursorChange
from certes_broker.domain.deliveries import Tracked
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.limits import LIMITS
from certes_broker.domain.matching import Interest, RoutingTable
from certes_broker.domain.retry import RetryPolicy
from certes_broker.domain.steps import Steps
from certes_broker.domain.subscriptions import Scope, Subscription
from certes_broker.observability.latencies import Latencies
from certes_broker.ports.clock import Alarm, Clock

PARKED_LIMIT: Final = LIMITS.parked.deliveries // 2
"""How many deliveries wait for ordering keys before it falls behind, if any are under way. Half of what memory may hold,
so that what one more commit or page brings finds room there."""

OWED_LIMIT: Final = 100_000
"""How many rows a subscription may have before it reads no further until some are settled."""


_ASKED_AGAIN_AFTER: Final = 0.25
"""Seconds after which a lane asks again that may not hand out, or has no room, and hears of it from nobody."""


class Consumer(Protocol):
    """What takes ready deliveries out of a lane."""

    def wake(self) -> None:
        """Hears that deliveries are ready. Called once per commit, not once per delivery."""

    def lose(self) -> None:
        """Hears that another broker has the lane: what was taken from it is that one's to deliver."""


@dataclass(frozen=True, slots=True)
class Attendants:
    """Who is told what of a lane."""

    clock: Clock
    settle: Callable[[Lane], None]
    """Something must become durable."""
    read: Callable[[Lane], None]
    """The journal must be read, for what comes next or for what is due again."""
    filtering: Filtering
    """Says which events pass a filter."""
    backoffs: BackoffStore
    """Says which retry policy holds."""
    is_current: Callable[[], bool]
    """Says whether this broker may hand out deliveries now."""
    memory: Memory
    """The account of what all lanes hold."""
    latencies: Latencies = field(default_factory=Latencies)
    """From acceptance to hand-over, of first attempts. What is replayed was accepted long ago, and tells nothing."""


class Lane:
    """One awake subscription. See the module for what it is."""

    def __init__(
        self, subscription: Subscription, cursor: Cursor[Item], attendants: Attendants, *, durable: bool
    ) -> None:
        self.subscription = subscription
        self.cursor = cursor
        self.durable = durable
        """Whether its cursor is kept; an ephemeral subscription's is not."""
        self.name = subscription.name.text
        self.consumers: list[Consumer] = []
        self.live = False
        self.frozen = False
        self.lost = False
        """Whether another broker has it, or its subscription was forgotten; then it is for nobody here any more."""
        self.being_read = False
        self.stored_level = False
        """Whether the stored cursor lets the watermark speak for it."""
        self.era = 0
        """Counts seeks: what was handed out in an earlier era concerns nobody any more."""
        self.resume_mark = cursor.read_mark
        """How far it had read before it went to rest; what of that is unsettled is read again under the same selectors."""
        self.read_time: Micros | None = None
        """When the last event that was read for it was accepted, about: how old, at most, what it has still to read is."""
        self._attendants = attendants
        self._memory = attendants.memory
        self._entered = 0
        """How many bytes of it are in the account of a caller."""
        clock = attendants.clock
        self._steps = Steps(clock.now(), clock.monotonic())
        self._alarm: Alarm | None = None
        self._alarm_due: Micros | None = None
        self._alone: RoutingTable[None] | None = None
        self._asks_again = False

    def __repr__(self) -> str:
        return (
            f"Lane({self.name}, {'live' if self.live else 'behind'}, {self.cursor.ready} ready, {self.cursor.out} out)"
        )

    @property
    def interest(self) -> Interest[Lane]:
        """What it wants, for the router."""
        return self.subscription.interest_of(self)

    @property
    def is_full(self) -> bool:
        """Whether it holds as much as it may."""
        cursor = self.cursor
        return (
            cursor.limits.loaded.is_full(cursor.ready, cursor.ready_bytes)
            or cursor.owed >= OWED_LIMIT
            or (cursor.keys.parked >= PARKED_LIMIT and self._is_moving)
        )

    @property
    def has_room(self) -> bool:
        """Whether it is empty enough for reading to be worth while."""
        cursor, window = self.cursor, self.cursor.limits.loaded
        return (
            cursor.ready <= window.deliveries // 2
            and cursor.ready_bytes <= window.bytes // 2
            and window.bytes > 0
            and cursor.owed < OWED_LIMIT
            and not (cursor.keys.parked >= PARKED_LIMIT // 2 and self._is_moving)
        )

    @property
    def share(self) -> int:
        """How many bytes it may hold now, whatever its own limits are."""
        return self._memory.share

    @property
    def _is_moving(self) -> bool:
        """Whether deliveries are under way whose end lets parked ones go on.

        Then it is better to wait than to read on, and to write rows for what cannot go yet.
        """
        return self.cursor.ready > 0 or self.cursor.out > 0

    @property
    def may_hand_out(self) -> bool:
        """Whether deliveries may be taken out of it now. If not, its consumers are woken when it is time to ask again."""
        if self.lost:
            return False
        if not self.durable or self._attendants.is_current():
            return True
        self._ask_soon()
        return False

    def _ask_soon(self) -> None:
        if not self._asks_again:
            self._asks_again = True
            self._attendants.clock.alarm(_ASKED_AGAIN_AFTER, self._ask_again)

    def _ask_again(self) -> None:
        self._asks_again = False
        self.attend()
        self.wake()

    @property
    def is_level(self) -> bool:
        """Whether the watermark may speak for it: it owes nothing and takes part in everything that is routed."""
        return self.live and not self.frozen and not self.cursor.pending

    @property
    def wants_reading(self) -> bool:
        """Whether the catch-up has something to do for it."""
        return self.cursor.needs_events or (not self.live and not self.frozen and self.has_room)

    @property
    def oldest_unread(self) -> Micros | None:
        """About when the oldest event that it has still to read was accepted; None if it has read everything."""
        return None if self.live else self.read_time

    # Taking in.

    def take_in(self, item: Item) -> None:
        """Takes in one matching event, from the router while live, else from the journal. If it is full it falls behind instead."""
        cursor, position = self.cursor, item.entry.position
        if self.live and cursor.ready_bytes >= cursor.limits.loaded.bytes:
            self.fall_behind(Position(position - 1))
        else:
            cursor.offer(position, item.entry.event.ordering_key, item.size, item)

    def routed(self, through: Position) -> None:
        """Hears, once per commit that brought it something, that everything up to `through` has been routed."""
        self.reckon()
        if self.is_full:
            self.fall_behind(through)
        self.wake()

    def accepts(self, item: Item) -> bool:
        """Whether an event read from the journal concerns it."""
        if self.cursor.is_deferred(item.entry.position):
            return True
        if self._alone is None:
            # Every subscriber is a route of its own, and a thousand lanes may be behind.
            self._alone = RoutingTable(remembered_keys=1000, remembered_types=1000)
            self._alone.put(self.subscription.interest_of(None))
        event = item.entry.event
        if not self._alone.match(event.type, event.subscriber, event.options):
            return False
        return not self.subscription.filter or self._attendants.filtering.about(event).passes(self.subscription)

    def fall_behind(self, through: Position) -> None:
        """Takes no more from the router, which has routed everything up to `through`."""
        if self.live:
            self.live = False
            self.read_time = self._attendants.clock.now()
            self.cursor.advance(through)

    def go_live(self) -> None:
        """Takes from the router from now on."""
        self.live = True
        self._alone = None

    def become(self, subscription: Subscription) -> None:
        """Takes over changed settings."""
        self.subscription = subscription
        self._alone = None

    def policy_for(self, item: Item) -> RetryPolicy:
        """Returns the retry policy that holds for an event that is out."""
        return self._attendants.backoffs.policy(self.subscription, item.entry.event)

    def leave(self, consumer: Consumer) -> None:
        """Forgets a consumer. It stays awake until it is put to rest. Idempotent."""
        if consumer in self.consumers:
            self.consumers.remove(consumer)

    def wake(self) -> None:
        """Tells its consumers that something is ready."""
        for consumer in self.consumers:
            consumer.wake()

    def retry(self, tracked: Tracked[Item], began: Micros, due: Micros, error: str) -> None:
        """Lets a delivery wait whose attempt failed, as `Cursor.retry` does. `due` is a time of the clock as it goes now."""
        self._follow_clock()
        self.cursor.retry(tracked, began, due, error)

    def go_on(self, hastened: Collection[Position] = ()) -> None:
        """Lets go on what waits and is due, or hastened."""
        is_ready = self.cursor.wake(self._attendants.clock.now(), hastened)
        self.attend()
        if is_ready:
            self.wake()

    def give_back(self, tracked: Tracked[Item], *, attempted: bool) -> None:
        """Takes back what is out unsettled, as `Cursor.give_back` does."""
        if tracked.payload is None:
            self.lose(tracked)
        else:
            self.cursor.give_back(tracked, attempted=attempted)

    def give_up(self, tracked: Tracked[Item], reason: str, error: str, now: Micros) -> None:
        """Makes a dead letter of what is out, as `Cursor.give_up` does."""
        item = tracked.payload
        if item is None:
            self.lose(tracked)
        else:
            self.cursor.give_up(tracked, item.entry.event, reason, error, now)

    def lose(self, tracked: Tracked[Item]) -> None:
        """Ends what is out and was erased meanwhile: nothing is made of it any more."""
        self.cursor.lose(tracked, self._attendants.clock.now())
        self.changed()

    def erase(self, subscriber: str, through: Position) -> None:
        """Lets go of the events for a subscriber up to a position, which are erased."""
        subscription = self.subscription
        if subscription.scope is Scope.OWN and subscription.name.subscriber != subscriber:
            return

        def is_erased(item: Item) -> bool:
            return item.entry.position <= through and item.entry.event.subscriber == subscriber

        if self.cursor.erase(is_erased, self._attendants.clock.now()):
            self.changed()
            self.wake()

    def charge(self, memory: Memory) -> None:
        """Enters what it holds in the account of a caller, whose streams take from it; the account of all has it anyway."""
        if self._memory is self._attendants.memory:
            self._memory = memory
            self.reckon()

    def discharge(self) -> None:
        """Leaves the account of a caller."""
        self._memory.held -= self._entered
        self._memory, self._entered = self._attendants.memory, 0

    def reckon(self) -> None:
        """Brings an account up to date, and its limits with it."""
        cursor = self.cursor
        if self._memory is not self._attendants.memory:
            holds = cursor.ready_bytes + cursor.waiting.bytes + cursor.keys.parked_bytes
            self._memory.held += holds - self._entered
            self._entered = holds
        cursor.limits = LIMITS.within(self.share)

    # Telling others.

    def changed(self) -> None:
        """Sees to what follows from a change of its cursor: durability, reading, and the next retry."""
        if self.durable:
            self._attendants.settle(self)
        else:
            # What it gathers for the engine is for nobody.
            self.cursor.collect(level=False)
        self.attend()

    def take(self, count: int, size: int) -> list[Tracked[Item]]:
        """Takes ready deliveries for a consumer: at most so many, and no more once they have so many bytes."""
        taken = self.cursor.take(count, size)
        if taken:
            now = self._attendants.clock.now()
            first = [one.payload for one in taken if one.attempt == 1 and not one.is_replay and one.payload]
            # A clock may have been set back.
            self._attendants.latencies.observe([max(0, now - payload.entry.event.accept_time) for payload in first])
        if not self.live:
            self.attend()
        return taken

    def attend(self) -> None:
        """Sees to reading and to the next retry. While it is frozen both wait, at rest for ever."""
        self.reckon()
        if self.frozen:
            return
        if not self.being_read and self.wants_reading:
            self._attendants.read(self)
        elif not self.share and not self.cursor.ready and (self.cursor.owed or not self.live):
            # What others let go of tells it nothing.
            self._ask_soon()
        if self.cursor.next_due is not None:
            self._follow_clock()
        due = self.cursor.next_due
        if due is not None and (self._alarm_due is None or due < self._alarm_due):
            self._set_alarm(due)

    def rest(self) -> None:
        """Calls off what it had planned."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_due = None, None

    def collect(self, routed: Position) -> CursorChange:
        """Returns what has to become durable; `routed` is how far the router is."""
        if self.live:
            self.cursor.advance(routed)
        self.stored_level = self.is_level
        return self.cursor.collect(level=self.stored_level)

    def _set_alarm(self, due: Micros) -> None:
        self.rest()
        clock = self._attendants.clock
        self._alarm_due = due
        # Due times are times of day, which may jump; so no alarm is set further off than a minute, and then set again.
        self._alarm = clock.alarm(min(max(0.0, (due - clock.now()) / 1_000_000), 60.0), self._ring)

    def _follow_clock(self) -> None:
        clock = self._attendants.clock
        back = self._steps.back(clock.now(), clock.monotonic())
        if back and self.cursor.next_due is not None:
            self.cursor.put_forward(back)

    def _ring(self) -> None:
        self._alarm, self._alarm_due = None, None
        self._follow_clock()
        self.go_on()
