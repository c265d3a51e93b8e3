"""`certes sources rejected` and `reingest`: what they ask of the broker, and what they show."""

from __future__ import annotations

import base64
import json

import pytest

NAME = "sources/github/rejected/7"
PAYLOAD = {
    "name": NAME,
    "rejectTime": "2026-01-01T00:00:00Z",
    "reason": "SIGNATURE_INVALID",
    "message": "no secret matches",
    "contentType": "application/json",
    "headers": {"x-github-event": "push", "user-agent": "x"},
    "bodyBytes": "12",
}
BODY = b'{"a":"\x1b[31m\xff"}'
TAKEN = {"rejected": NAME, "event": "events/abc"}
REFUSED = {"rejected": NAME, "reason": "SIGNATURE_INVALID", "message": "no secret matches"}


def test_a_list_says_why_and_whether_the_sender_was_proven(certes, gateway):
    gateway.answer("ListRejected", {"rejected": [PAYLOAD], "nextPageToken": "t"})
    gateway.answer("ListRejected", {"rejected": [PAYLOAD | {"name": "sources/github/rejected/6", "verified": True}]})
    result = certes("sources", "rejected", "list", "github", "--broker", gateway.address)
    assert result.stdout.splitlines() == [
        "NAME\tTIME\tREASON\tVERIFIED\tBYTES\tMESSAGE",
        f"{NAME}\t2026-01-01T00:00:00Z\tSIGNATURE_INVALID\tno\t12\tno secret matches",
        "sources/github/rejected/6\t2026-01-01T00:00:00Z\tSIGNATURE_INVALID\tyes\t12\tno secret matches",
    ]
    assert gateway.requests("ListRejected")[0]["parent"] == "sources/github"


def test_an_empty_list_says_how_payloads_come_to_be_kept(certes, gateway):
    gateway.answer("ListRejected", {})
    result = certes("sources", "rejected", "list", "sources/github", "--broker", gateway.address)
    assert result.stdout == ""
    assert "--keep-rejected" in result.stderr


@pytest.mark.parametrize("name", ["github/7", NAME])
def test_a_payload_is_shown_with_its_body_which_tells_the_terminal_nothing(certes, gateway, name):
    gateway.answer("GetRejected", {"rejected": PAYLOAD | {"body": base64.b64encode(BODY).decode()}})
    result = certes("sources", "rejected", "show", name, "--broker", gateway.address)
    assert gateway.requests("GetRejected") == [{"name": NAME}]
    assert "x-github-event: push" in result.stdout
    assert '{"a":"\ufffd[31m\ufffd"}' in result.stdout
    assert "\x1b" not in result.stdout


def test_nothing_that_a_stranger_wrote_tells_the_terminal_anything(certes, gateway):
    evil = "\x1b[2J\x9b31m\u202e\x07"
    payload = PAYLOAD | {"message": evil, "headers": {"x-own": evil}, "contentType": evil}
    for words in (
        ["list", "github"],
        ["show", "github/7"],
        ["list", "github", "--json"],
        ["show", "github/7", "--json"],
    ):
        gateway.answer("ListRejected", {"rejected": [payload]})
        gateway.answer("GetRejected", {"rejected": payload})
        result = certes("sources", "rejected", *words, "--broker", gateway.address)
        assert result.exit_code == 0
        assert not set(evil) - set("[2J31m") & set(result.stdout)
        if "--json" in words:
            shown = json.loads(result.stdout)
            assert evil in (shown[0] if isinstance(shown, list) else shown)["headers"].values()


def test_a_body_can_be_had_byte_for_byte(certes, gateway):
    gateway.answer("GetRejected", {"rejected": PAYLOAD | {"body": base64.b64encode(BODY).decode()}})
    result = certes("sources", "rejected", "show", "github/7", "--body", "--broker", gateway.address)
    assert result.stdout_bytes == BODY


def test_a_payload_as_json_is_what_the_api_answered(certes, gateway):
    gateway.answer("GetRejected", {"rejected": PAYLOAD})
    result = certes("sources", "rejected", "show", "github/7", "--json", "--broker", gateway.address)
    assert json.loads(result.stdout) == PAYLOAD


def test_payloads_are_ingested_again_and_said_to_be_taken(certes, gateway):
    gateway.answer("Reingest", {"results": [TAKEN, TAKEN | {"duplicate": True}]})
    result = certes("sources", "reingest", "github/7", "github/8", "--broker", gateway.address)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [f"{NAME}\tevents/abc\ttaken", f"{NAME}\tevents/abc\ttaken before"]
    assert gateway.requests("Reingest") == [{"names": [NAME, "sources/github/rejected/8"], "trustUnverified": False}]


@pytest.mark.parametrize("words", [["reingest", "github"], ["rejected", "show", "github"]])
def test_what_names_no_payload_is_a_mistake(certes, gateway, words):
    result = certes("sources", *words, "--broker", gateway.address)
    assert result.exit_code == 2
    assert "SOURCE/ID" in result.stderr
    assert gateway.calls == []


def test_what_could_not_be_proven_is_told_with_what_to_do(certes, gateway):
    gateway.answer("Reingest", {"results": [REFUSED]})
    result = certes("sources", "reingest", "github/7", "--broker", gateway.address)
    assert "--trust-unverified" in result.stderr
    assert "rotate-secret" in result.stderr


def test_one_that_is_refused_again_makes_the_command_fail(certes, gateway):
    gateway.answer("Reingest", {"results": [TAKEN, REFUSED]})
    result = certes("sources", "reingest", "github/7", "github/8", "--trust-unverified", "--broker", gateway.address)
    assert result.exit_code == 1
    assert "SIGNATURE_INVALID: no secret matches" in result.stdout
    assert gateway.requests("Reingest")[0]["trustUnverified"] is True


def test_all_of_a_source_are_ingested_oldest_first_in_requests_of_a_hundred(certes, gateway):
    names = [f"sources/github/rejected/{number}" for number in range(150, 0, -1)]
    gateway.answer("ListRejected", {"rejected": [PAYLOAD | {"name": name} for name in names]})
    for _ in range(2):
        gateway.answer("Reingest", {"results": [TAKEN]})
    result = certes("sources", "reingest", "--all", "github", "--json", "--broker", gateway.address)
    assert json.loads(result.stdout) == [TAKEN, TAKEN]
    assert [request["names"] for request in gateway.requests("Reingest")] == [names[::-1][:100], names[::-1][100:]]


def test_there_may_be_nothing_to_ingest_again(certes, gateway):
    gateway.answer("ListRejected", {})
    result = certes("sources", "reingest", "--all", "github", "--broker", gateway.address)
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize("words", [[], ["github/7", "--all", "github"]])
def test_either_names_or_all_are_wanted(certes, gateway, words):
    assert certes("sources", "reingest", *words, "--broker", gateway.address).exit_code == 2
    assert gateway.calls == []
