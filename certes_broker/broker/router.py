"""The router: takes committed events to the lanes that they concern, from memory.

The router knows how far it has come (`position`). When the broker starts it stands at the watermark, up to which all
level lanes had settled everything, and reads from there what had been committed since; then it follows the journal's
tail. Routing a commit is one synchronous step: whoever looks sees all of it or nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from certes_broker.broker.filtering import Filtering
from certes_broker.broker.items import Item
from certes_broker.broker.lane import Lane
from certes_broker.broker.memory import Memory
from certes_broker.broker.names import EventNames
from certes_broker.domain.events import BEGINNING, AcceptedEvent, Entry, Position
from certes_broker.domain.matching import RoutingTable
from certes_broker.ports.engine import Journal

_PAGE: Final = 1000
_PAGE_BYTES: Final = 8 * 1024 * 1024


class Router:
    """Takes committed events to lanes."""

    def __init__(
        self, journal: Journal, names: EventNames, position: Position, filtering: Filtering, memory: Memory
    ) -> None:
        self.position = position
        """Everything at or below has been routed."""
        self.filtering: Final = filtering
        self.memory: Final = memory
        """The account of what lanes hold."""
        self._journal = journal
        self._names = names
        self._table: RoutingTable[Lane] = RoutingTable()
        self._erased: dict[str, Position] = {}
        """Subscribers that were erased, until everything has been routed that was accepted for them before that."""

    def put(self, lane: Lane) -> None:
        """Adds a lane, or takes over its changed selectors."""
        self._table.put(lane.interest)

    def remove(self, lane: Lane) -> None:
        """Forgets a lane."""
        self._table.remove(lane)

    def erase(self, subscriber: str, through: Position) -> None:
        """Lets events for a subscriber up to a position, which are erased, reach nobody, also where they are on their way here."""
        if through > self.position:
            self._erased[subscriber] = through

    async def catch_up(self) -> AsyncIterator[Sequence[Entry]]:
        """Routes what was committed before now, and returns the tail that `run` is to follow."""
        tail = self._journal.tail()
        while True:
            page = await self._journal.read(self.position, _PAGE, _PAGE_BYTES)
            if not page.entries:
                self.position = max(self.position, page.through)
                return tail
            self.route(page.entries)

    async def run(self, tail: AsyncIterator[Sequence[Entry]]) -> None:
        """Routes every commit as it comes, for ever."""
        async for entries in tail:
            self.route(entries)

    def route(self, entries: Sequence[Entry]) -> None:
        """Routes one batch of consecutive entries. Entries that were routed before are left out."""
        match = self._table.match
        has_filters = self._table.has_filters
        erased = self._erased
        found: list[tuple[Entry, Sequence[Lane]]] = []
        for entry in entries:
            if entry.position <= self.position:
                continue
            event = entry.event
            if erased and event.subscriber is not None and entry.position <= erased.get(event.subscriber, BEGINNING):
                continue
            passes = self._asking(event) if has_filters else None
            lanes = match(event.type, event.subscriber, event.options, passes)
            if lanes:
                found.append((entry, lanes))
        through = max(self.position, entries[-1].position)
        touched: dict[Lane, None] = {}
        for (entry, lanes), name in zip(found, self._names.names([entry.position for entry, _ in found]), strict=True):
            item = Item(entry, name, self.memory)
            for lane in lanes:
                if lane.live:
                    if lane not in touched:
                        touched[lane] = None
                        lane.reckon()
                    lane.take_in(item)
        self.position = through
        if erased:
            self._erased = {subscriber: last for subscriber, last in erased.items() if last > through}
        for lane in touched:
            lane.routed(through)

    def _asking(self, event: AcceptedEvent) -> Callable[[Lane], bool]:
        """Returns what asks lanes' filters about an event; those that are behind will ask when they read it."""
        question = self.filtering.about(event)
        return lambda lane: lane.live and question.passes(lane.subscription)
