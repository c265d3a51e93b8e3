"""What all engines agree on about the values they keep: their refusals, and how a stored value is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from certes_broker.domain.errors import Aborted, AlreadyExists, Reason
from certes_broker.domain.events import AcceptedEvent, Position
from certes_broker.ports.engine import CursorState, DeadLetter, Rejected


def event_size(event: AcceptedEvent) -> int:
    """Returns the bytes that an event is counted with: its body and that of its original."""
    original = event.original
    return len(event.body) if original is None else len(event.body) + len(original.body)


def rejected_size(rejected: Rejected) -> int:
    """Returns the bytes that a rejected payload is counted with: those of its body and its headers."""
    payload = rejected.payload
    return len(payload.body) + sum(len(name) + len(value) for name, value in payload.headers)


def tail_weight(count: int, size: int) -> int:
    """Returns what entries of `size` bytes weigh in the journal's tail: one each, and one for every 4 KiB."""
    return count + (size >> 12)


def raised(state: CursorState, watermark: Position) -> CursorState:
    """Returns a cursor's state as the shared watermark says it is: a level cursor stands at least there."""
    if not state.level:
        return state
    return replace(state, floor=max(state.floor, watermark), read_mark=max(state.read_mark, watermark))


def within(letters: Iterable[DeadLetter], limit: int, max_bytes: int | None) -> Sequence[DeadLetter]:
    """Returns the first of some dead letters: at most `limit`, and no more once `max_bytes` of bodies are reached."""
    found: list[DeadLetter] = []
    size = 0
    for letter in islice(letters, limit):
        found.append(letter)
        size += len(letter.event.body)
        if max_bytes is not None and size >= max_bytes:
            break
    return found


def id_reused(event: AcceptedEvent, index: int) -> AlreadyExists:
    """Builds the refusal of an append whose event at `index` has the id of another with different content."""
    return AlreadyExists(
        Reason.EVENT_ID_REUSED,
        f"events[{index}]: source {event.source!r} has used the id {event.id!r} for different content.",
        hint="Send the same content with the same id, or give the new event an id of its own.",
        metadata={"source": event.source, "id": event.id, "index": str(index)},
    )


def revision_conflict(key: str, expected: int, present: int) -> Aborted:
    """Builds the refusal of a change to a document that is not at the expected revision."""
    return Aborted(
        Reason.REVISION_CONFLICT,
        f"{key} is at revision {present}, not {expected} as expected.",
        hint="Read it again, decide again, and send the revision that you read.",
        metadata={"revision": str(present)},
    )
