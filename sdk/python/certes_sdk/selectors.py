"""What an application subscribes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from certes.v1.subscription_pb2 import Selector
from certes_sdk.errors import invalid_field
from certes_sdk.uris import parse_pattern


@runtime_checkable
class EventOptions(Protocol):
    """Options of a provider, as `certes_contrib` has them."""

    def event_options(self) -> Mapping[str, object]:
        """Returns the options by name."""


Options = EventOptions | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class EventSelector:
    """Selects events by a pattern, and by options that their schema declares. Made by `event`."""

    pattern: str
    options: tuple[tuple[str, str], ...] = ()


def event(pattern: str, options: Options | None = None) -> EventSelector:
    """Makes a selector: an event URI, in which `*` stands for a segment and a last `**` for one or more.

    Options that are None or empty are left out; booleans are `true` and `false`, integers decimal. Raises `MALFORMED_PATTERN`,
    `UNMATCHABLE_PATTERN`, and `FIELD_INVALID` for an option that is neither text, boolean nor integer.
    """
    if options is None:
        given: Mapping[str, object] = {}
    elif isinstance(options, Mapping):
        given = options
    elif isinstance(options, EventOptions):
        given = options.event_options()
    else:
        raise invalid_field("options", f"{options!r} is neither a mapping nor has it a method event_options")
    spelled = {name: text for name, value in given.items() if (text := _spell(name, value))}
    return EventSelector(parse_pattern(pattern).text, tuple(sorted(spelled.items())))


def selectors_of(events: Iterable[EventSelector | str]) -> list[Selector]:
    """Returns selectors as the contract has them, each once. A text is a pattern without options."""
    unique = dict.fromkeys(event(one) if isinstance(one, str) else one for one in events)
    return [Selector(pattern=one.pattern, options=dict(one.options)) for one in unique]


def _spell(name: str, value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | str():
            return str(value)
        case _:
            raise invalid_field(f"options.{name}", f"{value!r} is neither text, boolean nor integer")
