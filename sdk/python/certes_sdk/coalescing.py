"""The queue of events to publish, and what the next request takes of it.

Theory of operation
-------------------
There is no linger: `take` is asked for the next request whenever one can be written, and gives what has queued up by then, up to a
limit. Under load that is much; for a lone event it is that event.

Of one ordering key at most one request is under way. An event whose key is busy leaves the line and waits with others of its key;
when the key is free, the first of them stands before the line, by the number that it got when it arrived. So do entries that
come back to be sent again. `take` therefore merges two sources that are each in the order of arrival: what stands before the
line, and the line.

Rules
-----
* Decides and counts; sends nothing, waits for nothing.
* An entry that was given up is passed over when its turn comes; it does not count as waiting any more.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final, NamedTuple


class Receipt(NamedTuple):
    """Says that an event is durable.

    `duplicate` says that it had been stored before, `name` what the broker calls it: `events/{opaque position}`. The broker is asked
    for both where the caller gave the id, and by `publish_all`; otherwise they are false and empty.
    """

    id: str
    duplicate: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one request, and of what is under way."""

    request_events: int = 64
    request_bytes: int = 1 << 20
    under_way_events: int = 1024
    under_way_bytes: int = 8 << 20


_LIMITS: Final = Limits()


class Entry:
    """One event to publish.

    `wire` is what a request has of it, `size` the bytes of the event, `key` is empty where no order is wanted; `alone` asks for a
    request of its own. Its outcome is told by `answer`, its number and the three flags below are the queue's.
    """

    # No slots: most entries never have any of these but as they are here.
    alone = False
    given_up = False
    waiting = False
    number = 0
    tries = 0
    deadline = 0.0
    answer: asyncio.Future[Receipt]

    def __init__(self, wire: bytes, size: int, key: str, event_id: str, *, id_given: bool = False) -> None:
        self.wire = wire
        self.size = size
        self.key = key
        self.id = event_id
        self.id_given = id_given


class PublishQueue:
    """The queue. It says how much waits in it, and how much is under way."""

    def __init__(self, limits: Limits = _LIMITS) -> None:
        self._limits = limits
        self._line: deque[Entry] = deque()
        self._before: list[tuple[int, Entry]] = []
        self._held: dict[str, list[tuple[int, Entry]]] = {}
        self._busy: set[str] = set()
        self._arrived = 0
        self.waiting_events = 0
        self.waiting_bytes = 0
        self.under_way_events = 0
        self.under_way_bytes = 0

    def add(self, entry: Entry) -> None:
        """Puts an entry at the end."""
        self._arrived += 1
        entry.number = self._arrived
        entry.waiting = True
        self.waiting_events += 1
        self.waiting_bytes += entry.size
        self._line.append(entry)

    def take(self) -> list[Entry]:
        """Returns what the next request carries; nothing if there is none to send now."""
        taken: list[Entry] = []
        limits, before, line = self._limits, self._before, self._line
        room = min(limits.request_events, limits.under_way_events - self.under_way_events)
        # What is larger than all that may be under way goes when nothing is.
        spare = limits.under_way_bytes - self.under_way_bytes if self.under_way_events else sys.maxsize
        size = 0
        while len(taken) < room:
            if before and (not line or before[0][0] < line[0].number):
                entry = heappop(before)[1]
            elif line:
                entry = line.popleft()
            else:
                break
            if entry.key:
                if entry.key in self._busy:
                    heappush(self._held.setdefault(entry.key, []), (entry.number, entry))
                    continue
                self._call_next(entry.key)
            if entry.given_up:
                continue
            after = size + entry.size
            if after > spare or (taken and (entry.alone or after > limits.request_bytes)):
                heappush(before, (entry.number, entry))
                break
            size = after
            taken.append(entry)
            if entry.alone:
                break
        if taken:
            self._begin(taken, size)
        return taken

    def answered(self, entries: Sequence[Entry]) -> None:
        """Notes that a request was answered for good: its keys are free."""
        self._end(entries)

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Returns the entries of a request to their places, to be sent again."""
        for entry in entries:
            if not entry.given_up:
                entry.waiting = True
                self.waiting_events += 1
                self.waiting_bytes += entry.size
                heappush(self._before, (entry.number, entry))
        self._end(entries)

    def give_up(self, entry: Entry) -> None:
        """Notes that nobody waits for an entry any more. One that is under way stays so until it is answered."""
        entry.given_up = True
        if entry.waiting:
            entry.waiting = False
            self.waiting_events -= 1
            self.waiting_bytes -= entry.size
            entry.wire = b""

    def purge(self) -> None:
        """Lets go of what was given up while nothing could be sent."""
        if len(self._line) + len(self._before) + sum(map(len, self._held.values())) == self.waiting_events:
            return
        self._line = deque(entry for entry in self._line if not entry.given_up)
        self._before = sorted(place for place in self._before if not place[1].given_up)
        for key, held in list(self._held.items()):
            kept = sorted(place for place in held if not place[1].given_up)
            if kept:
                self._held[key] = kept
            else:
                del self._held[key]

    def waiting(self) -> Iterable[Entry]:
        """Returns what waits, in no order."""
        held = [entry for entries in self._held.values() for _, entry in entries]
        everything = [*self._line, *(entry for _, entry in self._before), *held]
        return [entry for entry in everything if not entry.given_up]

    def _begin(self, taken: list[Entry], size: int) -> None:
        count = len(taken)
        self.waiting_events -= count
        self.waiting_bytes -= size
        self.under_way_events += count
        self.under_way_bytes += size
        for entry in taken:
            entry.waiting = False
            if entry.key:
                self._busy.add(entry.key)

    def _end(self, entries: Sequence[Entry]) -> None:
        self.under_way_events -= len(entries)
        for entry in entries:
            self.under_way_bytes -= entry.size
            if entry.key and entry.key in self._busy:
                self._busy.remove(entry.key)
                self._call_next(entry.key)

    def _call_next(self, key: str) -> None:
        """Puts the first of those that waited for a key before the line."""
        held = self._held.get(key) if key else None
        if held:
            heappush(self._before, heappop(held))
            if not held:
                del self._held[key]
