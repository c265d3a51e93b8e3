"""How a foreign webhook becomes an event: where in it the event's parts stand, and which event type its name means.

A mapping is data: that of a provider of the community catalogue stands in its `provider.toml`, that of a `custom` source
in the source itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAXIMUM_MAPPED_TYPES: Final = 1000


@dataclass(frozen=True, slots=True)
class HeaderPlace:
    """The value of a header; the name is lower-case."""

    header: str


@dataclass(frozen=True, slots=True)
class PathPlace:
    """The value of a string or integer in the JSON body, at these keys."""

    path: tuple[str, ...]


Place = HeaderPlace | PathPlace
"""Where in a webhook something stands."""


@dataclass(frozen=True, slots=True)
class WebhookMapping:
    """Maps webhooks to events. None of a place means that the webhooks do not say it.

    `type` is the event URI, with `{event}` for the name of the event (see `event_segment`); `types` are event URIs of
    single event names, which come first, by name.
    """

    type: str
    event: Place | None = None
    id: Place | None = None
    time: Place | None = None
    subjects: tuple[Place, ...] = ()
    subscriber: Place | None = None
    types: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Challenge:
    """A request by which a provider proves that the receiver is there: it is answered, and is no event.

    A request is one if `field` of its JSON body is `value`; the answer is the text of `answer`, as `text/plain`.
    """

    field: str
    value: str
    answer: str


def event_segment(event: str) -> str:
    """Returns an event's name as the last segment of an event URI: lower case, and `_` for what cannot stand there."""
    return _NO_SEGMENT.sub("_", event.lower())


def event_type_of(mapping: WebhookMapping, types: Mapping[str, str], event: str) -> str:
    """Returns the text of the event type that an event's name means; `types` is `dict(mapping.types)`."""
    return types.get(event) or mapping.type.replace("{event}", event_segment(event))


_NO_SEGMENT: Final = re.compile(r"[^a-z0-9_]")
