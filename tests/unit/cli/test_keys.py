"""`certes keys`, and the credential that every command shows."""

from __future__ import annotations

import json

import pytest

from certes_broker.domain.api_keys import read_key

KEY = {
    "name": "apiKeys/shop",
    "title": "The shop",
    "roles": ["events:write", "schemas:read"],
    "bindings": {"sources": {"values": ["//shop/*"]}, "subscribers": {}},
    "createTime": "2026-01-01T00:00:00Z",
}
SECRET = f"certes_shop_{'0' * 64}"


def test_generate_prints_a_key_that_a_broker_can_be_given(certes):
    first, second = (certes("keys", "generate").stdout.strip() for _ in range(2))
    assert read_key(first) == read_key(second) == "operator"
    assert first != second
    assert read_key(certes("keys", "generate", "root").stdout.strip()) == "root"


def test_generate_refuses_what_is_no_id(certes):
    result = certes("keys", "generate", "A_B")
    assert result.exit_code == 2
    assert "no id of a key" in result.stderr


def test_create_sends_all_that_was_said_and_shows_the_key(certes, gateway):
    gateway.answer("CreateApiKey", {"apiKey": KEY, "key": SECRET})
    words = [
        "--role",
        "publisher",
        "--role",
        "events:read",
        "--subscriber",
        "a",
        "--subscriber",
        "b",
        "--source",
        "//s",
    ]
    words += ["--type", "d.x/**", "--title", "The shop"]
    result = certes("keys", "create", "shop", *words, "--broker", gateway.address)
    assert result.exit_code == 0
    assert SECRET in result.stdout
    assert "not shown again" in result.stdout
    assert gateway.requests("CreateApiKey") == [
        {
            "apiKeyId": "shop",
            "apiKey": {
                "roles": ["publisher", "events:read"],
                "title": "The shop",
                "bindings": {
                    "subscribers": {"values": ["a", "b"]},
                    "sources": {"values": ["//s"]},
                    "types": {"values": ["d.x/**"]},
                },
            },
        }
    ]


def test_create_binds_to_nothing_that_was_not_named(certes, gateway):
    gateway.answer("CreateApiKey", {"apiKey": KEY, "key": SECRET})
    result = certes("keys", "create", "apiKeys/shop", "--role", "operator", "--json", "--broker", gateway.address)
    assert json.loads(result.stdout)["key"] == SECRET
    assert gateway.requests("CreateApiKey") == [{"apiKeyId": "shop", "apiKey": {"roles": ["operator"], "title": ""}}]


def test_create_wants_a_role_that_there_is(certes):
    assert certes("keys", "create", "shop").exit_code == 2
    assert "events:eat" in certes("keys", "create", "shop", "--role", "events:eat").stderr


def test_list_shows_what_keys_may_do(certes, gateway):
    gateway.answer("ListApiKeys", {"apiKeys": [KEY]})
    result = certes("keys", "list", "--broker", gateway.address)
    assert result.stdout.splitlines()[1:] == [
        "apiKeys/shop\tThe shop\tevents:write schemas:read\tsources //shop/*; subscribers (none)\t"
    ]


def test_revoke_deletes(certes, gateway):
    gateway.answer("DeleteApiKey", {})
    assert certes("keys", "revoke", "shop", "--broker", gateway.address).stdout == "Revoked apiKeys/shop.\n"
    assert gateway.requests("DeleteApiKey") == [{"name": "apiKeys/shop"}]


def test_every_command_shows_the_credential_of_the_environment_or_the_option(certes, gateway):
    for env, words in (({"CERTES_TOKEN": SECRET}, []), ({"CERTES_TOKEN": "other"}, ["--token", SECRET])):
        gateway.answer("ListSources", {})
        assert certes("sources", "list", "--broker", gateway.address, *words, env=env).exit_code == 0
    gateway.answer("ListSources", {})
    certes("sources", "list", "--broker", gateway.address)
    assert gateway.authorizations == [f"Bearer {SECRET}", f"Bearer {SECRET}", None]


@pytest.mark.parametrize("broker", ["example.com", "http://10.0.0.1:9600", "events://certes:9600"])
def test_a_credential_does_not_travel_in_clear(certes, broker):
    result = certes("sources", "list", "--broker", broker, "--token", SECRET)
    assert result.exit_code == 2
    assert "in clear" in result.stderr
    assert SECRET not in result.output


def test_a_credential_that_no_header_can_carry_is_refused_and_not_shown(certes, gateway):
    result = certes("sources", "list", "--broker", gateway.address, "--token", "hush\nhush")
    assert result.exit_code == 2
    assert "hush" not in result.output
