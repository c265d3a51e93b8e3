"""The event types of message classes, each looked up once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from google.protobuf.message import Message

from certes_sdk.errors import invalid
from certes_sdk.event_types import Binding, read_binding

TYPE_URL_PREFIX: Final = "type.googleapis.com/"


class KnownMessages:
    """Remembers what message classes say of their event types. `domain` says the broker's; empty while that is not known."""

    def __init__(self, domain: Callable[[], str]) -> None:
        self._domain = domain
        self._bindings: dict[type[Message], Binding] = {}
        self._named: dict[type[Message], tuple[str, str]] = {}

    def named(self, message: type[Message]) -> tuple[str, str]:
        """Returns the event URI of a message, and the `type_url` of its data. Raises `NOT_AN_EVENT_TYPE`."""
        found = self._named.get(message)
        if found is None:
            binding, full_name = self.binding(message), message.DESCRIPTOR.full_name
            event_type = binding.event_type(self._domain(), full_name)
            found = self._named[message] = event_type, TYPE_URL_PREFIX + full_name
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
