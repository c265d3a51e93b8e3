"""All event types that the broker knows, and what their schemas say about selectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from certes_broker.domain.errors import Internal, Invalid, Reason
from certes_broker.domain.uris import EventType, TypePattern, parse_event_type
from certes_broker.schemas.event_schema import EventSchema


class Registry:
    """Finds schemas by event type. It takes schemas of any descriptor pool, and does not change once it is made."""

    def __init__(self, schemas: Iterable[EventSchema]) -> None:
        """Raises `Internal` if two schemas claim one event type."""
        self._schemas: dict[str, EventSchema] = {}
        for schema in schemas:
            other = self._schemas.setdefault(schema.type.text, schema)
            if other is not schema:
                raise Internal(
                    Reason.INTERNAL,
                    f"{other.message_name} and {schema.message_name} are both the schema of {schema.type}",
                )

    def lookup(self, type_text: str) -> EventSchema:
        """Returns the schema of an event type.

        Raises `Invalid`: `MALFORMED_URI` if the text is no event URI, `UNKNOWN_EVENT_TYPE` if nothing is registered
        under it; the hint has the nearest event types that are.
        """
        schema = self._schemas.get(type_text)
        if schema is None:
            # The spelling may differ from the canonical one, in the case of the domain.
            event_type = parse_event_type(type_text)
            schema = self._schemas.get(event_type.text)
            if schema is None:
                raise self._unknown(event_type)
        return schema

    def types(self) -> Sequence[EventType]:
        """Returns every event type, in the order of their texts."""
        return [self._schemas[text].type for text in sorted(self._schemas)]

    def check_selector(self, pattern: TypePattern, options: Mapping[str, str]) -> None:
        """Refuses a selector that would stay silent for ever because of its options.

        A pattern without options always passes, also one that matches no event type yet, even if it spells a type of
        the community catalogue: an application may be ahead of the broker by a release, and must not fail to start
        because of it. Options are another matter: nothing is known about the options of a type that is not there.

        Raises `Invalid` / `UNKNOWN_OPTION` where no event type that the pattern matches declares all the options given.
        """
        if not options:
            return
        matching = [schema for schema in self._schemas.values() if pattern.matches(schema.type)]
        if any(set(options) <= set(schema.options) for schema in matching):
            return
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

    def _unknown(self, event_type: EventType) -> Invalid:
        near = get_close_matches(event_type.text, self._schemas, n=3)
        return Invalid(
            Reason.UNKNOWN_EVENT_TYPE,
            f"no schema is registered for the event type {event_type}.",
            metadata={"type": event_type.text},
            hint=f"Did you mean {' or '.join(near)}?" if near else "Register its schema first.",
        )
