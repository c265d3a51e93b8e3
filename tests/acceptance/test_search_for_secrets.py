"""Wherever a secret of a broker comes out, its test fails: each way out is shown one."""

from __future__ import annotations

import asyncio
import os
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from certes.v1.admin_service_pb2 import CreateApiKeyResponse
from scripts.broker_process import BrokerProcess
from scripts.emitted_secrets import SecretEmitted
from tests import command
from tests.acceptance.client import Client
from tests.acceptance.receiver import receiving
from tests.http2 import DATA, Connection, frame
from tests.pages import Reader, blocks
from tests.program import running
from tests.promises.misbehaving import WELL, Stage

SHAPED = "whsec_" + b64encode(b"geheim-signatur-8d8d").decode()
GIVEN = "what only the broker was told"
MADE = "what only an answer told"
SECRETS = (SHAPED, GIVEN, MADE)
ORDINARY = "/certes.v1.EventService/Method"
TELLING = "/certes.v1.SubscriptionService/GetSigningSecrets"


@pytest.fixture
def broker(tmp_path: Path) -> BrokerProcess:
    """A broker that need not run: whoever leaves its block hears what came out meanwhile."""
    made = BrokerProcess(tmp_path / "data")
    made.confide(GIVEN)
    return made


def heard(broker: BrokerProcess) -> str:
    """Ends a broker; returns what is told of its secrets, in which none is."""
    told = ""
    try:
        with broker:
            pass
    except SecretEmitted as emitted:
        told = str(emitted)
    assert not [secret for secret in SECRETS if secret in told]
    return told


def answering(**answer: Any) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(**answer))


@pytest.mark.parametrize("secret", [SHAPED, GIVEN])
@pytest.mark.parametrize("place", ["body", "header"])
@pytest.mark.parametrize("status", [200, 403])
async def test_an_answer_over_http(broker: BrokerProcess, secret: str, place: str, status: int) -> None:
    said = {"text": secret} if place == "body" else {"headers": {"x-said": secret}}
    with httpx.Client(transport=answering(status_code=status, **said)) as client:
        await asyncio.to_thread(client.get, "http://broker/events")
    assert "the answer to GET /events" in heard(broker)
    async with httpx.AsyncClient(transport=answering(status_code=status, **said)) as asking:
        await asking.get("http://broker/events")
    assert "the answer to GET /events" in heard(broker)


def test_an_answer_over_http_that_is_to_tell_a_secret_may_and_no_other(broker: BrokerProcess) -> None:
    for path, status, is_heard in ((TELLING, 200, False), (TELLING, 404, True), (ORDINARY, 200, True)):
        with httpx.Client(transport=answering(status_code=status, json={"secret": MADE})) as client:
            client.post(f"http://broker/api{path}")
        assert bool(heard(broker)) is is_heard


Say = Callable[[grpc.aio.ServicerContext], AsyncIterator[bytes]]


@asynccontextmanager
async def speaking(shape: str, say: Say) -> AsyncIterator[grpc.aio.Channel]:
    """A server whose methods are of this shape and say this, and a channel to it."""

    async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        if shape.startswith("stream"):
            # Else grpcio may end the call with an error of its own, because it could not write.
            assert [one async for one in request] == [b""]
        async for one in say(context):
            yield one

    async def unary(request: Any, context: grpc.aio.ServicerContext) -> bytes:
        return [one async for one in stream(request, context)][-1]

    class Methods(grpc.GenericRpcHandler):
        def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            make = getattr(grpc, f"{shape}_rpc_method_handler")
            return make(stream if shape.endswith("stream") else unary)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Methods(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def ask(channel: grpc.aio.Channel, shape: str, method: str) -> None:
    """Calls a method and reads to its end, whatever that is."""
    begun = getattr(channel, shape)(method)(iter([b""]) if shape.startswith("stream") else b"")
    try:
        if shape.endswith("stream"):
            while await begun.read() is not grpc.aio.EOF:
                pass
        else:
            await begun
    except grpc.aio.AioRpcError:
        assert await begun.code() is grpc.StatusCode.ABORTED


SHAPES = pytest.mark.parametrize("shape", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])


@SHAPES
@pytest.mark.parametrize("secret", [SHAPED, GIVEN])
async def test_a_message_over_grpc(broker: BrokerProcess, shape: str, secret: str) -> None:
    async def say(_: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        yield b"\x0a\x04fine"
        yield b"\x0a\x20" + secret.encode()

    async with speaking(shape, say) as channel:
        await ask(channel, shape, ORDINARY)
        assert f"an answer of {ORDINARY}" in heard(broker)
        await ask(channel, shape, TELLING)
        assert heard(broker) == ""


async def test_what_an_answer_over_grpc_is_to_tell_no_other_may(broker: BrokerProcess) -> None:
    async def say(_: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        yield CreateApiKeyResponse(key=MADE).SerializeToString()

    async with speaking("unary_unary", say) as channel:
        method = channel.unary_unary(
            "/certes.v1.AdminService/CreateApiKey", response_deserializer=CreateApiKeyResponse.FromString
        )
        await method(b"")
        assert heard(broker) == ""
        await ask(channel, "unary_unary", ORDINARY)
        assert f"an answer of {ORDINARY}" in heard(broker)


@SHAPES
@pytest.mark.parametrize("where", ["details", "metadata"])
async def test_a_refusal_over_grpc(broker: BrokerProcess, shape: str, where: str) -> None:
    async def refuse(context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        if where == "metadata":
            await context.abort(grpc.StatusCode.ABORTED, "", (("details-bin", GIVEN.encode()),))
        await context.abort(grpc.StatusCode.ABORTED, f"{GIVEN}!")
        yield b""

    async with speaking(shape, refuse) as channel:
        for method in (ORDINARY, TELLING):
            await ask(channel, shape, method)
            assert f"the end of {method}" in heard(broker)


@pytest.mark.parametrize("place", ["body", "header"])
async def test_a_webhook(broker: BrokerProcess, place: str) -> None:
    said = {"content": GIVEN} if place == "body" else {"content": b"", "headers": {"x-said": GIVEN}}
    async with receiving() as receiver, httpx.AsyncClient(trust_env=False) as sender:
        await sender.post(receiver.url, **said)
    assert "a webhook" in heard(broker)


async def test_a_webhook_to_a_receiver_that_misbehaves(broker: BrokerProcess) -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as nobody, httpx.AsyncClient(trust_env=False) as sender:
        stage = Stage(Client(nobody))
        async with await asyncio.start_server(stage.server.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await sender.post(f"http://127.0.0.1:{port}/{WELL}", content=GIVEN)
            await stage.server.hang_up()
    assert "a webhook" in heard(broker)


@pytest.mark.parametrize("words", [("keys", "list"), ("subscriptions", "get", "hook"), ("serve",)])
def test_what_a_command_prints(broker: BrokerProcess, words: tuple[str, ...]) -> None:
    look = partial(command.look_at_printed, words)
    for output, errors in ((SHAPED, ""), ("", GIVEN)):
        look(output, errors)
        assert f"certes {words[0]}" in heard(broker)


@pytest.mark.parametrize("words", [("keys", "create", "shop"), ("subscriptions", "get", "hook", "--secrets")])
def test_what_a_command_prints_that_is_to_tell_a_secret_no_other_may(
    broker: BrokerProcess, words: tuple[str, ...]
) -> None:
    printed = f'{{"key": "{MADE}"}}'
    for said, output, errors, is_heard in (
        (words, printed, "", False),
        (words, "", printed, True),
        (("keys", "list"), printed, "", True),
    ):
        command.look_at_printed(said, output, errors)
        assert bool(heard(broker)) is is_heard


async def test_what_a_program_prints(broker: BrokerProcess) -> None:
    async with running([sys.executable, "-c", f"import sys; print({GIVEN!r}, file=sys.stderr)"], {}) as program:
        assert await program.ended() == 0
    assert "what a program prints" in heard(broker)


def test_what_a_page_of_the_documentation_has_printed(broker: BrokerProcess, tmp_path: Path) -> None:
    page = blocks(f"```sh\necho {SHAPED}\n```\n")
    Reader(tmp_path, {"PATH": os.defpath}, lambda: broker.http).follow(page)
    assert "what line 1 prints" in heard(broker)


async def test_what_comes_over_http2_by_hand(broker: BrokerProcess) -> None:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(DATA, 0, 1, GIVEN.encode()))
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        connection = Connection(*await asyncio.open_connection(*server.sockets[0].getsockname()))
        await connection.read()
        connection.writer.close()
    assert "what came over HTTP/2" in heard(broker)


def test_a_broker_that_is_sent_secrets_on_purpose_is_not_searched(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", is_searched=False)
    broker.look_at(SHAPED, "anywhere")
    assert heard(broker) == ""
