"""What signs the webhooks of a subscription: how it is made, rotated, and found."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from certes_broker.broker.posting import signing_now
from certes_broker.domain.errors import FailedPrecondition, Reason
from certes_broker.domain.events import Micros
from certes_broker.domain.signing import SigningKeyPair, generate_secret, is_key_pair, verifier_of
from certes_broker.domain.subscriptions import MAXIMUM_SECRETS, StoredSecret, Subscription, WebhookDelivery

_SECRET_BYTES: Final = 32


def webhook_of(subscription: Subscription) -> WebhookDelivery:
    """Returns the webhook of a subscription. Raises `FailedPrecondition` (SUBSCRIPTION_HAS_NO_WEBHOOK)."""
    if not isinstance(subscription.delivery, WebhookDelivery):
        raise FailedPrecondition(
            Reason.SUBSCRIPTION_HAS_NO_WEBHOOK,
            f"{subscription.name.text} delivers by streams; it has no webhook and no signing secrets.",
        )
    return subscription.delivery


def with_secret(subscription: Subscription) -> Subscription:
    """Gives a webhook that has no signing secret a new one."""
    delivery = subscription.delivery
    if isinstance(delivery, WebhookDelivery) and not delivery.secrets:
        return replace(subscription, delivery=replace(delivery, secrets=(_new_secret(pair=False),)))
    return subscription


def rotated(subscription: Subscription, now: Micros, overlap: float, *, pair: bool | None) -> Subscription:
    """Returns a subscription with a new signing secret; the others stop signing after `overlap` seconds, or earlier as they had to.

    With `pair` the new one is a key pair; None makes one like the newest.
    """
    delivery, end = webhook_of(subscription), Micros(now + int(overlap * 1_000_000))
    old = [
        replace(secret, expire_time=min(end, secret.expire_time or end))
        for secret in signing_now(delivery.secrets, now)
    ]
    wants_pair = is_key_pair(delivery.secrets[0].secret) if pair is None else pair
    new = (_new_secret(pair=wants_pair), *old[: MAXIMUM_SECRETS - 1])
    return replace(subscription, delivery=replace(delivery, secrets=new))


def public_keys(subscription: Subscription, now: Micros) -> Sequence[str]:
    """Returns the public keys of the key pairs that sign now, newest first."""
    signing = signing_now(webhook_of(subscription).secrets, now)
    return [verifier_of(one.secret) for one in signing if is_key_pair(one.secret)]


def _new_secret(*, pair: bool) -> StoredSecret:
    random_bytes = secrets.token_bytes(_SECRET_BYTES)
    return StoredSecret((SigningKeyPair(random_bytes) if pair else generate_secret(random_bytes)).text)
