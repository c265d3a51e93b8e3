from __future__ import annotations

from pathlib import Path

import pytest

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.sources import CUSTOM
from certes_broker.domain.uris import parse_event_type
from certes_broker.domain.webhook_headers import is_credential
from certes_broker.domain.webhook_mapping import Challenge, event_type_of
from certes_broker.schemas.providers import PROVIDER_FILE, read_provider, read_providers, shipped_providers

CATALOGUE = Path(__file__).parents[3] / "proto" / "certes" / "community"
SHIPPED = shipped_providers()
SHOP = """
title = "A shop"
kept_headers = ["User-Agent"]
[signature]
scheme = "token"
header = "X-Shop-Token"
[mapping]
type = "community.certes.dev/shop/1/{event}"
event = { path = "topic" }
"""


def refused(text, name="shop") -> Invalid:
    with pytest.raises(Invalid) as caught:
        read_provider(name, text)
    assert caught.value.reason is Reason.SETTINGS_INVALID
    return caught.value


def test_every_definition_of_the_catalogue_is_shipped_as_it_stands_there():
    assert SHIPPED
    assert read_providers(CATALOGUE) == SHIPPED


@pytest.mark.parametrize("provider", SHIPPED.values(), ids=SHIPPED)
def test_a_shipped_provider_maps_into_its_own_namespace(provider):
    for name in ("anything", *dict(provider.mapping.types)):
        event_type = parse_event_type(event_type_of(provider.mapping, dict(provider.mapping.types), name))
        assert event_type.domain == "community.certes.dev"
        assert event_type.namespace == provider.name


@pytest.mark.parametrize("provider", SHIPPED.values(), ids=SHIPPED)
def test_a_shipped_provider_keeps_no_credential_and_says_where_to_set_it_up(provider):
    assert not [name for name in provider.kept_headers if is_credential(name)]
    assert provider.title
    assert provider.documentation.startswith("https://")


@pytest.mark.parametrize("provider", SHIPPED.values(), ids=SHIPPED)
def test_a_shipped_provider_that_makes_the_secret_says_where_it_is(provider):
    assert provider.secret_is_ours is not bool(provider.secret_where)


def test_who_makes_the_secret_must_say_where_it_is():
    assert "secret_where: is missing" in refused(SHOP.replace("title", "secret_is_ours = false\ntitle")).message
    provider = read_provider("shop", SHOP.replace("title", 'secret_is_ours = false\nsecret_where = "There."\ntitle'))
    assert provider.secret_where == "There."


def test_a_definition_has_defaults():
    provider = read_provider("shop", SHOP)
    assert provider.name == "shop"
    assert provider.secret_is_ours
    assert not provider.retries_differ
    assert provider.challenge is None
    assert provider.kept_headers == {"user-agent"}


def test_a_definition_may_have_a_challenge():
    text = SHOP + '[challenge]\nfield = "type"\nvalue = "url_verification"\nanswer = "challenge"\n'
    assert read_provider("shop", text).challenge == Challenge("type", "url_verification", "challenge")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            SHOP.replace("kept_headers", "keep_headers"),
            "shop/provider.toml: keep_headers: is no key that is known here",
        ),
        (SHOP.replace("header =", "heder ="), "shop/provider.toml: signature.heder: is no key that is known here"),
        (SHOP.replace('{ path = "topic" }', '{ pth = "topic" }'), "shop/provider.toml: mapping.event.pth: is no key"),
        (SHOP.replace('title = "A shop"', ""), "shop/provider.toml: title: is missing"),
        (SHOP.replace('["User-Agent"]', '"User-Agent"'), "shop/provider.toml: kept_headers: wants a list in brackets"),
        (SHOP.replace('["User-Agent"]', "[7]"), "shop/provider.toml: kept_headers[0]: wants a text in quotes"),
        (SHOP.replace("title", "secret_is_ours = 1\ntitle"), "shop/provider.toml: secret_is_ours: wants true or false"),
        (SHOP[: SHOP.index("[signature]")], "shop/provider.toml: signature: is missing"),
        (SHOP[: SHOP.index("[mapping]")], "shop/provider.toml: mapping: is missing"),
        (SHOP + '[challenge]\nfield = "type"\n', "shop/provider.toml: challenge.value: is missing"),
        ("title = ", "shop/provider.toml: Invalid value"),
    ],
)
def test_a_mistake_is_told_with_the_file_and_the_key(text, told):
    assert told in str(refused(text))


@pytest.mark.parametrize("name", [CUSTOM, "Shop", "a b", ""])
def test_a_folder_that_cannot_be_the_name_of_a_provider_is_refused(name):
    assert PROVIDER_FILE in str(refused(SHOP, name))


def test_a_folder_without_a_definition_is_passed_over(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / PROVIDER_FILE).write_text(SHOP, encoding="utf-8")
    (tmp_path / "protos").mkdir()
    (tmp_path / "__init__.py").write_text("", encoding="utf-8")
    assert list(read_providers(tmp_path)) == ["shop"]
