"""Publish and PublishStream, and reading what was published."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from certes.v1 import event_service_pb2 as pb
from certes_broker.domain.events import Original
from tests.contracts.grpc_callers import PUSH, TIMEOUT, Caller, refused


def ask(number: int, *events, **fields) -> pb.PublishStreamRequest:
    return pb.PublishStreamRequest(request_id=f"r{number}", events=events, **fields)


def test_results_come_in_the_order_of_the_events_with_ids_made_where_none_was_sent(caller: Caller) -> None:
    named, nameless = caller.event(), caller.event(id=None)
    first, second = caller.publish(named, nameless)
    assert first.id == named.id
    assert second.id
    assert first.name != second.name


def test_one_bad_request_does_not_end_the_stream(caller: Caller) -> None:
    requests = [ask(1, caller.event()), ask(2, caller.event(type="nonsense")), ask(3), ask(4, caller.event())]
    answers = list(caller.publish_stream(requests))
    assert [answer.request_id for answer in answers] == ["r1", "r2", "r3", "r4"]
    assert [answer.WhichOneof("outcome") for answer in answers] == ["accepted", "rejected", "rejected", "accepted"]
    malformed, empty = answers[1].rejected, answers[2].rejected
    assert (malformed.code, malformed.reason) == (3, "MALFORMED_URI")
    assert malformed.message
    assert (empty.code, empty.reason) == (3, "FIELD_REQUIRED")
    assert [violation.field for violation in empty.field_violations] == ["events"]


def test_answers_come_in_the_order_of_hundreds_of_requests(caller: Caller) -> None:
    requests = [ask(number, *[caller.event() for _ in range(1 + number % 5)]) for number in range(300)]
    answers = list(caller.publish_stream(requests))
    assert [answer.request_id for answer in answers] == [request.request_id for request in requests]
    assert [answer.accepted.count for answer in answers] == [len(request.events) for request in requests]


def test_events_of_one_stream_are_accepted_in_the_order_they_were_sent(caller: Caller) -> None:
    caller.create()
    stream = caller.open()
    # Some requests are long enough to be read in several turns; the short ones behind them must not overtake.
    requests = [
        ask(number, *[caller.event(id=f"{caller.subscriber}-{number}-{i}") for i in range(200 if number % 3 else 1)])
        for number in range(6)
    ]
    list(caller.publish_stream(requests))
    sent = [event.id for request in requests for event in request.events]
    assert list(stream.take(len(sent)).values()) == sent


def test_an_answer_counts_and_names_only_where_asked(caller: Caller) -> None:
    sent = caller.event()
    caller.publish(sent)
    plain, named = caller.publish_stream([ask(1, sent, caller.event()), ask(2, sent, return_results=True)])
    assert (plain.accepted.count, plain.accepted.duplicates, len(plain.accepted.results)) == (2, 1, 0)
    [result] = named.accepted.results
    assert (result.id, result.duplicate) == (sent.id, True)


def test_a_request_is_answered_while_the_stream_is_open(caller: Caller) -> None:
    requests: queue.Queue[pb.PublishStreamRequest | None] = queue.Queue()
    answers = caller.publish_stream(iter(requests.get, None))
    for number in range(3):
        requests.put(ask(number, caller.event()))
        assert next(answers).request_id == f"r{number}"
    requests.put(None)
    assert list(answers) == []


def test_a_reused_id_is_rejected_with_the_facts_a_unary_call_gives(caller: Caller) -> None:
    sent = caller.event(subject="one")
    caller.publish(sent)
    other = caller.event(id=sent.id, subject="two")
    unary = refused(lambda: caller.publish(other))
    [answer] = caller.publish_stream([ask(1, other)])
    problem = answer.rejected
    assert (problem.code, problem.reason) == (unary.code.value[0], unary.reason)
    assert (problem.message, dict(problem.metadata)) == (unary.message, unary.metadata)
    assert [violation.field for violation in problem.field_violations] == unary.fields


def test_bytes_that_are_no_request_are_rejected_and_the_next_request_is_served(
    caller: Caller, grpc_channel: Any
) -> None:
    raw = grpc_channel.stream_stream("/certes.v1.EventService/PublishStream")
    wires: Iterator[bytes] = iter([b"\xff\xff", ask(2, caller.event()).SerializeToString()])
    first, second = [pb.PublishStreamResponse.FromString(wire) for wire in raw(wires, timeout=TIMEOUT)]
    assert first.rejected.reason == "MALFORMED_REQUEST"
    assert second.accepted.count == 1


def test_a_request_id_that_is_too_long_is_rejected(caller: Caller) -> None:
    request = pb.PublishStreamRequest(request_id="x" * 129, events=[caller.event()])
    [answer] = caller.publish_stream([request])
    assert answer.rejected.reason == "FIELD_INVALID"
    assert [violation.field for violation in answer.rejected.field_violations] == ["request_id"]


def test_an_event_is_found_by_name_and_by_source_and_id(caller: Caller) -> None:
    sent = caller.event(subject="s")
    [published] = caller.publish(sent)
    by_name = caller.events.GetEvent(pb.GetEventRequest(name=published.name), timeout=TIMEOUT)
    key = pb.GetEventRequest.SourceAndId(source=sent.source, id=sent.id)
    by_id = caller.events.GetEvent(pb.GetEventRequest(source_and_id=key), timeout=TIMEOUT)
    assert by_name == by_id
    assert (by_name.event.name, by_name.event.event.subject) == (published.name, "s")
    assert by_name.event.HasField("accept_time")
    assert not by_name.HasField("original")


def test_an_event_comes_with_the_webhook_it_was_made_of(caller: Caller) -> None:
    broker, original = caller.server.broker, Original("application/json", (("x-github-event", "push"),), b"{}")

    async def ingest() -> str:
        wire = caller.event().SerializeToString()
        accepted = broker.reader.read(wire, broker.clock.now(), original=original)
        [receipt] = await broker.publisher.publish([accepted])
        return broker.names.name(receipt.position)

    name = caller.server.run(ingest)
    answer = caller.events.GetEvent(pb.GetEventRequest(name=name), timeout=TIMEOUT)
    assert (
        answer.original
        == pb.GetEventResponse(
            original={"content_type": "application/json", "headers": {"x-github-event": "push"}, "body": b"{}"}
        ).original
    )


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({}, "key"),
        ({"name": ""}, "name"),
        ({"source_and_id": {"source": "//test"}}, "source_and_id.id"),
    ],
)
def test_an_event_is_asked_for_by_a_key(caller: Caller, request_fields: dict, field: str) -> None:
    refusal = refused(lambda: caller.events.GetEvent(pb.GetEventRequest(**request_fields), timeout=TIMEOUT))
    assert (refusal.reason, refusal.fields) == ("FIELD_REQUIRED", [field])


def test_events_are_listed_by_pages_oldest_first(caller: Caller) -> None:
    names = [result.name for result in caller.publish(*[caller.event() for _ in range(5)])]
    found, token = [], ""
    while len(found) < 5:
        request = pb.ListEventsRequest(parent=caller.parent, page_size=2, page_token=token, pattern=PUSH)
        page = caller.events.ListEvents(request, timeout=TIMEOUT)
        found += [kept.name for kept in page.events if kept.event.subscriber == caller.subscriber]
        token = page.next_page_token
        if not token:
            break
    assert found == names


@pytest.mark.parametrize(
    ("fields", "reason", "at_fault"),
    [
        ({}, "FIELD_REQUIRED", ["parent"]),
        ({"parent": "org_1"}, "MALFORMED_NAME", ["parent"]),
        ({"parent": "subscribers/a", "page_size": 0}, "FIELD_INVALID", ["page_size"]),
        ({"parent": "subscribers/a", "page_size": 1_001}, "FIELD_INVALID", ["page_size"]),
        ({"parent": "subscribers/a", "pattern": "**"}, "MALFORMED_PATTERN", ["pattern"]),
        ({"parent": "subscribers/a", "start_time": {"nanos": -1}}, "FIELD_INVALID", ["start_time"]),
    ],
)
def test_a_list_request_that_cannot_be_meant_is_refused(
    caller: Caller, fields: dict, reason: str, at_fault: list[str]
) -> None:
    refusal = refused(lambda: caller.events.ListEvents(pb.ListEventsRequest(**fields), timeout=TIMEOUT))
    assert (refusal.code, refusal.reason, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, reason, at_fault)
