"""A fake broker, a clock that stands still, and a client of both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import settings

from certes_sdk import Client
from tests.fakes.sdk_broker import FakeBroker
from tests.fakes.sdk_clock import ManualClock

# A shared machine's pauses are no failures of the code.
settings.register_profile("certes", deadline=None, print_blob=True)
settings.load_profile("certes")


@pytest.fixture(autouse=True)
def no_settings_of_the_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "TOKEN",
        "APP",
        "CALLBACK_URL",
        "SUBSCRIBER",
        "SOURCE",
        "GENERATION",
        "WEBHOOK_KEYS",
        "CA_FILE",
        "CERTIFICATE",
        "CERTIFICATE_KEY",
        "RESOLVE",
    ):
        monkeypatch.delenv(f"CERTES_{name}", raising=False)


@pytest.fixture
async def broker() -> AsyncIterator[FakeBroker]:
    broker = FakeBroker()
    await broker.start()
    yield broker
    broker.may_answer.set()
    broker.may_acknowledge.set()
    await broker.stop()


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def make_client(broker: FakeBroker) -> AsyncIterator[Callable[..., Client]]:
    """Makes clients of the fake broker; the real clock unless one is given."""
    clients: list[Client] = []

    def make(*, clock: ManualClock | None = None, **settings: Any) -> Client:
        given = {"app": "billing", **settings}
        client = Client("events://events.example.com", **given)._with(clock=clock, finder=broker.find)
        clients.append(client)
        return client

    yield make
    broker.may_answer.set()
    broker.may_acknowledge.set()
    async with asyncio.timeout(50):
        for client in clients:
            for session in client._sessions.values():
                await session._background.end()


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Returns the warnings that the SDK has logged."""
    caplog.set_level(logging.WARNING, "certes")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "certes"]
