"""Floods and half-open connections on both ports of the real process, an honest client beside them, and memory measured.

`CERTES_TEST_FLOOD=20` sends twenty times as much.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from scripts.broker_process import BrokerProcess
from tests import http2
from tests.acceptance import github
from tests.acceptance.client import Client, Frames, event, ordinals
from tests.acceptance.client import connected as connected_client
from tests.http2 import Connection, Frame, frame, head

PATIENCE = 120.0
TIMES = int(os.environ.get("CERTES_TEST_FLOOD", "1"))
GROWTH = 96 << 20
"""What a flood may leave behind, which is what allocators keep. What would be held, if it were, is more."""
FILES = 16
"""Descriptors that may come and go beside those of the flood."""

SLOW = {
    "heads": b"POST /events HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "bodies": b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/cloudevents+json\r\nContent-Length: 900000\r\n\r\n",
    "chunks": b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/cloudevents+json\r\nTransfer-Encoding: chunked\r\n\r\n",
}
"""How requests begin that go on byte by byte."""

ANSWERED = {"grpc": b"application/grpc", "http": b"HTTP/1.1 200 OK"}
"""What a stream begins with, on either port."""

Measured = Callable[[str], None]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One broker for all floods: what one leaves behind, the next would find."""
    with BrokerProcess(tmp_path_factory.mktemp("hostile") / "broker") as process:
        yield process.start()
        assert [line for line in process.log.splitlines() if "internal_error" in line] == []
        assert process.terminate() == 0


def memory(broker: BrokerProcess) -> int:
    """What the process holds in memory, in bytes."""
    status = Path(f"/proc/{broker.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def descriptors(broker: BrokerProcess) -> int:
    """How many files and sockets the process has open."""
    return sum(1 for _ in Path(f"/proc/{broker.pid}/fd").iterdir())


class Honest:
    """Publishes, and takes what it published, over and over."""

    def __init__(self, client: Client, call: Frames, stream: str, name: str) -> None:
        self._client = client
        self._call = call
        self._stream = stream
        self._name = name
        self._came = asyncio.Event()
        self.delivered = 0

    async def work(self) -> None:
        while True:
            wanted = f"{self._name} {self.delivered}"
            await self._client.publish([event(wanted)])
            # Between deliveries the broker says that it is there.
            while not (frame := await self._call.read()).HasField("batch"):
                pass
            batch = frame.batch
            assert [delivery.event.id for delivery in batch.deliveries] == [wanted]
            await self._client.acknowledge(self._stream, ordinals(batch.first_ordinal, batch.first_ordinal))
            self.delivered += 1
            self._came.set()

    async def is_served(self, times: int = 3) -> None:
        """Returns when so many more deliveries have come."""
        until = self.delivered + times
        while self.delivered < until:
            self._came.clear()
            await self._came.wait()


@asynccontextmanager
async def beside_an_honest_client(broker: BrokerProcess, name: str, report: Measured) -> AsyncIterator[Honest]:
    """Whatever is done within, an honest client is served, and the broker is no larger for it in the end."""
    async with asyncio.timeout(PATIENCE), connected_client(broker) as client:
        call = client.subscribe(await client.create_stream(name))
        honest = Honest(client, call, (await call.read()).opened.stream, name)
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(honest.work())
            await honest.is_served()
            held, files = memory(broker), descriptors(broker)
            yield honest
            await honest.is_served()
            grown = memory(broker) - held
            report(f"the process grew by {grown / (1 << 20):+.1f} MiB; {honest.delivered} events went by")
            assert grown < GROWTH
            while descriptors(broker) > files + FILES:
                await honest.is_served(1)
            work.cancel()
        call.cancel()
    assert '"level": "error"' not in broker.log


def resets(frames: list[Frame]) -> int:
    return sum(kind == http2.RST_STREAM for kind, _, _ in frames)


def answers(frames: list[Frame], status: int) -> int:
    """How many of these say a status of gRPC; the first on a connection says it in letters."""
    return sum(kind == http2.HEADERS and b"grpc-status\x02%d" % status in payload for kind, _, payload in frames)


async def test_a_method_whose_name_is_no_text_is_refused_like_any_other_that_there_is_not(broker, report) -> None:
    async with beside_an_honest_client(broker, "names", report) as honest:
        for path in (b"/certes\xff/\xfe", b"\xff", b"/certes.v1.EventService/Publish\x80", b"/no/such"):
            async with http2.connected(broker.grpc) as connection:
                await connection.send([frame(http2.HEADERS, http2.END_HEADERS, 1, head(path))])
                frames = await connection.until(lambda frames: answers(frames, 12) > 0)
                assert answers(frames, 12) == 1, path
            await honest.is_served(1)


async def test_streams_that_are_reset_at_once_in_thousands_cost_nobody_else_anything(broker, report) -> None:
    rapid = (
        frame(http2.HEADERS, http2.END_HEADERS, 2 * number + 1, head())
        + frame(http2.RST_STREAM, 0, 2 * number + 1, http2.CANCEL)
        for number in range(5_000 * TIMES)
    )
    async with beside_an_honest_client(broker, "resets", report), http2.connected(broker.grpc) as connection:
        await connection.send(rapid)
        # More than may be open at once are refused before anything is done for them.
        assert resets(await connection.until(lambda frames: resets(frames) > 1_000)) > 1_000


async def test_a_flood_of_pings_ends_its_connection(broker, report) -> None:
    async with beside_an_honest_client(broker, "pings", report), http2.connected(broker.grpc) as connection:
        await connection.send(frame(http2.PING, 0, 0, struct.pack(">Q", number)) for number in range(100_000 * TIMES))
        await connection.until(lambda _: False)
        assert connection.has_ended


async def test_a_flood_of_settings_is_answered_one_by_one_and_leaves_nothing(broker, report) -> None:
    changes = (
        frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535 + number % 2)) for number in range(10_000 * TIMES)
    )
    async with beside_an_honest_client(broker, "settings", report), http2.connected(broker.grpc) as connection:
        sent = await connection.send(changes)
        await connection.until(lambda frames: sum(kind == http2.SETTINGS for kind, _, _ in frames) > sent)


async def test_a_head_that_never_ends_is_not_kept(broker, report) -> None:
    more = frame(http2.CONTINUATION, 0, 1, http2.field(b"x", b"a" * 16_000))

    def endless() -> Iterator[bytes]:
        yield frame(http2.HEADERS, 0, 1, head())
        for _ in range(8_000 * TIMES):
            yield more

    async with beside_an_honest_client(broker, "continuation", report), http2.connected(broker.grpc) as connection:
        await connection.send(endless())
        assert resets(await connection.until(lambda frames: resets(frames) > 0)) or connection.has_ended


async def test_heads_of_more_than_16_kib_are_refused(broker, report) -> None:
    large = [(b"x%d" % number, b"a" * 3_000) for number in range(6)]
    async with beside_an_honest_client(broker, "heads", report), http2.connected(broker.grpc) as connection:
        await connection.send(
            frame(http2.HEADERS, http2.END_HEADERS, 2 * number + 1, head(more=large)) for number in range(1_000 * TIMES)
        )
        frames = await connection.until(lambda frames: resets(frames) >= 1_000 * TIMES)
        assert resets(frames) == 1_000 * TIMES


async def test_more_rpcs_on_a_connection_than_it_may_have_are_refused(broker, report) -> None:
    opened = (frame(http2.HEADERS, http2.END_HEADERS, 2 * number + 1, head(http2.SUBSCRIBE)) for number in range(1_500))
    async with beside_an_honest_client(broker, "half-open", report), http2.connected(broker.grpc) as connection:
        await connection.send(opened)
        assert resets(await connection.until(lambda frames: resets(frames) >= 500)) == 500


async def test_a_subscriber_that_does_not_read_is_sent_no_more_than_it_lets_in(broker, report) -> None:
    large = 256 << 10
    async with (
        beside_an_honest_client(broker, "unread", report),
        connected_client(broker) as client,
        AsyncExitStack() as stack,
    ):
        # No stream may send anything before it is told that it may.
        no_window = struct.pack(">HI", 4, 0)
        for number in range(10):
            name = await client.create_stream(f"unread-{number}", parent="subscribers/unread")
            request = b"\x0a" + bytes((len(name),)) + name.encode()
            connection: Connection = await stack.enter_async_context(http2.connected(broker.grpc, no_window))
            await connection.send(
                [
                    frame(http2.HEADERS, http2.END_HEADERS, 1, head(http2.SUBSCRIBE)),
                    frame(http2.DATA, http2.END_STREAM, 1, struct.pack(">BI", 0, len(request)) + request),
                ]
            )
        # Each of the ten would get 16 MiB of these.
        for number in range(64):
            await client.publish([event(f"large {number}", text="x" * large, subscriber="unread")])


async def test_connections_that_say_nothing_or_half_a_preface_hold_up_nobody(broker, report) -> None:
    host, _, port = broker.grpc.rpartition(":")
    async with beside_an_honest_client(broker, "idle", report) as honest:
        writers = []
        for number in range(300 * TIMES):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(http2.PREFACE[: number % len(http2.PREFACE)])
            writers.append(writer)
        await honest.is_served()
        for writer in writers:
            writer.transport.abort()


async def test_rpcs_whose_requests_never_end_hold_up_nobody(broker, report) -> None:
    started = struct.pack(">BI", 0, 1_000) + b"\x0a"
    paths = (http2.SUBSCRIBE, b"/certes.v1.EventService/Publish", b"/grpc.health.v1.Health/Check")
    async with beside_an_honest_client(broker, "endless", report) as honest, AsyncExitStack() as stack:
        for path in paths:
            connection = await stack.enter_async_context(http2.connected(broker.grpc))
            await connection.send(
                frame(http2.HEADERS, http2.END_HEADERS, stream, head(path)) + frame(http2.DATA, 0, stream, started)
                for stream in range(1, 1_000, 2)
            )
            await honest.is_served()


@pytest.mark.parametrize("port", ["grpc", "http"])
async def test_connections_of_which_a_client_ends_its_half_are_closed(broker, report, port: str) -> None:
    host, _, number = getattr(broker, port).rpartition(":")
    said = {
        "grpc": http2.PREFACE
        + frame(http2.SETTINGS, 0, 0)
        + frame(http2.HEADERS, http2.END_HEADERS, 1, head(http2.SUBSCRIBE)),
        "http": b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/cloudevents+json\r\nContent-Length: 90\r\n\r\n{",
    }[port]
    async with beside_an_honest_client(broker, f"half-closed-{port}", report) as honest:
        clients = []
        for _ in range(100 * TIMES):
            reader, writer = await asyncio.open_connection(host, int(number))
            writer.write(said)
            writer.write_eof()
            clients.append((reader, writer))
        await honest.is_served()
        for reader, writer in clients:
            # The broker ends its half, too, although the client goes on reading.
            while await reader.read(1 << 16):
                pass
            writer.close()


@pytest.mark.parametrize("port", ["grpc", "http"])
async def test_a_client_whose_socket_is_full_is_sent_no_more(broker, report, port: str) -> None:
    async with (
        beside_an_honest_client(broker, f"full-{port}", report) as honest,
        connected_client(broker) as client,
    ):
        held = memory(broker)
        sockets = []
        for number in range(5):
            name = await client.create_stream(f"full-{port}-{number}", parent="subscribers/full")
            sockets.append(await subscribed(getattr(broker, port), port, name))
        for number in range(64):
            await client.publish([event(f"{port} {number}", text="x" * (256 << 10), subscriber="full")])
        await honest.is_served()
        assert memory(broker) - held < GROWTH
        for one in sockets:
            assert ANSWERED[port] in one.recv(1_024, socket.MSG_PEEK)
            one.close()


async def subscribed(address: str, port: str, name: str) -> socket.socket:
    """A connection with an open stream, which lets in all that HTTP/2 has a word for, and of which nothing is ever read."""
    host, _, number = address.rpartition(":")
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    opened.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(opened, (host, int(number)))
    if port == "grpc":
        request = b"\x0a" + bytes((len(name),)) + name.encode()
        message = struct.pack(">BI", 0, len(request)) + request
        window = struct.pack(">I", (1 << 31) - 1 - 65_535)
        said = (
            http2.PREFACE
            + frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 4, (1 << 31) - 1))
            + frame(8, 0, 0, window)
            + frame(http2.HEADERS, http2.END_HEADERS, 1, head(http2.SUBSCRIBE))
            + frame(http2.DATA, http2.END_STREAM, 1, message)
        )
    else:
        request = json.dumps({"subscription": name}).encode()
        body = struct.pack(">BI", 0, len(request)) + request
        said = (
            b"POST /api/certes.v1.EventService/Subscribe HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/connect+json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        ) + body
    await loop.sock_sendall(opened, said)
    return opened


@pytest.mark.parametrize("slow", SLOW)
async def test_clients_that_send_byte_by_byte_hold_up_nobody(broker, report, slow: str) -> None:
    host, _, port = broker.http.rpartition(":")
    async with beside_an_honest_client(broker, f"slow-{slow}", report) as honest, github.http() as http:
        writers = []
        for _ in range(300 * TIMES):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(SLOW[slow])
            writers.append(writer)
        for _ in range(3):
            for writer in writers:
                writer.write(b"1")
            await honest.is_served(1)
        figures = (await http.get(f"http://{broker.http}/metrics")).text
        samples = dict(line.rsplit(" ", 1) for line in figures.splitlines() if not line.startswith("#"))
        assert float(samples["certes_http_connections"]) > 300 * TIMES
        assert float(samples["certes_grpc_calls"]) >= 1
        for writer in writers:
            writer.transport.abort()


async def test_a_flood_of_headers_is_answered_431_and_leaves_nothing(broker, report) -> None:
    host, _, port = broker.http.rpartition(":")
    lines = b"".join(b"x%d: y\r\n" % number for number in range(20_000))
    async with beside_an_honest_client(broker, "headers", report) as honest:
        for _ in range(30 * TIMES):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n")
            with suppress(ConnectionError):
                # Where it hangs up on what is still being sent, its answer may be lost.
                assert (await reader.readline()) in (b"HTTP/1.1 431 Request Header Fields Too Large\r\n", b"")
            writer.transport.abort()
            await honest.is_served(1)


def test_the_process_may_have_as_many_descriptors_as_its_connections_take(broker) -> None:
    limits = Path(f"/proc/{broker.pid}/limits").read_text()
    soft, hard = limits.partition("Max open files")[2].split()[:2]
    assert soft == "unlimited" or int(soft) >= min(2 * 2_048, int(hard) if hard != "unlimited" else 2 * 2_048)
