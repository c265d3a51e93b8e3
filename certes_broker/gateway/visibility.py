"""What callers may see and select, where only the thing itself says whose it is.

Names that spell their subscriber are judged before any method runs (`guard`). Names of events are opaque, and a subscription's
scope and selectors are known once it is found: services ask here. What a caller may not see is answered as what does not exist.
"""

from __future__ import annotations

from certes_broker.broker.kept_events import KeptEvent, KeptEvents
from certes_broker.broker.names import event_not_found
from certes_broker.domain.access import check_patterns, check_scope
from certes_broker.domain.errors import NotFound
from certes_broker.domain.seeking import SeekEvent, SeekPoint
from certes_broker.domain.subscriptions import Scope, Subscription
from certes_broker.domain.uris import TypePattern
from certes_broker.gateway.callers import current_caller


def is_visible(kept: KeptEvent) -> bool:
    """Whether whoever calls may see an event."""
    event = kept.entry.event
    return current_caller().sees_event(event.subscriber, event.type)


async def check_point(kept_events: KeptEvents, point: SeekPoint | None) -> None:
    """Raises `NotFound` (EVENT_NOT_FOUND) if a point is given by an event that whoever calls may not see.

    Of an event that is no longer kept nobody knows whose it was. Who sees everything is told that it was there, when moving to
    it is refused (CURSOR_EXPIRED); to others its name is one that somebody made up.
    """
    if not isinstance(point, SeekEvent):
        return
    try:
        kept = await kept_events.get(point.name)
    except NotFound:
        if current_caller().sees_all_events:
            return
        raise
    if not is_visible(kept):
        raise event_not_found(point.name)


def check_subscription(subscription: Subscription) -> None:
    """Raises `PermissionDenied` (NOT_OPERATOR, TYPE_NOT_GRANTED) if a subscription gets what whoever calls may not."""
    caller = current_caller()
    check_scope(caller, all_subscribers=subscription.scope is Scope.ALL_SUBSCRIBERS)
    check_patterns(caller, [selector.pattern for selector in subscription.selectors])


def sees_all_of(subscription: Subscription) -> bool:
    """Whether there is no event that a subscription may ever have got and whoever calls may not see."""
    caller = current_caller()
    if caller.bindings.types is not None:
        return False
    return subscription.scope is not Scope.ALL_SUBSCRIBERS or not caller.is_bound


def check_listed(pattern: TypePattern | None) -> None:
    """Raises `PermissionDenied` (TYPE_NOT_GRANTED) if a list of events has types that whoever calls may not see."""
    check_patterns(current_caller(), [pattern])
