"""A real broker and its gRPC server in the event loop of a thread, for the synchronous stubs of contract tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from certes_broker.broker.broker import Broker, BrokerSettings, Ports
from certes_broker.broker.janitor import Retention
from certes_broker.broker.system_clock import SystemClock
from certes_broker.broker.webhooks import WebhookLimits
from certes_broker.engines.memory import MemoryEngine
from certes_broker.engines.sqlite.engine import SqliteEngine
from certes_broker.gateway.contract import contract_methods
from certes_broker.gateway.convert.sources import SourceRules
from certes_broker.gateway.grpc.server import GrpcServer
from certes_broker.gateway.ingestion import Ingestion
from certes_broker.ports.engine import Engine
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.providers import shipped_providers
from certes_broker.schemas.registry import Registry
from tests.fakes.scripted_sender import ScriptedSender

T = TypeVar("T")
OpenEngine = Callable[[SystemClock], AbstractAsyncContextManager[Engine]]

START_TIMEOUT = 20.0
PROVIDERS = shipped_providers()
SETTINGS = BrokerSettings(
    domain="events.example.com",
    retention=Retention(age=7 * 86_400.0, size=1 << 30, dedupe_window=86_400.0),
    max_event_bytes=1 << 20,
    in_flight_bytes=64 << 20,
    webhooks=WebhookLimits(8),
)


@asynccontextmanager
async def memory_engine(clock: SystemClock) -> AsyncIterator[Engine]:
    yield MemoryEngine(clock)


def sqlite_engine(directory: Path) -> OpenEngine:
    def opened(clock: SystemClock) -> AbstractAsyncContextManager[Engine]:
        return SqliteEngine.open(directory, clock)

    return opened


class LoopThreadBroker:
    """Serves on one address until it is stopped. pytest-grpc takes it for a `grpc.Server`."""

    def __init__(self, open_engine: OpenEngine) -> None:
        self._open_engine = open_engine
        self._address = ""
        self._started: Future[None] = Future()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="broker")
        self.sender = ScriptedSender()
        self.loop: asyncio.AbstractEventLoop
        self.broker: Broker
        self.engine: Engine
        self.server: GrpcServer

    def add_insecure_port(self, address: str) -> None:
        self._address = address

    def start(self) -> None:
        self._thread.start()
        self._started.result(START_TIMEOUT)

    def stop(self, grace: float | None) -> None:
        """Drains with `grace`, or a second, and waits for the end."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(START_TIMEOUT)
        assert not self._thread.is_alive()

    def run(self, action: Callable[[], Awaitable[T]]) -> T:
        """Runs something in the broker's loop and returns what it returns."""

        async def acting() -> T:
            return await action()

        return asyncio.run_coroutine_threadsafe(acting(), self.loop).result(START_TIMEOUT)

    async def _serve(self) -> None:
        try:
            self.loop = asyncio.get_running_loop()
            clock = SystemClock()
            async with self._open_engine(clock) as self.engine:
                ports = Ports(self.engine, self.sender, clock)
                async with Broker.running(ports, Registry(community_versions()), SETTINGS) as self.broker:
                    rules = SourceRules(PROVIDERS, allow_unsigned=True)
                    methods = contract_methods(self.broker, Ingestion(self.broker, PROVIDERS), rules)
                    self.server = GrpcServer(methods, self._address)
                    await self.server.start()
                    self._started.set_result(None)
                    await self._stopping.wait()
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self.server.drain(1.0))
                        group.create_task(self.broker.drain())
            await self.sender.close()
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            raise
