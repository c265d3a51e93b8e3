"""What strangers send, and what two brokers would do to each other."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Iterator

import grpc
import pytest

from certes.v1 import event_service_pb2 as events_pb
from certes.v1 import subscription_service_pb2 as subscriptions_pb
from scripts.broker_process import BrokerFailed, BrokerProcess, look_for_secrets
from tests.acceptance import github
from tests.acceptance.client import Client, connected, event, ordinals, refusal
from tests.http2 import PREFACE, frame

SEED = 5_150


def malformed(chance: random.Random) -> Iterator[bytes]:
    """Bytes that no client sends."""
    for size in (1, 9, 100, 5_000, 100_000):
        yield chance.randbytes(size)
    yield b"GET / HTTP/1.1\r\nHost: " + b"a" * 100_000
    yield b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"
    yield b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n{}"
    yield b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
    yield b"POST /events/github HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(500)
    yield PREFACE + chance.randbytes(2_000)
    yield PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, chance.randbytes(60))
    yield PREFACE + frame(4, 0, 0, b"") + frame(0, 1, 7, b"data for no stream")
    yield PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, b"", length=0xFFFFFF)
    yield PREFACE + b"".join(frame(4, 0, 0, struct.pack(">HI", 4, 2**31)) for _ in range(20))


async def send_and_hang_up(address: str, sent: bytes) -> None:
    """Sends bytes, says that no more come, and reads until the broker has hung up too."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(50):
        try:
            writer.write(sent)
            await writer.drain()
            writer.write_eof()
            while piece := await reader.read(65_536):
                look_for_secrets(piece, "the answer to malformed bytes")
        except OSError:
            pass  # It hung up first, which it may.
        finally:
            writer.transport.abort()


async def test_malformed_bytes_on_either_port_end_their_connection_and_nothing_else(broker: BrokerProcess) -> None:
    pid = broker.pid
    async with connected(broker) as client, github.http() as http:
        call = client.subscribe(await client.create_stream("witness"))
        stream = (await call.read()).opened.stream
        for address in (broker.http, broker.grpc):
            for sent in malformed(random.Random(SEED)):
                await send_and_hang_up(address, sent)
        assert (await http.get(f"http://{broker.http}/readyz")).status_code == 200
        await check_delivery(client, call, stream)
    assert broker.pid == pid
    assert broker.terminate() == 0


async def check_delivery(client: Client, call, stream: str) -> None:
    """A stream that was open before still brings what is published now."""
    await client.publish([event("after all that")])
    batch = (await call.read()).batch
    assert [delivery.event.id for delivery in batch.deliveries] == ["after all that"]
    await client.acknowledge(stream, ordinals(1, 1))


@pytest.mark.parametrize(
    "service", [events_pb.DESCRIPTOR, subscriptions_pb.DESCRIPTOR], ids=["events", "subscriptions"]
)
async def test_bytes_that_are_no_message_are_refused_by_every_method(broker: BrokerProcess, service) -> None:
    chance = random.Random(SEED)
    async with connected(broker) as client:
        for descriptor in service.services_by_name.values():
            for method in descriptor.methods:
                path = f"/{descriptor.full_name}/{method.name}"
                if method.client_streaming:
                    continue
                make = client.channel.unary_stream if method.server_streaming else client.channel.unary_unary
                for size in (1, 30, 3_000):
                    # A length that the message does not have: no protobuf, whatever the rest.
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await first_answer(make(path)(b"\x0a\xff\xff\x03" + chance.randbytes(size)))
                    assert refusal(refused.value) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST"), path


async def first_answer(call) -> bytes:
    return await (call.read() if hasattr(call, "read") else call)


async def test_a_second_broker_on_the_same_data_is_refused_and_disturbs_nothing(broker: BrokerProcess) -> None:
    second = BrokerProcess(broker.data_dir)
    with pytest.raises(BrokerFailed, match=r"ended with exit code [1-9]") as failed:
        second.start()
    assert f"{broker.data_dir} is held by process {broker.pid}" in str(failed.value)
    async with connected(broker) as client:
        await client.publish([event("undisturbed")])


async def test_a_data_directory_is_free_again_once_its_broker_was_killed(broker: BrokerProcess) -> None:
    async with connected(broker) as client:
        await client.publish([event("kept")])
    broker.kill9()
    with BrokerProcess(broker.data_dir).start() as next_one:
        async with connected(next_one) as client:
            (result,) = await client.publish([event("kept")])
    assert result.duplicate
