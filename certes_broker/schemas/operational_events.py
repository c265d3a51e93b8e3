"""The operational events: what a batch of notices says as an event for the subscriber concerned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, assert_never

from google.protobuf.message import Message

from certes.v1 import event_pb2
from certes.v1 import operational_events_pb2 as pb
from certes_broker.domain.events import Micros, Position
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.notices import (
    Batch,
    BreakerClosed,
    BreakerOpened,
    ConsentGranted,
    ConsentWithheld,
    DisableCause,
    Disabled,
    Exhausted,
    FilterFailed,
    Unread,
    kind_of,
)
from certes_broker.schemas.event_schema import TYPE_URL_PREFIX
from certes_broker.schemas.system_events import SystemEvent
from certes_broker.schemas.system_types import operational_version

LONGEST_TEXT: Final = 1024
"""Bytes of a text for a person."""


class OwnName(NamedTuple):
    """Who tells: the broker's own domain, and how it names events."""

    domain: str
    name: Callable[[Position], str]


def operational_event(subscription: SubscriptionName, batch: Batch, own: OwnName, time: Micros) -> SystemEvent:
    """Makes the event that tells a batch. Its id is the batch's, so that telling it again is a duplicate."""
    kind = kind_of(batch.facts[-1])
    event = event_pb2.Event(
        id=batch.id,
        type=f"{operational_version(own.domain)}/{kind}",
        source=f"//{own.domain}",
        subject=subscription.text,
        subscriber=subscription.subscriber,
    )
    event.time.FromMicroseconds(time)
    told = _message(subscription, batch, own)
    event.data.type_url = TYPE_URL_PREFIX + told.DESCRIPTOR.full_name
    event.data.value = told.SerializeToString(deterministic=True)
    return SystemEvent(
        event.type,
        batch.id,
        event.source,
        event.SerializeToString(deterministic=True),
        (("subscription", subscription.text),),
        subscription.subscriber,
    )


_CAUSES: Final = {
    DisableCause.GONE: pb.SubscriptionDisabled.CAUSE_GONE,
    DisableCause.FAILING: pb.SubscriptionDisabled.CAUSE_FAILING,
    DisableCause.ASKED: pb.SubscriptionDisabled.CAUSE_ASKED,
    DisableCause.NO_CONSENT: pb.SubscriptionDisabled.CAUSE_NO_CONSENT,
}


def _message(subscription: SubscriptionName, batch: Batch, own: OwnName) -> Message:
    newest = batch.facts[-1]
    match newest:
        case Disabled():
            disabled = pb.SubscriptionDisabled(
                subscription=subscription.text,
                cause=_CAUSES[newest.cause],
                message=_short(newest.message),
                count=batch.count,
            )
            disabled.disable_time.FromMicroseconds(newest.time)
            return disabled
        case ConsentWithheld():
            withheld = pb.ConsentWithheld(
                subscription=subscription.text, message=_short(newest.message), count=batch.count
            )
            withheld.withhold_time.FromMicroseconds(newest.time)
            return withheld
        case ConsentGranted():
            granted = pb.ConsentGranted(subscription=subscription.text, count=batch.count)
            granted.grant_time.FromMicroseconds(newest.time)
            return granted
        case BreakerOpened():
            opened = pb.BreakerOpened(subscription=subscription.text, message=_short(newest.message), count=batch.count)
            opened.open_time.FromMicroseconds(newest.time)
            if newest.retry_time is not None:
                opened.retry_time.FromMicroseconds(newest.retry_time)
            return opened
        case BreakerClosed():
            closed = pb.BreakerClosed(subscription=subscription.text, count=batch.count)
            closed.close_time.FromMicroseconds(newest.time)
            return closed
        case FilterFailed():
            failed = pb.FilterFailed(
                subscription=subscription.text,
                type=newest.type,
                id=newest.id,
                reason=newest.reason,
                message=_short(newest.message),
                count=batch.count,
            )
            failed.fail_time.FromMicroseconds(newest.time)
            return failed
        case Exhausted():
            dead = pb.DeliveryExhausted(subscription=subscription.text, deliveries_left_out=batch.left_out)
            dead.deliveries.extend(_exhausted(fact, own) for fact in batch.facts if isinstance(fact, Exhausted))
            return dead
        case Unread():
            gaps = pb.BacklogGap(subscription=subscription.text, gaps_left_out=batch.left_out)
            gaps.gaps.extend(_range(fact, own) for fact in batch.facts if isinstance(fact, Unread))
            return gaps
        case _:
            assert_never(newest)


def _exhausted(fact: Exhausted, own: OwnName) -> pb.ExhaustedDelivery:
    told = pb.ExhaustedDelivery(
        event=own.name(fact.position),
        type=fact.type,
        id=fact.id,
        attempts=fact.attempts,
        reason=fact.reason,
        error=_short(fact.error),
    )
    told.time.FromMicroseconds(fact.time)
    return told


def _range(fact: Unread, own: OwnName) -> pb.GapRange:
    told = pb.GapRange(first_event=own.name(fact.first), last_event=own.name(fact.last), reason=fact.reason)
    told.time.FromMicroseconds(fact.time)
    return told


def _short(text: str) -> str:
    return text.encode("utf-8", "replace")[:LONGEST_TEXT].decode("utf-8", "ignore")
