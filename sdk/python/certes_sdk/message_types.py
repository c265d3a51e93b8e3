"""The event types of message classes, each looked up once."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message

from certes_sdk.errors import invalid
from certes_sdk.event_types import Binding, read_binding


class KnownMessages:
    """Remembers what message classes say of their event types. `domain` says the broker's; empty while that is not known."""

    def __init__(self, domain: Callable[[], str]) -> None:
        self._domain = domain
        self._bindings: dict[type[Message], Binding] = {}
        self._types: dict[type[Message], str] = {}

    def event_type(self, message: type[Message]) -> str:
        """Returns the event URI of a message. Raises `NOT_AN_EVENT_TYPE`."""
        found = self._types.get(message)
        if found is None:
            found = self._types[message] = self.binding(message).event_type(
                self._domain(), message.DESCRIPTOR.full_name
            )
        return found

    def binding(self, message: type[Message]) -> Binding:
        """Returns what a message says of its event type. Raises `NOT_AN_EVENT_TYPE`."""
        found = self._bindings.get(message)
        if found is None:
            descriptor = getattr(message, "DESCRIPTOR", None)
            if descriptor is None:
                raise invalid("NOT_AN_EVENT_TYPE", f"{message!r} is no protobuf message.")
            found = self._bindings[message] = read_binding(descriptor)
        return found
