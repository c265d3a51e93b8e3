"""Forms: a webhook that comes as a field of an HTML form, as GitHub sends it where it is so configured."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.worker.jobs import Converted

FORM: Final = "application/x-www-form-urlencoded"
FIELD: Final = "payload"
"""The field that holds the JSON document."""
INLINE_BYTES: Final = 32 * 1024
"""What is longer takes more than a few milliseconds to undo if all of it is escaped, so that a worker does it."""


def form_payload(_documents: EventDocuments, body: bytes) -> Converted:
    """Returns the JSON text in a form. Raises `Invalid` (PAYLOAD_MALFORMED)."""
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise Invalid(Reason.PAYLOAD_MALFORMED, f"the body is no form: {error}") from error
    payloads = [value for name, value in fields if name == FIELD]
    if len(payloads) != 1:
        raise Invalid(Reason.PAYLOAD_MALFORMED, f"a form has the webhook in one field named {FIELD!r}.")
    return Converted(blobs=(payloads[0].encode(),))


_MOST_FIELDS: Final = 16
