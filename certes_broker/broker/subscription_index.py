"""The subscriptions as they are stored, in memory: reading them waits for nothing."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from certes_broker.broker.paging import make_token, read_token
from certes_broker.domain.errors import NotFound, Reason
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.signing import is_key_pair, verifier_of
from certes_broker.domain.subscriptions import State, Subscription, WebhookDelivery


@dataclass(frozen=True, slots=True)
class SubscriptionPage:
    """Some subscriptions, by name. `next_page_token` is empty if there is nothing more."""

    subscriptions: Sequence[Subscription]
    next_page_token: str


class SubscriptionIndex:
    """Finds subscriptions by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Subscription] = {}
        self._names: list[str] = []
        self._by_key: dict[str, str] = {}

    def __len__(self) -> int:
        """How many subscriptions there are, deleted ones included."""
        return len(self._by_name)

    def all(self) -> Sequence[Subscription]:
        """Returns all subscriptions, deleted ones included."""
        return tuple(self._by_name.values())

    def find(self, name: str) -> Subscription | None:
        """Returns a subscription; None if there is none."""
        return self._by_name.get(name)

    def find_by_key(self, key: str) -> Subscription | None:
        """Returns the subscription that has a key pair of this public key; None if there is none."""
        name = self._by_key.get(key)
        return None if name is None else self._by_name[name]

    def get(self, name: SubscriptionName) -> Subscription:
        """Returns a subscription. Raises `NotFound` (SUBSCRIPTION_NOT_FOUND)."""
        subscription = self._by_name.get(name.text)
        if subscription is None:
            raise NotFound(
                Reason.SUBSCRIPTION_NOT_FOUND,
                f"There is no {name.text}.",
                hint="Create it first.",
                metadata={"name": name.text},
            )
        return subscription

    def list(self, subscriber: str | None, *, show_deleted: bool, page_size: int, page_token: str) -> SubscriptionPage:
        """Returns subscriptions by name: those of a subscriber, or of all for None."""
        of = (subscriber, show_deleted)
        found: list[Subscription] = []
        for name in self._names[bisect.bisect_right(self._names, read_token(page_token, *of)) :]:
            subscription = self._by_name[name]
            if subscriber is not None and subscription.name.subscriber != subscriber:
                continue
            if subscription.state is State.DELETED and not show_deleted:
                continue
            if len(found) == page_size:
                return SubscriptionPage(found, make_token(found[-1].name.text, *of))
            found.append(subscription)
        return SubscriptionPage(found, "")

    def put(self, subscription: Subscription) -> None:
        """Adds a subscription, or takes over its changed settings."""
        name = subscription.name.text
        if name not in self._by_name:
            bisect.insort(self._names, name)
        self._forget_keys(name)
        self._by_name[name] = subscription
        self._by_key.update(dict.fromkeys(_public_keys(subscription), name))

    def remove(self, name: str) -> None:
        """Forgets a subscription."""
        self._forget_keys(name)
        del self._by_name[name]
        self._names.remove(name)

    def _forget_keys(self, name: str) -> None:
        known = self._by_name.get(name)
        for key in () if known is None else _public_keys(known):
            if self._by_key.get(key) == name:  # Somebody may have given the same pair to two.
                del self._by_key[key]


def _public_keys(subscription: Subscription) -> Sequence[str]:
    delivery = subscription.delivery
    if not isinstance(delivery, WebhookDelivery):
        return ()
    return [verifier_of(one.secret) for one in delivery.secrets if is_key_pair(one.secret)]
