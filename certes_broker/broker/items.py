"""Items: an event in memory, shared by all lanes that it reaches."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from certes_broker.broker.memory import Memory
from certes_broker.broker.names import PREFIX
from certes_broker.domain.events import Entry, Micros
from certes_broker.domain.subscriptions import Format
from certes_broker.schemas.outgoing import Rendered
from certes_broker.schemas.wire import Delivery, between_name_and_token, delivery_in_batch

OVERHEAD: Final = 160
"""What a delivery adds to its event's bytes, about."""

_OBJECTS: Final = 1536
"""What an event in memory takes beside its bytes, about."""

_TOKEN_LENGTH: Final = 24
_TOKEN: Final = slice(len(PREFIX), len(PREFIX) + _TOKEN_LENGTH)


class Item:
    """One event in memory, with its name. What is made of it for one subscriber is kept for the next.

    It is in the account of what is held from when it is made until the last has let go of it.
    """

    __slots__ = ("_bodies", "_first", "_memory", "_weight", "entry", "name", "size")

    def __init__(self, entry: Entry, name: str, memory: Memory) -> None:
        self.entry = entry
        self.name = name
        self.size = len(entry.event.body) + OVERHEAD
        self._first: Delivery | None = None
        self._bodies: dict[Format, Rendered] | None = None
        self._memory = memory
        self._weight = len(entry.event.body) + _OBJECTS
        memory.held += self._weight

    def __del__(self) -> None:
        """Leaves the account."""
        self._memory.held -= self._weight

    @property
    def may_grow(self) -> bool:
        """Whether there is memory for what is made of it."""
        return not self._memory.is_exceeded

    def body(self, form: Format) -> Rendered | None:
        """Returns the webhook body in one format, if it was made."""
        return None if self._bodies is None else self._bodies.get(form)

    def keep(self, form: Format, rendered: Rendered) -> None:
        """Keeps a webhook body for the next who wants it."""
        if self._bodies is None:
            self._bodies = {}
        self._bodies[form] = rendered
        self._weight += len(rendered.body)
        self._memory.held += len(rendered.body)

    @property
    def correlation_id(self) -> str:
        """Identifies the event's way through this gateway: it is made of time and name, so that it needs no keeping."""
        return _since(self.entry.event.accept_time // 1_000_000) + self.name[_TOKEN]

    def delivery(self, attempt: int) -> Delivery:
        """Returns the delivery as an element of a batch. That of a first attempt is made once for all streams."""
        if attempt == 1 and self._first is not None:
            return self._first
        event = self.entry.event
        name = self.name.encode()
        delivery = delivery_in_batch(name, _between(attempt, event.accept_time), name[_TOKEN], event.body)
        if attempt == 1:
            self._first = delivery
        return delivery


@lru_cache(maxsize=64)
def _since(seconds: int) -> str:
    return f"gw.1-{seconds:08x}-"


@lru_cache(maxsize=256)
def _between(attempt: int, accept_time: Micros) -> bytes:
    # The events of one request have one time, and most deliveries are first attempts.
    return between_name_and_token(attempt, accept_time, _since(accept_time // 1_000_000), _TOKEN_LENGTH)
