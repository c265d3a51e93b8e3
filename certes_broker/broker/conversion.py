"""Conversion: JSON bodies into the data of events.

How a foreign webhook is taken in
---------------------------------
::

    payload = await broker.conversion.read(body, paths)     # PAYLOAD_MALFORMED where it is no JSON object
    event_name, delivery_id = payload.values                # what stands at the paths, in their order
    schema = broker.registry.lookup(type_text)
    data = await payload.data(schema)                       # DATA_MALFORMED where it does not fit the schema
    AnyMessage(type_url=schema.type_url, value=data.value)
    data.new_keys                                           # unknown keys that came for the first time, for `_drift`

Both calls can take until a worker process has done it, and can then raise `Unavailable` (WORKER_UNAVAILABLE) and `Exhausted`
(BUFFER_FULL); see `JsonPayload`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from certes_broker.domain.errors import Reason
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.json_text import read_object
from certes_broker.schemas.unknown_keys import UnknownKey, UnknownKeys

Path: TypeAlias = tuple[str, ...]
"""Keys, from the outermost object inwards."""
JsonScalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class JsonData:
    """The data of an event, read from JSON. `value` is that of an `Any`: the same document always makes the same bytes."""

    value: bytes
    new_keys: Sequence[UnknownKey] = ()
    """Keys that the schema does not know and that came for the first time with this document."""


class JsonPayload:
    """The JSON object that is the body of a foreign webhook."""

    def __init__(self, document: Mapping[str, object], values: Sequence[JsonScalar], unknown: UnknownKeys) -> None:
        self._document = document
        self._unknown = unknown
        self.values = values
        """What stands at the paths that were asked for; None where there is nothing, or an object or an array."""

    async def data(self, schema: EventSchema) -> JsonData:
        """Reads the payload as the message of a schema; keys that the schema does not know are left out and noted.

        Raises `Invalid` (DATA_MALFORMED), with the path of the field at fault, `Unavailable` (WORKER_UNAVAILABLE) and
        `Exhausted` (BUFFER_FULL).
        """
        message, new_keys = schema.from_json_noting(self._document, self._unknown)
        # Deterministic, so that a webhook that is sent again makes the same bytes and is seen as a duplicate.
        return JsonData(message.SerializeToString(deterministic=True), new_keys)


class Conversion:
    """Converts JSON: what is small at once, what is large in a worker process."""

    def __init__(self) -> None:
        self.unknown_keys = UnknownKeys()

    async def read(
        self, body: bytes, paths: Sequence[Path] = (), reason: Reason = Reason.PAYLOAD_MALFORMED
    ) -> JsonPayload:
        """Reads a body that must be a JSON object, and what stands in it at some paths.

        Raises `Invalid` with the reason given, with the path of the place at fault where it has one; `Unavailable`
        (WORKER_UNAVAILABLE) and `Exhausted` (BUFFER_FULL).
        """
        document = read_object(body, reason)
        return JsonPayload(document, [_value_at(document, path) for path in paths], self.unknown_keys)


def _value_at(document: object, path: Path) -> JsonScalar:
    for key in path:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document if isinstance(document, str | int | float) else None
