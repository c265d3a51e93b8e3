"""What an engine's test file provides, and what the contract's tests are made of."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import pytest

from certes_broker.domain.events import AcceptedEvent, Micros, Position
from certes_broker.ports.engine import CursorState, Engine, Owed, OwedKind
from tests.fakes.manual_clock import ManualClock

WINDOW: Final = 100.0
"""The dedupe window of every engine under test, seconds."""
START: Final = 1_800_000_000_000_000
PLENTY: Final = 1 << 30


class EngineHarness(Protocol):
    """Opens engines of one kind. `clock` is what they tell the time by."""

    clock: ManualClock

    def open(
        self, *, tail_entries: int = 10_000, watch_changes: int = 1_000, append_calls: int = 10_000
    ) -> AbstractAsyncContextManager[Engine]:
        """Opens an engine with these bounds and a dedupe window of `WINDOW` seconds."""


class EngineTests:
    """Fixtures of all parts of the contract. A concrete class adds the fixture `harness`."""

    @pytest.fixture
    async def engine(self, harness: EngineHarness):
        async with harness.open() as engine:
            yield engine

    @pytest.fixture
    def clock(self, harness: EngineHarness) -> ManualClock:
        return harness.clock


def event(event_id: str = "", **changes: Any) -> AcceptedEvent:
    """Makes an event. With an id it has a digest, so that it is deduplicated; the digest is that of the body."""
    body = changes.pop("body", f"body of {event_id}".encode())
    made = AcceptedEvent(
        body=body,
        type="example.com/_/1/happened",
        id=event_id or "made-by-the-broker",
        source="tests",
        subscriber="org_1",
        ordering_key="",
        options=(),
        accept_time=Micros(START),
        digest=b"digest of " + body if event_id else None,
        original=None,
    )
    return made._replace(**changes)


def as_read(appended: AcceptedEvent) -> AcceptedEvent:
    """Returns the event as it is read back."""
    return appended._replace(digest=None, original=None)


def retry(position: int, attempt: int = 2, due: int = START) -> Owed:
    return Owed(Position(position), OwedKind.RETRY, Micros(due), attempt, Micros(START - 5), "key", "HTTP 503")


def parked(position: int, key: str = "key") -> Owed:
    return Owed(Position(position), OwedKind.PARKED, Micros(0), 1, Micros(0), key, "")


def state(floor: int, read_mark: int | None = None, *settled: tuple[int, int], level: bool = False) -> CursorState:
    ranges = tuple((Position(first), Position(last)) for first, last in settled)
    return CursorState(Position(floor), Position(floor if read_mark is None else read_mark), ranges, level)
