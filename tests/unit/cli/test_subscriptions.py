from __future__ import annotations

import json

import pytest

NAME = "subscribers/default/subscriptions/billing"
STREAM = {
    "name": NAME,
    "selectors": [{"pattern": "a.b/_/1/*", "options": {"repo": "x"}}, {"pattern": "a.b/_/2/c"}],
    "stream": {},
    "state": "STATE_ACTIVE",
    "etag": "r1",
}
WEBHOOK = {"name": "subscribers/o/subscriptions/w", "webhook": {"url": "https://x.y/z", "format": "FORMAT_ORIGINAL"}}


def test_a_list_follows_the_pages_to_the_end(certes, gateway):
    gateway.answer("ListSubscriptions", {"subscriptions": [STREAM], "nextPageToken": "t"})
    gateway.answer("ListSubscriptions", {"subscriptions": [WEBHOOK]})
    result = certes("subscriptions", "list", "--broker", gateway.address)
    assert result.stdout.splitlines() == [
        "NAME\tSTATE\tSELECTORS\tDELIVERY",
        f"{NAME}\tactive\ta.b/_/1/* repo=x; a.b/_/2/c\tstream",
        "subscribers/o/subscriptions/w\t\t\twebhook https://x.y/z",
    ]
    first, second = gateway.requests("ListSubscriptions")
    assert first["parent"] == "subscribers/-"
    assert second["pageToken"] == "t"


def test_a_list_as_json_is_what_the_api_answered(certes, gateway):
    gateway.answer("ListSubscriptions", {"subscriptions": [STREAM]})
    result = certes("subscriptions", "list", "--subscriber", "default", "--json", "--broker", gateway.address)
    assert json.loads(result.stdout) == [STREAM]
    assert gateway.requests("ListSubscriptions")[0]["parent"] == "subscribers/default"


def test_an_empty_list_says_so_beside_the_output(certes, gateway):
    gateway.answer("ListSubscriptions", {})
    result = certes("subscriptions", "list", "--broker", gateway.address)
    assert result.stdout == ""
    assert "no subscriptions" in result.stderr


def test_get_takes_an_id_or_a_full_name(certes, gateway):
    for words in (["billing"], [NAME]):
        gateway.answer("GetSubscription", {"subscription": STREAM})
        result = certes("subscriptions", "get", *words, "--broker", gateway.address)
        assert "a.b/_/1/* repo=x" in result.stdout
    assert gateway.requests("GetSubscription") == [{"name": NAME}] * 2


def test_signing_secrets_are_shown_only_if_asked_for(certes, gateway):
    secrets = [{"secret": "whsec_new"}, {"secret": "whsec_old", "expireTime": "2026-01-01T00:00:00Z"}]
    gateway.answer("GetSubscription", {"subscription": WEBHOOK})
    gateway.answer("GetSigningSecrets", {"secrets": secrets})
    result = certes("subscriptions", "get", "w", "--subscriber", "o", "--secrets", "--broker", gateway.address)
    assert "whsec_new" in result.stdout
    assert "whsec_old until 2026" in result.stdout


def test_create_makes_a_stream_subscription_unless_a_webhook_is_named(certes, gateway):
    gateway.answer("CreateSubscription", {"subscription": STREAM})
    words = ["--pattern", "a.b/_/1/*", "--pattern", "a.b/_/2/c", "--option", "repo=x", "--from", "beginning"]
    result = certes("subscriptions", "create", "billing", *words, "--broker", gateway.address)
    assert result.stdout == f"Created {NAME}.\n"
    assert gateway.requests("CreateSubscription") == [
        {
            "parent": "subscribers/default",
            "subscriptionId": "billing",
            "subscription": {
                "selectors": [
                    {"pattern": "a.b/_/1/*", "options": {"repo": "x"}},
                    {"pattern": "a.b/_/2/c", "options": {"repo": "x"}},
                ],
                "stream": {},
            },
            "start": {"beginning": True},
        }
    ]


def test_a_filter_is_sent_and_shown(certes, gateway):
    gateway.answer("CreateSubscription", {"subscription": STREAM})
    words = ["--pattern", "a.b/_/1/c", "--filter", "data.size > 1", "--broker", gateway.address]
    certes("subscriptions", "create", "billing", *words)
    assert gateway.requests("CreateSubscription")[0]["subscription"]["filter"] == "data.size > 1"
    gateway.answer("GetSubscription", {"subscription": STREAM | {"filter": "data.size > 1"}})
    assert "data.size > 1" in certes("subscriptions", "get", "billing", "--broker", gateway.address).stdout


def test_create_with_a_webhook_says_where_its_secret_is(certes, gateway):
    gateway.answer("CreateSubscription", {"subscription": WEBHOOK})
    words = ["--pattern", "a.b/_/1/*", "--webhook", "https://x.y/z", "--format", "original"]
    result = certes("subscriptions", "create", "subscribers/o/subscriptions/w", *words, "--broker", gateway.address)
    assert "--secrets" in result.stdout
    (request,) = gateway.requests("CreateSubscription")
    assert request["parent"] == "subscribers/o"
    assert request["subscription"]["webhook"] == {"url": "https://x.y/z", "format": "FORMAT_ORIGINAL"}


def test_a_format_without_a_webhook_is_a_mistake(certes, gateway):
    result = certes("subscriptions", "create", "w", "--pattern", "a", "--format", "json", "--broker", gateway.address)
    assert result.exit_code == 2


def test_delete_says_how_it_can_be_undone(certes, gateway):
    gateway.answer("DeleteSubscription", {"subscription": STREAM})
    result = certes("subscriptions", "delete", "billing", "--etag", "r1", "--broker", gateway.address)
    assert f"certes subscriptions restore {NAME}" in result.stdout
    assert "24 hours" in result.stdout
    assert gateway.requests("DeleteSubscription") == [{"name": NAME, "etag": "r1", "allowMissing": False}]


def test_delete_of_a_missing_one_succeeds_if_that_is_fine(certes, gateway):
    gateway.answer("DeleteSubscription", {})
    result = certes("subscriptions", "delete", "billing", "--missing-ok", "--broker", gateway.address)
    assert result.exit_code == 0
    assert result.stdout == f"There was no {NAME}.\n"


@pytest.mark.parametrize(("word", "said"), [("pause", "Paused"), ("resume", "Resumed")])
def test_a_subscription_is_paused_and_resumed(certes, gateway, word, said):
    method = f"{word.title()}Subscription"
    gateway.answer(method, {"subscription": STREAM})
    result = certes("subscriptions", word, "billing", "--broker", gateway.address)
    assert result.stdout == f"{said} {NAME}.\n"
    assert gateway.requests(method) == [{"name": NAME}]


def test_a_deleted_subscription_is_restored_as_it_was_seen(certes, gateway):
    gateway.answer("GetSubscription", {"subscription": STREAM | {"state": "STATE_DELETED"}})
    gateway.answer("UpdateSubscription", {"subscription": STREAM})
    result = certes("subscriptions", "restore", "billing", "--broker", gateway.address)
    assert result.stdout == f"Restored {NAME}.\n"
    assert gateway.requests("UpdateSubscription") == [
        {"subscription": {"name": NAME, "etag": "r1"}, "allowMissing": True}
    ]


def test_one_that_is_not_deleted_is_not_restored(certes, gateway):
    gateway.answer("GetSubscription", {"subscription": STREAM})
    result = certes("subscriptions", "restore", "billing", "--broker", gateway.address)
    assert (result.exit_code, "not deleted" in result.stderr) == (1, True)
    assert gateway.requests("UpdateSubscription") == []


@pytest.mark.parametrize(
    ("point", "target"),
    [
        ("beginning", {"beginning": True}),
        ("events/aa", {"event": "events/aa"}),
        ("2026-11-27T12:00:00+01:00", {"time": "2026-11-27T11:00:00Z"}),
    ],
)
def test_a_subscription_is_moved_to_a_point(certes, gateway, point, target):
    gateway.answer("SeekSubscription", {"discardedDeliveries": "3"})
    result = certes("subscriptions", "seek", "billing", point, "--broker", gateway.address)
    assert gateway.requests("SeekSubscription") == [{"name": NAME, "target": target}]
    assert "3 pending deliveries" in result.stdout


@pytest.mark.parametrize("point", ["tomorrow", "2026-11-27T12:00:00", ""])
def test_a_point_that_cannot_be_meant_is_refused_before_anything_is_sent(certes, point):
    result = certes("subscriptions", "seek", "billing", point)
    assert (result.exit_code, "2026-11-27T12:00:00Z" in result.stderr) == (2, True)
