"""Receivers: what becomes of a webhook subscription by what its receiver says.

A receiver consents to be sent webhooks, or does not; it may want nothing more, or have taken nothing for days. It can be asked, and
tried out. What it says counts for the URL at which it was said: a subscription that has another by now is left as it is.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Final

import structlog

from certes_broker.broker.posting import Poster
from certes_broker.broker.subscription_secrets import webhook_of
from certes_broker.broker.subscriptions import Subscriptions
from certes_broker.domain.consent import Consent, Granted, NotRequired, Withheld, after_answer, is_missing
from certes_broker.domain.errors import FailedPrecondition, Reason, Unavailable
from certes_broker.domain.events import Micros
from certes_broker.domain.names import SubscriptionName, parse_subscription_name
from certes_broker.domain.notices import ConsentGranted, ConsentWithheld, Disabled, Disabling
from certes_broker.domain.subscriptions import State, Subscription, WebhookDelivery, deleted, in_state
from certes_broker.ports.clock import Clock
from certes_broker.ports.sender import SendResult

_MESSAGE_ID_BYTES: Final = 12

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Receivers:
    """Asks receivers, and lets what they say take effect."""

    def __init__(self, subscriptions: Subscriptions, poster: Poster, clock: Clock) -> None:
        self._subscriptions = subscriptions
        self._poster = poster
        self._clock = clock

    async def disable(self, name: str, url: str, disabling: Disabling) -> None:
        """Stops deliveries to a receiver that wants or takes no more, unless the subscription has another by now.

        The owner is told.
        """

        def revised(stored: Subscription) -> Subscription:
            if stored.state is not State.ACTIVE or webhook_of(stored).url != url:
                return stored
            log.warning("subscription_disabled", subscription=name, reason=disabling.reason)
            return replace(in_state(stored, State.DISABLED, disabling.reason), update_time=self._clock.now())

        def fact(disabled: Subscription) -> Disabled:
            return Disabled(disabling.cause, disabled.state_reason, disabled.update_time)

        await self._subscriptions.apply(parse_subscription_name(name), revised, fact)

    async def heard(self, name: str, url: str, answer: Withheld | Granted, asked_at: Micros) -> Subscription:
        """Takes down what the receiver at a URL has answered to the question for its consent that was asked at `asked_at`.

        The owner is told when a receiver begins to withhold it, and when it gives what it withheld. Raises `NotFound` if the
        subscription is gone.
        """
        told: ConsentWithheld | ConsentGranted | None = None

        def revised(stored: Subscription) -> Subscription:
            nonlocal told
            delivery = stored.delivery
            if not isinstance(delivery, WebhookDelivery) or delivery.url != url:
                return stored
            consent = after_answer(delivery.consent, answer, asked_at)
            told = _told(delivery.consent, consent) if stored.state is State.ACTIVE else None
            return replace(stored, delivery=replace(delivery, consent=consent))

        def fact(_changed: Subscription) -> ConsentWithheld | ConsentGranted | None:
            return told

        return await self._subscriptions.apply(parse_subscription_name(name), revised, fact, same_etag=True)

    async def ask(self, name: SubscriptionName) -> Subscription:
        """Asks a receiver for its consent now, whatever it has said before, and returns the subscription after its answer.

        Raises `FailedPrecondition` if the subscription is deleted, has no webhook or requires no consent, and `Unavailable`
        (RECEIVER_NOT_ASKED) if a fault of the broker's kept it from asking.
        """
        delivery = self._webhook(name)
        if isinstance(delivery.consent, NotRequired):
            raise FailedPrecondition(
                Reason.CONSENT_NOT_REQUIRED,
                f"{name.text} does not require its receiver's consent.",
                hint="Set webhook.require_consent first; the receiver is asked then without more.",
                metadata={"name": name.text},
            )
        asked = await self._poster.ask(delivery)
        if asked.answer is None:
            raise Unavailable(
                Reason.RECEIVER_NOT_ASKED,
                f"The receiver of {name.text} could not be asked for its consent: {asked.error}",
                retry_after=1.0,
            )
        return await self.heard(name.text, delivery.url, asked.answer, asked.time)

    async def test(self, name: SubscriptionName) -> SendResult:
        """Sends one signed test request to the webhook, now.

        Raises `FailedPrecondition` for a deleted subscription, and where the receiver has not consented.
        """
        delivery = self._webhook(name)
        if is_missing(delivery.consent):
            raise FailedPrecondition(
                Reason.CONSENT_MISSING,
                f"{name.text} was not tested: its receiver has not consented to be sent anything.",
                hint="RequestConsent asks it again.",
                metadata={"name": name.text},
            )
        return await self._poster.test(delivery, f"msg_test_{secrets.token_hex(_MESSAGE_ID_BYTES)}")

    def _webhook(self, name: SubscriptionName) -> WebhookDelivery:
        subscription = self._subscriptions.get(name)
        if subscription.state is State.DELETED:
            raise deleted(name)
        return webhook_of(subscription)


def _told(before: Consent, now: Consent) -> ConsentWithheld | ConsentGranted | None:
    """Returns what an owner is told of a change; None for nothing."""
    if isinstance(now, Withheld) and not isinstance(before, Withheld):
        return ConsentWithheld(now.reason, now.since)
    if isinstance(now, Granted) and isinstance(before, Withheld):
        return ConsentGranted(now.time)
    return None
