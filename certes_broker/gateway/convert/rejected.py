"""Rejected payloads as messages, and their names in requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from certes.v1 import source_pb2 as pb
from certes_broker.broker.rejected_payloads import parse_number, rejected_name
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.sources import parse_source_name
from certes_broker.gateway.convert.times import timestamp
from certes_broker.gateway.faults import located
from certes_broker.ports.engine import Rejected, RejectedSummary

MAXIMUM_REINGESTED: Final = 100
"""Payloads in one request."""


def read_rejected_name(field: str, text: str) -> tuple[str, int]:
    """Returns the source and the number of the payload that a field names.

    Raises `Invalid` (FIELD_REQUIRED, MALFORMED_NAME) of that field.
    """
    if not text:
        raise Invalid.field(Reason.FIELD_REQUIRED, field, "is required")
    match text.split("/"):
        case ["sources", source, "rejected", digits] if (number := parse_number(digits)) is not None:
            try:
                return parse_source_name(source), number
            except Invalid as error:
                raise located(error, field) from None
        case _:
            raise Invalid.field(
                Reason.MALFORMED_NAME,
                field,
                f"{text[:120]!r} is no name of a rejected payload",
                hint="The form is sources/{source}/rejected/{id}.",
            )


def read_rejected_names(field: str, names: Sequence[str]) -> tuple[str, Sequence[int]]:
    """Returns the source of which the payloads that a field names are, and their numbers. Raises as `read_rejected_name`."""
    if not names:
        raise Invalid.field(Reason.FIELD_REQUIRED, field, "is required")
    if len(names) > MAXIMUM_REINGESTED:
        raise Invalid.field(
            Reason.FIELD_INVALID, field, f"has {len(names)} names; {MAXIMUM_REINGESTED} are allowed in one request"
        )
    found = [read_rejected_name(f"{field}[{index}]", name) for index, name in enumerate(names)]
    first = found[0][0]
    for index, (source, _) in enumerate(found):
        if source != first:
            raise Invalid.field(
                Reason.FIELD_INVALID,
                f"{field}[{index}]",
                f"is of {source}, others are of {first}; one source a request",
            )
    return first, [number for _, number in found]


def rejected_summary_message(summary: RejectedSummary) -> pb.RejectedPayload:
    """Returns the message of a payload without its body."""
    return pb.RejectedPayload(
        name=rejected_name(summary.source, summary.number),
        reject_time=timestamp(summary.time),
        reason=summary.reason,
        message=summary.message,
        verified=summary.verified,
        content_type=summary.content_type,
        headers=dict(summary.headers),
        body_bytes=summary.body_bytes,
    )


def rejected_message(rejected: Rejected) -> pb.RejectedPayload:
    """Returns the message of a payload with its body."""
    message = rejected_summary_message(rejected.summary)
    message.body = rejected.payload.body
    return message
