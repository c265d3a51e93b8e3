"""The public keys of webhooks, as receivers fetch them."""

from __future__ import annotations

from urllib.parse import quote

from certes_broker.domain.events import Micros, Position
from certes_broker.domain.matching import Selector
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.signing import SigningKeyPair, verifier_of
from certes_broker.domain.subscriptions import StoredSecret, Subscription, WebhookDelivery
from certes_broker.domain.uris import parse_pattern
from tests.contracts.http_gateway import Gateway, gateway, refusal

# Its public key has both of the characters that base64 writes otherwise in a URL.
PAIR = next(
    pair for number in range(1000) if {"+", "/"} <= set(verifier_of((pair := SigningKeyPair(number.to_bytes(32))).text))
)
PUBLIC = verifier_of(PAIR.text)
PATH = "/.well-known/certes/keys/"


async def create(served: Gateway) -> None:
    delivery = WebhookDelivery("https://receiver.example.com/", (StoredSecret(PAIR.text),))
    selectors = (Selector(parse_pattern("a.example/**")),)
    name = SubscriptionName("org_1", "app")
    wanted = Subscription(name, selectors, delivery, Position(0), Micros(0), Micros(0))
    await served.broker.subscriptions.create(wanted, None)


def in_url(key: str) -> str:
    return key.removeprefix("whpk_").replace("+", "-").replace("/", "_")


async def test_a_known_key_finds_those_that_sign_now():
    async with gateway() as served:
        await create(served)
        for spelled in (in_url(PUBLIC), in_url(PUBLIC).rstrip("="), PUBLIC, quote(PUBLIC, safe="")):
            answer = await served.client.get(PATH + spelled)
            assert (answer.status_code, answer.json()) == (200, {"keys": [PUBLIC]})


async def test_an_unknown_key_finds_nothing():
    async with gateway() as served:
        await create(served)
        for spelled in ("", "A" * 43, in_url(PUBLIC)[:-2], PAIR.text.removeprefix("whsk_")):
            answer = await served.client.get(PATH + spelled)
            assert (answer.status_code, answer.json()) == (404, {"keys": []})


async def test_keys_are_only_read():
    async with gateway() as served:
        assert refusal(await served.client.post(PATH + "A"))[0] == 405
