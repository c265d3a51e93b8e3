"""What every sender keeps to, whatever it sends with. A sender's test is a harness and this class."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import pytest

from certes_broker.ports.sender import Method, Sender, SendFailure, SendRequest, SendResult

AMPLE = 30.0
"""Seconds. A timeout that no test waits for."""


class SenderHarness(ABC):
    """A sender and the receivers it can reach. Each receiver has a URL of its own."""

    sender: Sender

    @abstractmethod
    def answering(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> str:
        """Returns the URL of a receiver that answers so."""

    @abstractmethod
    def breaking(self) -> str:
        """Returns the URL of a receiver that hangs up without an answer."""

    @abstractmethod
    def holding(self) -> tuple[str, asyncio.Event]:
        """Returns the URL of a receiver that answers 200 once the event is set."""

    @abstractmethod
    async def arrived(self, count: int) -> list[tuple[Mapping[str, str], bytes]]:
        """Waits until `count` requests have arrived; returns headers (lower-case names) and body of each."""

    @abstractmethod
    async def methods(self, count: int) -> list[str]:
        """Waits until `count` requests have arrived; returns the method of each."""


def post(
    url: str, *, body: bytes = b"{}", timeout: float = AMPLE, headers: Mapping[str, str] | None = None
) -> SendRequest:
    return SendRequest(url, headers or {"content-type": "application/json"}, body, timeout, AMPLE)


class SenderContract:
    """Subclasses give the fixture `harness`."""

    @pytest.mark.parametrize("status", [200, 202, 204, 301, 308, 400, 410, 429, 500, 503])
    async def test_every_status_is_an_answer_and_no_failure(self, harness: SenderHarness, status: int) -> None:
        result = await harness.sender.send(post(harness.answering(status, {"Location": "http://127.0.0.1:1/"})))
        assert (result.status, result.failure, result.error) == (status, None, "")
        assert result.duration >= 0

    async def test_headers_that_matter_come_back_by_their_lower_case_names(self, harness: SenderHarness) -> None:
        url = harness.answering(503, {"Retry-After": "120", "Webhook-Delivery": "abort", "Content-Type": "text/plain"})
        result = await harness.sender.send(post(url))
        assert result.headers == {"retry-after": "120", "webhook-delivery": "abort", "content-type": "text/plain"}

    async def test_headers_that_do_not_matter_stay_away(self, harness: SenderHarness) -> None:
        result = await harness.sender.send(post(harness.answering(200, {"Set-Cookie": "a=b", "Server": "x"})))
        assert result.headers == {}

    async def test_an_answer_comes_back_as_bytes(self, harness: SenderHarness) -> None:
        result = await harness.sender.send(post(harness.answering(200, body=b"\x00\xffthanks")))
        assert result.answer == b"\x00\xffthanks"

    async def test_of_a_long_answer_the_first_1024_bytes_come_back(self, harness: SenderHarness) -> None:
        body = bytes(range(256)) * 8
        result = await harness.sender.send(post(harness.answering(200, body=body)))
        assert (result.status, result.answer) == (200, body[:1024])

    async def test_of_an_answer_as_much_comes_back_as_the_request_wants(self, harness: SenderHarness) -> None:
        body = bytes(range(256)) * 2048
        url = harness.answering(200, body=body)
        for limit in (len(body) + 1, len(body) - 1, 1):
            result = await harness.sender.send(replace(post(url), answer_limit=limit))
            assert (result.status, result.answer) == (200, body[:limit])

    async def test_one_answer_leaves_nothing_behind_in_the_next(self, harness: SenderHarness) -> None:
        first = harness.answering(503, {"Retry-After": "5"}, b"busy")
        await harness.sender.send(post(first))
        result = await harness.sender.send(post(harness.answering(200)))
        assert (result.status, result.headers, result.answer) == (200, {}, b"")

    async def test_body_and_headers_arrive_as_they_were_given(self, harness: SenderHarness) -> None:
        body = b'\x00{"a": "\xc3\xa9"}\x00\r\n'
        headers = {
            "content-type": "application/cloudevents+json",
            "webhook-id": "msg_1",
            "x-empty": "",
            "X-Colon": "a: b;c",
        }
        await harness.sender.send(post(harness.answering(200), body=body, headers=headers))
        [(arrived, arrived_body)] = await harness.arrived(1)
        assert arrived_body == body
        assert {name: arrived.get(name.lower()) for name in headers} == headers

    async def test_a_question_is_asked_by_options_and_its_answer_s_consent_comes_back(
        self, harness: SenderHarness
    ) -> None:
        url = harness.answering(204, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "120", "Allow": "POST"})
        question = SendRequest(url, {"webhook-request-origin": "a.example"}, b"", AMPLE, AMPLE, method=Method.OPTIONS)
        result = await harness.sender.send(question)
        assert result.status == 204
        assert result.headers == {"webhook-allowed-origin": "*", "webhook-allowed-rate": "120"}

    async def test_requests_of_both_kinds_follow_each_other_as_they_come(self, harness: SenderHarness) -> None:
        url = harness.answering(200, body=b"said")
        kinds = (Method.POST, Method.OPTIONS, Method.OPTIONS, Method.POST)
        for method in kinds:
            result = await harness.sender.send(replace(post(url), method=method))
            assert (result.status, result.answer) == (200, b"said")
        assert await harness.methods(len(kinds)) == [method.value for method in kinds]

    async def test_a_receiver_that_never_answers_is_a_timeout(self, harness: SenderHarness) -> None:
        url, _ = harness.holding()
        result = await harness.sender.send(post(url, timeout=0.05))
        assert (result.status, result.failure) == (None, SendFailure.TIMEOUT)
        assert result.error

    async def test_a_receiver_that_hangs_up_is_broken(self, harness: SenderHarness) -> None:
        result = await harness.sender.send(post(harness.breaking()))
        assert (result.status, result.failure) == (None, SendFailure.BROKEN)
        assert result.error

    async def test_what_is_under_way_is_counted(self, harness: SenderHarness) -> None:
        url, release = harness.holding()
        async with asyncio.TaskGroup() as group:
            tries = [group.create_task(harness.sender.send(post(url))) for _ in range(3)]
            await harness.arrived(3)
            assert harness.sender.in_flight == 3
            release.set()
        assert [one.result().status for one in tries] == [200, 200, 200]
        assert harness.sender.in_flight == 0

    async def test_a_cancelled_try_is_ended_at_once(self, harness: SenderHarness) -> None:
        url, _ = harness.holding()
        async with asyncio.TaskGroup() as group:
            one = group.create_task(harness.sender.send(post(url)))
            await harness.arrived(1)
            one.cancel()
        assert one.cancelled()
        assert harness.sender.in_flight == 0
        assert (await harness.sender.send(post(harness.answering(204)))).status == 204

    async def test_500_tries_at_once_each_get_their_own_answer(self, harness: SenderHarness) -> None:
        urls = [harness.answering(200 + number % 3, body=b"%d" % number) for number in range(500)]
        results = await asyncio.gather(*(harness.sender.send(post(url)) for url in urls))
        assert [(result.status, result.answer) for result in results] == [
            (200 + number % 3, b"%d" % number) for number in range(500)
        ]

    async def test_closing_ends_what_is_under_way_as_no_fault_of_the_receiver(self, harness: SenderHarness) -> None:
        url, _ = harness.holding()
        async with asyncio.TaskGroup() as group:
            tries = [group.create_task(harness.sender.send(post(url))) for _ in range(3)]
            await harness.arrived(3)
            await harness.sender.close()
        assert [outcome(one.result()) for one in tries] == [(None, SendFailure.OURS)] * 3
        assert harness.sender.in_flight == 0

    async def test_a_closed_sender_sends_no_more_and_may_be_closed_again(self, harness: SenderHarness) -> None:
        url = harness.answering(200)
        await harness.sender.send(post(url))
        await harness.sender.close()
        await harness.sender.close()
        assert outcome(await harness.sender.send(post(url))) == (None, SendFailure.OURS)


def outcome(result: SendResult) -> tuple[int | None, SendFailure | None]:
    return result.status, result.failure
