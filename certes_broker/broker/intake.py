"""The intake of events: validated at once where they are small, in a worker process where they are large.

Parsing takes an event's bytes in proportion, and more where they are made to be many messages; a few milliseconds would hold
up everything else. So who takes events from outside asks here, and the door (`schemas/events.py`) is the same for both.
"""

from __future__ import annotations

from typing import Final

from certes_broker.broker.conversion import Conversion
from certes_broker.domain.events import AcceptedEvent, Micros, Original
from certes_broker.domain.open_namespaces import OpenNamespaces
from certes_broker.schemas.event_content import DriftWatch
from certes_broker.schemas.event_jobs import read_event, read_event_of
from certes_broker.schemas.events import EventReader
from certes_broker.schemas.system_events import SeenIn

LONG: Final = 64 * 1024
"""Bytes from which on an event is validated in a worker."""


class Intake:
    """Validates events from outside. `max_event_bytes` and `open_namespaces` are those of the reader."""

    def __init__(
        self,
        reader: EventReader,
        conversion: Conversion,
        drift: DriftWatch,
        max_event_bytes: int,
        open_namespaces: OpenNamespaces,
    ) -> None:
        self.reader: Final = reader
        """Validates at once; for what is short."""
        self._conversion = conversion
        self._drift = drift
        self._rules = (max_event_bytes, open_namespaces)

    async def read(
        self, wire: bytes, now: Micros, path: str = "event", *, original: Original | None = None
    ) -> AcceptedEvent:
        """Validates one event, given in its wire form, as `EventReader.read` does.

        Raises what that raises, and `Unavailable` (WORKER_UNAVAILABLE) and `Exhausted` (BUFFER_FULL) for a long one.
        """
        max_event_bytes, _ = self._rules
        if not LONG <= len(wire) <= max_event_bytes:
            return self.reader.read(wire, now, path, original=original)
        converted = await self._conversion.do(read_event, wire, now, path, self._rules, heavy=True)
        event, unknown = read_event_of(converted, wire, now, original)
        if unknown:
            schema = self.reader.schema(event.type)
            if not isinstance(schema, str):
                self._drift.noticed(schema, unknown, SeenIn(event.source, event.id, event.subscriber))
        return event
