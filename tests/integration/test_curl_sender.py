"""The libcurl sender against real receivers on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping

import pytest
import uvloop

from certes_broker.ports.sender import SendFailure, SendRequest
from certes_broker.webhook.addresses import AddressPolicy
from certes_broker.webhook.sender import CurlSender
from tests.contracts.sender_contract import AMPLE, SenderContract, SenderHarness, outcome, post
from tests.fakes.http_receiver import HttpReceiver, answer, http_receiver, saying

DEV = AddressPolicy(allow_loopback=True)


class CurlHarness(SenderHarness):
    def __init__(self, sender: CurlSender, receiver: HttpReceiver) -> None:
        self.sender = sender
        self.receiver = receiver

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.receiver.port}{path}"

    def answering(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> str:
        return self.saying(answer(status, headers, body))

    def saying(self, raw: bytes, *, hang_up: bool = False) -> str:
        return self.url(self.receiver.behave(saying(raw, hang_up=hang_up)))

    def breaking(self) -> str:
        return self.saying(b"", hang_up=True)

    def holding(self) -> tuple[str, asyncio.Event]:
        release = asyncio.Event()

        async def behave(writer: asyncio.StreamWriter) -> None:
            await release.wait()
            writer.write(answer(200))

        return self.url(self.receiver.behave(behave)), release

    async def arrived(self, count: int) -> list[tuple[Mapping[str, str], bytes]]:
        return [(arrival.headers, arrival.body) for arrival in await self.receiver.arrived(count)]

    async def methods(self, count: int) -> list[str]:
        return [arrival.line.split(" ")[0] for arrival in await self.receiver.arrived(count)]


@pytest.fixture
async def receiver() -> AsyncIterator[HttpReceiver]:
    async with http_receiver() as running:
        yield running


@pytest.fixture
async def harness(receiver: HttpReceiver) -> AsyncIterator[CurlHarness]:
    sender = CurlSender(DEV)
    yield CurlHarness(sender, receiver)
    await sender.close()


class TestCurlSender(SenderContract):
    pass


async def test_a_request_is_a_plain_post_and_nothing_of_libcurl_s_own_is_added(harness: CurlHarness) -> None:
    await harness.sender.send(post(harness.answering(204), body=b"x" * 2048, headers={"webhook-id": "msg_1"}))
    [arrival] = await harness.receiver.arrived(1)
    assert arrival.line == "POST /0 HTTP/1.1"
    assert arrival.headers == {
        "host": f"127.0.0.1:{harness.receiver.port}",
        "user-agent": "Certes",
        "accept": "*/*",
        "webhook-id": "msg_1",
        "content-length": "2048",
    }


async def test_a_body_of_3_mib_arrives_whole(harness: CurlHarness) -> None:
    body = bytes(range(256)) * 4096 * 3
    assert (await harness.sender.send(post(harness.answering(200), body=body))).status == 200
    assert (await harness.receiver.arrived(1))[0].body == body


async def test_an_empty_body_is_a_post_too(harness: CurlHarness) -> None:
    assert (await harness.sender.send(post(harness.answering(200), body=b""))).status == 200
    assert (await harness.receiver.arrived(1))[0].body == b""


async def test_a_redirect_is_not_followed(harness: CurlHarness) -> None:
    target = harness.answering(200)
    result = await harness.sender.send(post(harness.answering(307, {"Location": target})))
    assert result.status == 307
    assert len(harness.receiver.arrivals) == 1


async def test_a_connection_serves_one_request_after_another(harness: CurlHarness) -> None:
    url = harness.answering(200, body=b"ok")
    for _ in range(5):
        assert (await harness.sender.send(post(url))).status == 200
    assert harness.receiver.connections == 1


async def test_a_kept_connection_that_the_receiver_closed_is_replaced(harness: CurlHarness) -> None:
    url = harness.answering(200)
    await harness.sender.send(post(url))
    harness.receiver.hang_up()
    assert (await harness.sender.send(post(url))).status == 200
    assert harness.receiver.connections == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x01\x02\x03",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX-Half: a hea",
        b"HTTP/1.1 200 OK\r\n" + b"X-Flood: %s\r\n" % (b"f" * 4000) * 100 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 200_000,
    ],
    ids=["another protocol", "bytes", "status", "length", "half a body", "chunk", "half a header", "long headers", "many headers", "interim"],
)  # fmt: skip
async def test_an_answer_that_is_no_answer_is_broken(harness: CurlHarness, raw: bytes) -> None:
    result = await harness.sender.send(post(harness.saying(raw, hang_up=True)))
    assert outcome(result) == (None, SendFailure.BROKEN), result
    assert result.error
    assert (await harness.sender.send(post(harness.answering(200)))).status == 200


async def test_an_interim_answer_s_headers_are_not_the_answer_s(harness: CurlHarness) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\nWebhook-Delivery: disable\r\n\r\n"
    result = await harness.sender.send(post(harness.saying(interim + answer(503, {"Retry-After": "1"}))))
    assert (result.status, result.headers) == (503, {"retry-after": "1"})


async def test_a_header_of_absurd_length_is_not_kept(harness: CurlHarness) -> None:
    result = await harness.sender.send(post(harness.answering(503, {"Retry-After": "1" * 5000})))
    assert (result.status, result.headers) == (503, {})


@pytest.mark.parametrize("status", [200, 500])
async def test_an_endless_answer_counts_by_its_status_and_is_not_read_on(harness: CurlHarness, status: int) -> None:
    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 10000000000\r\n\r\n" % status)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    result = await harness.sender.send(post(harness.url(harness.receiver.behave(behave))))
    assert (result.status, result.failure, result.answer) == (status, None, b"x" * 1024)
    await harness.receiver.broken_off.wait()


async def test_an_answer_that_drips_for_ever_does_not_outlive_the_timeout(harness: CurlHarness) -> None:
    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)  # Not a wait for anything: the drip is the subject.

    result = await harness.sender.send(post(harness.url(harness.receiver.behave(behave)), timeout=0.1))
    assert outcome(result) == (None, SendFailure.TIMEOUT)
    await harness.receiver.broken_off.wait()


async def test_a_cancelled_try_hangs_up_on_the_receiver(harness: CurlHarness) -> None:
    async def behave(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        one = group.create_task(harness.sender.send(post(harness.url(harness.receiver.behave(behave)))))
        await harness.receiver.arrived(1)
        one.cancel()
    await harness.receiver.broken_off.wait()


async def test_a_refused_connection_is_a_failure_to_connect(harness: CurlHarness) -> None:
    result = await harness.sender.send(post(f"http://127.0.0.1:{await unused_port()}/"))
    assert outcome(result) == (None, SendFailure.CONNECT)
    assert "127.0.0.1" in result.error


@pytest.mark.parametrize(
    ("code", "failure"), [(socket.EAI_NONAME, SendFailure.RESOLVE), (socket.EAI_AGAIN, SendFailure.OURS)]
)
async def test_a_name_that_cannot_be_looked_up_is_its_receiver_s_fault_unless_the_resolver_has_no_answer(
    code: int, failure: SendFailure
) -> None:
    asked: list[str] = []

    async def look_up(host: str) -> int:
        asked.append(host)
        return code

    sender = CurlSender(DEV, look_up=look_up)
    result = await sender.send(post("http://Nonexistent.invalid:8080/"))
    await sender.close()
    assert outcome(result) == (None, failure)
    assert "onexistent.invalid" in result.error
    assert asked == ["nonexistent.invalid"]


async def test_no_name_is_looked_up_where_there_is_none_or_where_a_receiver_answered(receiver: HttpReceiver) -> None:
    async def look_up(host: str) -> int:
        raise AssertionError(host)

    sender = CurlSender(DEV, look_up=look_up)
    harness = CurlHarness(sender, receiver)
    held, _ = harness.holding()
    # Too short for a busy machine to begin to connect, perhaps; but nobody had to resolve anything.
    assert outcome(await sender.send(post(held, timeout=0.001))) == (None, SendFailure.TIMEOUT)
    assert (await sender.send(post(harness.answering(204)))).status == 204
    await sender.close()


async def test_beyond_its_places_requests_wait_and_go_first_come_first_served(receiver: HttpReceiver) -> None:
    sender = CurlSender(DEV, max_in_flight=1)
    harness = CurlHarness(sender, receiver)
    held, release = harness.holding()
    bodies = [b"%d" % number for number in range(5)]
    async with asyncio.TaskGroup() as group:
        tries = [group.create_task(sender.send(post(held, body=body))) for body in bodies]
        await receiver.arrived(1)
        assert (sender.in_flight, sender.waiting) == (1, 4)
        tries[2].cancel()
        release.set()
    assert [arrival.body for arrival in receiver.arrivals] == [b"0", b"1", b"3", b"4"]
    assert (sender.in_flight, sender.waiting) == (0, 0)
    await sender.close()


async def test_a_cancelled_try_gives_its_place_to_the_next(receiver: HttpReceiver) -> None:
    sender = CurlSender(DEV, max_in_flight=1)
    harness = CurlHarness(sender, receiver)
    held, _ = harness.holding()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(sender.send(post(held)))
        await receiver.arrived(1)
        second = group.create_task(sender.send(post(harness.answering(204))))
        first.cancel()
    assert second.result().status == 204
    await sender.close()


async def test_closing_answers_those_who_wait_for_a_place_too(receiver: HttpReceiver) -> None:
    sender = CurlSender(DEV, max_in_flight=1)
    held, _ = CurlHarness(sender, receiver).holding()
    async with asyncio.TaskGroup() as group:
        tries = [group.create_task(sender.send(post(held))) for _ in range(3)]
        await receiver.arrived(1)
        await sender.close()
    assert [outcome(one.result()) for one in tries] == [(None, SendFailure.OURS)] * 3
    assert (sender.in_flight, sender.waiting) == (0, 0)


async def test_a_sender_that_never_sent_can_be_closed() -> None:
    await CurlSender(DEV).close()


@pytest.mark.parametrize(
    ("headers", "wrong"),
    [
        ({"x": "a\r\nevil: 1"}, "line break"),
        ({"x\ny": "a"}, "no name"),
        ({"content-length:": "3"}, "no name"),
        ({"": "a"}, "no name"),
        ({"x": "a\0b"}, "NUL"),
        ({"Content-Length": "3"}, "Content-Length"),
        ({"HOST": "elsewhere.example"}, "HOST"),
        ({"x": "5 €"}, "latin-1"),
    ],
)
async def test_headers_that_would_change_the_request_are_never_sent(
    harness: CurlHarness, headers: Mapping[str, str], wrong: str
) -> None:
    url = harness.answering(200)
    result = await harness.sender.send(post(url, headers=headers))
    assert outcome(result) == (None, SendFailure.OURS)
    assert wrong in result.error
    assert (await harness.sender.send(post(url))).status == 200
    assert len(harness.receiver.arrivals) == 1


async def test_a_header_of_other_bytes_than_ascii_is_sent_as_those_bytes(harness: CurlHarness) -> None:
    await harness.sender.send(post(harness.answering(204), headers={"x-ref": "caf\xe9\xff", "x-own": "1"}))
    [arrival] = await harness.receiver.arrived(1)
    assert (arrival.headers["x-ref"], arrival.headers["x-own"]) == ("caf\xe9\xff", "1")


async def test_headers_of_one_request_do_not_reach_the_next(harness: CurlHarness) -> None:
    url = harness.answering(200)
    await harness.sender.send(post(url, headers={"webhook-id": "msg_1", "x-once": "1"}))
    await harness.sender.send(post(url, headers={"webhook-id": "msg_2"}))
    assert [
        (arrival.headers["webhook-id"], arrival.headers.get("x-once")) for arrival in harness.receiver.arrivals
    ] == [
        ("msg_1", "1"),
        ("msg_2", None),
    ]


async def test_a_timeout_of_one_request_does_not_stay_for_the_next(harness: CurlHarness) -> None:
    held, release = harness.holding()
    assert (await harness.sender.send(post(held, timeout=0.01))).failure is SendFailure.TIMEOUT
    async with asyncio.TaskGroup() as group:
        one = group.create_task(harness.sender.send(SendRequest(held, {}, b"", AMPLE, AMPLE)))
        await harness.receiver.arrived(2)
        release.set()
    assert one.result().status == 200


@pytest.mark.parametrize("timeout", [float("nan"), float("inf")])
async def test_a_timeout_that_is_none_sends_nothing(harness: CurlHarness, timeout: float) -> None:
    result = await harness.sender.send(post(harness.answering(200), timeout=timeout))
    assert outcome(result) == (None, SendFailure.OURS)
    assert harness.receiver.connections == 0


def test_it_runs_in_uvloop_as_in_asyncio() -> None:
    async def exchange() -> list[int | None]:
        async with http_receiver() as receiver:
            sender = CurlSender(DEV, max_in_flight=8)
            urls = [CurlHarness(sender, receiver).answering(400 + number) for number in range(50)]
            results = await asyncio.gather(*(sender.send(post(url)) for url in urls))
            await sender.close()
            return [result.status for result in results]

    assert uvloop.run(exchange()) == list(range(400, 450))


async def unused_port() -> int:
    async with http_receiver() as gone:
        return gone.port
