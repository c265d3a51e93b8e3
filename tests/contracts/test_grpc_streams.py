"""Subscribe and Acknowledge: what is handed out, settled, given back, and refused."""

from __future__ import annotations

import grpc
import pytest

from certes.v1 import event_service_pb2 as pb
from certes.v1 import subscription_service_pb2 as service_pb
from tests.contracts.grpc_callers import PUSH, TIMEOUT, Caller, OpenStream, event, refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
REASON = pb.SubscribeResponse.Reason


def one(ordinal: int) -> dict[str, int]:
    return {"first": ordinal, "last": ordinal}


def test_what_is_published_arrives_as_it_was_sent(caller: Caller) -> None:
    caller.create()
    stream = caller.open()
    sent = caller.event(subject="meetly", ordering_key="k", attributes={"a": "b"})
    [published] = caller.publish(sent)
    batch = stream.next().batch
    [delivery] = batch.deliveries
    assert (batch.first_ordinal, delivery.attempt, delivery.name) == (1, 1, published.name)
    assert delivery.event.HasField("time")
    delivery.event.ClearField("time")
    assert delivery.event == sent


def test_a_range_settles_all_of_its_deliveries(caller: Caller) -> None:
    caller.create()
    stream = caller.open()
    caller.publish(*[caller.event() for _ in range(20)])
    assert sorted(stream.take(20)) == list(range(1, 21))
    caller.acknowledge(stream.name, acked=[{"first": 1, "last": 20}])
    last = caller.event()
    caller.publish(last)
    assert stream.take(1) == {21: last.id}


def test_no_more_than_max_outstanding_is_handed_out(caller: Caller) -> None:
    caller.create()
    stream = caller.open(max_outstanding=3)
    ids = [caller.event(id=f"{caller.subscriber}-{i}") for i in range(5)]
    caller.publish(*ids)
    assert list(stream.take(3)) == [1, 2, 3]
    caller.acknowledge(stream.name, acked=[one(2)])
    assert list(stream.take(1)) == [4]


def test_an_event_for_another_subscriber_is_not_delivered(caller: Caller) -> None:
    caller.create()
    stream = caller.open()
    mine = caller.event()
    caller.publish(event(subscriber="org_of_another"), mine)
    assert stream.take(1) == {1: mine.id}


def test_an_ephemeral_subscription_lasts_as_long_as_its_stream(caller: Caller) -> None:
    request = pb.SubscribeRequest(ephemeral={"parent": caller.parent, "selectors": [{"pattern": PUSH}]})
    stream = OpenStream(caller.events.Subscribe(request, timeout=TIMEOUT))
    sent = caller.event()
    caller.publish(sent)
    assert stream.take(1) == {1: sent.id}
    listed = caller.subscriptions.ListSubscriptions(
        service_pb.ListSubscriptionsRequest(parent=caller.parent), timeout=TIMEOUT
    )
    assert not listed.subscriptions
    caller.acknowledge(stream.name, acked=[one(1)])
    stream.cancel()


def test_an_ephemeral_subscription_can_begin_in_the_past(caller: Caller) -> None:
    sent = [caller.event(), caller.event()]
    published = caller.publish(*sent)
    request = pb.SubscribeRequest(
        ephemeral={
            "parent": caller.parent,
            "selectors": [{"pattern": PUSH}],
            "start": {"event": published[1].name},
        }
    )
    stream = OpenStream(caller.events.Subscribe(request, timeout=TIMEOUT))
    assert stream.take(1) == {1: sent[1].id}
    stream.cancel()


def test_an_acknowledgement_for_a_stream_that_has_ended_is_refused(caller: Caller) -> None:
    name = caller.create().name
    stream = caller.open()
    caller.publish(caller.event())
    stream.take(1)
    caller.subscriptions.PauseSubscription(service_pb.PauseSubscriptionRequest(name=name), timeout=TIMEOUT)
    assert stream.next().closing.reason == REASON.REASON_PAUSED
    refusal = refused(lambda: caller.acknowledge(stream.name, acked=[one(1)]))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "STREAM_ENDED")
    assert refusal.metadata["stream"] == stream.name


def test_a_stream_of_someone_else_looks_like_one_that_has_ended(caller: Caller) -> None:
    caller.create()
    stream = caller.open()
    caller.publish(caller.event())
    stream.take(1)
    claimed = stream.name.replace(caller.parent, "subscribers/somebody_else")
    assert claimed != stream.name
    refusal = refused(lambda: caller.acknowledge(claimed, acked=[one(1)]))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "STREAM_ENDED")
    caller.acknowledge(stream.name, acked=[one(1)])


def test_an_ordinal_that_is_not_outstanding_is_refused_and_nothing_applied(caller: Caller) -> None:
    caller.create()
    stream = caller.open()
    caller.publish(caller.event(), caller.event())
    stream.take(2)
    refusal = refused(lambda: caller.acknowledge(stream.name, acked=[{"first": 1, "last": 3}]))
    assert (refusal.code, refusal.reason) == (INVALID, "ORDINAL_NOT_OUTSTANDING")
    assert refusal.metadata["ordinal"] == "3"
    caller.acknowledge(stream.name, acked=[{"first": 1, "last": 2}])
    refusal = refused(lambda: caller.acknowledge(stream.name, acked=[one(1)]))
    assert refusal.reason == "ORDINAL_NOT_OUTSTANDING"


def test_a_late_acknowledgement_cannot_settle_what_another_stream_has_now(caller: Caller) -> None:
    caller.create()
    first = caller.open()
    sent = caller.event()
    caller.publish(sent)
    assert first.take(1) == {1: sent.id}
    second = caller.open()
    first.cancel()
    assert second.take(1) == {1: sent.id}
    refusal = refused(lambda: caller.acknowledge(first.name, acked=[one(1)]))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "STREAM_ENDED")
    caller.acknowledge(second.name, acked=[one(1)])


def test_a_redelivery_has_a_new_ordinal_and_the_old_one_means_nothing_any_more(caller: Caller) -> None:
    caller.create()
    stream = caller.open()
    sent = caller.event()
    caller.publish(sent)
    stream.take(1)
    caller.acknowledge(stream.name, nacked=[{"range": one(1), "delay": {"seconds": 0}, "reason": "try again"}])
    batch = stream.next().batch
    assert (batch.first_ordinal, batch.deliveries[0].attempt) == (2, 2)
    assert batch.deliveries[0].event.id == sent.id
    refusal = refused(lambda: caller.acknowledge(stream.name, acked=[one(1)]))
    assert refusal.reason == "ORDINAL_NOT_OUTSTANDING"
    caller.acknowledge(stream.name, acked=[one(2)])


def test_a_delivery_that_is_not_acknowledged_in_time_comes_again(caller: Caller) -> None:
    caller.create(ack_deadline={"seconds": 1})
    stream = caller.open()
    sent = caller.event()
    caller.publish(sent)
    assert stream.take(1) == {1: sent.id}
    assert stream.take(1) == {2: sent.id}
    refusal = refused(lambda: caller.acknowledge(stream.name, acked=[one(1)]))
    assert (refusal.code, refusal.reason) == (INVALID, "ORDINAL_NOT_OUTSTANDING")


@pytest.mark.parametrize(
    ("settlement", "field"),
    [
        ({}, "acked"),
        ({"acked": [{"first": 0, "last": 1}]}, "acked[0].first"),
        ({"acked": [one(1), {"first": 5, "last": 4}]}, "acked[1].last"),
        ({"acked": [{"first": 1, "last": 3}], "nacked": [{"range": one(3)}]}, "nacked[0].range"),
        ({"nacked": [{"range": one(1), "action": 9}]}, "nacked[0].action"),
        ({"nacked": [{"range": one(1), "action": 3, "delay": {"seconds": 1}}]}, "nacked[0].delay"),
        ({"extended": [{"range": one(1), "deadline": {"seconds": 3_601}}]}, "extended[0].deadline"),
    ],
)
def test_a_settlement_that_cannot_be_meant_is_refused(caller: Caller, settlement: dict, field: str) -> None:
    refusal = refused(lambda: caller.acknowledge("subscribers/a/subscriptions/b/streams/c", **settlement))
    assert (refusal.code, refusal.fields) == (INVALID, [field])


def test_an_acknowledgement_names_its_stream(caller: Caller) -> None:
    refusal = refused(lambda: caller.acknowledge("", acked=[one(1)]))
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "FIELD_REQUIRED", ["stream"])


@pytest.mark.parametrize(
    ("request_fields", "reason", "fields"),
    [
        ({}, "FIELD_REQUIRED", ["target"]),
        ({"subscription": "subscribers/a"}, "MALFORMED_NAME", ["subscription"]),
        (
            {"subscription": "subscribers/a/subscriptions/b", "max_outstanding": 0},
            "FIELD_INVALID",
            ["max_outstanding"],
        ),
        (
            {"subscription": "subscribers/a/subscriptions/b", "max_outstanding_bytes": (64 << 20) + 1},
            "FIELD_INVALID",
            ["max_outstanding_bytes"],
        ),
        ({"ephemeral": {}}, "MALFORMED_NAME", ["ephemeral.parent", "ephemeral.selectors"]),
        (
            {"ephemeral": {"parent": "subscribers/a", "selectors": [{"pattern": PUSH}], "start": {"beginning": False}}},
            "FIELD_INVALID",
            ["ephemeral.start.beginning"],
        ),
    ],
)
def test_a_subscribe_request_that_cannot_be_meant_is_refused(
    caller: Caller, request_fields: dict, reason: str, fields: list[str]
) -> None:
    refusal = refused(lambda: caller.events.Subscribe(pb.SubscribeRequest(**request_fields), timeout=TIMEOUT))
    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, reason, fields)


def test_a_webhook_subscription_cannot_be_streamed(caller: Caller) -> None:
    caller.create(webhook={"url": "https://example.com/hook"})
    refusal = refused(caller.open)
    assert (refusal.code, refusal.reason) == (PRECONDITION, "SUBSCRIPTION_NOT_STREAMABLE")


@pytest.mark.parametrize(
    ("ending", "reason"),
    [("DeleteSubscription", REASON.REASON_DELETED), ("PauseSubscription", REASON.REASON_PAUSED)],
)
def test_a_stream_says_why_it_ends(caller: Caller, ending: str, reason: int) -> None:
    name = caller.create().name
    stream = caller.open()
    getattr(caller.subscriptions, ending)(getattr(service_pb, f"{ending}Request")(name=name), timeout=TIMEOUT)
    assert stream.next().closing.reason == reason
    with pytest.raises(StopIteration):
        stream.next()


def test_a_seek_moves_the_subscription_and_ends_its_streams(caller: Caller) -> None:
    name = caller.create().name
    stream = caller.open()
    sent = [caller.event(), caller.event()]
    published = caller.publish(*sent)
    stream.take(2)
    moved = caller.subscriptions.SeekSubscription(
        service_pb.SeekSubscriptionRequest(name=name, target={"event": published[1].name}), timeout=TIMEOUT
    )
    assert moved.discarded_deliveries == 2
    assert stream.next().closing.reason == REASON.REASON_SOUGHT
    assert caller.open().take(1) == {1: sent[1].id}


def test_a_seek_to_a_trimmed_position_is_refused_with_the_earliest_there_is(caller: Caller) -> None:
    name = caller.create().name
    server = caller.server
    # An engine may trim a little less than it is told, by whole pages: so there is more than a page.
    trimmed = caller.publish(*[caller.event() for _ in range(1_000)])[0].name
    server.run(lambda: trim_all(caller))
    kept = caller.publish(caller.event())[0].name
    request = service_pb.SeekSubscriptionRequest(name=name, target={"event": trimmed})
    refusal = refused(lambda: caller.subscriptions.SeekSubscription(request, timeout=TIMEOUT))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
    earliest = caller.events.ListEvents(
        pb.ListEventsRequest(parent="subscribers/-", page_size=1), timeout=TIMEOUT
    ).events[0]
    assert refusal.metadata["earliest"] == earliest.name
    assert kept


async def trim_all(caller: Caller) -> None:
    journal = caller.server.engine.journal
    await journal.trim((await journal.bounds()).last)
