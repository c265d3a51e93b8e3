"""Webhooks that are signed by key pairs, and how receivers learn of their public keys."""

from __future__ import annotations

import pytest

from certes_broker.domain.access import LOCAL_OPERATOR
from certes_broker.domain.errors import Unauthenticated
from certes_broker.domain.signature_schemes import StandardWebhooksScheme
from certes_broker.domain.signatures import verify
from certes_broker.domain.signing import SigningKeyPair, verifier_of
from certes_broker.domain.subscriptions import StoredSecret, WebhookDelivery
from certes_broker.domain.webhook_headers import WebhookHeaders
from certes_broker.gateway.convert.webhooks import secret_message
from certes_broker.ports.sender import SendRequest
from tests.fakes.broker_world import SECRET, URL, World, ping

PAIR = StoredSecret(SigningKeyPair(bytes(range(32))).text)
PUBLIC = verifier_of(PAIR.secret)


def check(request: SendRequest, verifier: str) -> None:
    headers = WebhookHeaders(list(request.headers.items()))
    verify(StandardWebhooksScheme(), [verifier], headers, request.body, int(request.headers["webhook-timestamp"]))


async def test_a_rotation_from_a_secret_to_a_pair_signs_by_both_until_the_overlap_ends(either_world: World) -> None:
    world = either_world
    await world.create_webhook()
    new, old = await world.broker.subscriptions.rotate_secret(world.name("hook"), 60.0, pair=True)
    await world.restart()
    await world.publish(ping("p1"))
    await world.sent(1)
    check(world.sender.requests[0], verifier_of(new.secret))
    check(world.sender.requests[0], SECRET)
    assert old.secret == SECRET
    await world.advance(60)
    await world.publish(ping("p2"))
    await world.sent(2)
    check(world.sender.requests[1], verifier_of(new.secret))
    with pytest.raises(Unauthenticated):
        check(world.sender.requests[1], SECRET)


async def test_a_rotation_that_does_not_say_of_which_kind_makes_one_like_the_newest(world: World) -> None:
    made = await world.create("hook", delivery=WebhookDelivery(URL, (PAIR, StoredSecret(SECRET))))
    new, *_ = await world.broker.subscriptions.rotate_secret(made.name, 60.0)
    assert verifier_of(new.secret).startswith("whpk_")
    back, *_ = await world.broker.subscriptions.rotate_secret(made.name, 60.0, pair=False)
    assert back.secret.startswith("whsec_")


async def test_of_a_key_pair_only_the_public_key_is_told(world: World) -> None:
    made = await world.create("hook", delivery=WebhookDelivery(URL, (PAIR,)))
    [secret] = world.broker.subscriptions.signing_secrets(made.name)
    assert secret_message(secret, LOCAL_OPERATOR).secret == PUBLIC
    assert "whsk_" not in repr(made)


async def test_who_knows_one_key_finds_those_that_sign_beside_it(either_world: World) -> None:
    world = either_world
    made = await world.create("hook", delivery=WebhookDelivery(URL, (PAIR, StoredSecret(SECRET))))
    find = world.broker.subscriptions.verifying_keys
    assert find(PUBLIC) == [PUBLIC]
    new, *_ = await world.broker.subscriptions.rotate_secret(made.name, 60.0)
    assert find(PUBLIC) == [verifier_of(new.secret), PUBLIC]
    await world.advance(60)
    assert find(PUBLIC) == [verifier_of(new.secret)]
    await world.restart()
    assert world.broker.subscriptions.verifying_keys(PUBLIC) == [verifier_of(new.secret)]


async def test_a_key_that_is_known_to_nobody_a_secret_or_one_of_a_deleted_subscription_finds_nothing(
    world: World,
) -> None:
    made = await world.create("hook", delivery=WebhookDelivery(URL, (PAIR, StoredSecret(SECRET))))
    find = world.broker.subscriptions.verifying_keys
    assert find(verifier_of(SigningKeyPair(bytes(32)).text)) is None
    assert find(SECRET) is None
    assert find(PAIR.secret) is None
    await world.broker.subscriptions.delete(made.name, etag="")
    assert find(PUBLIC) is None


async def test_a_key_that_was_replaced_finds_nothing(world: World) -> None:
    made = await world.create("hook", delivery=WebhookDelivery(URL, (PAIR,)))
    await world.update(made.name, delivery=WebhookDelivery(URL, (StoredSecret(SECRET),)))
    assert world.broker.subscriptions.verifying_keys(PUBLIC) is None
