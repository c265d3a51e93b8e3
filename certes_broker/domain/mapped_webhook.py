"""Reads out of a foreign webhook what its mapping says of it: the event's type, id, time, subject and subscriber.

Rules
-----
* What is missing or odd in the headers is a fault of the request (`FIELD_REQUIRED`, `FIELD_INVALID`); in a verified body it
  makes that unmappable (`PAYLOAD_UNMAPPABLE`). Either way the refusal names the place.
* The same webhook always maps to the same values, so that a provider's retry is a duplicate: nothing is made up, and an
  id that the webhooks do not have is made of the body.
* A value is text or a whole number; nothing else is turned into text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple

from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.domain.events import CONTROL_CHARACTERS, ID_BYTES, SUBJECT_BYTES, Micros
from certes_broker.domain.webhook_headers import WebhookHeaders
from certes_broker.domain.webhook_mapping import (
    EVENT_PLACEHOLDER,
    HeaderPlace,
    Path,
    PathPlace,
    Place,
    WebhookMapping,
    event_type_of,
)

DERIVED_ID_PREFIX: Final = "sha256-"


class Webhook(NamedTuple):
    """One request of a provider: its headers, its body, and what stands at paths of the JSON object that the body holds.

    `values` need only have the paths that the mapping reads, those where something stands.
    """

    headers: WebhookHeaders
    body: bytes
    values: Mapping[Path, object]


class MappedWebhook(NamedTuple):
    """What a webhook says of its event.

    `event` is the provider's name for it, empty where there is none; `type` the text of an event URI, which need not be
    registered. `time` and `subscriber` are None, and `subject` empty, where the webhook does not say them.
    """

    event: str
    type: str
    id: str
    time: Micros | None
    subject: str
    subscriber: str | None


def map_webhook(mapping: WebhookMapping, types: Mapping[str, str], webhook: Webhook) -> MappedWebhook:
    """Maps a webhook; `types` is `dict(mapping.types)`.

    Raises `Invalid`: FIELD_REQUIRED for a header that is missing, FIELD_INVALID for one that came more than once or does not
    fit, PAYLOAD_UNMAPPABLE for what is missing or cannot be read in the body, or does not fit.
    """
    event = _text(webhook, mapping.event) if mapping.event else ""
    if mapping.event and not event and EVENT_PLACEHOLDER in mapping.type:
        raise _missing(mapping.event, "the name of the event")
    event_type = event_type_of(mapping, types, event)
    if event_type.rpartition("/")[2].startswith("_"):
        # Only the broker itself sends system events, whatever a webhook is called.
        raise _unmappable(mapping.event, f"no event type can be made of the event's name {event[:100]!r}", event=event)
    return MappedWebhook(
        event=event,
        type=event_type,
        id=_required(webhook, mapping.id, "the id of the delivery") if mapping.id else derived_id(webhook.body),
        time=_time(webhook, mapping.time) if mapping.time else None,
        subject=_subject(webhook, mapping),
        subscriber=_text(webhook, mapping.subscriber) or None if mapping.subscriber else None,
    )


def derived_id(body: bytes) -> str:
    """Returns the id of a webhook that has none: the same for the same body."""
    return DERIVED_ID_PREFIX + sha256(body).hexdigest()


def place_name(place: Place) -> str:
    """Returns how errors call a place: the header's name, or the path in the body."""
    return place.header if isinstance(place, HeaderPlace) else place.text


def read_time(value: object) -> Micros | None:
    """Reads RFC 3339, or seconds since 1970 as a number or the text of one. Digits below a microsecond are dropped.

    Returns None if it is neither, or is not between the years 1970 and 9999: milliseconds are not taken for seconds.
    """
    if isinstance(value, str):
        if _SECONDS.fullmatch(value):
            whole, _, fraction = value.partition(".")
            return _within_years(int(whole) * 1_000_000 + int(fraction[:6].ljust(6, "0")))
        return _read_rfc3339(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST_SECONDS:
        return None
    return _within_years(round(value * 1_000_000))


_LONGEST_NUMBER: Final = 64
"""Bits. To write a longer one takes a time that grows with the square of its length."""
_SECONDS: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,20})?")
_LATEST_SECONDS: Final = 253402300800
_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,20}))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _read_rfc3339(text: str) -> Micros | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    date, clock, fraction, sign, hours, minutes = match.groups()
    leap = clock.endswith(":60")
    try:
        moment = datetime.fromisoformat(f"{date}T{clock[:-2] + '59' if leap else clock}+00:00")
    except ValueError:
        return None
    seconds = (moment - _EPOCH) // timedelta(seconds=1) + leap
    if sign is not None:
        if int(hours) > 23 or int(minutes) > 59:
            return None
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds += offset if sign == "-" else -offset
    return _within_years(seconds * 1_000_000 + int((fraction or "")[:6].ljust(6, "0")))


def _within_years(micros: int) -> Micros | None:
    return Micros(micros) if 0 <= micros < _LATEST_SECONDS * 1_000_000 else None


def _time(webhook: Webhook, place: Place) -> Micros | None:
    value = _value(webhook, place)
    if value is None or value == "":
        return None
    time = read_time(value)
    if time is None:
        raise _unmappable(place, "its time is neither RFC 3339 nor seconds since 1970")
    return time


def _subject(webhook: Webhook, mapping: WebhookMapping) -> str:
    for place in mapping.subjects:
        text = _text(webhook, place)
        if text:
            return _fitting(place, text, SUBJECT_BYTES)
    return ""


def _required(webhook: Webhook, place: Place, what: str) -> str:
    text = _text(webhook, place)
    if not text:
        if isinstance(place, PathPlace) and _value(webhook, place) not in (None, ""):
            raise _unmappable(place, f"{what} is neither a text nor a whole number of at most {_LONGEST_NUMBER} bits")
        raise _missing(place, what)
    return _fitting(place, text, ID_BYTES)


def _fitting(place: Place, text: str, most: int) -> str:
    """Returns a text that an event can have, of at most so many bytes."""
    size = len(text.encode())
    if size > most:
        problem = f"has {size} bytes; the limit is {most}"
    elif CONTROL_CHARACTERS.search(text):
        problem = "holds a control character"
    else:
        return text
    if isinstance(place, HeaderPlace):
        raise Invalid.field(Reason.FIELD_INVALID, place.header, problem)
    raise _unmappable(place, problem)


def _missing(place: Place, what: str) -> Invalid:
    if isinstance(place, HeaderPlace):
        return Invalid.field(Reason.FIELD_REQUIRED, place.header, "the header is missing")
    return _unmappable(place, f"{what} is missing")


def _text(webhook: Webhook, place: Place) -> str:
    """Returns the text at a place; empty if there is none, or no string and no whole number."""
    value = _value(webhook, place)
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _LONGEST_NUMBER
    return str(value) if is_number else ""


def _value(webhook: Webhook, place: Place) -> object:
    if isinstance(place, HeaderPlace):
        if webhook.headers.is_repeated(place.header):
            raise Invalid.field(Reason.FIELD_INVALID, place.header, "the header came more than once")
        return webhook.headers.get(place.header)
    return webhook.values.get(place.path)


def _unmappable(place: Place | None, problem: str, **metadata: str) -> Invalid:
    where = place_name(place) if place else ""
    return Invalid(
        Reason.PAYLOAD_UNMAPPABLE,
        f"the payload cannot be mapped: {f'{where}: ' if where else ''}{problem}.",
        metadata={**({"field": where} if where else {}), **{key: value[:100] for key, value in metadata.items()}},
        violations=(FieldViolation(where, problem),) if where else (),
        hint="The mapping of the source says where it stands in a webhook.",
    )
