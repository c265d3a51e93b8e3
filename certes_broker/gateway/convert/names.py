"""Names of subscriptions in requests."""

from __future__ import annotations

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.names import SubscriptionName, parse_subscription_name
from certes_broker.gateway.faults import located


def read_subscription_name(field: str, text: str) -> SubscriptionName:
    """Returns the subscription that a field names. Raises `Invalid` (FIELD_REQUIRED, MALFORMED_NAME) of that field."""
    if not text:
        raise Invalid.field(Reason.FIELD_REQUIRED, field, "is required")
    try:
        return parse_subscription_name(text)
    except Invalid as error:
        raise located(error, field) from error
