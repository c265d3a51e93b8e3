from __future__ import annotations

import json

from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from tests.unit.cli.fake_gateway import connect_error

PING = "community.certes.dev/github/1/ping"
STORED = {"results": [{"name": "events/7", "id": "a"}]}


def test_an_event_is_sent_with_its_data_as_it_stands(certes, gateway):
    gateway.answer("Publish", STORED)
    words = ["--subscriber", "org_1", "--id", "a", "--subject", "s", "--ordering-key", "k", "--source", "//x"]
    result = certes(
        "publish",
        PING,
        "--json",
        "-",
        *words,
        "--broker",
        gateway.address,
        stdin='{"zen": "é", "n": 12345678901234567890}',
    )
    assert result.exit_code == 0
    assert result.stdout == "Published events/7, id a.\n"
    assert gateway.requests("Publish") == [
        {
            "events": [
                {
                    "type": PING,
                    "source": "//x",
                    "data": {"zen": "é", "n": 12345678901234567890},
                    "subscriber": "org_1",
                    "id": "a",
                    "subject": "s",
                    "orderingKey": "k",
                }
            ]
        }
    ]


def test_data_can_come_from_a_file_and_the_broker_from_the_environment(certes, gateway, tmp_path):
    gateway.answer("Publish", STORED)
    file = tmp_path / "data.json"
    file.write_text("{}", encoding="utf-8")
    result = certes(
        "publish", PING, "--json", str(file), "--everyone", env={"CERTES_BROKER": f"events://{gateway.address}"}
    )
    assert result.exit_code == 0
    (request,) = gateway.requests("Publish")
    assert request["events"][0]["everyone"] is True
    assert "id" not in request["events"][0]


def test_raw_content_is_sent_byte_for_byte(certes, gateway):
    gateway.answer("Publish", STORED)
    words = ["--raw", "-", "--content-type", "text/csv", "--everyone"]
    assert certes("publish", PING, *words, "--broker", gateway.address, stdin=b"a;\xff").exit_code == 0
    (request,) = gateway.requests("Publish")
    assert request["events"][0]["raw"] == {"contentType": "text/csv", "bytes": "YTv/"}
    assert "data" not in request["events"][0]


def test_nothing_is_sent_unless_the_content_is_said_once(certes, gateway):
    for words in ([], ["--json", "-", "--raw", "-"]):
        result = certes("publish", PING, *words, "--everyone", "--broker", gateway.address, stdin="{}")
        assert result.exit_code == 2
        assert "either --json FILE" in result.stderr
    assert gateway.calls == []


def test_a_duplicate_is_told_as_one(certes, gateway):
    gateway.answer("Publish", {"results": [{"name": "events/7", "id": "a", "duplicate": True}]})
    result = certes("publish", PING, "--json", "-", "--everyone", "--broker", gateway.address, stdin="{}")
    assert result.stdout == "Already published as events/7; nothing was stored.\n"


def test_the_result_can_be_printed_as_json(certes, gateway):
    gateway.answer("Publish", STORED)
    result = certes(
        "publish", PING, "--json", "-", "--everyone", "--print-json", "--broker", gateway.address, stdin="{}"
    )
    assert json.loads(result.stdout) == {"name": "events/7", "id": "a"}


def test_nothing_is_sent_unless_the_audience_is_said(certes, gateway):
    for words in ([], ["--everyone", "--subscriber", "org_1"]):
        result = certes("publish", PING, "--json", "-", *words, "--broker", gateway.address, stdin="{}")
        assert result.exit_code == 2
        assert "either --subscriber ID or --everyone" in result.stderr
    assert gateway.calls == []


def test_a_mistake_in_the_json_is_told_with_its_place(certes, gateway):
    result = certes("publish", PING, "--json", "-", "--everyone", "--broker", gateway.address, stdin='{\n  "a": }')
    assert result.exit_code == 2
    assert "standard input is no JSON: line 2, column 8" in result.stderr
    assert gateway.calls == []


def test_what_protobuf_json_has_no_number_for_is_refused_here(certes, gateway):
    result = certes("publish", PING, "--json", "-", "--everyone", "--broker", gateway.address, stdin='{"a": NaN}')
    assert result.exit_code == 2
    assert "NaN" in result.stderr


def test_data_that_is_not_utf_8_is_refused_here(certes, gateway):
    result = certes("publish", PING, "--json", "-", "--everyone", "--broker", gateway.address, stdin=b'{"a": "\xff"}')
    assert result.exit_code == 2
    assert "not UTF-8" in result.stderr


def test_a_refusal_says_the_reason_the_message_the_fields_and_when_to_retry(certes, gateway):
    error = connect_error(
        "invalid_argument",
        "The event is of no known type.",
        ErrorInfo(reason="UNKNOWN_EVENT_TYPE", domain="certes.dev"),
        BadRequest(
            field_violations=[BadRequest.FieldViolation(field="events[0].type", description="is not registered")]
        ),
        RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)),
    )
    gateway.refuse("Publish", error)
    result = certes("publish", PING, "--json", "-", "--everyone", "--broker", gateway.address, stdin="{}")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"Error: Publishing an event of {PING}: the broker refused (UNKNOWN_EVENT_TYPE).",
        "  The event is of no known type.",
        "  events[0].type: is not registered",
        "  The same may succeed in 1.5 s.",
    ]


def test_a_refusal_by_something_in_between_is_told_by_its_status(certes, gateway):
    gateway.answer("Publish", b"<html>", status=502)
    result = certes("publish", PING, "--json", "-", "--everyone", "--broker", gateway.address, stdin="{}")
    assert result.exit_code == 1
    assert "HTTP 502 Bad Gateway" in result.stderr
