"""Lets pytest-grpc's stub fixtures speak to a real broker, on each engine.

pytest-grpc starts a synchronous `grpc.Server`. Ours lives in an event loop, so `_grpc_server` is a stand-in that runs it in
the loop of a thread, on a unix socket; the rest of the plugin's fixtures, from `grpc_channel` to `grpc_stub`, work as they
are.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from certes.v1.event_service_pb2_grpc import EventServiceStub
from certes.v1.subscription_service_pb2_grpc import SubscriptionServiceStub
from tests.contracts.grpc_callers import Caller
from tests.fakes.loop_thread_broker import LoopThreadBroker, OpenEngine, memory_engine, sqlite_engine

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A directory with a short path: that of a unix socket has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="certes") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def grpc_addr(scratch: Path) -> str:
    return f"unix:{scratch / 'grpc.sock'}"


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def grpc_servicer(request: pytest.FixtureRequest, scratch: Path) -> OpenEngine:
    return memory_engine if request.param == "memory" else sqlite_engine(scratch / "data")


@pytest.fixture(scope="module")
def _grpc_server(grpc_servicer: OpenEngine) -> LoopThreadBroker:
    return LoopThreadBroker(grpc_servicer)


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[[OpenEngine, LoopThreadBroker], None]:
    """Nothing to add: the broker makes its servicers itself, once its loop runs."""
    return lambda servicer, server: None


@pytest.fixture(scope="module")
def grpc_stub_cls() -> type[EventServiceStub]:
    return EventServiceStub


@pytest.fixture
def caller(grpc_stub: EventServiceStub, grpc_channel: grpc.Channel, grpc_server: LoopThreadBroker) -> Iterator[Caller]:
    """Somebody with a subscriber of its own, so that tests share a broker and see nothing of each other."""
    with Caller(grpc_stub, SubscriptionServiceStub(grpc_channel), grpc_server, f"org_{next(_numbers)}") as one:
        yield one
