"""The cursor machine: what becomes of each delivery of one subscription, and how far the subscription has settled.

Rules
-----
* The life of a delivery is the table in `deliveries.py`; a transition that is not in it raises and changes nothing.
* The machine does no I/O and reads no clock: what it has decided is collected as a `CursorChange`, which somebody makes
  durable. Whatever was not made durable is delivered again after a crash; so the promise is *at least once*.
* The success of a delivery leaves no trace of its own: it moves the floor.

Theory of operation
-------------------
Positions are offered in ascending order. The **floor** is the position at or below which every delivery is *passed*: it
has ended, or has a row (`Owed`). One that must wait gets its row in the same change in which the floor passes it; so does
one that was overtaken by many. What is read again after a crash is short, and what must not be forgotten is written.

At most one delivery of an **ordering key** is under way (`ordering.py`): from the moment it is ready until it has ended
it holds the key, and later ones are PARKED behind it, in order. Beyond a window of parked deliveries the newest get rows
and give their memory back.

After a crash the rows come back first and then the journal is read again from the floor; what was passed, rows included, is
passed over. Rows of retries hold their keys from the start. A row of a parked delivery above the floor cannot be queued yet, since the
delivery that it waits for may only come with the second reading; it is **deferred** until the reading comes to it, and
then takes its place in order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

from certes_broker.domain.cursor_state import CursorChange, CursorState, DeadLetter, Gap, Owed, OwedKind, StoredCursor
from certes_broker.domain.deliveries import Signal, State, Tracked, ack_all
from certes_broker.domain.events import AcceptedEvent, Micros, Position
from certes_broker.domain.limits import LIMITS, CursorLimits
from certes_broker.domain.ordering import Keys
from certes_broker.domain.progress import Progress
from certes_broker.domain.ready import Ready
from certes_broker.domain.unwritten import Unwritten
from certes_broker.domain.waiting import Waiting

P = TypeVar("P")

_READY: Final = State.READY
_NEVER: Final = Micros(0)


class Cursor(Generic[P]):
    """The machine of one subscription. `P` is what the caller keeps for an event in memory."""

    def __init__(self, subscription: str, epoch: int, stored: StoredCursor, limits: CursorLimits = LIMITS) -> None:
        self.subscription = subscription
        self.limits = limits
        """May be narrowed, and widened again, while it runs."""
        self._unwritten = Unwritten(subscription, epoch)
        self._begin(stored)

    def _begin(self, stored: StoredCursor) -> None:
        self.out = 0
        """How many deliveries are handed out and unsettled."""
        self._progress: Progress[P] = Progress(stored.state)
        self._ready: Ready[P] = Ready()
        self.keys: Keys[P] = Keys()
        """Who has ordering keys, and how much is parked behind: to be looked at only."""
        self.waiting: Waiting[P] = Waiting()
        """What waits for a time, and how much of it is in memory: to be looked at only."""
        self._needed: dict[Position, Tracked[P]] = {}
        self._rows: dict[Position, Tracked[P]] = {}
        self._deferred: dict[Position, Owed] = {}
        for row in stored.owed:
            self._take_up(row)

    def _take_up(self, row: Owed) -> None:
        """Brings one row back after a restart."""
        is_parked = row.kind is OwedKind.PARKED
        if is_parked and row.position > self.floor:
            self._deferred[row.position] = row
            return
        tracked: Tracked[P] = Tracked.of_row(row)
        self._rows[row.position] = tracked
        has_key = not row.ordering_key or self.keys.claim(tracked)
        if not is_parked:
            self.waiting.add(tracked, row.due)
        elif has_key:
            self._release(tracked)

    # What it knows of itself.

    @property
    def floor(self) -> Position:
        """Everything at or below is settled or has a row, as of the last `collect`."""
        return self._progress.floor

    @property
    def read_mark(self) -> Position:
        """Everything at or below has been read."""
        return self._progress.read_mark

    @property
    def ready(self) -> int:
        """How many deliveries wait to be handed out."""
        return len(self._ready)

    @property
    def ready_bytes(self) -> int:
        """How many bytes these have together."""
        return self._ready.bytes

    @property
    def next_size(self) -> int:
        """How many bytes the delivery has that `take` would hand out first; 0 if there is none."""
        return self._ready.next_size

    @property
    def pending(self) -> int:
        """How many deliveries are read and not settled."""
        return self._progress.unpassed + len(self._rows) + len(self._deferred)

    @property
    def owed(self) -> int:
        """How many deliveries have rows."""
        return len(self._rows) + len(self._deferred)

    @property
    def next_due(self) -> Micros | None:
        """When the next waiting delivery falls due."""
        return self.waiting.next_due

    # Reading.

    def is_deferred(self, position: Position) -> bool:
        """Whether the event at `position` is owed whatever the selectors say, once the reading comes to it."""
        return position in self._deferred

    def offer(self, position: Position, key: str, size: int, payload: P) -> None:
        """Takes in the event at `position`, which matched or is deferred. Positions come in ascending order; those read before are ignored."""
        progress = self._progress
        if position <= progress.read_mark:
            return
        progress.read_mark = position
        tracked = Tracked(position, key, size, payload, _READY)
        if position > progress.known_through and position not in self._rows:
            progress.open.append(tracked)
        elif not self._is_news(tracked):
            return
        if key and not self.keys.claim(tracked):
            self._park(tracked)
            return
        self._ready.fresh.append(tracked)
        self._ready.bytes += size

    def advance(self, position: Position) -> None:
        """Notes that everything up to `position` has been read, and that what was not offered does not concern it."""
        self._progress.read_mark = max(self.read_mark, position)

    def lose_deferred(self, now: Micros) -> None:
        """Records gaps for deferred rows that the reading has passed without finding their events: retention trimmed them."""
        for position in self._drop_deferred(self.read_mark):
            self._unwritten.add_gap(position, position, now)

    def skip_trimmed(self, trimmed: Position, now: Micros) -> Gap | None:
        """Records that retention trimmed what had not been read yet, up to `trimmed`; None if nothing was."""
        if trimmed <= self.read_mark:
            return None
        gap = self._unwritten.add_gap(Position(self.read_mark + 1), trimmed, now)
        self.advance(trimmed)
        self._drop_deferred(trimmed)
        return gap

    # Handing out.

    def take(self, count: int, size: int) -> list[Tracked[P]]:
        """Hands out at most `count` deliveries of at most `size` bytes together, at least one if `count` allows."""
        taken = self._ready.take(count, size)
        self.out += len(taken)
        return taken

    # Settling.

    def ack(self, tracked: Tracked[P]) -> None:
        """The delivery is done."""
        tracked.signal(Signal.ACK)
        self.out -= 1
        self._end(tracked)
        self._progress.shed()

    def ack_many(self, deliveries: Sequence[Tracked[P]]) -> None:
        """The deliveries are done. If one of them cannot be, `IllegalTransition` is raised and none is."""
        ack_all(deliveries)
        self.out -= len(deliveries)
        opened = self._progress.open
        for tracked in deliveries:
            if tracked.row is None and not tracked.key and opened[0] is tracked:
                # As nearly all are: in order, with nothing written and nobody behind.
                tracked.payload = None
                opened.popleft()
            else:
                self._end(tracked)
        self._progress.shed()

    def retry(self, tracked: Tracked[P], began: Micros, due: Micros, error: str) -> None:
        """The attempt that began at `began` failed; the next is due at `due`. Unless that is soon, the event leaves memory."""
        tracked.signal(Signal.RETRY)
        self.out -= 1
        tracked.attempt += 1
        first = tracked.first_try or began
        self._write(tracked, Owed(tracked.position, tracked.kind, due, tracked.attempt, first, tracked.key, error))
        self.waiting.keep(tracked, due, due - began, self.limits)

    def give_up(self, tracked: Tracked[P], event: AcceptedEvent, reason: str, error: str, now: Micros) -> None:
        """The delivery becomes a dead letter, with a copy of its event, and releases its key."""
        tracked.signal(Signal.GIVE_UP)
        self.out -= 1
        self._unwritten.add_dead_letter(DeadLetter(tracked.position, event, tracked.attempt, reason, error, now))
        self._end(tracked)

    def give_back(self, tracked: Tracked[P], *, attempted: bool) -> None:
        """The delivery comes back unsettled: its stream ended, or its time ran out. It may go out again at once."""
        tracked.signal(Signal.GIVE_BACK)
        self.out -= 1
        if attempted:
            tracked.attempt += 1
        self._ready.give_back(tracked)

    # Waiting.

    def wake(self, now: Micros, hastened: Collection[Position] = ()) -> bool:
        """Lets waiting deliveries go on whose time has come, or that are hastened; says whether any is ready that was not."""
        before = self.ready
        for tracked in self.waiting.take_due(now, hastened):
            tracked.signal(Signal.FALL_DUE)
            self._go_on(tracked)
        return self.ready > before

    def put_forward(self, by: Micros, *, after: Micros = _NEVER) -> None:
        """Lets all that waits for a time later than `after` be due so much earlier: the clock was set back."""
        self.waiting.put_forward(by, after)

    def needed(self, limit: int) -> list[Tracked[P]]:
        """Names at most `limit` deliveries whose events must be read again, until the caller answers with `load` or `lose`."""
        return list(islice(self._needed.values(), max(0, min(limit, self.limits.loaded.deliveries - self.ready))))

    @property
    def needs_events(self) -> bool:
        """Whether events must be read again, and there is memory for them."""
        return bool(self._needed) and not self.limits.loaded.is_full(self.ready, self.ready_bytes)

    def load(self, tracked: Tracked[P], size: int, payload: P) -> None:
        """The event is in memory again."""
        if tracked.has_ended:
            return
        tracked.signal(Signal.LOAD)
        del self._needed[tracked.position]
        tracked.payload = payload
        tracked.size = size
        self._ready.add(tracked)

    def lose(self, tracked: Tracked[P], now: Micros) -> None:
        """The event is no longer kept: its delivery ends, with a gap if it was owed."""
        if tracked.has_ended:
            return
        self.out -= tracked.state is State.OUT
        self._ready.remove(tracked)
        tracked.signal(Signal.LOSE)
        self._needed.pop(tracked.position, None)
        if tracked.row is not None:
            self._unwritten.add_gap(tracked.position, tracked.position, now)
        self._end(tracked)

    def erase(self, is_erased: Callable[[P], bool], now: Micros) -> bool:
        """Lets go of events: what is ready is lost now, what waits or is parked in its turn; what is out is settled, or lost. False if none was there."""
        held = [one for one in (*self._progress.open, *self._rows.values()) if one.payload and is_erased(one.payload)]
        for tracked in held:
            if tracked.state is State.READY:
                self.lose(tracked, now)
            elif tracked.state is State.PARKED:
                self._secure(tracked)
            elif tracked.state is State.WAITING:
                self.waiting.let_go(tracked)
            tracked.payload = None
        return bool(held)

    # Changing course.

    def replay(self, position: Position) -> bool:
        """Owes the event at `position` once more, whatever the selectors say. False if it is under way, which does for a replay then."""
        tracked = self._rows.get(position) or self._progress.open_at(position)
        if tracked is not None and (row := tracked.do_for_replay()) is not None:
            self._write(tracked, row)
        if tracked is not None or position in self._deferred:
            return False
        self._unwritten.put(row := Owed(position, OwedKind.REPLAY, _NEVER, 1, _NEVER, "", ""))
        self._take_up(row)
        return True

    def secure(self) -> None:
        """Gives every unsettled delivery a row, so that it stays owed whatever the selectors will say; the floor moves to the read mark."""
        for tracked in self._progress.unpassed_through(self.read_mark):
            self._secure(tracked)
        self._progress.move_floor()

    def seek(self, target: Position) -> int:
        """Moves to a position; everything pending is discarded. Returns how much that was."""
        discarded = self.pending
        for tracked in (*self._progress.open, *self._rows.values()):
            if not tracked.has_ended:
                tracked.signal(Signal.DISCARD)
                tracked.payload = None
        self._unwritten.drop_all()
        self._begin(StoredCursor(CursorState(target, target), ()))
        return discarded

    # Collecting.

    def collect(self, *, level: bool) -> CursorChange:
        """Returns what has to become durable, and begins anew. `level` says that the watermark may speak for it."""
        progress = self._progress
        progress.shed()
        for tracked in progress.overtaken(self.limits.overtakers):
            self._secure(tracked)
        progress.move_floor()
        return self._unwritten.collect(progress.state(level=level))

    # Below: the machine's own steps.

    def _is_news(self, tracked: Tracked[P]) -> bool:
        """Says whether a delivery that comes with a second reading is to go on from here: it is deferred, or not passed."""
        position = tracked.position
        row = self._deferred.pop(position, None)
        if row is not None:
            tracked.attempt = row.attempt
            tracked.row = row
            self._rows[position] = tracked
        elif position not in self._rows and not self._progress.was_passed(position):
            self._progress.open.append(tracked)
            return True
        self._progress.pass_over(position)
        return row is not None

    def _drop_deferred(self, through: Position) -> list[Position]:
        dropped = [position for position in self._deferred if position <= through]
        for position in dropped:
            del self._deferred[position]
            self._unwritten.drop(position)
        return dropped

    def _end(self, tracked: Tracked[P]) -> None:
        """Does what follows when a delivery has ended: its row goes, the floor may move, its key is free."""
        tracked.payload = None
        if tracked.row is not None:
            del self._rows[tracked.position]
            self._unwritten.drop(tracked.position)
        else:
            self._progress.pass_open(tracked)
        if tracked.is_replay and tracked.state is State.SETTLED:
            self._unwritten.bury(tracked.position)
        if tracked.key:
            following = self.keys.release(tracked.key)
            if following is not None:
                self._release(following)

    def _park(self, tracked: Tracked[P]) -> None:
        tracked.state = State.PARKED
        if tracked.row is not None:
            tracked.payload = None
        elif not self.keys.keep(tracked, self.limits.parked):
            self._park_beyond(tracked)

    def _release(self, tracked: Tracked[P]) -> None:
        tracked.signal(Signal.RELEASE)
        self._go_on(tracked)

    def _go_on(self, tracked: Tracked[P]) -> None:
        if tracked.payload is None:
            self._needed[tracked.position] = tracked
        else:
            tracked.signal(Signal.LOAD)
            self._ready.add(tracked)

    def _secure(self, tracked: Tracked[P]) -> None:
        """Gives a row to a delivery that has none."""
        if tracked.state is State.PARKED:
            self.keys.leave_memory(tracked)
            self._park_beyond(tracked)
        else:
            self._write(tracked, Owed(tracked.position, tracked.kind, _NEVER, tracked.attempt, _NEVER, tracked.key, ""))

    def _park_beyond(self, tracked: Tracked[P]) -> None:
        """Gives a row to a parked delivery, and its memory back."""
        tracked.payload = None
        self._write(tracked, Owed(tracked.position, OwedKind.PARKED, _NEVER, 1, _NEVER, tracked.key, ""))

    def _write(self, tracked: Tracked[P], row: Owed) -> None:
        """Writes a delivery's row; with its first it does not hold the floor any more."""
        self._unwritten.put(row)
        if tracked.row is None:
            self._rows[tracked.position] = tracked
            self._progress.pass_open(tracked)
        tracked.row = row
