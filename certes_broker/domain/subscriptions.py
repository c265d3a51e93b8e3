"""Subscriptions: a stored wish, which events for which subscriber, delivered how."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import TypeVar, assert_never

from certes_broker.domain.consent import NOT_REQUIRED, Consent, Granted, Withheld, asked_anew, is_missing
from certes_broker.domain.custom_headers import CustomHeader
from certes_broker.domain.errors import Aborted, CertesError, FailedPrecondition, Invalid, Reason
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.matching import Interest, Selector
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.retry import RetryPolicy

K = TypeVar("K", bound=Hashable)

DEFAULT_ACK_DEADLINE = 30.0
MAXIMUM_SECRETS = 4
"""How many signing secrets a webhook has at most, of which all that have not expired sign."""
DEFAULT_WEBHOOK_TIMEOUT = 15.0
MAXIMUM_IN_FLIGHT = 32
"""How many requests of one subscription may be under way at once."""
MAXIMUM_RATE_COUNT = 10_000
MAXIMUM_RATE_INTERVAL = 3600.0
WEBHOOK_CONNECT_TIMEOUT = 5.0
RESTORABLE = Micros(24 * 3600 * 1_000_000)
"""How long a deleted subscription can be restored."""


@unique
class Scope(Enum):
    """Whose events a subscription gets."""

    OWN = "own"
    ALL_SUBSCRIBERS = "all_subscribers"


@unique
class State(Enum):
    """Whether deliveries go out."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"
    DELETED = "deleted"


@unique
class Format(Enum):
    """The form of a webhook's body."""

    CLOUDEVENTS_JSON = "cloudevents_json"
    CLOUDEVENTS_BINARY = "cloudevents_binary"
    CLOUDEVENTS_PROTOBUF = "cloudevents_protobuf"
    ORIGINAL = "original"


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """What signs, a secret (`whsec_…`) or a key pair (`whsk_…`) in its canonical form, and when it stops signing (None: no end yet)."""

    secret: str
    expire_time: Micros | None = None

    def __repr__(self) -> str:
        return "StoredSecret(…)"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How often a request may begin: `count` times in `interval` seconds, evenly.

    After a pause as many may begin at once as a second allows, at least one. `count` is 1 to 10,000, `interval` 1 s to 1 h; raises
    `Invalid` / `FIELD_INVALID` outside, with the field's path from `rate_limit` on.
    """

    count: int
    interval: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAXIMUM_RATE_COUNT:
            raise _bad_rate("count", f"{self.count} is outside 1 to {MAXIMUM_RATE_COUNT}")
        if not 1.0 <= self.interval <= MAXIMUM_RATE_INTERVAL:
            raise _bad_rate("interval", f"{self.interval:g} s is outside 1 s to {MAXIMUM_RATE_INTERVAL:g} s")

    @property
    def per_second(self) -> float:
        return self.count / self.interval

    @property
    def at_once(self) -> float:
        """How many may begin at once after a pause."""
        return max(1.0, self.per_second)


def _per_minute(count: int) -> RateLimit:
    """Returns a rate of so many a minute, or the highest there is."""
    if count <= MAXIMUM_RATE_COUNT:
        return RateLimit(count, 60.0)
    return RateLimit(min(count // 60, MAXIMUM_RATE_COUNT))


def _bad_rate(field: str, problem: str) -> Invalid:
    return Invalid.field(Reason.FIELD_INVALID, f"rate_limit.{field}", problem)


@dataclass(frozen=True, slots=True)
class StreamDelivery:
    """Subscribers fetch deliveries by streams. `ack_deadline` is seconds from the hand-over to a stream."""

    ack_deadline: float = DEFAULT_ACK_DEADLINE


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """The broker POSTs deliveries. `secrets` are newest first; `timeout` is seconds for the whole request.

    At most `max_in_flight` requests are under way at once; None means the broker's own bound, `MAXIMUM_IN_FLIGHT`.
    `headers` are sent with each, besides the broker's own, and ordered by name. `consent` says whether the receiver must agree first,
    and whether it has.
    """

    url: str
    secrets: tuple[StoredSecret, ...]
    format: Format = Format.CLOUDEVENTS_JSON
    timeout: float = DEFAULT_WEBHOOK_TIMEOUT
    max_in_flight: int | None = None
    headers: tuple[CustomHeader, ...] = ()
    rate_limit: RateLimit | None = None
    consent: Consent = NOT_REQUIRED

    @property
    def pace(self) -> RateLimit | None:
        """How often a request may begin: as `rate_limit` says, or as the receiver consented to if that is less."""
        allowed = None
        if isinstance(self.consent, Granted) and self.consent.per_minute is not None:
            allowed = _per_minute(self.consent.per_minute)
        return min((one for one in (self.rate_limit, allowed) if one), key=lambda one: one.per_second, default=None)


Delivery = StreamDelivery | WebhookDelivery


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as it is stored.

    `start` is the position after which it was created: its cursor's floor until there is a cursor. `revision` is that of
    its settings document, 0 before it is stored. `etag` changes with every change of the settings, and says nothing else:
    revisions count everybody's changes. `retry_policy` None means the broker's default. `filter` is a CEL expression, empty if
    there is none. `priority` is 0 to 9, 9 first; None means `DEFAULT_PRIORITY`.
    """

    name: SubscriptionName
    selectors: tuple[Selector, ...]
    delivery: Delivery
    start: Position
    create_time: Micros
    update_time: Micros
    scope: Scope = Scope.OWN
    filter: str = ""
    priority: int | None = None
    retry_policy: RetryPolicy | None = None
    state: State = State.ACTIVE
    state_reason: str = ""
    generation: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    delete_time: Micros | None = None
    revision: int = 0
    etag: str = ""

    @property
    def is_webhook(self) -> bool:
        return isinstance(self.delivery, WebhookDelivery)

    @property
    def awaits_consent(self) -> bool:
        """Whether it would deliver, had its receiver consented."""
        delivery = self.delivery
        return self.state is State.ACTIVE and isinstance(delivery, WebhookDelivery) and is_missing(delivery.consent)

    def interest_of(self, key: K) -> Interest[K]:
        """Returns what it wants, for matching, under a key of the caller's."""
        return Interest(key, self.name.subscriber, self.selectors, self.scope is Scope.ALL_SUBSCRIBERS, self.filter)


def revise(
    stored: Subscription,
    change: Callable[[Subscription], Subscription],
    *,
    etag: str,
    generation: int | None,
    now: Micros,
) -> Subscription:
    """Applies `change` to a stored subscription, if the caller has seen it as it is.

    Raises `Aborted` (ETAG_MISMATCH) if `etag` is not empty and not the stored one, and `FailedPrecondition`
    (STALE_GENERATION) if `generation` is lower than the stored one.
    """
    if etag and etag != stored.etag:
        raise Aborted(
            Reason.ETAG_MISMATCH,
            f"{stored.name.text} has changed since etag {etag!r} was read; it is {stored.etag!r} now.",
            hint="Read it again, decide again, and send the etag that you read.",
            metadata={"etag": stored.etag},
        )
    if generation is not None and stored.generation is not None and generation < stored.generation:
        raise FailedPrecondition(
            Reason.STALE_GENERATION,
            f"{stored.name.text} was set by generation {stored.generation}; generation {generation} is older.",
            hint="An older release of the application is still running; it cannot undo a newer list.",
            metadata={"generation": str(stored.generation)},
        )
    changed = change(stored)
    return changed if changed == stored else replace(changed, update_time=now)


def in_state(subscription: Subscription, state: State, reason: str = "") -> Subscription:
    """Returns a subscription that is in another state than before.

    The receiver of a disabled one has lost its consent, and one that never gave it is asked as if for the first time when the
    subscription is resumed.
    """
    delivery = subscription.delivery
    if isinstance(delivery, WebhookDelivery) and subscription.state is not state:
        is_over = state is State.DISABLED or (state is State.ACTIVE and isinstance(delivery.consent, Withheld))
        if is_over:
            delivery = replace(delivery, consent=asked_anew(delivery.consent))
    return replace(subscription, state=state, state_reason=reason, delivery=delivery)


def streamability(subscription: Subscription) -> CertesError | None:
    """Says why a stream cannot be opened on a subscription now; None if it can."""
    name = subscription.name.text
    if subscription.is_webhook:
        return FailedPrecondition(
            Reason.SUBSCRIPTION_NOT_STREAMABLE,
            f"{name} delivers by webhook; streams need a subscription with stream delivery.",
        )
    match subscription.state:
        case State.ACTIVE:
            return None
        case State.PAUSED | State.DISABLED:
            return FailedPrecondition(
                Reason.SUBSCRIPTION_NOT_STREAMABLE,
                f"{name} is {subscription.state.value}.",
                hint="Resume it, then open the stream again.",
            )
        case State.DELETED:
            return deleted(subscription.name)
        case _:
            assert_never(subscription.state)


def deleted(name: SubscriptionName) -> FailedPrecondition:
    """Returns the refusal of what cannot be done with a deleted subscription."""
    return FailedPrecondition(
        Reason.SUBSCRIPTION_DELETED,
        f"{name.text} was deleted.",
        hint="UpdateSubscription with allow_missing (`certes subscriptions restore`) restores it within 24 hours of its deletion.",
        metadata={"name": name.text},
    )
