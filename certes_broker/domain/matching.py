"""Matching: which subscriptions an event reaches.

Theory of operation
-------------------
An *interest* is what matching knows of a subscription: whose it is and its selectors. An event matches an interest if
its audience does, one of the selectors does, and it passes the filter if there is one; `Interest.accepts` says exactly
that, and is the definition. `RoutingTable` gives the same answer for all interests at once without asking each of them.
What a filter means is for the caller to say: here it is a text, asked about last, since it costs more than all else.

1. Interests are shelved by the text of their patterns. Interests are many, but distinct patterns are few, since there
   are only so many event types. A literal pattern is found by the event type's text; only patterns with wildcards, and
   only those of the event's domain, are held against the type, once: the shelves of a type are remembered until a
   pattern comes or goes.
2. On a shelf, keys lie by audience and by the exact options they want. Each lies there twice: for events to its own
   subscriber (or to any, if its scope is all subscribers), and for events to everyone. Looking up is then asking, for
   each *set of option names* that somebody on the shelf wants, for the event's values of these names. Such sets are few
   (the empty one, `repo`, `org`, …), however many values there are, and no choice of values makes any of them slow.
3. What depends on event type and audience alone, the keys that want no options, is remembered as a *route*; an event
   without options is answered by one look-up. Of what was found, those with a filter are asked about. Any change of interests forgets all routes. A route is rebuilt from the
   shelves when it is needed again, at a cost in proportion to its own length, not to the number of interests.

So cost follows from how many an event reaches and not from how many there are. Remembered routes are bounded by the
number of keys in them: they live in two generations, and when the young one is full it becomes the old one and what was
old is forgotten. A route in use is found in the old generation and moves back to the young one.

The table is not safe for threads and need not be: nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Final, Generic, TypeVar

from certes_broker.domain.events import Options
from certes_broker.domain.uris import EventType, TypePattern, parse_event_type

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Selector:
    """Selects events whose type matches `pattern` and which have every one of `options`, with that value."""

    pattern: TypePattern
    options: Options = ()

    def accepts(self, event_type: EventType, options: Mapping[str, str]) -> bool:
        """Says whether an event is selected. An option that the event does not have never matches."""
        return self.pattern.matches(event_type) and all(options.get(name) == value for name, value in self.options)


@dataclass(frozen=True, slots=True)
class Interest(Generic[K]):
    """What matching knows of a subscription. `key` is whatever the caller knows it by."""

    key: K
    subscriber: str
    selectors: tuple[Selector, ...]
    all_subscribers: bool = False
    filter: str = ""
    """What must be true of an event besides; empty if nothing."""

    def accepts(
        self,
        event_type: EventType,
        subscriber: str | None,
        options: Mapping[str, str],
        passes: Callable[[str], bool],
    ) -> bool:
        """Says whether an event matches: its type, the subscriber it is for (None for everyone) and its options.

        `passes` says whether the event passes a filter.
        """
        if not (self.all_subscribers or subscriber is None or subscriber == self.subscriber):
            return False
        if not any(selector.accepts(event_type, options) for selector in self.selectors):
            return False
        return not self.filter or passes(self.filter)


class RoutingTable(Generic[K]):
    """Finds the keys of all interests that an event matches."""

    def __init__(self, *, remembered_keys: int = 1_000_000, remembered_types: int = 10_000) -> None:
        """Makes an empty table.

        `remembered_keys` bounds the routes of one generation, by the keys in them (8 bytes each, and some 200 for each
        route, which counts as one key more); `remembered_types` the event types whose shelves are remembered.
        """
        self._interests: dict[K, Interest[K]] = {}
        self._ordinals: dict[K, int] = {}
        self._filtered: set[K] = set()
        """The keys of interests with a filter."""
        self._next_ordinal = 0
        self._literals: dict[str, _Shelf[K]] = {}
        self._wildcards: dict[str, dict[str, _Shelf[K]]] = {}
        self._shelves_by_type: dict[str, tuple[_Shelf[K], ...]] = {}
        self._remembered_types = remembered_types
        self._routes: _Routes[K] = _Routes(remembered_keys)

    def __len__(self) -> int:
        """The number of interests."""
        return len(self._interests)

    def put(self, interest: Interest[K]) -> None:
        """Adds an interest, in place of the one with the same key if there is one."""
        present = self._interests.get(interest.key)
        if present == interest:
            return
        if present is not None:
            self._unshelve(present)
        else:
            self._ordinals[interest.key] = self._next_ordinal
            self._next_ordinal += 1
        self._interests[interest.key] = interest
        if interest.filter:
            self._filtered.add(interest.key)
        for selector in interest.selectors:
            self._shelf(selector.pattern).add(interest, selector.options)
        self._routes.clear()

    def remove(self, key: K) -> None:
        """Forgets an interest; a key that is not there is none the worse for it."""
        interest = self._interests.pop(key, None)
        if interest is None:
            return
        self._unshelve(interest)
        del self._ordinals[key]
        self._routes.clear()

    @property
    def has_filters(self) -> bool:
        """Whether any interest has a filter."""
        return bool(self._filtered)

    def match(
        self, type_text: str, subscriber: str | None, options: Options, passes: Callable[[K], bool] | None = None
    ) -> Sequence[K]:
        """Returns the keys of all interests that accept an event, each once.

        `type_text` is the canonical text of its type, `subscriber` None if it is for everyone. `passes` says whether the
        event passes the filter of an interest that accepts it but for that; without it, it passes all. The order is
        stable: first the keys that want no options, then those that do, each in the order in which they were first put.
        The result is not changed by later calls.

        Raises `Invalid` / `MALFORMED_URI` if `type_text` is no event URI.
        """
        route = self._routes.get((type_text, subscriber))
        if route is None:
            route = self._resolve(type_text, subscriber)
            self._routes.remember((type_text, subscriber), route)
        keys: Sequence[K] = route.keys
        if route.is_filtered and passes is not None:
            keys = [key for key in keys if key not in self._filtered or passes(key)]
        if not options or not route.conditions:
            return keys
        given = dict(options)
        found: dict[K, None] = {}
        for condition in route.conditions:
            condition.find(given, found)
        # Not `found.keys() - route.unconditional`, which would walk through all of the latter.
        further = [key for key in found if key not in route.unconditional]
        if passes is not None:
            further = [key for key in further if key not in self._filtered or passes(key)]
        if len(further) > 1:
            further.sort(key=self._ordinals.__getitem__)
        return (*keys, *further) if further else keys

    def _shelf(self, pattern: TypePattern) -> _Shelf[K]:
        shelves = self._literals if pattern.is_literal else self._wildcards.setdefault(pattern.domain, {})
        shelf = shelves.get(pattern.text)
        if shelf is None:
            shelf = shelves[pattern.text] = _Shelf(pattern)
            self._shelves_by_type.clear()
        return shelf

    def _unshelve(self, interest: Interest[K]) -> None:
        self._filtered.discard(interest.key)
        for selector in dict.fromkeys(interest.selectors):
            shelf = self._shelf(selector.pattern)
            shelf.discard(interest, selector.options)
            if not shelf.keys:
                self._drop(selector.pattern)

    def _drop(self, pattern: TypePattern) -> None:
        self._shelves_by_type.clear()
        if pattern.is_literal:
            del self._literals[pattern.text]
            return
        shelves = self._wildcards[pattern.domain]
        del shelves[pattern.text]
        if not shelves:
            del self._wildcards[pattern.domain]

    def _shelves(self, type_text: str) -> tuple[_Shelf[K], ...]:
        shelves = self._shelves_by_type.get(type_text)
        if shelves is not None:
            return shelves
        event_type = parse_event_type(type_text)
        literal = self._literals.get(event_type.text)
        wildcards = self._wildcards.get(event_type.domain, {}).values()
        shelves = (
            *(() if literal is None else (literal,)),
            *(shelf for shelf in wildcards if shelf.pattern.matches(event_type)),
        )
        if len(self._shelves_by_type) >= self._remembered_types:
            self._shelves_by_type.clear()
        self._shelves_by_type[type_text] = shelves
        return shelves

    def _resolve(self, type_text: str, subscriber: str | None) -> _Route[K]:
        audiences: tuple[_Audience, ...] = (
            (_Group.EVERYONE,) if subscriber is None else (_Group.ALL_SUBSCRIBERS, subscriber)
        )
        unconditional: set[K] = set()
        conditions: list[_Condition[K]] = []
        for shelf in self._shelves(type_text):
            for audience in audiences:
                for names, keys_by_values in shelf.keys.get(audience, {}).items():
                    if names:
                        conditions.append(_Condition(names, keys_by_values))
                    else:
                        unconditional.update(keys_by_values[()])
        keys = tuple(sorted(unconditional, key=self._ordinals.__getitem__))
        return _Route(
            keys,
            frozenset(unconditional) if conditions else frozenset(),
            tuple(conditions),
            is_filtered=not self._filtered.isdisjoint(keys),
        )


@unique
class _Group(Enum):
    """Audiences of events, or of interests, that are not one subscriber."""

    EVERYONE = "everyone"
    """An event for everyone reaches every interest, so every interest is shelved here."""
    ALL_SUBSCRIBERS = "all_subscribers"
    """Interests that an event for any one subscriber reaches."""


_Audience = str | _Group
_Values = str | tuple[str | None, ...] | None
"""The values of some options, in the order of their names; of one option the value alone, which is found the fastest."""


@dataclass(slots=True)
class _Shelf(Generic[K]):
    """The interests in one pattern.

    `keys` lie by audience, by the names of the options they want, and by the values; of a dict's items only the keys are
    used, for their order. No dict is empty.
    """

    pattern: TypePattern
    keys: dict[_Audience, dict[tuple[str, ...], dict[_Values, dict[K, None]]]] = field(default_factory=dict)

    def add(self, interest: Interest[K], options: Options) -> None:
        for audience in _audiences_of(interest):
            by_values = self.keys.setdefault(audience, {}).setdefault(_names(options), {})
            by_values.setdefault(_values(options), {})[interest.key] = None

    def discard(self, interest: Interest[K], options: Options) -> None:
        names, values = _names(options), _values(options)
        for audience in _audiences_of(interest):
            by_names = self.keys.get(audience, {})
            by_values = by_names.get(names, {})
            keys = by_values.get(values)
            if keys is None:
                continue
            keys.pop(interest.key, None)
            if not keys:
                del by_values[values]
            if not by_values:
                del by_names[names]
            if not by_names:
                del self.keys[audience]


@dataclass(frozen=True, slots=True)
class _Condition(Generic[K]):
    """Somebody on a shelf, for an audience, wants values of exactly these options."""

    names: tuple[str, ...]
    keys: Mapping[_Values, Mapping[K, None]]

    def find(self, given: Mapping[str, str], found: dict[K, None]) -> None:
        """Adds the keys whose wanted values are the given ones."""
        values = tuple(map(given.get, self.names))
        # Where a value is missing there is a None, and nothing lies under that.
        keys = self.keys.get(values[0] if len(values) == 1 else values)
        if keys is not None:
            found.update(keys)


@dataclass(frozen=True, slots=True)
class _Route(Generic[K]):
    """What can be said of an event by its type and audience alone.

    `unconditional` is the set of `keys`, kept only where there are `conditions` to subtract it from. `is_filtered` says
    whether any of `keys` has a filter.
    """

    keys: tuple[K, ...]
    unconditional: frozenset[K]
    conditions: tuple[_Condition[K], ...]
    is_filtered: bool

    @property
    def weight(self) -> int:
        return 1 + len(self.keys) + len(self.unconditional) + len(self.conditions)


_Place = tuple[str, str | None]
"""Where a route is remembered: event type and subscriber."""


class _Routes(Generic[K]):
    """Remembers routes, in two generations of bounded weight."""

    def __init__(self, bound: int) -> None:
        self._bound: Final = bound
        self._young: dict[_Place, _Route[K]] = {}
        self._old: dict[_Place, _Route[K]] = {}
        self._weight = 0

    def get(self, place: _Place) -> _Route[K] | None:
        route = self._young.get(place)
        if route is None and self._old:
            route = self._old.pop(place, None)
            if route is not None:
                self.remember(place, route)
        return route

    def remember(self, place: _Place, route: _Route[K]) -> None:
        if self._weight + route.weight > self._bound:
            self._young, self._old, self._weight = {}, self._young, 0
        self._young[place] = route
        self._weight += route.weight

    def clear(self) -> None:
        # Fresh dicts, and only if there is something to forget: ten thousand puts in a row must cost nothing here.
        if self._young or self._old:
            self._young, self._old, self._weight = {}, {}, 0


def _audiences_of(interest: Interest[K]) -> tuple[_Audience, ...]:
    return _Group.EVERYONE, (_Group.ALL_SUBSCRIBERS if interest.all_subscribers else interest.subscriber)


def _names(options: Options) -> tuple[str, ...]:
    return tuple(name for name, _ in options)


def _values(options: Options) -> _Values:
    return options[0][1] if len(options) == 1 else tuple(value for _, value in options)
