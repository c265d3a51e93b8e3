"""Default retry policies to and from messages."""

from __future__ import annotations

from typing import Final

from certes.v1 import backoff_pb2, subscription_service_pb2
from certes_broker.domain.backoff_defaults import BackoffDefault, Effective, Origin, Target, parse_target
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.gateway.convert.retry import retry_policy_message
from certes_broker.gateway.convert.times import timestamp
from certes_broker.gateway.faults import located

_Message = subscription_service_pb2.EffectiveRetryPolicy
_ORIGINS: Final = {
    Origin.SUBSCRIPTION: _Message.ORIGIN_SUBSCRIPTION,
    Origin.EVENT_TYPE: _Message.ORIGIN_EVENT_TYPE,
    Origin.SOURCE: _Message.ORIGIN_SOURCE,
    Origin.GLOBAL: _Message.ORIGIN_GLOBAL,
    Origin.BUILT_IN: _Message.ORIGIN_BUILT_IN,
}


def read_target(field: str, name: str) -> Target:
    """Returns what a name says that a policy is for. Raises `Invalid` of that field."""
    if not name:
        raise Invalid.field(Reason.FIELD_REQUIRED, field, "is required")
    try:
        return parse_target(name)
    except Invalid as error:
        raise located(error, field) from error


def backoff_message(default: BackoffDefault) -> backoff_pb2.Backoff:
    """Returns the message of a default policy."""
    return backoff_pb2.Backoff(
        name=default.target.name,
        retry_policy=retry_policy_message(default.policy),
        update_time=timestamp(default.update_time),
        etag=default.etag,
    )


def effective_message(effective: Effective) -> subscription_service_pb2.EffectiveRetryPolicy:
    """Returns the message of a policy that holds."""
    return subscription_service_pb2.EffectiveRetryPolicy(
        retry_policy=retry_policy_message(effective.policy),
        origin=_ORIGINS[effective.origin],
        event_type=effective.event_type,
        source=effective.source,
    )
