"""An event as a handler gets it: decoded as far as it is asked for."""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar, cast

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from certes.v1.delivery_pb2 import Delivery
from certes.v1.event_pb2 import Event
from certes_sdk.errors import CertesError, invalid

M = TypeVar("M", bound=Message)

PROTOBUF_TYPE: Final = "application/protobuf"
"""The media type of content that came as protobuf."""

NO_JSON: Final = object()
"""Stands where an event did not come as JSON, for JSON may be null."""


class MessageTypes(Protocol):
    """Knows the event types of messages."""

    def named(self, message: type[Message]) -> tuple[str, str]:
        """Returns the event URI of a message, and the `type_url` of its data. Raises `NOT_AN_EVENT_TYPE`."""


class RawEvent:
    """One event on its way to a handler.

    It keeps the batch that it came in: take out of it what is to be kept for long.
    """

    __slots__ = ("_delivery", "_document", "_event", "_types")

    def __init__(self, delivery: Delivery, event: Event, types: MessageTypes, document: object = NO_JSON) -> None:
        """`document` is the data as JSON, of an event that came as such; the event has no content then."""
        self._delivery = delivery
        self._event = event
        self._types = types
        self._document = document

    @property
    def id(self) -> str:
        """The id that its sender gave it: the same at every delivery, so what was done before can be told by source and id."""
        return self._event.id

    @property
    def type(self) -> str:
        """Its event URI, such as `community.certes.dev/github/1/push`."""
        return self._event.type

    @property
    def source(self) -> str:
        """Who sent it, as a URI reference."""
        return self._event.source

    @property
    def subject(self) -> str:
        """What it is about within its source; empty for nothing in particular."""
        return self._event.subject

    @property
    def time(self) -> datetime | None:
        """When what it reports happened, in UTC."""
        return _datetime(self._event.time) if self._event.HasField("time") else None

    @property
    def subscriber(self) -> str:
        """The one subscriber that it is for; empty if it is for everyone."""
        return self._event.subscriber

    @property
    def everyone(self) -> bool:
        """Whether it is for every subscriber."""
        return self._event.everyone

    @property
    def ordering_key(self) -> str:
        """Events of one key come one after another; empty where no order is promised."""
        return self._event.ordering_key

    @property
    def attributes(self) -> Mapping[str, str]:
        """Further attributes."""
        return dict(self._event.attributes)

    @property
    def traceparent(self) -> str:
        """W3C trace context of its sender; empty if there is none."""
        return self._event.traceparent

    @property
    def tracestate(self) -> str:
        """W3C trace state that belongs to `traceparent`."""
        return self._event.tracestate

    @property
    def name(self) -> str:
        """Its name in the broker, `events/…`; empty where a webhook does not say it."""
        return self._delivery.name

    @property
    def attempt(self) -> int:
        """Counts the attempts at this delivery from 1; 0 for a webhook, which does not say it."""
        return self._delivery.attempt

    @property
    def accept_time(self) -> datetime | None:
        """When the broker accepted it, in UTC; None for a webhook."""
        return _datetime(self._delivery.accept_time) if self._delivery.HasField("accept_time") else None

    @property
    def content_type(self) -> str:
        """The media type of `content`."""
        if self._document is not NO_JSON:
            return "application/json"
        return self._event.raw.content_type if self._event.HasField("raw") else PROTOBUF_TYPE

    @property
    def content(self) -> bytes:
        """Its data as bytes: a protobuf message, JSON, or whatever an event without a schema has."""
        if self._document is not NO_JSON:
            return json.dumps(self._document, ensure_ascii=False, separators=(",", ":")).encode()
        return self._event.raw.bytes if self._event.HasField("raw") else self._event.data.value

    def to(self, message: builtins.type[M]) -> M:
        """Reads its data as a message of the given type.

        Raises `DATA_TYPE_MISMATCH` if the event is of another type, `DATA_MALFORMED` if its data does not decode, `RAW_CONTENT` if
        it has no schema, `NOT_AN_EVENT_TYPE` if the message is that of none.
        """
        event = self._event
        wanted, url = self._types.named(message)
        if event.type != wanted:
            raise _mismatch(self, wanted, event.type)
        if self._document is not NO_JSON:
            return self._from_json(message)
        data = event.data
        if data.type_url != url:
            self._check_content(message)
        try:
            return message.FromString(data.value)
        except DecodeError as error:
            raise _malformed(self, error) from None

    def __repr__(self) -> str:
        return f"<RawEvent {self.type} {self.id!r} of {self.source!r}>"

    def _check_content(self, message: builtins.type[Message]) -> None:
        if not self._event.HasField("data"):
            raise invalid(
                "RAW_CONTENT",
                f"Event {self.id!r} of {self.type} has no schema, so it is no {message.DESCRIPTOR.full_name}.",
                hint="Read its content.",
            )
        full_name = self._event.data.type_url.rpartition("/")[2]
        if full_name != message.DESCRIPTOR.full_name:
            raise _mismatch(self, message.DESCRIPTOR.full_name, full_name)

    def _from_json(self, message: builtins.type[M]) -> M:
        try:
            # Whatever JSON it is: what is no object is refused by it.
            return ParseDict(cast("dict[str, object]", self._document), message(), ignore_unknown_fields=True)
        except (ParseError, AttributeError, TypeError, ValueError, RecursionError) as error:
            # It raises most of these for JSON of another shape, a list in place of an object for one.
            raise _malformed(self, error) from None


def _datetime(time: Timestamp) -> datetime:
    return time.ToDatetime(UTC)


def _mismatch(raw: RawEvent, wanted: str, found: str) -> CertesError:
    return invalid(
        "DATA_TYPE_MISMATCH",
        f"Event {raw.id!r} was to be read as {wanted}, and is {found}.",
        wanted=wanted,
        found=found,
    )


def _malformed(raw: RawEvent, error: Exception) -> CertesError:
    return invalid("DATA_MALFORMED", f"The data of event {raw.id!r} of {raw.type} does not decode: {error}")
