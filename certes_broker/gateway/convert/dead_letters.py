"""Dead letters and attempts as messages, and which are meant in requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from certes.v1 import attempt_pb2, dead_letter_pb2
from certes.v1 import delivery_service_pb2 as pb
from certes_broker.broker.dead_letters import AT_ONCE, COLLECTION, DeadLetterFilter, Summary
from certes_broker.broker.names import PREFIX, EventNames
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.names import SubscriptionName, parse_subscription_name
from certes_broker.domain.uris import TypePattern, parse_pattern
from certes_broker.gateway.convert.times import duration, read_time, timestamp
from certes_broker.gateway.faults import Faults, located
from certes_broker.ports.engine import Attempt

ChoosingRequest = pb.ReplayDeadLettersRequest | pb.PurgeDeadLettersRequest
"""Requests that say by name or by filter which dead letters they mean."""

_REASON: Final = "REASON_"
_REASONS: Final = dict(dead_letter_pb2.DeadLetter.Reason.items())


def read_dead_letter_name(field: str, text: str) -> tuple[SubscriptionName, str]:
    """Returns the subscription and the id of the dead letter that a field names.

    Raises `Invalid` (FIELD_REQUIRED, MALFORMED_NAME) of that field.
    """
    if not text:
        raise Invalid.field(Reason.FIELD_REQUIRED, field, "is required")
    subscription, found, letter_id = text.rpartition(f"/{COLLECTION}/")
    if not found or not letter_id or "/" in letter_id:
        raise Invalid.field(
            Reason.MALFORMED_NAME,
            field,
            f"{text[:120]!r} is no name of a dead letter",
            hint="The form is subscribers/{subscriber}/subscriptions/{subscription}/deadLetters/{id}.",
        )
    try:
        return parse_subscription_name(subscription), letter_id
    except Invalid as error:
        raise located(error, field) from None


def read_dead_letter_filter(faults: Faults, message: dead_letter_pb2.DeadLetterFilter) -> DeadLetterFilter:
    """Returns which dead letters a filter means."""
    pattern: TypePattern | None = None
    if message.pattern:
        with faults.at("filter.pattern"):
            pattern = parse_pattern(message.pattern)
    reason = ""
    if message.reason:
        if message.reason in dead_letter_pb2.DeadLetter.Reason.values():
            reason = dead_letter_pb2.DeadLetter.Reason.Name(message.reason).removeprefix(_REASON).lower()
        else:
            faults.invalid("filter.reason", f"{message.reason} is no reason")
    start = read_time(faults, "filter.start_time", message.start_time) if message.HasField("start_time") else None
    end = read_time(faults, "filter.end_time", message.end_time) if message.HasField("end_time") else None
    return DeadLetterFilter(pattern, reason, start, end)


def read_chosen(request: ChoosingRequest, parent: SubscriptionName) -> Sequence[str] | DeadLetterFilter:
    """Returns the ids of the dead letters that a request names, or the filter that it gives. Raises `Invalid`."""
    faults = Faults()
    if request.names and request.HasField("filter"):
        faults.invalid("filter", "cannot be given together with names")
    if not request.names and not request.HasField("filter"):
        faults.required("filter", "is required where no names are given; an empty one means all dead letters")
    if request.names and request.page_token:
        faults.invalid("page_token", "belongs to a filter, and names are given")
    if len(request.names) > AT_ONCE:
        faults.invalid("names", f"has {len(request.names)} names; {AT_ONCE} are allowed in one request")
    wanted = read_dead_letter_filter(faults, request.filter)
    faults.check()
    ids: list[str] = []
    for index, text in enumerate(request.names):
        name, letter_id = read_dead_letter_name(f"names[{index}]", text)
        if name != parent:
            raise Invalid.field(Reason.FIELD_INVALID, f"names[{index}]", f"is of {name.text}, and not of {parent.text}")
        ids.append(letter_id)
    return ids or wanted


def dead_letter_message(
    name: SubscriptionName, summary: Summary, names: EventNames, *, replaying: bool
) -> dead_letter_pb2.DeadLetter:
    """Returns the message of a dead letter."""
    letter = summary.letter
    event = names.name(letter.position)
    return dead_letter_pb2.DeadLetter(
        name=f"{name.text}/{COLLECTION}/{event.removeprefix(PREFIX)}",
        event=event,
        type=letter.event.type,
        source=letter.event.source,
        event_id=letter.event.id,
        reason=_REASONS.get(f"{_REASON}{letter.reason.upper()}", dead_letter_pb2.DeadLetter.REASON_UNSPECIFIED),
        error=letter.error,
        attempts=letter.attempts,
        dead_time=timestamp(letter.time),
        accept_time=timestamp(letter.event.accept_time),
        replaying=replaying,
        event_bytes=summary.event_bytes,
    )


def attempt_message(attempt: Attempt, names: EventNames) -> attempt_pb2.Attempt:
    """Returns the message of an attempt."""
    message = attempt_pb2.Attempt(
        event=names.name(attempt.position),
        number=attempt.number,
        attempt_time=timestamp(attempt.time),
        duration=duration(attempt.duration),
        status=attempt.status or 0,
        failure=attempt.failure,
        error=attempt.error,
        answer=attempt.answer,
    )
    if attempt.next_try is not None:
        message.next_attempt_time.CopyFrom(timestamp(attempt.next_try))
    return message
