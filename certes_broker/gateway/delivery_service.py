"""`certes.v1.DeliveryService`: shows what became of deliveries, and lets events go out once more."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from certes.v1 import delivery_service_pb2 as pb
from certes.v1.event_pb2 import Event
from certes_broker.broker.broker import Broker
from certes_broker.broker.dead_letters import DeadLetterFilter, Selection, summary
from certes_broker.broker.names import event_not_found
from certes_broker.domain.errors import Invalid, NotFound, Reason
from certes_broker.domain.events import AcceptedEvent, Position
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.subscriptions import Scope, Subscription
from certes_broker.gateway.callers import current_caller
from certes_broker.gateway.convert.dead_letters import (
    attempt_message,
    dead_letter_message,
    read_chosen,
    read_dead_letter_filter,
    read_dead_letter_name,
)
from certes_broker.gateway.convert.lists import read_page_size
from certes_broker.gateway.convert.names import read_subscription_name
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.methods import Method, methods_of, unary
from certes_broker.gateway.visibility import is_visible, sees_all_of
from certes_broker.ports.engine import Attempt


def delivery_methods(broker: Broker) -> tuple[Method, ...]:
    """Returns the rpcs of `certes.v1.DeliveryService`."""
    service = _DeliveryService(broker)
    return methods_of(
        pb.DESCRIPTOR.services_by_name["DeliveryService"],
        {
            "ListDeadLetters": unary(pb.ListDeadLettersRequest, service.list_dead_letters),
            "GetDeadLetter": unary(pb.GetDeadLetterRequest, service.get_dead_letter),
            "ReplayDeadLetters": unary(pb.ReplayDeadLettersRequest, service.replay),
            "PurgeDeadLetters": unary(pb.PurgeDeadLettersRequest, service.purge),
            "Redeliver": unary(pb.RedeliverRequest, service.redeliver),
            "ListAttempts": unary(pb.ListAttemptsRequest, service.list_attempts),
        },
    )


@dataclass(frozen=True, slots=True)
class _DeliveryService:
    broker: Broker

    async def list_dead_letters(self, request: pb.ListDeadLettersRequest) -> pb.ListDeadLettersResponse:
        subscription = self._subscription("parent", request.parent)
        name, sees_all = subscription.name, sees_all_of(subscription)
        faults = Faults()
        page_size = read_page_size(faults, request)
        wanted = read_dead_letter_filter(faults, request.filter)
        faults.check()
        page = await self.broker.dead_letters.list(name, Selection(wanted, _sees, request.page_token), page_size)
        return pb.ListDeadLettersResponse(
            dead_letters=[
                dead_letter_message(name, one, self.broker.names, replaying=one.letter.position in page.replaying)
                for one in page.letters
            ],
            next_page_token=page.next_page_token,
            total_size=page.total if sees_all else 0,
            replaying_size=len(page.replaying) if sees_all else 0,
        )

    async def get_dead_letter(self, request: pb.GetDeadLetterRequest) -> pb.GetDeadLetterResponse:
        name, letter_id = read_dead_letter_name("name", request.name)
        self.broker.subscriptions.get(name)
        letters = self.broker.dead_letters
        letter = await letters.get(name, letter_id, _sees)
        replaying = letter.position in await letters.replaying(name)
        return pb.GetDeadLetterResponse(
            dead_letter=dead_letter_message(name, summary(letter), self.broker.names, replaying=replaying),
            event=Event.FromString(letter.event.body),
            attempts=[
                attempt_message(attempt, self.broker.names)
                for attempt in await letters.attempts_at(name, letter.position)
            ],
        )

    async def replay(self, request: pb.ReplayDeadLettersRequest) -> pb.ReplayDeadLettersResponse:
        name = self._subscription("parent", request.parent).name
        chosen = read_chosen(request, name)
        if isinstance(chosen, DeadLetterFilter):
            done = await self.broker.replays.replay(name, Selection(chosen, _sees, request.page_token))
        else:
            done = await self.broker.replays.replay_named(name, chosen, _sees)
        return pb.ReplayDeadLettersResponse(
            replayed_count=done.replayed, replaying_count=done.replaying, next_page_token=done.next_page_token
        )

    async def purge(self, request: pb.PurgeDeadLettersRequest) -> pb.PurgeDeadLettersResponse:
        name = self._subscription("parent", request.parent).name
        chosen = read_chosen(request, name)
        if isinstance(chosen, DeadLetterFilter):
            done = await self.broker.dead_letters.purge(name, Selection(chosen, _sees, request.page_token))
        else:
            done = await self.broker.dead_letters.purge_named(name, chosen, _sees)
        return pb.PurgeDeadLettersResponse(
            purged_count=done.purged, replaying_count=done.replaying, next_page_token=done.next_page_token
        )

    async def redeliver(self, request: pb.RedeliverRequest) -> pb.RedeliverResponse:
        if not request.event:
            raise Invalid.field(Reason.FIELD_REQUIRED, "event", "is required")
        name = self._subscription("subscription", request.subscription).name
        position = await self._position_for(name, request.event)
        return pb.RedeliverResponse(already_due=not await self.broker.replays.redeliver(name, position))

    async def list_attempts(self, request: pb.ListAttemptsRequest) -> pb.ListAttemptsResponse:
        subscription = self._subscription("parent", request.parent)
        name = subscription.name
        faults = Faults()
        page_size = read_page_size(faults, request)
        faults.check()
        attempts, token = await self.broker.dead_letters.attempts(name, request.event, page_size, request.page_token)
        if not sees_all_of(subscription):
            attempts = await self._seen(attempts)
        if request.event and not attempts and not is_visible(await self.broker.kept_events.get(request.event)):
            # As for one that is none: an empty answer would say that there is such an event.
            raise event_not_found(request.event)
        return pb.ListAttemptsResponse(
            attempts=[attempt_message(attempt, self.broker.names) for attempt in attempts], next_page_token=token
        )

    def _subscription(self, field: str, text: str) -> Subscription:
        """Returns the subscription that a field names. Raises `Invalid`, `NotFound` (SUBSCRIPTION_NOT_FOUND)."""
        return self.broker.subscriptions.get(read_subscription_name(field, text))

    async def _seen(self, attempts: Sequence[Attempt]) -> Sequence[Attempt]:
        """Leaves out attempts at events that whoever calls may not see, or of which nobody knows any more whose they were."""
        visible: set[Position] = set()
        for position in {attempt.position for attempt in attempts}:
            with suppress(NotFound):
                if is_visible(await self.broker.kept_events.get(self.broker.names.name(position))):
                    visible.add(position)
        return [attempt for attempt in attempts if attempt.position in visible]

    async def _position_for(self, name: SubscriptionName, event: str) -> Position:
        """Returns the position of an event that may be handed to a subscription.

        Raises `NotFound` (EVENT_NOT_FOUND), and `Invalid` (FIELD_INVALID) for one that is another subscriber's.
        """
        kept = await self.broker.kept_events.get(event)
        if not is_visible(kept):
            raise event_not_found(event)
        subscription = self.broker.subscriptions.get(name)
        of = kept.entry.event.subscriber
        if of not in (None, name.subscriber) and subscription.scope is not Scope.ALL_SUBSCRIBERS:
            raise Invalid.field(
                Reason.FIELD_INVALID, "event", f"{event} is another subscriber's; {name.text} does not get those"
            )
        return kept.entry.position


def _sees(event: AcceptedEvent) -> bool:
    return current_caller().sees_event(event.subscriber, event.type)
