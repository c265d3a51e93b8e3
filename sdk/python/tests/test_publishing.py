"""Publishing: coalescing without linger, back-pressure, order, refusals, broken streams."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1 import event_service_pb2 as pb
from certes_sdk import CertesError, outgoing
from tests.fakes.sdk_broker import PUSH, Refusal, accept, reject


def push(ref: str) -> PushEvent:
    return PushEvent(ref=ref)


def ids(request: pb.PublishStreamRequest) -> list[str]:
    return [event.id for event in request.events]


async def next_of(queue, seconds: float = 50):
    async with asyncio.timeout(seconds):
        return await queue.get()


async def test_an_event_says_all_that_it_was_given(broker, make_client):
    client = make_client(token="secret")
    at = datetime(2026, 11, 27, 5, 35, 27, 123456, tzinfo=UTC)
    receipt = await client.publish(
        push("main"),
        subscriber="org_1",
        subject="meetly/app",
        ordering_key="k",
        id="e-1",
        time=at,
        attributes={"a": "b"},
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="x=1",
    )
    request = await next_of(broker.published)
    (event,) = request.events
    assert receipt == ("e-1", False, "events/e-1")
    assert (event.id, event.type, event.source, event.subject) == ("e-1", PUSH, "apps/billing", "meetly/app")
    assert event.time.ToDatetime(UTC) == at
    assert (event.subscriber, event.ordering_key, dict(event.attributes)) == ("org_1", "k", {"a": "b"})
    assert (event.traceparent[-2:], event.tracestate) == ("01", "x=1")
    assert event.data.type_url == "type.googleapis.com/certes.community.github.v1.PushEvent"
    message = PushEvent()
    assert event.data.Unpack(message)
    assert message.ref == "main"
    assert request.return_results
    assert broker.metadata["authorization"] == "Bearer secret"


async def test_an_event_for_everyone_gets_a_time_ordered_id(broker, make_client):
    client = make_client()
    first = await client.publish(push("a"), everyone=True)
    second = await client.publish(push("b"), everyone=True)
    requests = [await next_of(broker.published) for _ in range(2)]
    assert [ids(request) for request in requests] == [[first.id], [second.id]]
    assert all(request.events[0].everyone and not request.return_results for request in requests)
    assert first.id[14] == "7"
    assert first.id < second.id


async def test_what_queues_up_during_a_write_goes_out_together(broker, make_client):
    client = make_client()
    receipts = await asyncio.gather(*[client.publish(push(str(n)), everyone=True) for n in range(300)])
    sizes = []
    while sum(sizes) < 300:
        sizes.append(len((await next_of(broker.published)).events))
    assert len({receipt.id for receipt in receipts}) == 300
    assert max(sizes) == 64
    assert len(sizes) <= 10


async def test_an_id_of_the_callers_is_told_to_be_a_duplicate(broker, make_client):
    def duplicates(request):
        answer = accept(request)
        for result in answer.accepted.results:
            result.duplicate = True
        return answer

    broker.judge = duplicates
    client = make_client()
    given, made = await asyncio.gather(
        client.publish(push("a"), everyone=True, id="x"), client.publish(push("b"), everyone=True)
    )
    assert given.duplicate
    assert not made.duplicate


async def test_of_one_key_one_request_is_under_way(broker, make_client):
    broker.may_answer.clear()
    client = make_client()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(client.publish(push("1"), everyone=True, ordering_key="k", id="a"))
        assert ids(await next_of(broker.published)) == ["a"]
        tasks.create_task(client.publish(push("2"), everyone=True, ordering_key="k", id="b"))
        tasks.create_task(client.publish(push("3"), everyone=True, ordering_key="other", id="c"))
        broker.may_answer.set()
        rest = [ids(await next_of(broker.published)) for _ in range(2)]
    assert rest == [["c"], ["b"]]


async def test_a_refused_request_is_told_again_event_by_event(broker, make_client):
    def judge(request):
        return reject(Refusal("ALREADY_EXISTS", "EVENT_ID_REUSED")) if "bad" in ids(request) else accept(request)

    broker.judge = judge
    client = make_client()
    outcomes = await asyncio.gather(
        *[client.publish(push(name), everyone=True, id=name) for name in ("a", "bad", "c")], return_exceptions=True
    )
    assert [outcome.id for outcome in (outcomes[0], outcomes[2])] == ["a", "c"]
    assert outcomes[1].reason == "EVENT_ID_REUSED"
    assert str(outcomes[1]) == "EVENT_ID_REUSED: refused: EVENT_ID_REUSED"
    assert [ids(await next_of(broker.published)) for _ in range(4)] == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]


async def test_a_refusal_that_is_retryable_is_sent_again_when_it_says(broker, make_client, clock):
    refusals = [Refusal("RESOURCE_EXHAUSTED", "BUFFER_FULL", retry_after=3.0)]
    broker.judge = lambda request: reject(refusals.pop()) if refusals else accept(request)
    client = make_client(clock=clock)
    async with asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(client.publish(push("a"), everyone=True, id="a"))
        await next_of(broker.published)
        await clock.until_waiting(3.0)
        assert not publishing.done()
        clock.advance(3.0)
    assert publishing.result().id == "a"
    assert ids(await next_of(broker.published)) == ["a"]


async def test_what_a_broken_stream_left_is_sent_again_with_the_same_ids(broker, make_client, clock):
    broker.break_publishing = Refusal("UNAVAILABLE", "DRAINING")
    client = make_client(clock=clock)
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(client.publish(push(str(n)), everyone=True)) for n in range(5)]
        before = ids(await next_of(broker.published))
        await clock.until_waiting(0.1)
        clock.advance(0.1)
        after = ids(await next_of(broker.published))
    assert before == after == [call.result().id for call in calls]
    assert broker.publish_streams == 2


async def test_a_broker_that_restarts_gets_what_it_had_not_answered(broker, make_client):
    client = make_client()
    await client.publish(push("warm"), everyone=True)
    await next_of(broker.published)
    broker.may_answer.clear()
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(client.publish(push("a"), everyone=True, id="a"))
        assert ids(await next_of(broker.published)) == ["a"]
        await broker.restart()
        broker.may_answer.set()
        assert ids(await next_of(broker.published)) == ["a"]
    assert call.result().id == "a"


async def test_a_call_gives_up_after_60_seconds_and_says_what_stood_in_its_way(broker, make_client, clock):
    broker.may_answer.clear()
    client = make_client(clock=clock)
    call = asyncio.gather(client.publish(push("a"), everyone=True, id="a"), return_exceptions=True)
    await next_of(broker.published)
    for _ in range(62):
        await clock.until_waiting(1.0)
        clock.advance(1.0)
    (error,) = await call
    assert (error.code, error.reason, error.retryable) == ("DEADLINE_EXCEEDED", "TIMED_OUT", True)


async def test_a_deadline_of_its_own_ends_a_call(broker, make_client):
    broker.may_answer.clear()
    client = make_client()
    with pytest.raises(CertesError) as caught:
        await client.publish(push("a"), everyone=True, timeout=0.01)
    assert caught.value.reason == "TIMED_OUT"


async def test_a_cancelled_call_that_was_not_sent_is_not_sent(broker, make_client):
    broker.may_answer.clear()
    client = make_client()
    first = asyncio.gather(client.publish(push("a"), everyone=True, ordering_key="k", id="a"))
    await next_of(broker.published)
    second = asyncio.gather(client.publish(push("b"), everyone=True, ordering_key="k", id="b"))
    third = asyncio.gather(client.publish(push("c"), everyone=True, ordering_key="k", id="c"))
    await asyncio.sleep(0)
    second.cancel()
    broker.may_answer.set()
    await first
    await third
    assert ids(await next_of(broker.published)) == ["c"]


async def test_a_full_queue_makes_calls_wait_for_room(broker, make_client):
    broker.may_answer.clear()
    client = make_client()
    client.session()._publisher._waiting_events = 3
    calls = [
        asyncio.gather(client.publish(push(str(n)), everyone=True, ordering_key="k", id=str(n))) for n in range(10)
    ]
    await next_of(broker.published)
    queue = client.session()._publisher._queue
    assert queue.waiting_events <= 3
    broker.may_answer.set()
    receipts = [await call for call in calls]
    assert [receipt.id for (receipt,) in receipts] == [str(n) for n in range(10)]
    seen = []
    while len(seen) < 7:
        seen += ids(await next_of(broker.published))
    assert seen == sorted(seen)


async def test_a_refusal_of_the_stream_itself_is_every_callers(broker, make_client):
    broker.break_publishing = Refusal("PERMISSION_DENIED", "NOT_YOURS")
    client = make_client()
    outcomes = await asyncio.gather(
        *[client.publish(push(str(n)), everyone=True) for n in range(3)], return_exceptions=True
    )
    assert [outcome.reason for outcome in outcomes] == ["NOT_YOURS"] * 3
    assert (await client.publish(push("again"), everyone=True)).id


async def test_what_cannot_be_an_event_is_refused_at_once(broker, make_client):
    client = make_client()

    async def reason(**given) -> str:
        with pytest.raises(CertesError) as caught:
            await client.publish(given.pop("message", push("a")), **given)
        return caught.value.reason

    assert await reason() == "AUDIENCE_MISSING"
    assert await reason(subscriber="") == "AUDIENCE_MISSING"
    assert await reason(subscriber="a", everyone=True) == "AUDIENCE_MISSING"
    assert await reason(everyone=True, id="") == "FIELD_INVALID"
    assert await reason(everyone=True, id="x" * 257) == "FIELD_INVALID"
    assert await reason(everyone=True, id="\ud800") == "FIELD_INVALID"
    assert await reason(everyone=True, subject="\ud800") == "FIELD_INVALID"
    assert await reason(everyone=True, time=datetime(2026, 1, 1)) == "FIELD_INVALID"  # noqa: DTZ001 - that is the point
    assert await reason(everyone=True, message=pb.OrdinalRange()) == "NOT_AN_EVENT_TYPE"
    assert await reason(everyone=True, message=object()) == "NOT_AN_EVENT_TYPE"
    assert await reason(everyone=True, message=push("x" * (5 << 20))) == "EVENT_TOO_LARGE"
    with pytest.raises(CertesError, match="AUDIENCE_MISSING"):
        await client.send_outgoing_event("", push("a"))
    assert broker.published.empty()


async def test_a_producer_without_a_name_is_told_so(broker, make_client):
    with pytest.raises(CertesError, match="APP_MISSING"):
        await make_client(app=None).publish(push("a"), everyone=True)


async def test_events_that_belong_together_go_by_one_request(broker, make_client):
    client = make_client()
    receipts = await client.publish_all([outgoing(push(str(n)), everyone=True, id=str(n)) for n in range(3)])
    assert [receipt.id for receipt in receipts] == ["0", "1", "2"]
    assert [[event.id for event in request.events] for request in broker.unary] == [["0", "1", "2"]]
    assert await client.publish_all([]) == []


async def test_of_events_that_belong_together_everything_is_told(broker, make_client):
    broker.all_duplicates = True
    events = [outgoing(push("a"), everyone=True, id="a"), outgoing(push("b"), everyone=True)]
    receipts = await make_client().publish_all(events)
    assert receipts[0] == ("a", True, "events/a")
    assert [(one.duplicate, one.name) for one in receipts] == [(True, f"events/{one.id}") for one in receipts]


async def test_events_that_belong_together_are_tried_again_together(broker, make_client):
    broker.refusals = [Refusal("UNAVAILABLE", "STORAGE_UNAVAILABLE", retry_after=0.001)]
    client = make_client()
    await client.publish_all([outgoing(push("a"), everyone=True)])
    assert len(broker.unary) == 1
    broker.refusals = [Refusal("INVALID_ARGUMENT", "FIELD_INVALID")]
    with pytest.raises(CertesError, match="FIELD_INVALID"):
        await client.publish_all([outgoing(push("a"), everyone=True)])


async def test_closing_waits_for_what_is_under_way_and_refuses_what_comes_after(broker, make_client):
    broker.may_answer.clear()
    client = make_client()
    call = asyncio.gather(client.publish(push("a"), everyone=True))
    await next_of(broker.published)
    closing = asyncio.gather(client.close())
    await asyncio.sleep(0)
    assert not closing.done()
    broker.may_answer.set()
    await closing
    assert call.done()
    with pytest.raises(CertesError, match="CLIENT_CLOSED"):
        await client.publish(push("b"), everyone=True)
    await client.close()


async def test_nonsense_from_the_broker_breaks_the_stream_and_nothing_else(broker, make_client):
    answers = [pb.PublishStreamResponse(), pb.PublishStreamResponse(rejected=Refusal("INTERNAL", "").problem())]
    broker.judge = lambda request: answers.pop(0) if answers else accept(request)
    client = make_client()
    outcomes = await asyncio.gather(client.publish(push("a"), everyone=True), return_exceptions=True)
    assert isinstance(outcomes[0], CertesError)
    with pytest.raises(CertesError):
        await client.publish(push("b"), everyone=True)
    assert (await client.publish(push("c"), everyone=True)).id
