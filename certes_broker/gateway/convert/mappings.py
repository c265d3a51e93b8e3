"""Mappings of sources to and from messages."""

from __future__ import annotations

from typing import Final, assert_never

from certes.v1 import source_pb2 as pb
from certes_broker.domain.webhook_headers import parse_header_name
from certes_broker.domain.webhook_mapping import (
    EVENT_PLACEHOLDER,
    MAXIMUM_KEY_LENGTH,
    HeaderPlace,
    PathPlace,
    Place,
    WebhookMapping,
    parse_path,
)
from certes_broker.gateway.faults import Faults


def read_mapping(faults: Faults, path: str, message: pb.Mapping) -> WebhookMapping | None:
    """Returns the mapping of a message; None, and a fault, if it could map nothing."""
    event, identifier, time, subscriber = (
        _read_place(faults, f"{path}.{field}", getattr(message, field)) if message.HasField(field) else None
        for field in ("event", "id", "time", "subscriber")
    )
    subjects = [_read_place(faults, f"{path}.subjects[{index}]", place) for index, place in enumerate(message.subjects)]
    for name in message.types:
        if not 1 <= len(name) <= MAXIMUM_KEY_LENGTH:
            faults.invalid(f"{path}.types", f"has a name that is empty or longer than {MAXIMUM_KEY_LENGTH} characters")
    if not message.type:
        faults.required(f"{path}.type", f"is required, such as events.example.com/shop/1/{EVENT_PLACEHOLDER}")
        return None
    if message.HasField("event") and event is None:
        event = _STAND_IN
    with faults.within(path):
        return WebhookMapping(
            message.type,
            event,
            identifier,
            time,
            tuple(place for place in subjects if place is not None),
            subscriber,
            tuple(sorted(message.types.items())),
        )
    return None


def mapping_message(mapping: WebhookMapping) -> pb.Mapping:
    """Returns the message of a mapping."""
    return pb.Mapping(
        event=_place_message(mapping.event),
        id=_place_message(mapping.id),
        time=_place_message(mapping.time),
        subjects=[message for place in mapping.subjects if (message := _place_message(place))],
        subscriber=_place_message(mapping.subscriber),
        type=mapping.type,
        types=dict(mapping.types),
    )


_STAND_IN: Final = HeaderPlace("x-none")
"""Stands in for a place that is none, until the faults are raised."""


def _read_place(faults: Faults, path: str, message: pb.Place) -> Place | None:
    kind = message.WhichOneof("in")
    match kind:
        case "header":
            with faults.within(path):
                return HeaderPlace(parse_header_name(message.header))
        case "path":
            with faults.within(path):
                return parse_path(message.path)
        case None:
            faults.required(path, "needs one of header and path")
        case _:
            assert_never(kind)
    return None


def _place_message(place: Place | None) -> pb.Place | None:
    match place:
        case HeaderPlace(header):
            return pb.Place(header=header)
        case PathPlace():
            return pb.Place(path=place.text)
        case None:
            return None
        case _:
            assert_never(place)
