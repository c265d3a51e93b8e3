"""Subscriptions to and from messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, assert_never

from certes.v1 import subscription_pb2 as pb
from certes_broker.domain.events import BEGINNING, Micros
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.subscriptions import (
    DEFAULT_ACK_DEADLINE,
    Delivery,
    Scope,
    State,
    StreamDelivery,
    Subscription,
    WebhookDelivery,
)
from certes_broker.domain.turns import PRIORITIES
from certes_broker.gateway.convert.labels import read_labels
from certes_broker.gateway.convert.retry import read_retry_policy, retry_policy_message
from certes_broker.gateway.convert.selectors import CheckSelector, read_filter, read_selectors, selector_message
from certes_broker.gateway.convert.times import Bounds, duration, read_duration, timestamp
from certes_broker.gateway.convert.webhooks import read_webhook, webhook_message
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.limits import HOUR, SECOND

PATH: Final = "subscription"
"""The field of a request that holds the subscription."""


def new_subscription(
    faults: Faults, name: SubscriptionName, message: pb.Subscription, check: CheckSelector
) -> Subscription:
    """Returns the subscription that a message describes, not yet stored. Faults are noted, values stand in for them.

    What only the broker says (`state`, times, …) is passed over, so that what was read can be sent back. Whether its filter
    fits its selectors is for the caller to check, since that takes longer than a moment.
    """
    never = Micros(0)
    blank = Subscription(name, (), StreamDelivery(), start=BEGINNING, create_time=never, update_time=never)
    return _with_settings(faults, blank, message, check)


def changed_subscription(
    faults: Faults, stored: Subscription, message: pb.Subscription, check: CheckSelector
) -> Subscription:
    """Returns a stored subscription with all its settings as a message has them, its secrets if that brings none, and the
    values of headers that come without.

    Its filter is as unchecked as that of a new one.
    """
    kind = message.WhichOneof("delivery")
    if kind is not None and (kind == "webhook") is not stored.is_webhook:
        stored_kind = "webhook" if stored.is_webhook else "stream"
        faults.invalid(f"{PATH}.{kind}", f"the subscription has {stored_kind} delivery, which cannot be changed")
        return stored
    return _with_settings(faults, stored, message, check)


def subscription_message(subscription: Subscription) -> pb.Subscription:
    """Returns the message of a subscription, without its secrets."""
    message = pb.Subscription(
        name=subscription.name.text,
        selectors=[selector_message(selector) for selector in subscription.selectors],
        filter=subscription.filter,
        scope=_SCOPES_OUT[subscription.scope],
        state=_STATES_OUT[subscription.state],
        priority=subscription.priority,
        generation=subscription.generation,
        labels=dict(subscription.labels),
        create_time=timestamp(subscription.create_time),
        update_time=timestamp(subscription.update_time),
        etag=subscription.etag,
        state_reason=subscription.state_reason,
    )
    match subscription.delivery:
        case StreamDelivery(ack_deadline):
            message.stream.SetInParent()
            message.ack_deadline.CopyFrom(duration(ack_deadline))
        case WebhookDelivery() as webhook:
            message.webhook.CopyFrom(webhook_message(webhook))
        case _:
            assert_never(subscription.delivery)
    if subscription.retry_policy is not None:
        message.retry_policy.CopyFrom(retry_policy_message(subscription.retry_policy))
    if subscription.delete_time is not None:
        message.delete_time.CopyFrom(timestamp(subscription.delete_time))
    return message


_SCOPES: Final = {
    pb.Subscription.SCOPE_UNSPECIFIED: Scope.OWN,
    pb.Subscription.SCOPE_OWN: Scope.OWN,
    pb.Subscription.SCOPE_ALL_SUBSCRIBERS: Scope.ALL_SUBSCRIBERS,
}
_SCOPES_OUT: Final = {
    Scope.OWN: pb.Subscription.SCOPE_OWN,
    Scope.ALL_SUBSCRIBERS: pb.Subscription.SCOPE_ALL_SUBSCRIBERS,
}
_STATES_OUT: Final = {
    State.ACTIVE: pb.Subscription.STATE_ACTIVE,
    State.PAUSED: pb.Subscription.STATE_PAUSED,
    State.DISABLED: pb.Subscription.STATE_DISABLED,
    State.DELETED: pb.Subscription.STATE_DELETED,
}
_ACK_DEADLINE: Final = Bounds(SECOND, HOUR)


def _with_settings(
    faults: Faults, subscription: Subscription, message: pb.Subscription, check: CheckSelector
) -> Subscription:
    if message.HasField("priority") and message.priority not in PRIORITIES:
        faults.invalid(f"{PATH}.priority", f"{message.priority} is outside {PRIORITIES[0]} to {PRIORITIES[-1]}")
    scope = _SCOPES.get(message.scope)
    if scope is None:
        faults.invalid(f"{PATH}.scope", f"{message.scope} is no scope")
    policy = None
    if message.HasField("retry_policy"):
        policy = read_retry_policy(faults, PATH, message.retry_policy)
    return replace(
        subscription,
        selectors=read_selectors(faults, f"{PATH}.selectors", message.selectors, check, subscription.selectors),
        delivery=_read_delivery(faults, message, subscription.delivery),
        scope=scope or Scope.OWN,
        filter=read_filter(faults, f"{PATH}.filter", message.filter),
        priority=message.priority if message.HasField("priority") else None,
        retry_policy=policy,
        generation=message.generation if message.HasField("generation") else None,
        labels=read_labels(faults, f"{PATH}.labels", message.labels),
    )


def _read_delivery(faults: Faults, message: pb.Subscription, stored: Delivery) -> Delivery:
    match message.WhichOneof("delivery"):
        case "stream":
            deadline = DEFAULT_ACK_DEADLINE
            if message.HasField("ack_deadline"):
                deadline = read_duration(faults, f"{PATH}.ack_deadline", message.ack_deadline, _ACK_DEADLINE)
            return StreamDelivery(deadline)
        case "webhook":
            if message.HasField("ack_deadline"):
                faults.invalid(f"{PATH}.ack_deadline", "goes with stream delivery; a webhook has webhook.timeout")
            known = stored if isinstance(stored, WebhookDelivery) else None
            return read_webhook(faults, f"{PATH}.webhook", message.webhook, known)
        case None:
            faults.required(f"{PATH}.delivery", "needs one of stream and webhook")
            return stored
        case _:
            assert_never(message.WhichOneof("delivery"))
