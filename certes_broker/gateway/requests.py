"""Reads requests: wire bytes to messages of the contract, and nothing that is not in it.

A field that the contract does not define is refused by its path, at any depth. In a path it is spelled by its number:
`subscription.webhook.99`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.gateway.limits import MAXIMUM_REQUEST_BYTES

M = TypeVar("M", bound=Message)

_SHOWN: Final = 16
"""How many unknown fields one refusal names; a request has room for a million."""


def decode(kind: type[M], wire: bytes) -> M:
    """Reads a request.

    Raises `Invalid`: `REQUEST_TOO_LARGE`, `MALFORMED_REQUEST` if the bytes are no such message, `UNKNOWN_FIELD` if they
    hold a field that the contract does not define.
    """
    request = parse(kind, wire)
    size = request.ByteSize()
    request.DiscardUnknownFields()
    if request.ByteSize() != size:
        # Read again: what was discarded is what must be named.
        raise _unknown_fields(kind.FromString(wire))
    return request


def decode_envelope(kind: Any, wire: bytes, limit: int = MAXIMUM_REQUEST_BYTES) -> Any:
    """Reads a request whose events are bytes: only the outermost message is judged here, `EventReader` judges the events.

    `kind` is a class of `overlay`, `limit` the setting `limits.request_bytes`. It raises as `decode` does, for a fifth of
    the price.
    """
    request = parse(kind, wire, limit)
    if len(UnknownFieldSet(request)):
        raise _unknown_fields(request)
    return request


def parse(kind: type[M], wire: bytes, limit: int = MAXIMUM_REQUEST_BYTES) -> M:
    """Reads a message, with whatever is in it. Raises `Invalid` (REQUEST_TOO_LARGE, MALFORMED_REQUEST)."""
    if len(wire) > limit:
        raise Invalid(
            Reason.REQUEST_TOO_LARGE,
            f"The request has {len(wire)} bytes; {limit} are allowed.",
            hint="Send fewer events in one request; limits.request_bytes is the setting.",
            metadata={"bytes": str(len(wire)), "limit": str(limit), "setting": "limits.request_bytes"},
        )
    try:
        return kind.FromString(wire)
    except DecodeError as error:
        raise Invalid(
            Reason.MALFORMED_REQUEST,
            f"The request is no {kind.DESCRIPTOR.full_name}: its bytes do not decode.",
            metadata={"message": kind.DESCRIPTOR.full_name},
        ) from error


def _unknown_fields(request: Message) -> Invalid:
    violations = list(islice(_strangers(request, ""), _SHOWN))
    return Invalid(
        Reason.UNKNOWN_FIELD,
        f"{violations[0].field}: {violations[0].description}",
        metadata={"field": violations[0].field},
        violations=violations,
        hint="The caller was built for a newer contract, or its bytes are another message's.",
    )


def _strangers(message: Message, path: str) -> Iterator[FieldViolation]:
    unknown = UnknownFieldSet(message)
    for number in sorted({unknown[index].field_number for index in range(len(unknown))}):
        yield FieldViolation(f"{path}{number}", f"{message.DESCRIPTOR.full_name} has no field number {number}")
    for field, value in message.ListFields():
        if isinstance(value, Message):
            yield from _strangers(value, f"{path}{field.name}.")
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            # Repeated. No map of the contract holds messages.
            for index, inner in enumerate(value):
                yield from _strangers(inner, f"{path}{field.name}[{index}].")
