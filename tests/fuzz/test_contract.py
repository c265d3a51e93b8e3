"""The contract's rpcs, with requests of any shape: each is answered, and never with a fault of the broker's own."""

from __future__ import annotations

import asyncio
import json

import grpc
import httpx
from google.protobuf.descriptor import MethodDescriptor
from grpc import aio
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.broker_process import BrokerProcess
from tests.fuzz.calls import json_of, methods, wire_of
from tests.fuzz.conftest import EXAMPLES, Fuzz

PATIENCE = 60
"""Seconds in which a request must be answered. Requests that take half of that are not what this looks for."""

FAULTS = {500, 502, 504}
FAULTY_CODES = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}

json_calls = st.sampled_from(methods(streaming=False)).flatmap(
    lambda method: st.tuples(st.just(method), json_of(method.input_type))
)
byte_calls = st.sampled_from(methods(streaming=False)).flatmap(
    lambda method: st.tuples(st.just(method), st.one_of(wire_of(method.input_type), st.binary(max_size=200)))
)
stream_calls = st.sampled_from(methods(streaming=True)).flatmap(
    lambda method: st.tuples(st.just(method), st.lists(wire_of(method.input_type), min_size=1, max_size=3))
)


def path(method: MethodDescriptor) -> str:
    return f"{method.containing_service.full_name}/{method.name}"


def post(client: httpx.Client, broker: BrokerProcess, method: MethodDescriptor, body: bytes, kind: str) -> None:
    answer = client.post(f"http://{broker.http}/api/{path(method)}", content=body, headers={"content-type": kind})
    assert answer.status_code not in FAULTS, (path(method), body, answer.text)


def test_the_json_api(broker: BrokerProcess, fuzz: Fuzz) -> None:
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:

        @settings(max_examples=EXAMPLES)
        @given(json_calls, st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3)), max_size=2))
        def target(call: tuple[MethodDescriptor, object], edits: list[tuple[int, bytes]]) -> None:
            method, document = call
            body = bytearray(json.dumps(document).encode())
            for place, text in edits:
                body[place % (len(body) + 1) :][: len(text)] = text
                if place % 4 == 0:
                    body[place % (len(body) + 1) : place % (len(body) + 1)] = text
            post(client, broker, method, bytes(body), "application/json")

        fuzz(target)


def test_protobuf_bytes_over_http(broker: BrokerProcess, fuzz: Fuzz) -> None:
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:

        @settings(max_examples=EXAMPLES)
        @given(byte_calls)
        def target(call: tuple[MethodDescriptor, bytes]) -> None:
            post(client, broker, *call, "application/proto")

        fuzz(target)


def test_protobuf_bytes_over_grpc(broker: BrokerProcess, fuzz: Fuzz) -> None:
    with grpc.insecure_channel(broker.grpc) as channel:

        @settings(max_examples=EXAMPLES)
        @given(byte_calls)
        def target(call: tuple[MethodDescriptor, bytes]) -> None:
            method, body = call
            answered = channel.unary_unary(f"/{path(method)}").future(body, timeout=PATIENCE).code()
            assert answered not in {*FAULTY_CODES, grpc.StatusCode.DEADLINE_EXCEEDED}, (path(method), body)

        fuzz(target)


def test_streams_over_grpc(broker: BrokerProcess, fuzz: Fuzz) -> None:
    async def call(method: MethodDescriptor, bodies: list[bytes]) -> grpc.StatusCode:
        async with aio.insecure_channel(broker.grpc) as channel:
            rpc: aio.StreamStreamCall[bytes, bytes] | aio.UnaryStreamCall[bytes, bytes] = (
                channel.stream_stream(f"/{path(method)}")(iter(bodies))
                if method.client_streaming
                else channel.unary_stream(f"/{path(method)}")(bodies[0])
            )
            # A stream that was opened goes on until it is cancelled; its first frame is its answer.
            async with asyncio.timeout(PATIENCE):
                first = await rpc.read()
                if first is not aio.EOF:
                    rpc.cancel()
                return await rpc.code()

    @settings(max_examples=EXAMPLES)
    @given(stream_calls)
    def target(calling: tuple[MethodDescriptor, list[bytes]]) -> None:
        try:
            code = asyncio.run(call(*calling))
        except aio.AioRpcError as error:
            code = error.code()
        assert code not in FAULTY_CODES, (path(calling[0]), calling[1])

    fuzz(target)
