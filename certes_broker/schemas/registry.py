"""All event types that the broker knows, and what their schemas say about selectors.

Theory of operation
-------------------
What is registered is a version; what is asked for is the schema of an event type, once per event. So a schema that was
found is kept under the text that it was asked by, whatever its spelling, and finding it again is one look-up. Everything
kept so is forgotten when a version is put: whoever asks for a schema and does not hold on to it has the newest one.
"""

from __future__ import annotations

import gc
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.schemas import VersionName
from certes_broker.domain.uris import EventType, TypePattern, parse_event_type
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.system_types import (
    OPERATIONAL_EVENTS,
    SCHEMA_EVENTS,
    SystemTypes,
    operational_version,
)


class Registry:
    """Finds schemas by event type. Versions of schemas may be put into it at any time."""

    def __init__(self, versions: Iterable[SchemaVersion] = ()) -> None:
        self._versions: dict[VersionName, SchemaVersion] = {}
        self._system_types = SystemTypes()
        self._system: dict[VersionName, SchemaVersion] = {}
        self._operational: SchemaVersion | None = None
        self._types: dict[str, EventType] = {}
        self._texts: list[str] = []
        """The keys of `_types`, sorted."""
        self._found: dict[str, EventSchema] = {}
        """Schemas by the spellings that were asked for; bounded, because anything can be asked for."""
        self._matching: dict[str, Sequence[EventSchema]] = {}
        """The schemas that patterns matched; bounded."""
        self._replaced_bytes = 0
        self.changes = 0
        """How often a version was put. What was made of a schema while it was lower may be of an older revision."""
        for version in versions:
            self.put(version)

    # Versions.

    def put(self, version: SchemaVersion) -> None:
        """Adds a version, or lets it take the place of the revision before.

        The pool of the one before is freed as soon as nobody uses its messages and cycles have been collected, which this
        does itself whenever enough has been replaced.
        """
        before = self._versions.get(version.name)
        self._versions[version.name] = version
        if before is not None:
            for event_type in before.event_types:
                del self._types[event_type.text]
        self._types.update((event_type.text, event_type) for event_type in version.event_types)
        self._texts = sorted(self._types)
        self._found.clear()
        self._matching.clear()
        self.changes += 1
        if before is not None and before.is_linked:
            self._replaced_bytes += sum(map(len, before.files.files))
            del before
            if self._replaced_bytes >= _COLLECTED_AFTER:
                self._replaced_bytes = 0
                gc.collect()

    def add_operational_events(self, domain: str) -> None:
        """Adds the operational events of the broker whose own domain this is."""
        self._operational = SystemTypes(OPERATIONAL_EVENTS).of(operational_version(domain))
        self._found.clear()
        self._matching.clear()
        self.changes += 1

    def version(self, name: VersionName) -> SchemaVersion | None:
        """Returns a version; None if it is not known."""
        return self._versions.get(name)

    def versions(self) -> Sequence[SchemaVersion]:
        """Returns every version, by name."""
        return [self._versions[name] for name in sorted(self._versions)]

    def version_of(self, event_type: EventType) -> SchemaVersion | None:
        """Returns the version that an event type belongs to, which for system events is one of the broker's own.

        None if the version is not known; whether it has the event type is not asked.
        """
        name = VersionName(event_type.domain, event_type.namespace, event_type.version)
        operational = self._operational
        if operational is not None and operational.name == name and event_type.name in OPERATIONAL_EVENTS:
            return operational
        version = self._versions.get(name)
        if version is None or not event_type.is_system:
            return version
        system = self._system.get(name)
        if system is None:
            system = self._system[name] = self._system_types.of(name)
        return system

    def domains(self) -> Sequence[str]:
        """Returns every domain that has a version, sorted."""
        return sorted({name.domain for name in self._versions})

    # Event types.

    def lookup(self, type_text: str) -> EventSchema:
        """Returns the schema of an event type, in its newest revision.

        Raises `Invalid`: `MALFORMED_URI` if the text is no event URI, `UNKNOWN_EVENT_TYPE` if nothing is registered
        under it; the hint has the nearest event types that are.
        """
        return self._found.get(type_text) or self._find(type_text)

    def types(self) -> Sequence[EventType]:
        """Returns every event type but for system events, in the order of their texts."""
        return [self._types[text] for text in self._texts]

    def matching(self, pattern: TypePattern) -> Iterator[EventType]:
        """Yields the event types that a pattern matches, system events too where it spells their name, in order."""
        if pattern.text.endswith(_SYSTEM_NAMES):
            yield from filter(pattern.matches, self._system_events(pattern.text.rpartition("/")[2]))
            return
        # All that match begin with what stands before the first wildcard.
        head = pattern.text.partition("*")[0]
        texts = self._texts
        start = bisect_left(texts, head)
        for index in range(start, len(texts)):
            text = texts[index]
            if not text.startswith(head):
                return
            event_type = self._types[text]
            if pattern.matches(event_type):
                yield event_type

    def check_selector(self, pattern: TypePattern, options: Mapping[str, str]) -> None:
        """Refuses a selector that would stay silent for ever because of its options.

        A pattern without options always passes, also one that matches no event type yet, even if it spells a type of
        the community catalogue: an application may be ahead of the broker by a release, and must not fail to start
        because of it. Options are another matter: nothing is known about the options of a type that is not there.

        Raises `Invalid`: `UNKNOWN_OPTION` where no event type that the pattern matches declares all the options given,
        `FIELD_INVALID` where none that does can have those values.
        """
        if not options:
            return
        matching = self._schemas_matching(pattern)
        declaring = [schema for schema in matching if set(options) <= set(schema.options)]
        problems: dict[str, str] = {}
        for schema in declaring:
            found = {
                name: problem for name, value in options.items() if (problem := schema.option_problem(name, value))
            }
            if not found:
                return
            problems = problems or found
        if problems:
            raise _no_such_value(pattern, problems)
        known = sorted({name for schema in matching for name in schema.options})
        unknown = [name for name in options if name not in known]
        if not matching:
            problem, hint = "no event type is registered that it matches", "Register the schema first."
        elif unknown:
            problem = f"no event type that it matches declares {' or '.join(map(repr, unknown))}"
            hint = f"Known options: {', '.join(known)}." if known else "It takes no options."
        else:
            problem = "no single event type that it matches declares all of them"
            hint = "Use a selector for each."
        raise Invalid(
            Reason.UNKNOWN_OPTION,
            f"options of the selector {pattern}: {problem}.",
            metadata={"pattern": pattern.text, "options": ",".join(unknown or options), "known": ",".join(known)},
            hint=hint,
        )

    def _schemas_matching(self, pattern: TypePattern) -> Sequence[EventSchema]:
        """Returns the schemas of `matching`. A subscription may ask a thousand times with one pattern and other options."""
        schemas = self._matching.get(pattern.text)
        if schemas is None:
            if len(self._matching) >= _PATTERNS_REMEMBERED:
                self._matching.clear()
            schemas = [self.lookup(event_type.text) for event_type in self.matching(pattern)]
            self._matching[pattern.text] = schemas
        return schemas

    def _find(self, type_text: str) -> EventSchema:
        event_type = parse_event_type(type_text)
        version = self.version_of(event_type)
        schema = None if version is None else version.schema(event_type.name)
        if schema is None:
            raise self._unknown(event_type)
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        self._found[type_text] = schema
        return schema

    def _system_events(self, name: str) -> Iterator[EventType]:
        if name not in OPERATIONAL_EVENTS:
            return (EventType(*version, name) for version in sorted(self._versions))
        return iter(()) if self._operational is None else iter((EventType(*self._operational.name, name),))

    def _unknown(self, event_type: EventType) -> Invalid:
        near = self._near(event_type.text)
        return Invalid(
            Reason.UNKNOWN_EVENT_TYPE,
            f"no schema is registered for the event type {event_type}.",
            metadata={"type": event_type.text},
            hint=f"Did you mean {' or '.join(near)}?" if near else "Register its schema first.",
        )

    def _near(self, text: str) -> Sequence[str]:
        """Returns known event types that look like a text. Looks at a bounded number: anybody can ask, and ask again."""
        if len(text) > _LONGEST_COMPARED:
            return ()
        place = bisect_left(self._texts, text)
        neighbours = self._texts[max(0, place - _COMPARED) : place + _COMPARED]
        return get_close_matches(text, [one for one in neighbours if len(one) <= _LONGEST_COMPARED], n=3)


_REMEMBERED: Final = 16_384
_PATTERNS_REMEMBERED: Final = 64
_COLLECTED_AFTER: Final = 256 * 1024
"""Bytes of files whose pools were used and replaced. With classes and tables they take up to fifty times as much memory."""
_SYSTEM_NAMES: Final = tuple(f"/{name}" for name in (*SCHEMA_EVENTS, *OPERATIONAL_EVENTS))
_COMPARED: Final = 64
"""Event types on either side."""
_LONGEST_COMPARED: Final = 128


def _no_such_value(pattern: TypePattern, problems: Mapping[str, str]) -> Invalid:
    said = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
    return Invalid(
        Reason.FIELD_INVALID,
        f"options of the selector {pattern}: {said}",
        metadata={"pattern": pattern.text, "options": ",".join(problems)},
    )
