"""What a filter says of an event: true, false, or why neither can be said."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1 import event_pb2
from certes_broker.domain.errors import Invalid
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.filters.evaluation import Failure, FailureReason
from certes_broker.schemas.filters.filters import Filters
from certes_broker.schemas.registry import Registry

PUSH = "community.certes.dev/github/1/push"
FILTERS = Filters(Registry(community_versions()))
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def packed(message: Any) -> AnyMessage:
    data = AnyMessage()
    data.Pack(message)
    return data


def asked(*texts: str, event_type: str = PUSH, filters: Filters = FILTERS, **fields: Any) -> list[bool | Failure]:
    """Asks filters about one event."""
    fields.setdefault("data", packed(PushEvent(ref="refs/heads/main", commits=[{"id": "1"}, {"id": "2"}])))
    event = event_pb2.Event(**{"id": "e1", "source": "//test", "type": event_type, "everyone": True, **fields})
    question = filters.event(event_type, event.SerializeToString())
    return [question.passes(text) for text in texts]


def ask(text: str, **fields: Any) -> bool | Failure:
    [answer] = asked(text, **fields)
    return answer


def failure(text: str, **fields: Any) -> Failure:
    answer = ask(text, **fields)
    assert isinstance(answer, Failure)
    return answer


@pytest.mark.parametrize(
    "text",
    [
        "event.id == 'e1'",
        f"event.type == '{PUSH}'",
        "event.source == '//test'",
        "event.subject == 'app'",
        "event.time == timestamp('1970-01-01T00:01:40.000000007Z')",
        "event.subscriber == 'org_1' && has(event.subscriber) && !has(event.everyone)",
        "event.ordering_key == 'k'",
        "event.attributes['region'] == 'eu' && event.attributes.size() == 1",
        f"event.traceparent == '{TRACE}' && event.tracestate == 'a=b'",
    ],
)
def test_every_attribute_can_be_asked_for(text):
    fields = {
        "subject": "app",
        "time": {"seconds": 100, "nanos": 7},
        "subscriber": "org_1",
        "ordering_key": "k",
        "attributes": {"region": "eu"},
        "traceparent": TRACE,
        "tracestate": "a=b",
    }
    event = event_pb2.Event(id="e1", source="//test", type=PUSH, data=packed(PushEvent()), **fields)
    assert FILTERS.event(PUSH, event.SerializeToString()).passes(text) is True


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("data.ref == 'refs/heads/main'", True),
        ("data.ref == 'refs/heads/other'", False),
        ("data.commits.exists(c, c.id == '2')", True),
        ("data.commits.all(c, c.id == '2')", False),
        ("data.commits.filter(c, c.id == '2').size() == 1", True),
        ("data.commits.map(c, c.id) == ['1', '2']", True),
        ("data.ref.matches('^refs/heads/[a-z]+$')", True),
        ("has(data.head_commit)", False),
        ("event.everyone", True),
    ],
)
def test_a_filter_is_true_or_false(text, answer):
    assert ask(text) is answer


def test_a_text_is_compared_whole():
    event = {"data": packed(PushEvent(ref="a\0b"))}
    assert asked("data.ref == 'a'", "data.ref == 'a\\u0000b'", "data.ref.size() == 3", **event) == [False, True, True]


@pytest.mark.parametrize(
    "text",
    [
        "event.attributes['nope'] == 'x'",
        "data.commits[7].id == 'x'",
        "1 / data.commits.filter(c, c.id == 'none').size() == 1",
        "int(data.ref) == 1",
        "event.time.getHours('Nowhere/Land') == 1",
        "data.ref.matches('(')",
        "9223372036854775807 + data.commits.size() == 0",
    ],
)
def test_what_cannot_be_evaluated_is_neither_and_says_why(text):
    found = failure(text)
    assert found.reason is FailureReason.ERROR
    assert found.detail


def test_an_error_that_does_not_matter_is_none():
    assert ask("event.attributes['nope'] == 'x' || data.ref != ''") is True
    assert ask("event.attributes['nope'] == 'x' && data.ref == ''") is False


@pytest.mark.parametrize("key", ["data.ref", "'secret\"' + data.ref", "data.ref + '\\'secret'"])
def test_why_tells_nothing_of_what_the_event_says(key):
    found = failure(f"event.attributes[{key}] == 'x'", data=packed(PushEvent(ref="secret")))
    assert found.reason is FailureReason.ERROR
    assert "secret" not in found.detail


def test_a_filter_that_does_not_fit_the_event_s_type_does_not_match():
    found = failure("data.room == 'blue'")
    assert found.reason is FailureReason.UNFIT
    assert PUSH in found.detail


def test_of_an_event_type_without_a_schema_only_attributes_can_be_asked():
    open_type = "events.example.com/open/1/note"
    raw = {"raw": {"content_type": "text/plain", "bytes": b"x"}, "data": None}
    answers = asked("event.id == 'e1'", "data.x == 1", event_type=open_type, **raw)
    assert answers[0] is True
    assert isinstance(answers[1], Failure)
    assert answers[1].reason is FailureReason.ERROR


def test_data_of_another_message_than_the_schema_s_is_as_if_there_were_none():
    answers = asked("event.id == 'e1'", "data.ref == ''", data=packed(event_pb2.RawContent()))
    assert answers[0] is True
    assert isinstance(answers[1], Failure)


def test_what_is_asked_twice_is_evaluated_once():
    calls = []

    def find(type_text: str) -> Any:
        calls.append(type_text)
        return FILTERS._find(type_text)

    question = FILTERS.event(PUSH, event_pb2.Event(type=PUSH, data=packed(PushEvent())).SerializeToString())
    question._find = find
    first = question.passes("event.attributes['nope'] == 'x'")
    assert question.passes("event.attributes['nope'] == 'x'") is first
    assert question.passes("data.ref == ''") is True
    assert calls == [PUSH]


def test_an_event_of_which_nothing_is_asked_is_not_read():
    FILTERS.event(PUSH, b"\xff no event")


def test_many_filters_share_what_they_read_without_keeping_every_copy_of_it():
    large = PushEvent(ref="r" * (1 << 20))
    answers = asked(*(f"data.ref == 'x{number}'" for number in range(200)), data=packed(large))
    assert answers == [False] * 200


def test_a_filter_is_compiled_for_each_event_type_that_it_meets():
    issues = "community.certes.dev/github/1/issues"
    assert ask("data.sender.login == ''") is True
    schema = FILTERS._registry.lookup(issues)
    found = ask("data.sender.login == ''", event_type=issues, data=packed(schema.new()))
    assert found is True


def test_data_made_of_very_many_parts_is_not_read_for_a_filter():
    many = packed(PushEvent(commits=[{}] * 150_000))
    fine, refused = asked("event.id == 'e1'", "data.ref == ''", data=many)
    assert fine is True
    assert isinstance(refused, Failure)
    assert refused.reason is FailureReason.OVER_BUDGET
    assert asked("data.ref == ''", data=packed(PushEvent(commits=[{}] * 90_000))) == [True]
    assert asked("data.ref == ''", data=packed(PushEvent(commits=[{"message": "x" * 400}] * 2_500))) == [True]


def test_data_is_read_when_it_is_asked_for_and_not_before():
    broken = AnyMessage(type_url=f"type.googleapis.com/{PushEvent.DESCRIPTOR.full_name}", value=b"\xff")
    answers = asked("event.id == 'e1'", "data.ref == ''", "event.source == '//test'", data=broken)
    assert (answers[0], answers[2]) == (True, True)
    assert isinstance(answers[1], Failure)


def test_a_malformed_event_type_has_no_schema():
    with pytest.raises(Invalid):
        FILTERS._registry.lookup("nonsense")
    assert ask("event.id == 'e1'", event_type="nonsense") is True
