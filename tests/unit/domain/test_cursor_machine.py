"""The cursor machine against a model: a journal, an engine that may crash, receivers that may do anything.

The model knows nothing of floors, rows or queues. It knows what was wanted, what has ended in memory, and what of that is
durable, and holds the machine to its promises.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from certes_broker.domain.cursor import Cursor
from certes_broker.domain.cursor_state import CursorChange, CursorState, Owed, OwedKind, StoredCursor
from certes_broker.domain.deliveries import State, Tracked
from certes_broker.domain.events import AcceptedEvent, Micros, Position
from certes_broker.domain.limits import CursorLimits, Window

LIMITS = CursorLimits(parked=Window(2, 250), waiting=Window(2, 250), loaded=Window(3, 300), overtakers=3, soon=100)


class Event(NamedTuple):
    """One event of the model's journal."""

    position: Position
    key: str
    kind: str
    size: int


@dataclass
class Store:
    """What an engine keeps of the cursor, and does with a change."""

    state: CursorState = field(default_factory=lambda: CursorState(Position(0), Position(0)))
    rows: dict[Position, Owed] = field(default_factory=dict)

    def apply(self, change: CursorChange) -> None:
        self.state = change.state
        if change.reset:
            self.rows.clear()
        for position in change.drop:
            self.rows.pop(position, None)
        self.rows.update((row.position, row) for row in change.put)

    def load(self) -> StoredCursor:
        return StoredCursor(self.state, tuple(self.rows[position] for position in sorted(self.rows)))


class Flight(NamedTuple):
    """A change on its way to the store, and all that had ended when it was collected."""

    change: CursorChange
    ended: frozenset[Position]


class CursorMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.journal: list[Event] = []
        self.trimmed = Position(0)
        self.erased: set[Position] = set()
        self.now = Micros(1_000)
        self.selected = {"a"}
        self.decided: dict[Position, bool] = {}  # whether a position was wanted, fixed when the selectors change
        self.base = Position(0)  # the last seek's target: nothing at or below is promised any more
        self.store = Store()
        self.flight: Flight | None = None
        self.ended_durably: set[Position] = set()
        self.begin()

    def begin(self) -> None:
        """Starts the machine from what is stored, as after a crash."""
        stored = self.store.load()
        self.resume_mark = stored.state.read_mark
        self.cursor: Cursor[Event] = Cursor("s", 1, stored, LIMITS)
        self.out: list[Tracked[Event]] = []
        self.ended = set(self.ended_durably)
        self.dead: list[Position] = []
        self.flight = None

    @initialize(
        events=st.lists(st.tuples(st.sampled_from(["", "k", "k"]), st.sampled_from("aab")), min_size=4, max_size=14),
        read=st.integers(1, 14),
    )
    def something_is_under_way(self, events, read):
        for key, kind in events:
            self.append(key, kind, 100, 1)
        self.read_page(read)
        self.take(4, 1000)

    # What the model knows.

    def wants(self, event: Event) -> bool:
        return (
            event.position > self.base
            and event.position not in self.erased
            and self.decided.get(event.position, event.kind in self.selected)
        )

    def at(self, position: Position) -> Event:
        return next(event for event in self.journal if event.position == position)

    def end(self, position: Position) -> None:
        self.ended.add(position)

    def pick(self, data) -> Tracked[Event]:
        return self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))

    # The world moves.

    @rule(
        key=st.sampled_from(["", "k", "l"]),
        kind=st.sampled_from("aab"),
        size=st.sampled_from([1, 100, 200]),
        step=st.integers(1, 3),
    )
    def append(self, key, kind, size, step):
        last = self.journal[-1].position if self.journal else 0
        self.journal.append(Event(Position(last + step), key, kind, size))

    @rule(duration=st.integers(0, 50))
    def time_passes(self, duration):
        self.now = Micros(self.now + duration)
        self.cursor.wake(self.now)
        assert self.cursor.next_due is None or self.cursor.next_due > self.now

    @rule(data=st.data(), often=st.integers(0, 4))
    def retention_trims(self, data, often):
        if often:  # or else hardly anything would live long enough to become interesting; below, too
            return
        self.trimmed = max(self.trimmed, data.draw(st.sampled_from(self.journal)).position)

    @rule(kind=st.sampled_from("ab"), often=st.integers(0, 4))
    def events_are_erased(self, kind, often):
        if often:
            return
        self.erased |= {event.position for event in self.journal if event.kind == kind}
        held = {one.position for one in (*self.cursor._progress.open, *self.cursor._rows.values()) if one.payload}
        assert self.cursor.erase(lambda event: event.position in self.erased, self.now) == bool(held & self.erased)
        assert all((one.payload is None) == (one.position in self.erased) for one in self.out)

    # The journal is read.

    @rule(count=st.integers(1, 5))
    def read(self, count):
        self.read_page(count)

    def read_page(self, count: int, limit: Position | None = None) -> None:
        cursor = self.cursor
        ahead = [event for event in self.journal if event.position > max(cursor.read_mark, self.trimmed)][:count]
        last = self.journal[-1].position if self.journal else Position(0)
        through = ahead[-1].position if ahead else max(last, cursor.read_mark)
        mark = cursor.read_mark
        gap = cursor.skip_trimmed(Position(min(self.trimmed, through)), self.now)
        if gap is not None:
            assert gap.first == mark + 1
            in_rows = {row.position for row in self.store.rows.values() if row.kind is OwedKind.RETRY}
            for event in self.journal:
                if gap.first <= event.position <= gap.last and event.position not in in_rows:
                    self.end(event.position)
        through = through if limit is None else min(limit, through)
        for event in ahead:
            if (
                event.position <= through
                and event.position not in self.erased
                and (cursor.is_deferred(event.position) or self.wants(event))
            ):
                cursor.offer(event.position, event.key, event.size, event)
        cursor.advance(through)
        cursor.lose_deferred(self.now)

    @rule(limit=st.integers(1, 4))
    def needed_events_are_read(self, limit):
        room = LIMITS.loaded.deliveries - self.cursor.ready
        needed = self.cursor.needed(limit)
        assert len(needed) <= max(0, room)
        assert needed == self.cursor.needed(limit), "until it is answered, a need is named again"
        for tracked in needed:
            if tracked.position <= self.trimmed or tracked.position in self.erased:
                self.cursor.lose(tracked, self.now)
                self.end(tracked.position)
            else:
                event = self.at(tracked.position)
                self.cursor.load(tracked, event.size, event)

    # Receivers do anything.

    @rule(count=st.integers(0, 4), size=st.sampled_from([0, 150, 1000]))
    def take(self, count, size):
        next_size = self.cursor.next_size
        taken = self.cursor.take(count, size)
        assert len(taken) == min(count, len(taken))
        assert bool(taken) == bool(count and next_size)
        assert len(taken) <= 1 or sum(tracked.size for tracked in taken) <= size
        assert not taken or taken[0].size == next_size
        for tracked in taken:
            self.hand_out(tracked)

    def hand_out(self, tracked: Tracked[Event]) -> None:
        event = self.at(tracked.position)
        assert tracked.state is State.OUT
        assert (tracked.payload, tracked.size, tracked.key) == (event, event.size, event.key)
        assert tracked.position not in self.ended, "what has ended is not delivered again"
        assert tracked.position > self.base
        assert tracked.position not in self.erased
        if event.key:
            assert event.key not in {other.key for other in self.out}, "one delivery of a key is out at most"
            for before in self.journal:
                if before.position < event.position and before.key == event.key and self.wants(before):
                    assert before.position in self.ended, (
                        "a key's deliveries go out in order, each after the last has ended"
                    )
        self.out.append(tracked)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), more=st.integers(1, 4))
    def ack(self, data, more):
        tracked = self.pick(data)
        self.cursor.ack(tracked)
        self.end(tracked.position)
        self.take(more, 1000)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def ack_many(self, data):
        many = data.draw(st.permutations(self.out))[: data.draw(st.integers(1, len(self.out)))]
        self.cursor.ack_many(many)
        for tracked in many:
            self.out.remove(tracked)
            self.end(tracked.position)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), wait=st.sampled_from([0, 5, 500]))
    def retry(self, data, wait):
        tracked = self.pick(data)
        if self.is_lost(tracked):
            return
        attempt, waiting = tracked.attempt, self.cursor.waiting
        has_room = waiting.kept < LIMITS.waiting.deliveries and waiting.bytes < LIMITS.waiting.bytes
        self.cursor.retry(tracked, self.now, Micros(self.now + wait), "no")
        assert tracked.attempt == attempt + 1
        assert (tracked.payload is not None) == (wait == 0 or (wait <= LIMITS.soon and has_room))

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def give_up(self, data):
        tracked = self.pick(data)
        if self.is_lost(tracked):
            return
        self.cursor.give_up(tracked, dead_event(tracked.position), "rejected", "no", self.now)
        self.end(tracked.position)
        self.dead.append(tracked.position)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), attempted=st.booleans())
    def give_back(self, data, attempted):
        tracked = self.pick(data)
        if not self.is_lost(tracked):
            self.cursor.give_back(tracked, attempted=attempted)

    def is_lost(self, tracked: Tracked[Event]) -> bool:
        """Loses what was erased while it was out: nothing can come of it."""
        if tracked.position in self.erased:
            self.cursor.lose(tracked, self.now)
            self.end(tracked.position)
        return tracked.has_ended

    # The store keeps, or not.

    @precondition(lambda self: self.flight is None)
    @rule()
    def collect(self):
        change = self.cursor.collect(level=False)
        self.flight = Flight(change, frozenset(self.ended))
        assert sorted(dead.position for dead in change.dead) == sorted(self.dead)
        self.dead.clear()
        assert all(gap.last <= self.trimmed or gap.last in self.erased for gap in change.gaps)

    @precondition(lambda self: self.flight is not None)
    @rule()
    def commit(self):
        assert self.flight is not None
        before = self.store.state
        self.store.apply(self.flight.change)
        self.ended_durably = set(self.flight.ended)
        if not self.flight.change.reset:
            assert self.store.state.floor >= before.floor
            assert self.store.state.read_mark >= before.read_mark
        self.flight = None
        self.stored_state_forgets_nothing()

    def stored_state_forgets_nothing(self) -> None:
        state, rows = self.store.state, self.store.rows
        ranges = state.settled
        assert all(first <= last for first, last in ranges)
        assert all(last < first for (_, last), (first, _) in pairwise(ranges))
        assert not ranges or ranges[0][0] > state.floor
        for event in self.journal:
            passed = event.position <= state.floor or any(first <= event.position <= last for first, last in ranges)
            if passed and self.wants(event):
                assert event.position in self.ended_durably or event.position in rows, (
                    "what is passed has ended or has a row"
                )
        for position in rows:
            assert position <= state.floor or any(first <= position <= last for first, last in ranges)
            assert position not in self.ended_durably

    @rule(stored=st.booleans())
    def crash(self, stored):
        """Whether a write that was under way came through is not known to anybody."""
        if stored and self.flight is not None:
            self.commit()
        self.begin()

    @rule(read=st.integers(1, 5))
    def restart(self, read):
        self.make_durable()
        self.begin()
        self.time_passes(10)
        self.read_page(read)
        self.needed_events_are_read(2)
        self.take(3, 1000)

    @rule()
    def make_durable(self):
        if self.flight is not None:
            self.commit()
        self.collect()
        self.commit()

    # Somebody changes course.

    @rule(selected=st.sampled_from([{"a"}, {"b"}, {"a", "b"}]), often=st.integers(0, 3))
    def selectors_change(self, selected, often):
        if often:
            return
        while self.cursor.read_mark < self.resume_mark:
            self.read_page(3, self.resume_mark)
        self.cursor.secure()
        self.make_durable()
        assert self.store.state.floor == self.cursor.read_mark
        assert not self.store.state.settled
        for event in self.journal:
            if event.position <= self.cursor.read_mark:
                self.decided.setdefault(event.position, event.kind in self.selected)
        self.selected = selected

    @rule(data=st.data(), often=st.integers(0, 4))
    def seek(self, data, often):
        if often:
            return
        target = data.draw(st.sampled_from([Position(0), *(event.position for event in self.journal)]))
        pending = self.cursor.pending
        assert self.cursor.seek(target) == pending
        for tracked in self.out:
            assert tracked.state is State.DISCARDED
            assert tracked.payload is None
        self.out.clear()
        self.base = target
        self.resume_mark = target
        self.ended.clear()
        for position in [position for position in self.decided if position > target]:
            del self.decided[position]
        if self.flight is not None:  # It names what had ended before, which counts no more.
            self.store.apply(self.flight.change)
            self.flight = None
        self.make_durable()
        assert not self.store.rows

    # What always holds.

    @invariant()
    def counters_equal_recounts(self):
        cursor = self.cursor
        ready, keys, progress = cursor._ready, cursor.keys, cursor._progress
        waiting = [*ready.fresh, *ready.again]
        parked = [tracked for queue in keys._behind.values() for tracked in queue or () if tracked.row is None]
        assert cursor.out == len(self.out)
        assert cursor.ready == len(waiting)
        assert all(tracked.state is State.READY and tracked.payload for tracked in waiting)
        assert cursor.ready_bytes == sum(tracked.size for tracked in waiting)
        assert all(tracked.state is State.PARKED and tracked.payload for tracked in parked)
        assert (keys.parked, keys.parked_bytes) == (len(parked), sum(tracked.size for tracked in parked))
        assert keys.parked <= LIMITS.parked.deliveries
        assert keys.parked_bytes < LIMITS.parked.bytes + 200
        kept = [tracked for _, _, tracked in cursor.waiting._heap if tracked.payload]
        assert all(tracked.state is State.WAITING for tracked in kept)
        assert (cursor.waiting.kept, cursor.waiting.bytes) == (len(kept), sum(tracked.size for tracked in kept))
        assert progress._passed_in_open == sum(tracked.is_passed for tracked in progress.open)
        assert cursor.floor <= cursor.read_mark
        assert not cursor.needs_events or cursor.ready < LIMITS.loaded.deliveries

    @invariant()
    def pending_is_what_was_read_and_has_not_ended(self):
        if self.trimmed or self.erased:
            return  # then only the machine knows which of its rows it has tried to load already
        known = {
            event.position for event in self.journal if self.wants(event) and event.position <= self.cursor.read_mark
        }
        owed = self.cursor._rows.keys() | self.cursor._deferred.keys()
        assert self.cursor.pending == len((known | owed) - self.ended)

    # And in the end.

    def teardown(self):
        self.run_dry()
        for event in self.journal:
            assert event.position in self.ended or not self.wants(event), "nothing accepted is ever forgotten"
        assert not self.cursor.pending
        self.make_durable()
        assert self.store.rows == {}
        assert self.store.state.settled == ()
        self.begin()
        self.read_page(len(self.journal) + 1)
        assert self.cursor.pending == 0, "what was settled and stored is not delivered again"

    def run_dry(self) -> None:
        for _ in range(10 * len(self.journal) + 10):
            self.read_page(3)
            self.time_passes(1_000)
            self.needed_events_are_read(3)
            self.take(3, 1_000)
            for tracked in self.out:
                self.cursor.ack(tracked)
                self.end(tracked.position)
            self.out.clear()


def dead_event(position: Position) -> AcceptedEvent:
    return AcceptedEvent(b"", "events.example/_/1/it", str(position), "tests", None, "", (), Micros(0), None, None)


TestCursorMachine = CursorMachine.TestCase
TestCursorMachine.settings = settings(max_examples=150, stateful_step_count=40)
