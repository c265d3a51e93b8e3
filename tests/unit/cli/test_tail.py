from __future__ import annotations

import json

PATTERN = "community.certes.dev/github/1/*"
OPENED = {"opened": {"stream": "s/1"}}


def delivery(number: int) -> dict:
    return {
        "name": f"events/{number}",
        "attempt": 1,
        "acceptTime": "2026-01-02T03:04:05.123456789Z",
        "event": {
            "id": f"id-{number}",
            "type": "community.certes.dev/github/1/push",
            "source": "sources/github",
            "subject": "meetly/meetly",
            "everyone": True,
            "data": {"ref": "refs/heads/main"},
        },
    }


def batch(first: int, last: int) -> dict:
    deliveries = [delivery(number) for number in range(first, last + 1)]
    return {"batch": {"firstOrdinal": str(first), "deliveries": deliveries}}


def test_deliveries_are_printed_and_each_batch_acknowledged(certes, gateway):
    gateway.stream("Subscribe", OPENED, batch(1, 3), {"heartbeat": {}}, batch(4, 4), end={})
    gateway.answer("Acknowledge", {})
    gateway.answer("Acknowledge", {})
    result = certes("tail", PATTERN, "--json", "--broker", gateway.address)
    assert result.exit_code == 0
    assert [json.loads(line) for line in result.stdout.splitlines()] == [delivery(number) for number in (1, 2, 3, 4)]
    assert gateway.requests("Acknowledge") == [
        {"stream": "s/1", "acked": [{"first": 1, "last": 3}]},
        {"stream": "s/1", "acked": [{"first": 4, "last": 4}]},
    ]


def test_several_patterns_are_tailed_at_once(certes, gateway):
    gateway.stream("Subscribe", OPENED, end={})
    certes("tail", PATTERN, "a.b/_/1/_gap", "--broker", gateway.address)
    selectors = gateway.requests("Subscribe")[0]["ephemeral"]["selectors"]
    assert [one["pattern"] for one in selectors] == [PATTERN, "a.b/_/1/_gap"]


def test_a_filter_goes_with_the_stream(certes, gateway):
    gateway.stream("Subscribe", OPENED, end={})
    certes("tail", PATTERN, "--filter", "data.size > 1", "--broker", gateway.address)
    assert gateway.requests("Subscribe")[0]["ephemeral"]["filter"] == "data.size > 1"


def test_the_stream_is_ephemeral_and_has_the_selector(certes, gateway):
    gateway.stream("Subscribe", OPENED, end={})
    certes(
        "tail",
        PATTERN,
        "--subscriber",
        "org_1",
        "--option",
        "repo=a/b=c",
        "--from",
        "beginning",
        "--broker",
        gateway.address,
    )
    (request,) = gateway.requests("Subscribe")
    assert request["ephemeral"] == {
        "parent": "subscribers/org_1",
        "selectors": [{"pattern": PATTERN, "options": {"repo": "a/b=c"}}],
        "start": {"beginning": True},
    }


def test_it_ends_by_itself_after_count_deliveries(certes, gateway):
    gateway.stream("Subscribe", OPENED, batch(1, 3), end=None)
    result = certes("tail", PATTERN, "--json", "--count", "2", "--broker", gateway.address)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2


def test_a_person_sees_type_source_subject_audience_and_data(certes, gateway):
    gateway.stream("Subscribe", OPENED, batch(1, 1), end=None)
    result = certes("tail", PATTERN, "--count", "1", "--broker", gateway.address)
    for shown in ("github/1/push", "sources/github meetly/meetly", "everyone", "id-1", '{"ref":"refs/heads/main"}'):
        assert shown in result.stdout
    assert "Waiting for events" in result.stderr


def test_a_broker_that_closes_the_stream_is_told_with_its_reason(certes, gateway):
    gateway.stream("Subscribe", OPENED, {"closing": {"reason": "REASON_DRAINING", "message": "It stops."}}, end={})
    result = certes("tail", PATTERN, "--broker", gateway.address)
    assert result.exit_code == 3
    assert "It stops.\n" in result.stderr


def test_options_that_cannot_be_meant_are_refused_here(certes, gateway):
    for words, told in ((["repo"], "NAME=VALUE"), (["repo=a", "repo=b"], "given twice")):
        options = [word for value in words for word in ("--option", value)]
        result = certes("tail", PATTERN, *options, "--broker", gateway.address)
        assert result.exit_code == 2
        assert told in result.stderr
    assert gateway.calls == []
