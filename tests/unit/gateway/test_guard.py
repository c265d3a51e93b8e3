"""What stands before every method."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest

from certes.v1 import event_service_pb2 as pb
from certes.v1 import subscription_service_pb2 as subscriptions
from certes_broker.domain.access import LOCAL_OPERATOR, Bindings, Caller, Needs, Role
from certes_broker.domain.errors import Exhausted, OutOfRange, PermissionDenied, Reason, Unauthenticated
from certes_broker.domain.events import Micros
from certes_broker.gateway.callers import acting_as, current_caller
from certes_broker.gateway.guard import guarded
from certes_broker.gateway.methods import BidiStream, Call, Method, ServerStream, Unary
from certes_broker.gateway.open_streams import ASKED_AGAIN, OpenStreams
from tests.fakes.manual_clock import ManualClock

BOUND = Caller("apiKeys/one", frozenset(Role), Bindings(subscribers=frozenset({"org_1"})))
SEEK = subscriptions.SeekSubscriptionRequest


def method(call: Call, request=SEEK) -> Method:
    return Method("certes.v1.S", "M", call, request, pb.PublishResponse, Needs(None))


async def echo(wire: bytes) -> bytes:
    return wire


async def asked(caller: Caller, request) -> bytes:
    guard = guarded(method(Unary(echo), type(request)), OpenStreams())
    assert isinstance(guard.call, Unary)
    with acting_as(caller):
        return await guard.call.call(request.SerializeToString())


@pytest.mark.parametrize(
    "request_",
    [
        SEEK(name="subscribers/org_2/subscriptions/a"),
        SEEK(name="subscribers/-/subscriptions/a"),
        SEEK(name="subscribers/"),
        subscriptions.ListSubscriptionsRequest(parent="subscribers/-"),
        subscriptions.UpdateSubscriptionRequest(subscription={"name": "subscribers/org_2/subscriptions/a"}),
        pb.SubscribeRequest(ephemeral={"parent": "subscribers/org_2"}),
        pb.AcknowledgeRequest(stream="subscribers/org_2/subscriptions/a/streams/x"),
    ],
)
async def test_who_is_bound_may_name_no_other_wherever_it_stands(request_) -> None:
    with pytest.raises(PermissionDenied) as raised:
        await asked(BOUND, request_)
    assert raised.value.reason is Reason.NOT_BOUND_TO
    assert await asked(LOCAL_OPERATOR, request_)


async def test_who_is_bound_may_name_its_own_and_label_as_it_likes() -> None:
    assert await asked(BOUND, SEEK(name="subscribers/org_1/subscriptions/a"))
    labelled = {"name": "subscribers/org_1/subscriptions/a", "labels": {"a": "subscribers/org_2"}}
    assert await asked(BOUND, subscriptions.UpdateSubscriptionRequest(subscription=labelled))


async def test_who_is_bound_is_not_told_which_event_is_the_earliest() -> None:
    async def expired(wire: bytes) -> bytes:
        raise OutOfRange(Reason.CURSOR_EXPIRED, "Gone.", metadata={"earliest": "events/x", "earliest_time": "…"})

    call = guarded(method(Unary(expired)), OpenStreams()).call
    assert isinstance(call, Unary)
    with acting_as(BOUND), pytest.raises(OutOfRange) as raised:
        await call.call(b"")
    assert raised.value.metadata == {}
    with acting_as(LOCAL_OPERATOR), pytest.raises(OutOfRange) as raised:
        await call.call(b"")
    assert raised.value.metadata["earliest"] == "events/x"


class Source:
    """A stream that yields what it is given and counts how often it was closed."""

    def __init__(self) -> None:
        self.items: asyncio.Queue[bytes] = asyncio.Queue()
        self.closed = 0

    async def stream(self, wire: bytes) -> AsyncGenerator[bytes, None]:
        assert current_caller().id
        try:
            while True:
                yield await self.items.get()
        finally:
            self.closed += 1


def streaming(source: Source, streams: OpenStreams):
    call = guarded(method(ServerStream(source.stream)), streams).call
    assert isinstance(call, ServerStream)
    return call.call(b"")


async def test_a_stream_that_waits_ends_at_once_when_its_credential_does() -> None:
    source, streams = Source(), OpenStreams()
    with acting_as(BOUND):
        async with aclosing(streaming(source, streams)) as answers:
            source.items.put_nowait(b"1")
            assert await anext(answers) == b"1"
            asyncio.get_running_loop().call_soon(streams.end, BOUND.id)
            with pytest.raises(Unauthenticated) as raised:
                await anext(answers)
    assert raised.value.reason is Reason.CREDENTIALS_INVALID
    assert (source.closed, streams.count(BOUND.id)) == (1, 0)


async def test_a_stream_that_hands_an_answer_over_ends_before_the_next() -> None:
    source, streams = Source(), OpenStreams()
    with acting_as(BOUND):
        async with aclosing(streaming(source, streams)) as answers:
            source.items.put_nowait(b"1")
            source.items.put_nowait(b"2")
            assert await anext(answers) == b"1"
            streams.end(BOUND.id)
            with pytest.raises(Unauthenticated):
                await anext(answers)
    assert source.closed == 1


async def test_a_stream_ends_when_the_time_of_its_credential_is_over() -> None:
    clock, source = ManualClock(), Source()
    streams = OpenStreams(clock)
    with acting_as(replace(BOUND, until=Micros(clock.now() + 60_000_000))):
        async with aclosing(streaming(source, streams)) as answers:
            source.items.put_nowait(b"1")
            await anext(answers)
            clock.advance(59)
            source.items.put_nowait(b"2")
            await anext(answers)
            clock.advance(2)
            with pytest.raises(Unauthenticated):
                await anext(answers)
    assert clock.alarms == 0


async def test_a_stream_ends_soon_after_its_certificate_was_taken_back_although_nobody_calls() -> None:
    clock, source = ManualClock(), Source()
    streams, good = OpenStreams(clock), [True]
    streams.is_good = lambda _: good[0]
    with acting_as(replace(BOUND, until=Micros(clock.now() + 3_600_000_000), certificate="issuer:1")):
        async with aclosing(streaming(source, streams)) as answers:
            source.items.put_nowait(b"1")
            await anext(answers)
            clock.advance(10 * ASKED_AGAIN)
            source.items.put_nowait(b"2")
            await anext(answers)
            good[0] = False
            clock.advance(ASKED_AGAIN)
            with pytest.raises(Unauthenticated):
                await anext(answers)
    assert clock.alarms == 0


async def test_the_streams_of_others_go_on() -> None:
    source, streams = Source(), OpenStreams()
    with acting_as(LOCAL_OPERATOR):
        async with aclosing(streaming(source, streams)) as answers:
            streams.end(BOUND.id)
            source.items.put_nowait(b"1")
            assert await anext(answers) == b"1"


async def test_a_caller_has_so_many_streams_and_the_refusal_names_the_setting() -> None:
    source, streams = Source(), OpenStreams(limit=1)
    source.items.put_nowait(b"1")
    with acting_as(BOUND):
        async with aclosing(streaming(source, streams)) as answers:
            await anext(answers)
            with pytest.raises(Exhausted, match=r"limits\.streams_per_caller") as raised:
                await anext(streaming(source, streams))
            assert raised.value.metadata["limit"] == "1"
            with acting_as(LOCAL_OPERATOR):
                source.items.put_nowait(b"2")
                async with aclosing(streaming(source, streams)) as others:
                    assert await anext(others) == b"2"
        source.items.put_nowait(b"3")
        async with aclosing(streaming(source, streams)) as answers:
            assert await anext(answers) == b"3"


async def test_a_stream_of_requests_ends_with_its_credential_too() -> None:
    streams, begun = OpenStreams(), asyncio.Event()

    async def exchange(requests, send, draining) -> None:
        begun.set()
        await asyncio.Event().wait()

    call = guarded(method(BidiStream(exchange)), streams).call
    assert isinstance(call, BidiStream)

    async def serve() -> None:
        with acting_as(BOUND):
            await call.call(None, None, None)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(_refused(serve()))
        await begun.wait()
        streams.end(BOUND.id)
    assert task.result() is Reason.CREDENTIALS_INVALID


async def _refused(work) -> Reason:
    with pytest.raises(Unauthenticated) as raised:
        await work
    return raised.value.reason
