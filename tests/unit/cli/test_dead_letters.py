"""`certes dead-letters`, `deliveries` and `redeliver`: what they ask of the broker, and what they show."""

from __future__ import annotations

import json

import pytest

from certes.v1.dead_letter_pb2 import DeadLetter
from certes_broker.cli.dead_letters import REASONS

FULL = "subscribers/default/subscriptions/app"
NAME = f"{FULL}/deadLetters/aa"
LETTER = {
    "name": NAME,
    "event": "events/aa",
    "type": "meetly.com/_/1/paid",
    "source": "//shop",
    "eventId": "e1",
    "reason": "REASON_ATTEMPTS_EXHAUSTED",
    "error": "HTTP 500\x1b[2J",
    "attempts": 8,
    "deadTime": "2026-01-01T00:00:00Z",
    "acceptTime": "2026-01-01T00:00:00Z",
    "eventBytes": "12",
}
ATTEMPT = {"event": "events/aa", "number": 1, "attemptTime": "2026-01-01T00:00:00Z", "duration": "0.2s", "status": 500}


def test_every_reason_of_the_contract_can_be_chosen():
    assert {"REASON_UNSPECIFIED", *REASONS.values()} == set(DeadLetter.Reason.keys())


def test_a_list_shows_why_and_tells_the_terminal_nothing(certes, gateway):
    gateway.answer("ListDeadLetters", {"deadLetters": [LETTER], "nextPageToken": "t"})
    gateway.answer("ListDeadLetters", {"deadLetters": [LETTER | {"replaying": True}]})
    words = ["--pattern", "meetly.com/**", "--reason", "rejected", "--since", "2026-01-01T00:00:00Z"]
    result = certes("dead-letters", "list", "app", *words, "--broker", gateway.address)
    assert result.stdout.splitlines()[1:] == [
        "aa\t2026-01-01T00:00:00Z\tmeetly.com/_/1/paid\tattempts-exhausted\t8\tdead\tHTTP 500\ufffd[2J",
        "aa\t2026-01-01T00:00:00Z\tmeetly.com/_/1/paid\tattempts-exhausted\t8\treplaying\tHTTP 500\ufffd[2J",
    ]
    asked = gateway.requests("ListDeadLetters")[0]
    assert asked["parent"] == FULL
    assert asked["filter"] == {
        "pattern": "meetly.com/**",
        "reason": "REASON_REJECTED",
        "startTime": "2026-01-01T00:00:00Z",
    }


@pytest.mark.parametrize("letter", ["aa", "events/aa", NAME])
def test_a_dead_letter_is_shown_with_its_event_and_attempts(certes, gateway, letter):
    event = {"id": "e1", "data": {"zen": "x\x1b"}}
    gateway.answer("GetDeadLetter", {"deadLetter": LETTER, "event": event, "attempts": [ATTEMPT]})
    if letter == "events/aa":
        letter = "aa"
    result = certes("dead-letters", "get", "app", letter, "--broker", gateway.address)
    assert gateway.requests("GetDeadLetter") == [{"name": NAME}]
    assert "attempt 1  500" in result.stdout
    assert '"id":"e1"' in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("command", ["replay", "purge"])
@pytest.mark.parametrize("words", [[], ["aa", "--all"], ["aa", "--reason", "rejected"]])
def test_it_must_be_clear_which_dead_letters_are_meant(certes, command, words):
    result = certes("dead-letters", command, "app", *words)
    assert result.exit_code == 2
    assert "LETTERS" in result.stderr


def test_a_replay_goes_through_all_pages_and_counts(certes, gateway):
    gateway.answer("ListDeadLetters", {"totalSize": 5})
    gateway.answer("ReplayDeadLetters", {"replayedCount": 3, "nextPageToken": "t"})
    gateway.answer("ReplayDeadLetters", {"replayedCount": 1, "replayingCount": 1})
    result = certes("dead-letters", "replay", "app", "--all", "--json", "--broker", gateway.address)
    assert json.loads(result.stdout) == {"replayedCount": 4, "replayingCount": 1}
    first, second = gateway.requests("ReplayDeadLetters")
    assert (first["parent"], first["filter"], first["pageToken"], second["pageToken"]) == (FULL, {}, "", "t")


def test_a_replay_of_letters_names_them(certes, gateway):
    gateway.answer("ReplayDeadLetters", {"replayedCount": 2})
    result = certes("dead-letters", "replay", "app", "aa", NAME, "--broker", gateway.address)
    assert gateway.requests("ReplayDeadLetters") == [{"parent": FULL, "names": [NAME, NAME], "pageToken": ""}]
    assert "Replayed 2" in result.stdout


@pytest.mark.parametrize(("left", "code"), [([], 0), ([LETTER], 1)])
def test_a_replay_that_waits_ends_with_1_if_some_are_dead_again(certes, gateway, left, code):
    gateway.answer("ListDeadLetters", {"totalSize": 1})
    gateway.answer("ReplayDeadLetters", {"replayedCount": 1})
    gateway.answer("ListDeadLetters", {"totalSize": 1})
    gateway.answer("ListDeadLetters", {"deadLetters": left})
    result = certes("dead-letters", "replay", "app", "--all", "--wait", "--broker", gateway.address)
    assert result.exit_code == code
    assert ("dead letters again" in result.stdout) == bool(left)


@pytest.mark.parametrize("state", ["PAUSED", "DISABLED"])
def test_a_replay_to_a_subscription_that_stands_still_is_not_waited_for(certes, gateway, state):
    gateway.answer("ListDeadLetters", {"totalSize": 1})
    gateway.answer("ReplayDeadLetters", {"replayedCount": 1})
    gateway.answer("ListDeadLetters", {"totalSize": 1, "replayingSize": 1})
    gateway.answer("GetSubscription", {"subscription": {"name": FULL, "state": f"STATE_{state}"}})
    result = certes("dead-letters", "replay", "app", "--all", "--wait", "--broker", gateway.address)
    assert (result.exit_code, "certes subscriptions resume" in result.stderr) == (1, True)


def test_a_replay_is_waited_for_also_by_whoever_is_not_told_how_much_is_on_its_way(certes, gateway):
    gateway.answer("ListDeadLetters", {})
    gateway.answer("ReplayDeadLetters", {"replayedCount": 1})
    gateway.answer("ListDeadLetters", {})
    gateway.answer("ListDeadLetters", {"deadLetters": [LETTER | {"replaying": True}]})
    gateway.refuse("GetSubscription", {"code": "permission_denied", "message": "no"}, status=403)
    gateway.answer("ListDeadLetters", {})
    gateway.answer("ListDeadLetters", {})
    result = certes("dead-letters", "replay", "app", "--all", "--wait", "--broker", gateway.address)
    assert (result.exit_code, "All of it is settled" in result.stdout) == (0, True)


@pytest.mark.parametrize("words", [["--since", "yesterday"], ["--until", "2026-11-27T12:00:00"]])
def test_a_time_that_cannot_be_meant_is_refused_before_anything_is_sent(certes, words):
    result = certes("dead-letters", "list", "app", *words)
    assert (result.exit_code, "2026-11-27T12:00:00Z" in result.stderr) == (2, True)


def test_a_purge_asks_first_and_does_nothing_on_no(certes, gateway):
    result = certes("dead-letters", "purge", "app", "--all", "--broker", gateway.address, stdin="n\n")
    assert result.exit_code != 0
    assert gateway.calls == []


def test_a_purge_says_how_many_went(certes, gateway):
    gateway.answer("ListDeadLetters", {"totalSize": 5})
    gateway.answer("PurgeDeadLetters", {"purgedCount": 4, "replayingCount": 1})
    words = ["--reason", "rejected", "--yes"]
    result = certes("dead-letters", "purge", "app", *words, "--broker", gateway.address)
    assert result.stdout == f"Purged 4 of {FULL}. 1 are being replayed and stay.\n"
    assert gateway.requests("PurgeDeadLetters")[0]["filter"] == {"reason": "REASON_REJECTED"}


@pytest.mark.parametrize("event", ["aa", "events/aa"])
def test_an_event_is_redelivered_by_its_name(certes, gateway, event):
    gateway.answer("Redeliver", {})
    result = certes("redeliver", event, "app", "--broker", gateway.address)
    assert gateway.requests("Redeliver") == [{"event": "events/aa", "subscription": FULL}]
    assert "once more" in result.stdout


def test_a_redelivery_of_what_is_on_its_way_says_so(certes, gateway):
    gateway.answer("Redeliver", {"alreadyDue": True})
    assert "already" in certes("redeliver", "aa", "app", "--broker", gateway.address).stdout


def test_attempts_are_listed_up_to_the_limit(certes, gateway):
    gateway.answer("ListAttempts", {"attempts": [ATTEMPT], "nextPageToken": "t"})
    gateway.answer("ListAttempts", {"attempts": [ATTEMPT | {"number": 2, "nextAttemptTime": "2026-01-01T00:00:05Z"}]})
    words = ["--event", "events/aa", "--limit", "2"]
    result = certes("deliveries", "attempts", "app", *words, "--broker", gateway.address)
    assert result.stdout.splitlines()[1:] == [
        "events/aa\t2026-01-01T00:00:00Z\t1\t500\t0.2\t",
        "events/aa\t2026-01-01T00:00:00Z\t2\t500\t0.2\t2026-01-01T00:00:05Z",
    ]
    assert [one["pageSize"] for one in gateway.requests("ListAttempts")] == [2, 1]
