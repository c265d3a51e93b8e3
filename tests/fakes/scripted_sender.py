"""A sender that sends nothing: it answers as a test's script says, and remembers what it was asked to send.

It keeps the promises of the port as far as they do not concern a network, and passes `tests/contracts/sender_contract.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from certes_broker.ports.sender import Method, SendFailure, SendRequest, SendResult


@dataclass(frozen=True, slots=True)
class Answers:
    """The receiver answers."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Fails:
    """No answer is obtained."""

    failure: SendFailure
    error: str = "as scripted"


@dataclass(frozen=True, slots=True)
class Holds:
    """The receiver answers once `until` is set; if that is not before the request's timeout, the try is a `TIMEOUT`."""

    until: asyncio.Event = field(default_factory=asyncio.Event)
    then: Answers = field(default_factory=Answers)


Step = Answers | Fails | Holds

_HEADERS_KEPT = ("retry-after", "webhook-delivery", "content-type", "webhook-allowed-origin", "webhook-allowed-rate")


class ScriptedSender:
    """Answers 200 where nothing else was scripted. `requests` are all requests so far, in the order in which they were sent."""

    def __init__(self) -> None:
        self.requests: list[SendRequest] = []
        self._steps: dict[tuple[Method, str], deque[Step]] = {}
        self._under_way: set[asyncio.Future[None]] = set()
        self._arrival = asyncio.Condition()
        self._closed = False

    def script(self, url: str, *steps: Step, method: Method = Method.POST) -> None:
        """Says what the next requests to `url` come to, one step each; the last one holds for all that follow."""
        self._steps[method, url] = deque(steps)

    async def sent(self, count: int) -> None:
        """Waits until `count` requests have been sent in all."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.requests) >= count)

    async def send(self, request: SendRequest) -> SendResult:
        if self._closed:
            return _failed(Fails(SendFailure.OURS, "the sender is closed"))
        step = self._next_step(request)
        self.requests.append(request)
        loop = asyncio.get_running_loop()
        closing: asyncio.Future[None] = loop.create_future()
        self._under_way.add(closing)
        started = loop.time()
        try:
            async with self._arrival:
                self._arrival.notify_all()
            result = await self._play(step, request.timeout, closing)
        finally:
            self._under_way.discard(closing)
        answer = result.answer[: request.answer_limit]
        return SendResult(result.status, result.failure, result.error, result.headers, answer, loop.time() - started)

    @property
    def in_flight(self) -> int:
        return len(self._under_way)

    async def close(self) -> None:
        self._closed = True
        for closing in self._under_way:
            if not closing.done():
                closing.set_result(None)

    def _next_step(self, request: SendRequest) -> Step:
        steps = self._steps.get((request.method, request.url))
        if not steps:
            return Answers()
        return steps.popleft() if len(steps) > 1 else steps[0]

    async def _play(self, step: Step, timeout: float, closing: asyncio.Future[None]) -> SendResult:
        match step:
            case Answers():
                return _answered(step)
            case Fails():
                return _failed(step)
            case Holds():
                async with asyncio.TaskGroup() as group:
                    released = group.create_task(step.until.wait())
                    either: set[asyncio.Future[Any]] = {released, closing}
                    await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                    answered = released.done()
                    released.cancel()
                if closing.done():
                    return _failed(Fails(SendFailure.OURS, "the sender was closed"))
                return _answered(step.then) if answered else _failed(Fails(SendFailure.TIMEOUT))


def _answered(step: Answers) -> SendResult:
    headers = {name.lower(): value for name, value in step.headers.items() if name.lower() in _HEADERS_KEPT}
    return SendResult(step.status, None, "", headers, step.body, 0.0)


def _failed(step: Fails) -> SendResult:
    return SendResult(None, step.failure, step.error, {}, b"", 0.0)
