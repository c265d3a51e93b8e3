"""Filters: the CEL expressions of subscriptions, compiled when they are needed and evaluated within a budget.

Theory of operation
-------------------
A filter is a text. What it means depends on the event type, for `data` is that type's message; so it is compiled once for
each event type that it meets, in the environment of that type's schema. Environments are kept by schema, weakly: a schema
whose version is replaced takes its environment, its programs and with them the descriptor pool away, and filters are compiled
anew for the next revision when its first event comes.

An event is read once, and a filter's answer for it is remembered, so that a thousand subscriptions with the same filter cost
one evaluation. What an evaluation costs is known before it begins (see `prices`); one that costs too much does not begin.

A filter that cannot be evaluated does not match. Why is returned, for whoever counts and logs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Final
from weakref import WeakKeyDictionary

from certes_broker.domain.errors import Invalid
from certes_broker.domain.uris import EventType, TypePattern
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.filters.environments import Environment
from certes_broker.schemas.filters.evaluation import Compiled, FilteredEvent
from certes_broker.schemas.registry import Registry


class Filters:
    """Compiles and checks filters, for the event types of a registry."""

    def __init__(self, registry: Registry, *, environments: int = 128, programs: int = 16_384) -> None:
        """Bounds what is kept: an environment takes about a quarter of a megabyte, the program of a small filter 5 KB."""
        self._registry = registry
        self._untyped = Compiled(Environment(None))
        self._compiled: WeakKeyDictionary[EventSchema, Compiled] = WeakKeyDictionary()
        self._environments = environments
        self._programs = programs
        self._uses = count()

    def event(self, type_text: str, body: bytes) -> FilteredEvent:
        """Returns an event for filters to be asked about. `body` is its wire form, which is read when it is needed."""
        return FilteredEvent(type_text, body, self._find)

    async def check(self, text: str, patterns: Iterable[TypePattern]) -> None:
        """Refuses a filter that could never match.

        It must fit every event type that a pattern spells, and one at least of those that a pattern with wildcards matches.
        Where a pattern matches none that is registered, `data` may be anything. Others may run in between, as there may be
        many event types.

        Raises `Invalid` / `FILTER_INVALID`.
        """
        fields = self._untyped.environment.compile(text).data.fields
        judged: dict[EventType, Invalid | None] = {}
        for pattern in dict.fromkeys(patterns):
            types = list(self._registry.matching(pattern))
            if types and not await self._fits_one(text, fields, types, judged):
                problem = _nearest_problem(types, judged)
                raise problem if pattern.is_literal else _fits_none(problem, pattern, len(types))

    async def _fits_one(
        self, text: str, fields: frozenset[str], types: Sequence[EventType], judged: dict[EventType, Invalid | None]
    ) -> bool:
        """Says whether a filter fits one of several event types; notes why not in `judged`, where it finds it again."""
        nearest, fewest = types[0], len(fields) + 1
        for event_type in types:
            if event_type not in judged:
                # Building what is asked for takes a millisecond, and there may be a thousand event types.
                await asyncio.sleep(0)
                schema = self._registry.lookup(event_type.text)
                missing = len(fields.difference(schema.descriptor.fields_by_name))
                if missing < fewest:
                    nearest, fewest = event_type, missing
                if missing:
                    # What has not even the fields cannot fit.
                    continue
                judged[event_type] = self._problem(text, schema)
            if judged[event_type] is None:
                return True
        if any(event_type in judged for event_type in types):
            return False
        judged[nearest] = self._problem(text, self._registry.lookup(nearest.text))
        return judged[nearest] is None

    def _problem(self, text: str, schema: EventSchema) -> Invalid | None:
        """Returns why a filter does not fit an event type; None if it does, and then it is ready for the first event."""
        compiled = self._compiled.get(schema) or Compiled(Environment(schema))
        try:
            compiled.programs[text] = compiled.environment.compile(text)
        except Invalid as error:
            return error
        self._keep(schema, compiled)
        return None

    def _find(self, type_text: str) -> tuple[EventSchema | None, Compiled]:
        try:
            schema = self._registry.lookup(type_text)
        except Invalid:
            return None, self._untyped
        compiled = self._compiled.get(schema) or Compiled(Environment(schema))
        self._keep(schema, compiled)
        return schema, compiled

    def _keep(self, schema: EventSchema, compiled: Compiled) -> None:
        self._compiled[schema] = compiled
        compiled.used = next(self._uses)
        if not compiled.used % _UNBOUNDED_USES:
            self._forget_some()

    def _forget_some(self) -> None:
        """Forgets what was not used for longest until what is kept is within bounds."""
        if len(self._untyped.programs) > self._programs:
            self._untyped.programs.clear()
        programs = sum(len(compiled.programs) for compiled in self._compiled.values())
        for schema, compiled in sorted(self._compiled.items(), key=lambda item: item[1].used):
            if len(self._compiled) <= self._environments and programs <= self._programs:
                return
            programs -= len(compiled.programs)
            del self._compiled[schema]


_UNBOUNDED_USES: Final = 32
"""After how many uses, bounds are looked at."""


def _nearest_problem(types: Sequence[EventType], judged: Mapping[EventType, Invalid | None]) -> Invalid:
    """Returns why a filter does not fit event types, of which it fits none: the first that could be said."""
    return next(problem for event_type in types if (problem := judged.get(event_type)) is not None)


def _fits_none(nearest: Invalid, pattern: TypePattern, types: int) -> Invalid:
    """Returns the refusal of a filter that fits none of the event types that a pattern matches."""
    which = "the only event type" if types == 1 else f"any of the {types} event types"
    return Invalid(
        nearest.reason,
        f"the filter does not fit {which} that {pattern} matches; {nearest.message}",
        metadata={**nearest.metadata, "pattern": pattern.text},
    )
