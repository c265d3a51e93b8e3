"""Kept events as answers."""

from __future__ import annotations

from typing import Any

from certes_broker.broker.kept_events import KeptEvent, KeptPage
from certes_broker.domain.events import Original
from certes_broker.gateway import overlay


def kept_event_answer(kept: KeptEvent, original: Original | None) -> Any:
    """Returns the `GetEventResponse` of a kept event."""
    answer = overlay.GetEventResponse()
    _fill(answer.event, kept)
    if original is not None:
        answer.original.content_type = original.content_type
        answer.original.headers.update(original.headers)
        answer.original.body = original.body
    return answer


def kept_page_answer(page: KeptPage) -> Any:
    """Returns the `ListEventsResponse` of a page."""
    answer = overlay.ListEventsResponse(next_page_token=page.next_page_token)
    for kept in page.events:
        _fill(answer.events.add(), kept)
    return answer


def _fill(message: Any, kept: KeptEvent) -> None:
    event = kept.entry.event
    message.name = kept.name
    seconds, micros = divmod(event.accept_time, 1_000_000)
    message.accept_time.seconds = seconds
    message.accept_time.nanos = micros * 1_000
    message.event = event.body
