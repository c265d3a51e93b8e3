"""Sources of the configuration that bring their own signature scheme and mapping, and what binds their keys together."""

from __future__ import annotations

import pytest

from certes_broker.config import Config
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.signature_schemes import Encoding, HmacScheme, NoScheme, StripeScheme, TokenScheme
from certes_broker.domain.sources import PayloadSubscriber, SourceSecret
from certes_broker.domain.webhook_mapping import HeaderPlace, PathPlace, WebhookMapping

SHOP = """
[[sources]]
name = "shop"
provider = "custom"
audience = "everyone"
secrets = ["hush"]
keep_rejected = true

[sources.signature]
scheme = "hmac"
header = "X-Shopify-Hmac-Sha256"
encoding = "base64"

[sources.mapping]
type = "events.meetly.com/shop/1/{event}"
event = { header = "X-Shopify-Topic" }
id = { header = "X-Shopify-Event-Id" }
time = { path = "updated_at" }
subjects = [{ path = "name" }, { path = "id" }]
subscriber = { header = "X-Shopify-Shop-Domain" }

[sources.mapping.types]
"orders/create" = "events.meetly.com/shop/1/order_placed"
"""
SOUND = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
GITHUB = '[[sources]]\nname = "github"\nprovider = "github"\naudience = "everyone"\nsecrets = ["hush"]\n'
TOKEN = SHOP.replace('scheme = "hmac"', 'scheme = "token"').replace('encoding = "base64"\n', "")


@pytest.fixture
def load(tmp_path):
    """Loads settings from a text as if it stood in `certes.toml`."""
    file = tmp_path / "certes.toml"

    def load_text(text, environ=None):
        file.write_text(text, encoding="utf-8")
        return Config.load(file, environ or {}, {})

    return load_text


def complaint(load, text) -> str:
    with pytest.raises(Invalid) as caught:
        load(text)
    assert caught.value.reason is Reason.SETTINGS_INVALID
    assert "hush" not in str(caught.value)
    return str(caught.value)


def test_a_custom_source_brings_its_scheme_and_its_mapping(load):
    (source,) = load(SHOP).sources
    assert source.signature == HmacScheme("x-shopify-hmac-sha256", encoding=Encoding.BASE64)
    assert source.mapping == WebhookMapping(
        type="events.meetly.com/shop/1/{event}",
        event=HeaderPlace("x-shopify-topic"),
        id=HeaderPlace("x-shopify-event-id"),
        time=PathPlace(("updated_at",)),
        subjects=(PathPlace(("name",)), PathPlace(("id",))),
        subscriber=HeaderPlace("x-shopify-shop-domain"),
        types=(("orders/create", "events.meetly.com/shop/1/order_placed"),),
    )
    assert source.keep_rejected
    assert source.configured
    assert source.secrets == (SourceSecret("hush"),)


def test_tables_may_be_written_inline(load):
    inline = (
        '[[sources]]\nname = "a"\nprovider = "custom"\naudience = "everyone"\nsecrets = ["hush"]\n'
        'signature = { scheme = "token", header = "X-Gitlab-Token" }\n'
        'mapping = { type = "a.example/_/1/{event}", event = { path = "object_kind" } }\n'
    )
    (source,) = load(inline).sources
    assert source.signature == TokenScheme("x-gitlab-token")


def test_a_source_of_the_catalogue_may_be_signed_otherwise(load):
    text = f'{GITHUB}signature = {{ scheme = "stripe", header = "X-Signature", tolerance = 60 }}\n'
    assert load(text).sources[0].signature == StripeScheme("x-signature", 60.0)


def test_a_source_without_signatures_has_no_secrets(load):
    text = SHOP.replace('secrets = ["hush"]\n', "").replace('scheme = "hmac"', 'scheme = "none"')
    text = text.replace('header = "X-Shopify-Hmac-Sha256"\nencoding = "base64"\n', "")
    assert load(text).sources[0].signature == NoScheme()
    assert "secrets[0] cannot be used" in complaint(
        load, text.replace("keep_rejected", 'secrets = ["hush"]\nkeep_rejected')
    )


def test_the_subscriber_may_be_named_by_the_webhook(load):
    text = SHOP.replace('"everyone"', '"subscriber_in_payload"')
    assert load(text).sources[0].audience == PayloadSubscriber()
    told = complaint(load, text.replace('subscriber = { header = "X-Shopify-Shop-Domain" }\n', ""))
    assert "certes.toml:5:1: sources[0].audience cannot be used: the mapping of 'custom' has no place" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SHOP.replace('scheme = "hmac"', 'scheme = "md5"'), "certes.toml:10:1: sources[0].signature.scheme is 'md5'; known are hmac,"),
        (SHOP.replace('scheme = "hmac"\n', ""), "certes.toml:9:1: sources[0].signature.scheme is missing"),
        (SHOP.replace("encoding =", "encodng ="), "certes.toml:12:1: sources[0].signature.encodng is no key that is known here"),
        (SHOP.replace('"X-Shopify-Hmac-Sha256"', '"X Y"'), "sources[0].signature.header 'X Y' is no name of a header"),
        (SHOP.replace("/1/{event}", "/{event}"), "sources[0].mapping.type 'events.meetly.com/shop/{event}' is no event URI"),
        (SHOP.replace('event = { header = "X-Shopify-Topic" }\n', ""), "sources[0].mapping.event is missing"),
        (SHOP.replace('{ path = "updated_at" }', "{}"), "certes.toml:18:1: sources[0].mapping.time wants one of"),
        (SHOP.replace('{ path = "name" }', '{ path = "" }'), "sources[0].mapping.subjects[0] wants one of"),
        (SHOP.replace('{ path = "name" }', '{ path = "a..b" }'), "sources[0].mapping.subjects[0].path has a key that is empty"),
        (SHOP.replace('{ path = "name" }', '"name"'), "certes.toml:19:1: sources[0].mapping.subjects[0] wants a table"),
        (SHOP.replace("X-Shopify-Topic", "Authorization"), "sources[0].mapping.event.header authorization is a credential"),
        (SHOP.replace("order_placed", "_version"), "is a system event"),
        (SHOP.replace("keep_rejected = true", 'keep_rejected = "yes"'), "sources[0].keep_rejected wants true or false"),
        (SHOP.replace("[sources.mapping", "[sources.maping"), "sources[0].maping is no key of a source. Did you mean mapping?"),
        (SHOP[: SHOP.index("[sources.mapping]")], "sources[0].mapping is missing."),
        (SHOP.replace('["hush"]', '["a", "b", "c", "d", "e"]'), "sources[0].secrets has 5 entries; at most 4 verify"),
        (TOKEN.replace('["hush"]', '[" hush"]'), "sources[0].secrets[0] cannot be used: the secret has white space"),
        (TOKEN.replace("X-Shopify-Hmac-Sha256", "X-Shopify-Topic"), "reads x-shopify-topic, which is the credential"),
        (TOKEN.replace('"token"\nheader = "X-Shopify-Hmac-Sha256"', '"basic"'), "sources[0].secrets[0] cannot be used: the secret is not of the form"),
        (GITHUB + 'mapping = { type = "a.example/_/1/x" }\n', "sources[0].mapping is for custom sources"),
        (GITHUB + 'signature = "hmac"\n', "certes.toml:6:1: sources[0].signature wants a table, not 'hmac'"),
        (GITHUB.replace('r = "github"', 'r = "gitlab"'), 'is no provider that this broker knows: "gitlab". It knows'),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(load, text, told):
    assert told in complaint(load, text)


def test_the_secrets_of_the_environment_are_judged_too(load):
    text = TOKEN.replace('"token"\nheader = "X-Shopify-Hmac-Sha256"', '"standard_webhooks"')
    for secrets, told in (
        ("whsec_hush", "secret 1 cannot be used"),
        ("", "holds an empty secret"),
        (f"{SOUND},", "holds an empty secret"),
        (f"{SOUND},not text \udcff", "secret 2 cannot be used"),
    ):
        with pytest.raises(Invalid) as caught:
            load(text, {"CERTES_SOURCE_SHOP_SECRETS": secrets})
        assert f"the environment variable CERTES_SOURCE_SHOP_SECRETS: {told}" in str(caught.value)
        assert "hush" not in str(caught.value)
