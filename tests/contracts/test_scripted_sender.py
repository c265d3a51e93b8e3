"""The scripted sender is a sender."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count

import pytest

from certes_broker.ports.sender import Method, SendFailure
from tests.contracts.sender_contract import SenderContract, SenderHarness, post
from tests.fakes.scripted_sender import Answers, Fails, Holds, ScriptedSender


class ScriptedHarness(SenderHarness):
    def __init__(self) -> None:
        self.sender = self.scripted = ScriptedSender()
        self._urls = (f"https://receiver{number}.example/" for number in count())

    def answering(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> str:
        return self._scripted(Answers(status, headers or {}, body))

    def breaking(self) -> str:
        return self._scripted(Fails(SendFailure.BROKEN))

    def holding(self) -> tuple[str, asyncio.Event]:
        holds = Holds()
        return self._scripted(holds), holds.until

    async def arrived(self, count: int) -> list[tuple[Mapping[str, str], bytes]]:
        await self.scripted.sent(count)
        return [
            ({name.lower(): value for name, value in request.headers.items()}, request.body)
            for request in self.scripted.requests
        ]

    async def methods(self, count: int) -> list[str]:
        await self.scripted.sent(count)
        return [request.method.value for request in self.scripted.requests]

    def _scripted(self, step: Answers | Fails | Holds) -> str:
        url = next(self._urls)
        for method in Method:
            self.scripted.script(url, step, method=method)
        return url


class TestScriptedSender(SenderContract):
    @pytest.fixture
    def harness(self) -> ScriptedHarness:
        return ScriptedHarness()


async def test_steps_are_played_in_order_and_the_last_one_stays() -> None:
    sender = ScriptedSender()
    sender.script("https://a.example/", Fails(SendFailure.CONNECT), Answers(500), Answers(204))
    results = [await sender.send(post("https://a.example/")) for _ in range(4)]
    assert [result.status for result in results] == [None, 500, 204, 204]
