"""How each rpc could be asked about what is another's: a case for every one, or none is served.

A new rpc is given a line here: the requests that name somebody else's things (`others`), and those for one's own whose answers
must not depend on what others have (`own`). The test asks the first about things that exist and about things that do not,
and the second in a world where the others have things and in one where they have nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from certes.community.github.v1.ping_event_pb2 import PingEvent
from certes.v1 import delivery_service_pb2 as deliveries
from certes.v1 import event_service_pb2 as events
from certes.v1 import subscription_service_pb2 as subscriptions
from certes_broker.broker.dead_letters import DeadLetterFilter
from certes_broker.broker.paging import make_token

PING: Final = "community.certes.dev/github/1/ping"
PATTERN: Final = "community.certes.dev/github/1/*"
OWN: Final = "subscribers/org_1/subscriptions/own"
OWN_WEBHOOK: Final = "subscribers/org_1/subscriptions/hook"


@dataclass(frozen=True, slots=True)
class Things:
    """What somebody else has, by name, or what nobody has."""

    parent: str
    subscription: str
    webhook: str
    stream: str
    event: str
    event_id: str

    @property
    def subscriber(self) -> str:
        return self.parent.removeprefix("subscribers/")


@dataclass(frozen=True, slots=True)
class Case:
    """How an rpc is asked."""

    others: Callable[[Things], Sequence[Message]]
    own: Sequence[Message] = ()


def event(subscriber: str, event_id: str = "", source: str = "//one") -> dict[str, Any]:
    data = AnyMessage()
    data.Pack(PingEvent(zen="Who goes there?"))
    return {"id": event_id, "type": PING, "source": source, "subscriber": subscriber, "data": data}


def named(request: Any, **fields: Any) -> Callable[[Things], Sequence[Message]]:
    """The names of their subscriptions, in the field `name`."""
    return lambda theirs: [request(name=theirs.subscription, **fields), request(name=theirs.webhook, **fields)]


def letters(theirs: Things) -> list[str]:
    """What a dead letter of their event would be called, in their subscription and in one's own."""
    token = theirs.event.removeprefix("events/")
    return [f"{subscription}/deadLetters/{token}" for subscription in (theirs.subscription, OWN)]


def tokens(theirs: Things, *of: object) -> list[str]:
    """Tokens of pages of one's own that somebody made up to begin at their event."""
    return [make_token(text, *of) for text in (theirs.event, theirs.event.removeprefix("events/"))]


_SELECTORS: Final = [{"pattern": PATTERN}]
_STREAM: Final = {"selectors": _SELECTORS, "stream": {}}

CASES: Final[dict[str, Case]] = {
    "EventService.Publish": Case(
        lambda theirs: [
            events.PublishRequest(events=[event(theirs.subscriber)]),
            events.PublishRequest(events=[event("org_1", theirs.event_id, "//two")]),
        ],
        [events.PublishRequest(events=[event("org_1", "e2")])],
    ),
    "EventService.PublishStream": Case(
        lambda theirs: [
            events.PublishStreamRequest(events=[event(theirs.subscriber)]),
            events.PublishStreamRequest(events=[event("org_1", theirs.event_id, "//two")]),
        ],
        [events.PublishStreamRequest(events=[event("org_1", "e2")], return_results=True)],
    ),
    "EventService.Subscribe": Case(
        lambda theirs: [
            events.SubscribeRequest(subscription=theirs.subscription),
            events.SubscribeRequest(subscription=theirs.webhook),
            events.SubscribeRequest(ephemeral={"parent": theirs.parent, "selectors": _SELECTORS}),
            events.SubscribeRequest(
                ephemeral={"parent": "subscribers/org_1", "selectors": _SELECTORS, "start": {"event": theirs.event}}
            ),
        ],
        [events.SubscribeRequest(subscription=OWN)],
    ),
    "EventService.Acknowledge": Case(
        lambda theirs: [events.AcknowledgeRequest(stream=theirs.stream, acked=[{"first": 1, "last": 1}])],
    ),
    "EventService.GetEvent": Case(
        lambda theirs: [
            events.GetEventRequest(name=theirs.event),
            events.GetEventRequest(source_and_id={"source": "//two", "id": theirs.event_id}),
        ],
        [events.GetEventRequest(source_and_id={"source": "//one", "id": "e1"})],
    ),
    "EventService.ListEvents": Case(
        lambda theirs: [
            events.ListEventsRequest(parent=theirs.parent),
            events.ListEventsRequest(parent="subscribers/-"),
            *[
                events.ListEventsRequest(parent="subscribers/org_1", page_token=token)
                for token in tokens(theirs, "org_1", None, None)
            ],
        ],
        [events.ListEventsRequest(parent="subscribers/org_1")],
    ),
    "SubscriptionService.CreateSubscription": Case(
        lambda theirs: [
            subscriptions.CreateSubscriptionRequest(
                parent=theirs.parent, subscription_id=theirs.subscription.rpartition("/")[2], subscription=_STREAM
            ),
            subscriptions.CreateSubscriptionRequest(
                parent="subscribers/org_1", subscription_id="new", subscription=_STREAM, start={"event": theirs.event}
            ),
        ],
    ),
    "SubscriptionService.GetSubscription": Case(
        named(subscriptions.GetSubscriptionRequest), [subscriptions.GetSubscriptionRequest(name=OWN)]
    ),
    "SubscriptionService.ListSubscriptions": Case(
        lambda theirs: [
            subscriptions.ListSubscriptionsRequest(parent=theirs.parent),
            subscriptions.ListSubscriptionsRequest(parent="subscribers/-"),
        ],
        [subscriptions.ListSubscriptionsRequest(parent="subscribers/org_1", page_size=1)],
    ),
    "SubscriptionService.UpdateSubscription": Case(
        lambda theirs: [
            subscriptions.UpdateSubscriptionRequest(subscription={"name": theirs.subscription, **_STREAM}),
            subscriptions.UpdateSubscriptionRequest(
                subscription={"name": theirs.subscription, **_STREAM}, allow_missing=True
            ),
        ],
    ),
    "SubscriptionService.DeleteSubscription": Case(
        lambda theirs: [
            subscriptions.DeleteSubscriptionRequest(name=theirs.subscription),
            subscriptions.DeleteSubscriptionRequest(name=theirs.subscription, allow_missing=True),
        ],
    ),
    "SubscriptionService.PauseSubscription": Case(named(subscriptions.PauseSubscriptionRequest)),
    "SubscriptionService.ResumeSubscription": Case(named(subscriptions.ResumeSubscriptionRequest)),
    "SubscriptionService.SeekSubscription": Case(
        lambda theirs: [
            subscriptions.SeekSubscriptionRequest(name=theirs.subscription, target={"beginning": True}),
            subscriptions.SeekSubscriptionRequest(name=OWN, target={"event": theirs.event}),
        ],
        [subscriptions.SeekSubscriptionRequest(name=OWN, target={"beginning": True})],
    ),
    "SubscriptionService.GetEffectiveRetryPolicy": Case(
        named(subscriptions.GetEffectiveRetryPolicyRequest), [subscriptions.GetEffectiveRetryPolicyRequest(name=OWN)]
    ),
    "SubscriptionService.RotateSecret": Case(named(subscriptions.RotateSecretRequest)),
    "SubscriptionService.GetSigningSecrets": Case(named(subscriptions.GetSigningSecretsRequest)),
    "SubscriptionService.TestSubscription": Case(named(subscriptions.TestSubscriptionRequest)),
    "SubscriptionService.RequestConsent": Case(named(subscriptions.RequestConsentRequest)),
    "DeliveryService.ListDeadLetters": Case(
        lambda theirs: [
            deliveries.ListDeadLettersRequest(parent=theirs.subscription),
            *[
                deliveries.ListDeadLettersRequest(parent=OWN, page_token=token)
                for token in tokens(theirs, OWN, DeadLetterFilter())
            ],
        ],
        [deliveries.ListDeadLettersRequest(parent=OWN)],
    ),
    "DeliveryService.GetDeadLetter": Case(
        lambda theirs: [deliveries.GetDeadLetterRequest(name=letter) for letter in letters(theirs)]
    ),
    "DeliveryService.ReplayDeadLetters": Case(
        lambda theirs: [
            deliveries.ReplayDeadLettersRequest(parent=theirs.subscription, filter={}),
            *[deliveries.ReplayDeadLettersRequest(parent=OWN, names=[letter]) for letter in letters(theirs)],
        ],
        [deliveries.ReplayDeadLettersRequest(parent=OWN, filter={})],
    ),
    "DeliveryService.PurgeDeadLetters": Case(
        lambda theirs: [
            deliveries.PurgeDeadLettersRequest(parent=theirs.subscription, filter={}),
            *[deliveries.PurgeDeadLettersRequest(parent=OWN, names=[letter]) for letter in letters(theirs)],
        ],
        [deliveries.PurgeDeadLettersRequest(parent=OWN, filter={})],
    ),
    "DeliveryService.Redeliver": Case(
        lambda theirs: [
            deliveries.RedeliverRequest(event=theirs.event, subscription=OWN),
            deliveries.RedeliverRequest(event=theirs.event, subscription=theirs.subscription),
        ],
    ),
    "DeliveryService.ListAttempts": Case(
        lambda theirs: [
            deliveries.ListAttemptsRequest(parent=theirs.webhook),
            deliveries.ListAttemptsRequest(parent=OWN_WEBHOOK, event=theirs.event),
        ],
    ),
}

SHARED: Final[dict[str, str]] = {
    f"SchemaService.{name}": "schemas are everybody's: who publishes and who subscribes must agree on them"
    for name in (
        "RegisterSchemas",
        "GetSchema",
        "ListSchemas",
        "CheckCompatibility",
        "ValidateEvent",
        "DiscoverSchemas",
    )
} | {"AdminService.Ping": "whether the broker works concerns everybody, and it says nothing of what it keeps"}
"""Rpcs that show nothing of anybody's, and why."""
