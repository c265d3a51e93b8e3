"""Handshakes on the port of HTTP: whoever connects and says nothing holds nothing for long, and keeps nobody out."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from certes_broker.gateway.certificates import CertificateFiles, Certificates
from certes_broker.gateway.http.handshakes import HANDSHAKE_TIMEOUT, Handshakes
from certes_broker.gateway.http.server import HttpServer
from certes_broker.gateway.http.settings import HttpSettings
from tests.certificates import Authority

REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.issue("localhost")
    return made


async def empty(_scope, _receive, send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def serving(authority: Authority, most: int, timeout: float = HANDSHAKE_TIMEOUT) -> AsyncIterator[int]:
    """A server that shakes hands, and its port."""
    certificate = authority.ca.with_name("localhost.pem")
    certificates = Certificates(CertificateFiles(certificate, certificate.with_suffix(".key")))
    async with (
        asyncio.timeout(30),
        Handshakes(certificates.context(), most, timeout=timeout).running() as handshakes,
    ):
        server = HttpServer(empty, HttpSettings(port=0), handshakes)
        try:
            yield await server.start()
        finally:
            await server.drain(1.0)


async def answer(port: int, ca: Path) -> bytes:
    """What an honest client is answered."""
    context = ssl.create_default_context(cafile=str(ca))
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    try:
        writer.write(REQUEST)
        return await reader.readline()
    finally:
        writer.transport.abort()


async def silent(stack: AsyncExitStack, port: int, said: bytes = b"") -> asyncio.StreamReader:
    """Connects, and says next to nothing."""
    reader, writer = await asyncio.open_connection("localhost", port)
    stack.callback(abort, writer)
    writer.write(said)
    return reader


def abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def ended(reader: asyncio.StreamReader) -> None:
    """Returns when the connection is closed."""
    with suppress(ConnectionError):
        assert await reader.read() == b""


async def test_who_connects_and_says_nothing_makes_room_for_those_who_shake_hands(authority):
    async with serving(authority, most=3) as port, AsyncExitStack() as stack:
        silents = [await silent(stack, port, b"\x16\x03\x01"[: number % 4]) for number in range(20)]
        assert await answer(port, authority.ca) == b"HTTP/1.1 204 No Content\r\n"
        for reader in silents[:17]:
            await ended(reader)


async def test_a_handshake_that_is_not_over_in_time_ends_its_connection(authority):
    async with serving(authority, most=3, timeout=0.05) as port, AsyncExitStack() as stack:
        await ended(await silent(stack, port))


async def test_a_connection_whose_handshake_is_over_takes_no_place(authority):
    async with serving(authority, most=1) as port, AsyncExitStack() as stack:
        context = ssl.create_default_context(cafile=str(authority.ca))
        connections = [await asyncio.open_connection("localhost", port, ssl=context) for _ in range(3)]
        for reader, writer in connections:
            stack.callback(abort, writer)
            writer.write(REQUEST)
            assert await reader.readline() == b"HTTP/1.1 204 No Content\r\n"


async def test_what_is_no_handshake_ends_nothing_but_its_connection(authority):
    async with serving(authority, most=3) as port, AsyncExitStack() as stack:
        reader = await silent(stack, port, REQUEST)
        with suppress(ConnectionError):
            await reader.read()
        assert await answer(port, authority.ca) == b"HTTP/1.1 204 No Content\r\n"


async def test_a_fault_with_one_connection_ends_nothing_but_it(authority):
    made: list[asyncio.Protocol] = []

    def protocol() -> asyncio.Protocol:
        made.append(asyncio.Protocol())
        if len(made) == 1:
            raise ValueError(made)
        return made[-1]

    certificate = authority.ca.with_name("localhost.pem")
    certificates = Certificates(CertificateFiles(certificate, certificate.with_suffix(".key")))
    async with asyncio.timeout(30), Handshakes(certificates.context(), 3).running() as handshakes:
        listener = socket.create_server(("localhost", 0))
        listener.setblocking(False)
        port = listener.getsockname()[1]
        handshakes.listen(listener, protocol)
        async with AsyncExitStack() as stack:
            await ended(await silent(stack, port))
            _, writer = await asyncio.open_connection(
                "localhost", port, ssl=ssl.create_default_context(cafile=str(authority.ca))
            )
            stack.callback(abort, writer)
    assert len(made) == 2


async def test_others_have_their_turn_however_many_connect():
    made: list[int] = []

    def protocol() -> asyncio.Protocol:
        made.append(turns)
        return asyncio.Protocol()

    turns = 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setblocking(False)
        for _ in range(20):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        async with asyncio.timeout(30), Handshakes(context, 100).running() as handshakes:
            handshakes.listen(listener, protocol)
            while len(made) < 20:
                turns += 1
                await asyncio.sleep(0)
            assert len(handshakes) == 20
    assert made[-1] - made[0] >= 15


async def test_a_drain_ends_handshakes_and_takes_no_more(authority):
    async with AsyncExitStack() as stack:
        async with serving(authority, most=3) as port:
            reader = await silent(stack, port)
            assert await answer(port, authority.ca)
        await ended(reader)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("localhost", port)
