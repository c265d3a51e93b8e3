"""Conversion: JSON into messages and back, at once where it is small, in a worker process where it is large.

What is converted on the event loop holds up everything else meanwhile, so it must not take more than a few milliseconds: texts
of more than 128 KiB, and those with very many objects, go to a worker (`broker/workers.py`). So does a text that needs a
careful look (`schemas/json_careful.py`), unless it is small.

How a foreign webhook is taken in
---------------------------------
::

    payload = await broker.conversion.read(body, paths)     # PAYLOAD_MALFORMED where it is no JSON object
    event_name, delivery_id = payload.values                # what stands at the paths, in their order
    schema = broker.registry.lookup(type_text)
    data = await payload.data(schema)                       # DATA_MALFORMED where it does not fit the schema
    AnyMessage(type_url=schema.type_url, value=data.value)
    data.new_keys                                           # unknown keys that came for the first time, for `_drift`

Every method here can take until a worker has done it, and can then raise `Unavailable` (WORKER_UNAVAILABLE) and `Exhausted`
(BUFFER_FULL) besides what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from certes_broker.broker.workers import Workers
from certes_broker.domain.errors import Reason
from certes_broker.domain.subscriptions import Format
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.json_effort import TooMuchAtOnce
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.json_jobs import (
    SMALL_BYTES,
    JsonScalar,
    Path,
    is_heavy,
    payload_data,
    payload_values,
    rendered_of,
    value_at,
    webhook_body,
)
from certes_broker.schemas.json_text import read_object
from certes_broker.schemas.outgoing import Rendered
from certes_broker.schemas.unknown_keys import UnknownKey, UnknownKeys
from certes_broker.schemas.worker.jobs import Converted

WIRE_BYTES: Final = 32 * 1024
"""The longest message that is written as JSON on the event loop. It may be many small ones."""
VALUES: Final = 25_000
"""How many values of JSON are written there at one go: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class JsonData:
    """The data of an event, read from JSON. `value` is that of an `Any`: the same document always makes the same bytes."""

    value: bytes
    new_keys: Sequence[UnknownKey] = ()
    """Keys that the schema does not know and that came for the first time with this document."""


class Conversion:
    """Converts JSON."""

    def __init__(self, documents: EventDocuments, workers: Workers) -> None:
        self._documents = documents
        self._workers = workers
        self.unknown_keys: Final = UnknownKeys()

    async def read(
        self, body: bytes, paths: Sequence[Path] = (), reason: Reason = Reason.PAYLOAD_MALFORMED
    ) -> JsonPayload:
        """Reads a body that must be a JSON object, and what stands in it at some paths.

        Raises `Invalid` with the reason given, with the path of the place at fault where it has one.
        """
        if is_heavy(body):
            found = await self._workers.do(payload_values, body, tuple(paths), reason)
            return JsonPayload(self, body, None, found.fact)
        document = read_object(body, reason)
        return JsonPayload(self, body, document, [value_at(document, path) for path in paths])

    async def webhook_body(self, event: bytes, form: Format) -> Rendered:
        """Renders an event, given in its wire form, as the body of a webhook; see `WebhookBodies.render`."""
        return rendered_of(await self.do(webhook_body, event, form, heavy=len(event) > WIRE_BYTES))

    async def do(self, job: Callable[..., Converted], *arguments: Any, heavy: bool) -> Converted:
        """Calls a function of a module with the broker's documents and the arguments, in a worker if it is heavy work, or proves to be."""
        if not heavy:
            with suppress(TooMuchAtOnce), self._documents.effort.at_most(VALUES):
                return job(self._documents, *arguments)
        return await self._workers.do(job, *arguments)

    async def data(self, body: bytes, document: object, schema: EventSchema) -> JsonData:
        """Reads a JSON object as the message of a schema. `document` is None if the body is still to be read."""
        if document is not None:
            quick = schema.from_json_noting(document, self.unknown_keys, careful=len(body) <= SMALL_BYTES)
            if quick is not None:
                message, new_keys = quick
                return JsonData(schema.encode(message), new_keys)
        converted = await self._workers.do(payload_data, body, schema.type_text)
        keys = [UnknownKey(path, message_name) for path, message_name in converted.fact]
        (value,) = converted.blobs
        return JsonData(value, self.unknown_keys.note_found(schema.type_text, keys))


class JsonPayload:
    """The JSON object that is the body of a foreign webhook."""

    def __init__(self, conversion: Conversion, body: bytes, document: Any, values: Sequence[JsonScalar]) -> None:
        self._conversion = conversion
        self._body = body
        self._document = document
        self.values: Final = values
        """What stands at the paths that were asked for; None where there is nothing, or an object or an array."""

    async def data(self, schema: EventSchema) -> JsonData:
        """Reads the payload as the message of a schema; keys that the schema does not know are left out and noted.

        Raises `Invalid` (DATA_MALFORMED), with the path of the field at fault.
        """
        return await self._conversion.data(self._body, self._document, schema)
