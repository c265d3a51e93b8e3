"""The dead letters: deliveries that were given up on, found, shown and forgotten.

A dead letter is named after its event, and there is one at most for a subscription and an event. While it is **replayed** a row
of the cursor speaks for it (`replays.py`): then nothing forgets it but the replay's own end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from certes_broker.broker.lanes import Lanes
from certes_broker.broker.names import PREFIX, EventNames
from certes_broker.broker.paging import make_token, read_token
from certes_broker.domain.cursor_state import DeadLetter, OwedKind
from certes_broker.domain.errors import NotFound, Reason
from certes_broker.domain.events import BEGINNING, AcceptedEvent, Micros, Position
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.uris import TypePattern, parse_event_type
from certes_broker.ports.engine import Attempt, Engine

COLLECTION: Final = "deadLetters"
AT_ONCE: Final = 1_000
"""Dead letters that one call replays or purges."""
_PAGE: Final = 200
_PAGE_BYTES: Final = 2 << 20
_PAGES_SCANNED: Final = 20
"""How much one call looks through before it answers with what it has and a token."""
_ATTEMPTS_SHOWN: Final = 100
_ATTEMPTS_PAGED: Final = 10_000

Sees = Callable[[AcceptedEvent], bool]
"""Says whether whoever asks may see an event."""


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant: those that agree with all that is set. `start` is included, `end` is not."""

    pattern: TypePattern | None = None
    reason: str = ""
    start: Micros | None = None
    end: Micros | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Whether a dead letter is meant."""
        return (
            self.reason in ("", letter.reason)
            and (self.start is None or letter.time >= self.start)
            and (self.end is None or letter.time < self.end)
            and (self.pattern is None or self.pattern.matches(parse_event_type(letter.event.type)))
        )


class Summary(NamedTuple):
    """A dead letter without the body of its event, of which `event_bytes` is the length."""

    letter: DeadLetter
    event_bytes: int


class Selected(NamedTuple):
    """Some dead letters that are meant. `next_page_token` is empty if there is nothing more."""

    letters: Sequence[Summary]
    next_page_token: str

    @property
    def positions(self) -> Sequence[Position]:
        """Returns the positions of their events."""
        return [one.letter.position for one in self.letters]


@dataclass(frozen=True, slots=True)
class Selection:
    """What one call is about: a filter, what whoever asks may see, and where the call before ended."""

    wanted: DeadLetterFilter
    sees: Sees
    page_token: str = ""


class DeadLetterPage(NamedTuple):
    """A page of a list, what is replayed, and how many dead letters there are in all."""

    letters: Sequence[Summary]
    replaying: frozenset[Position]
    next_page_token: str
    total: int


class Purged(NamedTuple):
    """What a call has forgotten, and left alone because it is replayed."""

    purged: int
    replaying: int
    next_page_token: str


class DeadLetters:
    """Finds and forgets dead letters."""

    def __init__(self, engine: Engine, names: EventNames, lanes: Lanes) -> None:
        self._cursors = engine.cursors
        self._attempts = engine.attempts
        self._names = names
        self._lanes = lanes

    async def list(self, name: SubscriptionName, selection: Selection, page_size: int) -> DeadLetterPage:
        """Returns dead letters of a subscription by the position of their events. A page may be short although more follow."""
        letters, token = await self.select(name, selection, page_size)
        return DeadLetterPage(
            letters, await self.replaying(name), token, await self._cursors.count_dead_letters(name.text)
        )

    async def get(self, name: SubscriptionName, letter_id: str, sees: Sees) -> DeadLetter:
        """Returns one dead letter with its event. Raises `NotFound` (DEAD_LETTER_NOT_FOUND)."""
        try:
            found = await self._cursors.dead_letter(name.text, self._names.position(PREFIX + letter_id))
        except NotFound:
            found = None
        if found is None or not sees(found.event):
            raise dead_letter_not_found(f"{name.text}/{COLLECTION}/{letter_id}")
        return found

    async def attempts_at(self, name: SubscriptionName, position: Position) -> Sequence[Attempt]:
        """Returns the newest attempts at an event, the latest first."""
        return await self._attempts.list(name.text, position, _ATTEMPTS_SHOWN)

    async def attempts(
        self, name: SubscriptionName, event: str, page_size: int, page_token: str
    ) -> tuple[Sequence[Attempt], str]:
        """Returns attempts at a webhook, newest first, those at one event if it is named; and the token of the next page."""
        position = self._names.position(event) if event else None
        text = read_token(page_token, name.text, event)
        skipped = int(text) if text.isdecimal() else 0
        through = min(skipped + page_size, _ATTEMPTS_PAGED)
        found = await self._attempts.list(name.text, position, through + 1)
        more = len(found) > through and through < _ATTEMPTS_PAGED
        return found[skipped:through], make_token(str(through), name.text, event) if more else ""

    async def purge(self, name: SubscriptionName, selection: Selection) -> Purged:
        """Forgets the dead letters that are meant, but those that are replayed; one call does a part."""
        async with self._alone(name):
            selected = await self.select(name, selection, AT_ONCE)
            return await self._forget(name, selected.positions, selected.next_page_token)

    async def purge_named(self, name: SubscriptionName, letter_ids: Sequence[str], sees: Sees) -> Purged:
        """Forgets dead letters, but those that are replayed. Raises `NotFound` (DEAD_LETTER_NOT_FOUND), and none is forgotten."""
        async with self._alone(name):
            return await self._forget(name, await self.positions(name, letter_ids, sees), "")

    async def positions(self, name: SubscriptionName, letter_ids: Sequence[str], sees: Sees) -> Sequence[Position]:
        """Returns the positions of dead letters. Raises `NotFound` (DEAD_LETTER_NOT_FOUND) for the first that is none."""
        found = [(await self.get(name, one, sees)).position for one in letter_ids]
        return list(dict.fromkeys(found))

    async def select(self, name: SubscriptionName, selection: Selection, count: int) -> Selected:
        """Returns at most so many dead letters that are meant, and where to go on."""
        wanted, sees, token = selection.wanted, selection.sees, selection.page_token
        text = read_token(token, name.text, wanted)
        after = self._names.position_of_place(text) if text else BEGINNING
        found: list[Summary] = []
        for _ in range(_PAGES_SCANNED):
            page = await self._cursors.dead_letters(name.text, after, _PAGE, _PAGE_BYTES)
            if not page:
                return Selected(found, "")
            for letter in page:
                after = letter.position
                if wanted.matches(letter) and sees(letter.event):
                    found.append(summary(letter))
                    if len(found) == count:
                        return Selected(found, make_token(self._names.place(after), name.text, wanted))
        return Selected(found, make_token(self._names.place(after), name.text, wanted))

    async def replaying(self, name: SubscriptionName) -> frozenset[Position]:
        """Returns the positions of what is on its way to a subscription once more, as far as that is durable."""
        [stored] = await self._cursors.load([name.text])
        owed = () if stored is None else stored.owed
        return frozenset(row.position for row in owed if row.kind is OwedKind.REPLAY)

    @asynccontextmanager
    async def _alone(self, name: SubscriptionName) -> AsyncIterator[None]:
        """Keeps everybody from replaying meanwhile. Raises `Elsewhere` if another member has the lane: there it is done."""
        async with self._lanes.alone(name.text):
            await self._lanes.check_free(name.text)
            yield

    async def _forget(self, name: SubscriptionName, positions: Sequence[Position], token: str) -> Purged:
        gone = await self._cursors.bury(name.text, positions)
        return Purged(gone, len(positions) - gone, token)


def summary(letter: DeadLetter) -> Summary:
    """Returns a dead letter without the body of its event."""
    event = letter.event
    return Summary(replace(letter, event=event._replace(body=b"")), len(event.body))


def dead_letter_not_found(name: str) -> NotFound:
    """Returns the refusal of a name that names no dead letter."""
    return NotFound(
        Reason.DEAD_LETTER_NOT_FOUND,
        f"No dead letter {name!r} is kept.",
        hint="It goes when its replay is settled, when it is purged, and when retention.dead_letters says so.",
        metadata={"name": name},
    )
