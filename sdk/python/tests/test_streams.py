"""Subscriptions by stream: handlers, acknowledgements, reconnecting, draining."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from contextvars import ContextVar

import pytest

from certes.community.github.v1.issues_event_pb2 import IssuesEvent
from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1 import event_service_pb2 as pb
from certes.v1.event_pb2 import Event
from certes_sdk import CertesError
from tests.fakes.sdk_broker import PUSH, Refusal, ordinals_of
from tests.fakes.sdk_waiting import until

NAME = "subscribers/default/subscriptions/billing"


def event(event_id: str, *, key: str = "", type_: str = PUSH) -> Event:
    made = Event(id=event_id, type=type_, source="sources/github", everyone=True, ordering_key=key)
    made.data.Pack(PushEvent(ref=event_id))
    return made


async def soon(awaitable, seconds: float = 50):
    async with asyncio.timeout(seconds):
        return await awaitable


@asynccontextmanager
async def running(client):
    """Runs a client beside the block; closes it afterwards."""
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(client.run())
        yield run
        await soon(client.close())


async def opened(broker):
    stream = await soon(broker.streams.get())
    stream.open()
    return stream


async def test_deliveries_are_handled_and_acknowledged_in_one_range(broker, make_client):
    client = make_client(max_outstanding=500)
    seen = []

    @client.on(PUSH)
    async def handle(raw):
        seen.append((raw.id, raw.to(PushEvent).ref, raw.attempt, raw.name))

    async with running(client):
        stream = await opened(broker)
        assert (stream.request.subscription, stream.request.max_outstanding) == (NAME, 500)
        stream.deliver(event("a"), event("b"), event("c"))
        request = await soon(broker.acknowledged.get())
    assert seen == [(name, name, 1, f"events/{name}") for name in "abc"]
    assert request.stream == stream.name
    assert ordinals_of(request) == [1, 2, 3]
    assert len(request.acked) == 1


@pytest.mark.parametrize("handler_first", [True, False])
async def test_a_stream_begins_once_there_are_a_subscription_and_a_handler(broker, make_client, handler_first):
    client = make_client()
    if handler_first:
        client.on(PUSH)(no_op)
    await client.ensure_subscriptions(PUSH)
    if not handler_first:
        assert client.session()._streams == {}
        client.on(PUSH)(no_op)
    stream = await opened(broker)
    stream.deliver(event("a"))
    assert ordinals_of(await soon(broker.acknowledged.get())) == [1]
    await soon(client.close())
    await soon(stream.ended.wait())


async def test_acknowledgements_wait_ten_milliseconds_for_more_but_not_with_a_key_or_a_quarter(
    broker, make_client, clock
):
    client = make_client(clock=clock, max_outstanding=8)
    client.on(PUSH)(no_op)
    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a"))
        await clock.until_waiting(0.010)
        clock.advance(0.010)
        assert ordinals_of(await soon(broker.acknowledged.get())) == [1]
        stream.deliver(event("b"), event("c"))
        assert ordinals_of(await soon(broker.acknowledged.get())) == [2, 3]
        stream.deliver(event("d", key="k"))
        assert ordinals_of(await soon(broker.acknowledged.get())) == [4]


async def test_one_acknowledgement_is_under_way_and_the_next_takes_what_was_settled_meanwhile(broker, make_client):
    client = make_client()
    client.on(PUSH)(no_op)
    broker.may_acknowledge.clear()
    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a", key="a"))
        assert ordinals_of(await soon(broker.acknowledged.get())) == [1]
        for name in "bcd":
            stream.deliver(event(name, key=name))
        await until(lambda: len(client.session()._streams[NAME]._acknowledger.book._acked) == 3)
        assert broker.acknowledged.empty()
        broker.may_acknowledge.set()
        assert ordinals_of(await soon(broker.acknowledged.get())) == [2, 3, 4]


async def test_a_handler_that_raises_makes_the_delivery_fail_with_its_text(broker, make_client, warnings):
    client = make_client()

    @client.on(PUSH)
    async def handle(raw):
        if raw.id == "wrong":
            raw.to(IssuesEvent)
        raise ValueError("no such ref: " + "x" * 5000)

    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a"))
        (nack,) = (await soon(broker.acknowledged.get())).nacked
        stream.deliver(event("wrong"))
        (wrong,) = (await soon(broker.acknowledged.get())).nacked
    assert (nack.range.first, nack.range.last, nack.action) == (1, 1, pb.AcknowledgeRequest.ACTION_RETRY)
    assert nack.reason.startswith("ValueError: no such ref: xxx")
    assert len(nack.reason.encode()) <= 1024
    assert not nack.HasField("delay")
    assert wrong.reason.startswith("DATA_TYPE_MISMATCH: ")
    assert len(warnings()) == 2


async def test_an_event_that_nobody_handles_fails(broker, make_client, warnings):
    client = make_client()
    client.on("community.certes.dev/github/1/issues")(no_op)
    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a"))
        (nack,) = (await soon(broker.acknowledged.get())).nacked
    assert nack.reason.startswith("NO_HANDLER: ")
    assert len(warnings()) == 1


async def test_handlers_that_wait_run_beside_each_other_up_to_the_bound(broker, make_client):
    client = make_client(concurrency=3)
    running_now, most = 0, 0
    full, free = asyncio.Event(), asyncio.Event()

    @client.on(PUSH)
    async def handle(raw):
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        if running_now == 3:
            full.set()
        await free.wait()
        running_now -= 1

    async with running(client):
        stream = await opened(broker)
        stream.deliver(*[event(str(n)) for n in range(10)])
        await soon(full.wait())
        await asyncio.sleep(0)
        assert most == 3
        free.set()
        done = 0
        while done < 10:
            done += len(ordinals_of(await soon(broker.acknowledged.get())))
    assert most == 3


async def test_plain_functions_run_in_threads_and_may_block(broker, make_client):
    client = make_client()
    both = threading.Barrier(2, timeout=10)
    threads = []

    @client.on(PUSH)
    def handle(raw):
        threads.append(threading.current_thread())
        both.wait()

    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a"), event("b"))
        done = []
        while len(done) < 2:
            done += ordinals_of(await soon(broker.acknowledged.get()))
    assert threading.main_thread() not in threads


async def test_a_function_that_returns_a_coroutine_is_awaited_in_the_events_context(broker, make_client):
    client = make_client()
    variable = ContextVar("variable", default="unset")
    seen = []

    async def rest():
        await asyncio.sleep(0)
        seen.append((variable.get(), threading.current_thread() is threading.main_thread()))

    @client.on(PUSH)
    def handle(raw):
        variable.set(raw.id)
        return rest()

    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a"))
        assert ordinals_of(await soon(broker.acknowledged.get())) == [1]
    assert seen == [("a", True)]


async def test_all_handlers_of_a_pattern_run_in_order_and_the_first_that_fails_ends_it(broker, make_client):
    client = make_client()
    ran = []

    @client.on(PUSH)
    async def first(raw):
        await asyncio.sleep(0)
        ran.append("first")

    @client.on(PUSH)
    def second(raw):
        ran.append("second")
        raise RuntimeError("enough")

    @client.on(PUSH)
    async def third(raw):
        ran.append("third")

    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a"))
        (nack,) = (await soon(broker.acknowledged.get())).nacked
    assert ran == ["first", "second"]
    assert nack.reason == "RuntimeError: enough"


async def test_what_a_handler_sets_in_its_context_no_other_event_sees(broker, make_client):
    client = make_client(concurrency=1)
    variable = ContextVar("variable", default="unset")
    seen = []

    @client.on(PUSH)
    async def handle(raw):
        seen.append(variable.get())
        variable.set(raw.id)
        await asyncio.sleep(0)
        seen.append(variable.get())

    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a"), event("b"))
        done = []
        while len(done) < 2:
            done += ordinals_of(await soon(broker.acknowledged.get()))
    assert seen == ["unset", "a", "unset", "b"]


async def test_an_ordinal_that_is_not_outstanding_is_left_out(broker, make_client):
    client = make_client()
    client.on(PUSH)(no_op)
    broker.refusals = [Refusal("INVALID_ARGUMENT", "ORDINAL_NOT_OUTSTANDING", ordinal="2")]
    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a"), event("b"), event("c"))
        assert ordinals_of(await soon(broker.acknowledged.get())) == [1, 2, 3]
        assert ordinals_of(await soon(broker.acknowledged.get())) == [1, 3]
        stream.deliver(event("d"))
        assert ordinals_of(await soon(broker.acknowledged.get())) == [4]


async def test_what_was_settled_on_a_stream_that_has_ended_is_let_go_of(broker, make_client):
    client = make_client()
    client.on(PUSH)(no_op)
    broker.refusals = [Refusal("FAILED_PRECONDITION", "STREAM_ENDED")]
    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a"))
        await soon(broker.acknowledged.get())
        stream.end()
        again = await opened(broker)
        again.deliver(event("a"))
        request = await soon(broker.acknowledged.get())
    assert (request.stream, ordinals_of(request)) == (again.name, [1])


async def test_an_acknowledgement_that_is_refused_for_now_is_told_again(broker, make_client, clock):
    client = make_client(clock=clock)
    client.on(PUSH)(no_op)
    broker.refusals = [Refusal("UNAVAILABLE", "STORAGE_UNAVAILABLE")]
    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a", key="k"))
        assert ordinals_of(await soon(broker.acknowledged.get())) == [1]
        await clock.until_waiting(0.1)
        clock.advance(0.1)
        assert ordinals_of(await soon(broker.acknowledged.get())) == [1]


async def test_a_stream_that_ends_is_opened_at_once_and_then_after_the_back_off(broker, make_client, clock):
    client = make_client(clock=clock)
    client.on(PUSH)(no_op)
    async with running(client):
        (await opened(broker)).end(Refusal("UNAVAILABLE", "DRAINING"))
        await clock.until_waiting(0.0)
        clock.advance(0.0)
        (await opened(broker)).end()
        await clock.until_waiting(0.1)
        clock.advance(0.1)
        stream = await opened(broker)
        stream.deliver(event("a", key="k"))
        await soon(broker.acknowledged.get())
        stream.end()
        await clock.until_waiting(0.0)
        clock.advance(0.0)
        await opened(broker)


async def test_a_stream_that_says_nothing_for_45_seconds_is_dead(broker, make_client, clock):
    client = make_client(clock=clock)
    client.on(PUSH)(no_op)
    async with running(client):
        silent = await opened(broker)
        await clock.until_waiting(10.0)
        clock.advance(40.0)
        silent.send(pb.SubscribeResponse(heartbeat=pb.SubscribeResponse.Heartbeat()))
        stream = client.session()._streams[NAME]
        await until(lambda: stream.heard_at == clock.now())
        clock.advance(5.0)
        await clock.until_waiting(40.0)
        assert not silent.ended.is_set()
        clock.advance(40.0)
        await soon(silent.ended.wait())
        await clock.until_waiting(0.0)
        clock.advance(0.0)
        await opened(broker)


async def test_what_takes_long_is_extended_each_third_of_the_deadline_for_an_hour_at_most(broker, make_client, clock):
    broker.ack_deadline = 600
    client = make_client(clock=clock)
    begun, free = asyncio.Event(), asyncio.Event()

    @client.on(PUSH)
    async def handle(raw):
        begun.set()
        await free.wait()

    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a"))
        await soon(begun.wait())
        await clock.until_waiting(200.0)
        extensions = 0
        for _ in range(25):
            await clock.until_waiting(200.0)
            while not broker.acknowledged.empty():
                broker.acknowledged.get_nowait()
            stream.send(pb.SubscribeResponse(heartbeat=pb.SubscribeResponse.Heartbeat()))
            await until(lambda: client.session()._streams[NAME].heard_at == clock.now())
            for _ in range(5):
                clock.advance(40.0)
                stream.send(pb.SubscribeResponse(heartbeat=pb.SubscribeResponse.Heartbeat()))
                await until(lambda: client.session()._streams[NAME].heard_at == clock.now())
            if clock.now() < 1000 + 3600:
                (extension,) = (await soon(broker.acknowledged.get())).extended
                assert (extension.range.first, extension.range.last) == (1, 1)
                assert extension.deadline.seconds == 600
                extensions += 1
        assert broker.acknowledged.empty()
        assert extensions >= 16
        free.set()


async def test_a_subscription_that_was_deleted_ends_it_for_good(broker, make_client, warnings):
    client = make_client()
    run = asyncio.gather(client.run(), return_exceptions=True)
    stream = await opened(broker)
    closing = pb.SubscribeResponse.Closing(reason=pb.SubscribeResponse.REASON_DELETED, message="it was deleted")
    stream.send(pb.SubscribeResponse(closing=closing))
    (error,) = await soon(run)
    assert isinstance(error, CertesError)
    assert error.reason == "SUBSCRIPTION_DELETED"
    assert len(warnings()) == 1


async def test_a_subscription_that_was_deleted_and_ensured_again_gets_events_again(broker, make_client, warnings):
    client = make_client()
    client.on(PUSH)(no_op)
    await client.ensure_subscriptions(PUSH)
    stream = await opened(broker)
    closing = pb.SubscribeResponse.Closing(reason=pb.SubscribeResponse.REASON_DELETED, message="it was deleted")
    stream.send(pb.SubscribeResponse(closing=closing))
    await until(lambda: client.session()._streams == {})
    await client.ensure_subscriptions(PUSH)
    async with running(client) as run:
        (await opened(broker)).deliver(event("a"))
        assert ordinals_of(await soon(broker.acknowledged.get())) == [1]
        assert not run.done()


@pytest.mark.parametrize("raised", [StopIteration(), SystemExit(3), KeyboardInterrupt()])
async def test_whatever_a_plain_function_raises_is_a_failure_and_ends_nothing_else(broker, make_client, raised):
    client = make_client(concurrency=1)

    @client.on(PUSH)
    def handle(raw):
        if raw.id == "bad":
            raise raised

    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("bad"))
        (nack,) = (await soon(broker.acknowledged.get())).nacked
        assert type(raised).__name__ in nack.reason
        stream.deliver(event("good"))
        assert ordinals_of(await soon(broker.acknowledged.get())) == [2]


@pytest.mark.parametrize("reason", ["SUBSCRIPTION_NOT_FOUND", "SUBSCRIPTION_DELETED"])
async def test_a_subscription_that_is_not_there_ends_it_for_good(broker, make_client, reason):
    client = make_client()
    run = asyncio.gather(client.run(), return_exceptions=True)
    stream = await soon(broker.streams.get())
    stream.end(Refusal("NOT_FOUND", reason))
    assert (await soon(run))[0].reason == reason


async def test_another_refusal_is_reported_and_tried_again_every_30_seconds(broker, make_client, clock, warnings):
    client = make_client(clock=clock)
    async with running(client):
        (await soon(broker.streams.get())).end(Refusal("FAILED_PRECONDITION", "SUBSCRIPTION_NOT_STREAMABLE"))
        await clock.until_waiting(30.0)
        assert len(warnings()) == 1
        clock.advance(30.0)
        await opened(broker)


async def test_closing_waits_for_handlers_and_tells_what_they_settled(broker, make_client):
    client = make_client(concurrency=1)
    begun, free = asyncio.Event(), asyncio.Event()
    handled = []

    @client.on(PUSH)
    async def handle(raw):
        begun.set()
        await free.wait()
        handled.append(raw.id)

    run = asyncio.gather(client.run())
    stream = await opened(broker)
    stream.deliver(event("a"), event("b"))
    await soon(begun.wait())
    closing = asyncio.gather(client.close())
    await until(lambda: client.session()._closing)
    stream.deliver(event("c"))
    assert not closing.done()
    assert not stream.ended.is_set()
    free.set()
    await soon(closing)
    await soon(run)
    assert handled == ["a"]
    assert ordinals_of(await soon(broker.acknowledged.get())) == [1]
    await soon(stream.ended.wait())
    assert broker.acknowledged.empty()


async def test_a_handler_that_still_runs_while_the_client_closes_may_publish(broker, make_client):
    client = make_client()
    begun, free = asyncio.Event(), asyncio.Event()
    receipts = []

    @client.on(PUSH)
    async def handle(raw):
        begun.set()
        await free.wait()
        receipts.append(await client.publish(PushEvent(ref="after"), everyone=True, id="after"))

    await client.ensure_subscriptions(PUSH)
    stream = await opened(broker)
    stream.deliver(event("a"))
    await soon(begun.wait())
    closing = asyncio.gather(client.close())
    await until(lambda: client.session()._closing)
    free.set()
    await soon(closing)
    assert [receipt.id for receipt in receipts] == ["after"]
    assert ordinals_of(await soon(broker.acknowledged.get())) == [1]


async def test_cancelling_run_drains_too(broker, make_client):
    client = make_client()
    client.on(PUSH)(no_op)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(client.run())
        stream = await opened(broker)
        stream.deliver(event("a"))
        await soon(broker.acknowledged.get())
        run.cancel()
    await soon(stream.ended.wait())
    with pytest.raises(CertesError, match="CLIENT_CLOSED"):
        await client.ensure_subscriptions(PUSH)


async def test_a_handler_of_a_stream_that_has_ended_runs_to_its_end_and_its_outcome_concerns_nobody(
    broker, make_client
):
    client = make_client()
    begun, free, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @client.on(PUSH)
    async def handle(raw):
        if raw.id == "a":
            begun.set()
            await free.wait()
            ended.set()

    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a"))
        await soon(begun.wait())
        stream.end()
        again = await opened(broker)
        free.set()
        await soon(ended.wait())
        again.deliver(event("x"), event("y"))
        request = await soon(broker.acknowledged.get())
    assert (request.stream, ordinals_of(request)) == (again.name, [1, 2])


async def test_what_was_not_begun_when_its_stream_ended_is_left_for_the_next(broker, make_client):
    client = make_client(concurrency=1)
    begun, free = asyncio.Event(), asyncio.Event()
    handled = []

    @client.on(PUSH)
    async def handle(raw):
        handled.append(raw.id)
        begun.set()
        await free.wait()

    async with running(client):
        stream = await opened(broker)
        stream.deliver(event("a"), event("b"))
        await soon(begun.wait())
        stream.end()
        again = await opened(broker)
        free.set()
        again.deliver(event("x"))
        assert ordinals_of(await soon(broker.acknowledged.get())) == [1]
    assert handled == ["a", "x"]


async def no_op(raw):
    pass
