"""How a foreign webhook becomes an event: where in it the event's parts stand, and which event type its name means.

A mapping is data: that of a provider of the community catalogue stands in its `provider.toml`, that of a `custom` source
in the source itself. Every value is sound: making one that could map nothing raises `Invalid` / `FIELD_INVALID`, with the
name of the field here, such as `type`. `mapped_webhook.py` applies them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.uris import parse_event_type
from certes_broker.domain.webhook_headers import is_credential, parse_header_name

MAXIMUM_MAPPED_TYPES: Final = 1000
MAXIMUM_SUBJECTS: Final = 16
MAXIMUM_PATH_KEYS: Final = 16
MAXIMUM_KEY_LENGTH: Final = 256
EVENT_PLACEHOLDER: Final = "{event}"
Path: TypeAlias = tuple[str, ...]
"""Keys, from the outermost object inwards."""


@dataclass(frozen=True, slots=True)
class HeaderPlace:
    """The value of a header; the name is lower-case, and no credential's."""

    header: str

    def __post_init__(self) -> None:
        if parse_header_name(self.header) != self.header:
            raise Invalid.field(Reason.FIELD_INVALID, "header", f"{self.header!r} is not in lower case")
        if is_credential(self.header):
            raise Invalid.field(Reason.FIELD_INVALID, "header", f"{self.header} is a credential, which is never kept")


@dataclass(frozen=True, slots=True)
class PathPlace:
    """The value of a string or number in the JSON body, at these keys."""

    path: Path

    def __post_init__(self) -> None:
        if not 1 <= len(self.path) <= MAXIMUM_PATH_KEYS:
            raise Invalid.field(
                Reason.FIELD_INVALID, "path", f"has {len(self.path)} keys; 1 to {MAXIMUM_PATH_KEYS} are allowed"
            )
        if not all(1 <= len(key) <= MAXIMUM_KEY_LENGTH for key in self.path):
            raise Invalid.field(
                Reason.FIELD_INVALID, "path", f"has a key that is empty or longer than {MAXIMUM_KEY_LENGTH} characters"
            )

    @property
    def text(self) -> str:
        """The spelling in settings, such as `data.object.id`."""
        return ".".join(self.path)


Place = HeaderPlace | PathPlace
"""Where in a webhook something stands."""


@dataclass(frozen=True, slots=True)
class WebhookMapping:
    """Maps webhooks to events. None of a place means that the webhooks do not say it.

    `type` is the event URI, with `{event}` for the name of the event (see `event_segment`); `types` are event URIs of
    single event names, which come first, by name. What stands at `id` and `time` must be the same when the provider tries
    again: a webhook whose time is that of the attempt would be another event under the same id.
    """

    type: str
    event: Place | None = None
    id: Place | None = None
    time: Place | None = None
    subjects: tuple[Place, ...] = ()
    subscriber: Place | None = None
    types: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _check_type("type", self.type.replace(EVENT_PLACEHOLDER, "event"), self.type)
        if self.event is None and (EVENT_PLACEHOLDER in self.type or self.types):
            raise Invalid.field(
                Reason.FIELD_REQUIRED,
                "event",
                f"is missing: {'types' if self.types else 'type'} needs to know the name of the event",
            )
        if len(self.types) > MAXIMUM_MAPPED_TYPES:
            raise Invalid.field(
                Reason.FIELD_INVALID, "types", f"has {len(self.types)} entries; {MAXIMUM_MAPPED_TYPES} are allowed"
            )
        for event, text in self.types:
            _check_type(f"types[{event!r}]", text, text)
        if len(self.subjects) > MAXIMUM_SUBJECTS:
            raise Invalid.field(
                Reason.FIELD_INVALID, "subjects", f"has {len(self.subjects)} places; {MAXIMUM_SUBJECTS} are allowed"
            )

    @property
    def places(self) -> Iterator[Place]:
        """All places, in no particular order."""
        return (place for place in (self.event, self.id, self.time, self.subscriber, *self.subjects) if place)

    @property
    def headers(self) -> frozenset[str]:
        """The headers that the mapping reads, by their lower-case names."""
        return frozenset(place.header for place in self.places if isinstance(place, HeaderPlace))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths of the body that the mapping reads, each once."""
        return tuple(dict.fromkeys(place.path for place in self.places if isinstance(place, PathPlace)))


@dataclass(frozen=True, slots=True)
class Challenge:
    """A request by which a provider proves that the receiver is there: it is answered, and is no event.

    A request is one if `field` of its JSON body is `value`; the answer is the text of `answer`, as `text/plain`.
    """

    field: str
    value: str
    answer: str

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths of the body that `answer_to` needs to know."""
        return (self.field,), (self.answer,)

    def answer_to(self, values: Mapping[Path, object]) -> str | None:
        """Returns the text to answer; None if what stands at the paths is no challenge."""
        if values.get((self.field,)) != self.value:
            return None
        answer = values.get((self.answer,))
        return answer if isinstance(answer, str) else ""


def parse_path(text: str) -> PathPlace:
    """Reads `data.object.id`. Raises `Invalid` / `FIELD_INVALID` for `path`."""
    return PathPlace(tuple(text.split(".")))


def event_segment(event: str) -> str:
    """Returns an event's name as the last segment of an event URI: lower case, and `_` for what cannot stand there."""
    return _NO_SEGMENT.sub("_", event.lower())


def event_type_of(mapping: WebhookMapping, types: Mapping[str, str], event: str) -> str:
    """Returns the text of the event type that an event's name means; `types` is `dict(mapping.types)`."""
    return types.get(event) or mapping.type.replace(EVENT_PLACEHOLDER, event_segment(event))


_NO_SEGMENT: Final = re.compile(r"[^a-z0-9_]")


def _check_type(field: str, text: str, shown: str) -> None:
    try:
        event_type = parse_event_type(text)
    except Invalid as error:
        raise Invalid.field(Reason.FIELD_INVALID, field, f"{shown[:200]!r} is no event URI: {error.message}") from error
    if event_type.is_system:
        raise Invalid.field(Reason.FIELD_INVALID, field, f"{shown[:200]!r} is a system event, sent by the broker alone")
