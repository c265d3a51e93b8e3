"""`certes.v1.SubscriptionService`: creates and manages subscriptions."""

from __future__ import annotations

import secrets
from base64 import b32encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from certes.v1 import subscription_service_pb2 as pb
from certes_broker.broker.broker import Broker
from certes_broker.domain.access import check_scope
from certes_broker.domain.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, Reason
from certes_broker.domain.names import SubscriptionName, parse_id, parse_subscriber_name, parse_subscription_name
from certes_broker.domain.subscriptions import Scope, Subscription
from certes_broker.gateway.callers import current_caller
from certes_broker.gateway.convert.backoffs import effective_message
from certes_broker.gateway.convert.lists import read_page_size, read_parent
from certes_broker.gateway.convert.names import read_subscription_name
from certes_broker.gateway.convert.seeking import read_seek_target
from certes_broker.gateway.convert.subscriptions import (
    PATH,
    changed_subscription,
    new_subscription,
    subscription_message,
)
from certes_broker.gateway.convert.times import Bounds, duration, read_duration
from certes_broker.gateway.convert.webhooks import secret_message
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.limits import DAY
from certes_broker.gateway.methods import Method, methods_of, unary
from certes_broker.gateway.update_masks import SUBSCRIPTION, mask_paths, merge
from certes_broker.gateway.visibility import check_point, check_subscription


def random_id() -> str:
    """Makes the id of a subscription whose creator gave none: 16 lower-case letters and digits."""
    return b32encode(secrets.token_bytes(10)).decode().lower()


def subscription_methods(broker: Broker, make_id: Callable[[], str] = random_id) -> tuple[Method, ...]:
    """Returns the rpcs of `certes.v1.SubscriptionService`."""
    service = _SubscriptionService(broker, make_id)
    return methods_of(
        pb.DESCRIPTOR.services_by_name["SubscriptionService"],
        {
            "CreateSubscription": unary(pb.CreateSubscriptionRequest, service.create),
            "GetSubscription": unary(pb.GetSubscriptionRequest, service.get),
            "ListSubscriptions": unary(pb.ListSubscriptionsRequest, service.list),
            "UpdateSubscription": unary(pb.UpdateSubscriptionRequest, service.update),
            "DeleteSubscription": unary(pb.DeleteSubscriptionRequest, service.delete),
            "PauseSubscription": unary(pb.PauseSubscriptionRequest, service.pause),
            "ResumeSubscription": unary(pb.ResumeSubscriptionRequest, service.resume),
            "SeekSubscription": unary(pb.SeekSubscriptionRequest, service.seek),
            "RotateSecret": unary(pb.RotateSecretRequest, service.rotate_secret),
            "GetSigningSecrets": unary(pb.GetSigningSecretsRequest, service.get_signing_secrets),
            "TestSubscription": unary(pb.TestSubscriptionRequest, service.test),
            "RequestConsent": unary(pb.RequestConsentRequest, service.request_consent),
            "GetEffectiveRetryPolicy": unary(pb.GetEffectiveRetryPolicyRequest, service.get_effective_retry_policy),
        },
    )


@dataclass(frozen=True, slots=True)
class _SubscriptionService:
    broker: Broker
    make_id: Callable[[], str]

    async def create(self, request: pb.CreateSubscriptionRequest) -> pb.CreateSubscriptionResponse:
        faults = Faults()
        if not request.HasField("subscription"):
            faults.required("subscription")
        name = self._name_to_create(faults, request)
        wanted = new_subscription(faults, name, request.subscription, self.broker.registry.check_selector)
        await self._check_filter(faults, wanted)
        start = read_seek_target(faults, "start", request.start) if request.HasField("start") else None
        faults.check()
        check_subscription(wanted)
        await check_point(self.broker.kept_events, start)
        created = await self.broker.subscriptions.create(wanted, start)
        return pb.CreateSubscriptionResponse(subscription=subscription_message(created))

    async def get(self, request: pb.GetSubscriptionRequest) -> pb.GetSubscriptionResponse:
        found = self.broker.subscriptions.get(read_subscription_name("name", request.name))
        return pb.GetSubscriptionResponse(subscription=subscription_message(found))

    async def list(self, request: pb.ListSubscriptionsRequest) -> pb.ListSubscriptionsResponse:
        faults = Faults()
        subscriber = read_parent(faults, request)
        page_size = read_page_size(faults, request)
        faults.check()
        page = self.broker.subscriptions.list(
            subscriber, show_deleted=request.show_deleted, page_size=page_size, page_token=request.page_token
        )
        return pb.ListSubscriptionsResponse(
            subscriptions=[subscription_message(subscription) for subscription in page.subscriptions],
            next_page_token=page.next_page_token,
        )

    async def update(self, request: pb.UpdateSubscriptionRequest) -> pb.UpdateSubscriptionResponse:
        if not request.HasField("subscription"):
            raise Faults().missing("subscription")
        name = read_subscription_name("subscription.name", request.subscription.name)
        faults = Faults()
        paths = mask_paths(faults, SUBSCRIPTION, request.subscription, request.update_mask)
        faults.check()
        try:
            stored = await self._change(name, request, paths)
        except NotFound as error:
            if not request.allow_missing or error.reason is not Reason.SUBSCRIPTION_NOT_FOUND:
                raise
            stored = await self._create_missing(name, request, paths)
        return pb.UpdateSubscriptionResponse(subscription=subscription_message(stored))

    async def delete(self, request: pb.DeleteSubscriptionRequest) -> pb.DeleteSubscriptionResponse:
        name = self._own(request.name)
        try:
            deleted = await self.broker.subscriptions.delete(name, etag=request.etag)
        except NotFound:
            if not request.allow_missing:
                raise
            return pb.DeleteSubscriptionResponse()
        except FailedPrecondition as error:
            if not request.allow_missing or error.reason is not Reason.SUBSCRIPTION_DELETED:
                raise
            deleted = self.broker.subscriptions.get(name)
        return pb.DeleteSubscriptionResponse(subscription=subscription_message(deleted))

    async def pause(self, request: pb.PauseSubscriptionRequest) -> pb.PauseSubscriptionResponse:
        paused = await self.broker.subscriptions.pause(self._own(request.name))
        return pb.PauseSubscriptionResponse(subscription=subscription_message(paused))

    async def resume(self, request: pb.ResumeSubscriptionRequest) -> pb.ResumeSubscriptionResponse:
        resumed = await self.broker.subscriptions.resume(self._own(request.name))
        return pb.ResumeSubscriptionResponse(subscription=subscription_message(resumed))

    async def seek(self, request: pb.SeekSubscriptionRequest) -> pb.SeekSubscriptionResponse:
        name = self._own(request.name)
        faults = Faults()
        if not request.HasField("target"):
            raise faults.missing("target")
        target = read_seek_target(faults, "target", request.target)
        faults.check()
        await check_point(self.broker.kept_events, target)
        moved, discarded = await self.broker.subscriptions.seek(name, target)
        return pb.SeekSubscriptionResponse(subscription=subscription_message(moved), discarded_deliveries=discarded)

    async def rotate_secret(self, request: pb.RotateSecretRequest) -> pb.RotateSecretResponse:
        name = self._own(request.name)
        overlap = DAY
        if request.HasField("overlap"):
            faults = Faults()
            overlap = read_duration(faults, "overlap", request.overlap, _OVERLAP)
            faults.check()
        pair = _read_kind(request.kind)
        rotated = await self.broker.subscriptions.rotate_secret(name, overlap, pair=pair)
        return pb.RotateSecretResponse(secrets=[secret_message(secret, current_caller()) for secret in rotated])

    async def get_signing_secrets(self, request: pb.GetSigningSecretsRequest) -> pb.GetSigningSecretsResponse:
        found = self.broker.subscriptions.signing_secrets(self._own(request.name))
        return pb.GetSigningSecretsResponse(secrets=[secret_message(secret, current_caller()) for secret in found])

    async def test(self, request: pb.TestSubscriptionRequest) -> pb.TestSubscriptionResponse:
        result = await self.broker.receivers.test(self._own(request.name))
        status = result.status or 0
        return pb.TestSubscriptionResponse(
            success=result.is_success,
            status=status,
            error=result.error,
            duration=duration(result.duration),
            answer=result.answer,
        )

    async def request_consent(self, request: pb.RequestConsentRequest) -> pb.RequestConsentResponse:
        asked = await self.broker.receivers.ask(self._own(request.name))
        return pb.RequestConsentResponse(subscription=subscription_message(asked))

    def _own(self, text: str) -> SubscriptionName:
        """Reads the name of a subscription that is to be changed or that gives its secrets away: that is its owner's to do."""
        name = read_subscription_name("name", text)
        with suppress(NotFound):
            check_subscription(self.broker.subscriptions.get(name))
        return name

    async def get_effective_retry_policy(
        self, request: pb.GetEffectiveRetryPolicyRequest
    ) -> pb.GetEffectiveRetryPolicyResponse:
        found = self.broker.subscriptions.get(read_subscription_name("name", request.name))
        policies = [
            one
            for one in self.broker.backoffs.policies(found)
            if (not request.event_type or one.event_type in ("", request.event_type))
            and (not request.source or one.source in ("", request.source))
        ]
        if current_caller().is_bound and not request.source:
            # Which sources there are is not everybody's to know.
            policies = [one for one in policies if not one.source]
        return pb.GetEffectiveRetryPolicyResponse(policies=[effective_message(one) for one in policies])

    def _name_to_create(self, faults: Faults, request: pb.CreateSubscriptionRequest) -> SubscriptionName:
        subscriber, subscription_id = "", request.subscription_id
        if not request.parent:
            faults.required("parent")
        else:
            with faults.at("parent"):
                subscriber = parse_subscriber_name(request.parent).subscriber
        if subscription_id:
            with faults.at("subscription_id"):
                parse_id(subscription_id)
        own_name = request.subscription.name
        if own_name:
            with faults.at("subscription.name"):
                own = parse_subscription_name(own_name)
                subscription_id = subscription_id or own.id
                if (own.subscriber, own.id) != (subscriber, subscription_id):
                    faults.invalid("subscription.name", f"{own_name} is not what parent and subscription_id say")
        return SubscriptionName(subscriber, subscription_id or self.make_id())

    async def _change(
        self, name: SubscriptionName, request: pb.UpdateSubscriptionRequest, paths: tuple[str, ...]
    ) -> Subscription:
        given, caller = request.subscription, current_caller()
        checked: Subscription | None = None

        def change(stored: Subscription) -> Subscription:
            check_scope(caller, all_subscribers=stored.scope is Scope.ALL_SUBSCRIBERS)
            faults = Faults()
            merged = merge(paths, given, subscription_message(stored))
            changed = changed_subscription(faults, stored, merged, self.broker.registry.check_selector)
            faults.check()
            check_subscription(changed)
            if _needs_check(changed, stored) and (checked is None or _needs_check(changed, checked)):
                raise _UncheckedError(changed, stored)
            return changed

        while True:
            try:
                return await self.broker.subscriptions.update(
                    name,
                    change,
                    etag=given.etag,
                    generation=given.generation if given.HasField("generation") else None,
                    restore=request.allow_missing,
                )
            except _UncheckedError as unchecked:
                # A change is made in one step, and a filter cannot be checked in one.
                faults = Faults()
                await self._check_filter(faults, unchecked.changed, unchecked.stored)
                faults.check()
                checked = unchecked.changed

    async def _check_filter(self, faults: Faults, wanted: Subscription, stored: Subscription | None = None) -> None:
        """Notes a filter that does not fit what is selected.

        What is `stored` is not checked again: a schema may have changed since, and who renames a label must not be held up
        by it.
        """
        if not wanted.filter:
            return
        known = stored.selectors if stored is not None and stored.filter == wanted.filter else ()
        patterns = [selector.pattern for selector in wanted.selectors if selector not in known]
        with faults.at(f"{PATH}.filter"):
            await self.broker.filtering.filters.check(wanted.filter, patterns)

    async def _create_missing(
        self, name: SubscriptionName, request: pb.UpdateSubscriptionRequest, paths: tuple[str, ...]
    ) -> Subscription:
        given = request.subscription
        if given.etag:
            raise Aborted(
                Reason.ETAG_MISMATCH,
                f"{name.text} is not there, so it has no etag {given.etag!r}.",
                hint="Leave the etag out to create it.",
            )
        faults = Faults()
        wanted = new_subscription(faults, name, given, self.broker.registry.check_selector)
        await self._check_filter(faults, wanted)
        faults.check()
        check_subscription(wanted)
        try:
            return await self.broker.subscriptions.create(wanted, None)
        except AlreadyExists:
            # Another replica of the same application was a moment faster.
            return await self._change(name, request, paths)


class _UncheckedError(Exception):
    """A subscription would have a filter that was not checked yet."""

    def __init__(self, changed: Subscription, stored: Subscription) -> None:
        self.changed = changed
        self.stored = stored


def _needs_check(changed: Subscription, known: Subscription) -> bool:
    """Whether the filter of a subscription must be checked, if that of a known one need not."""
    if not changed.filter:
        return False
    return changed.filter != known.filter or not set(changed.selectors) <= set(known.selectors)


def _read_kind(kind: pb.RotateSecretRequest.Kind.ValueType) -> bool | None:
    """Says whether a key pair is wanted; None for one like the newest."""
    if kind not in _IS_PAIR:
        faults = Faults()
        faults.invalid("kind", f"{kind} is no kind")
        faults.check()
    return _IS_PAIR[kind]


_IS_PAIR: Final = {
    pb.RotateSecretRequest.KIND_UNSPECIFIED: None,
    pb.RotateSecretRequest.KIND_SECRET: False,
    pb.RotateSecretRequest.KIND_KEY_PAIR: True,
}
_OVERLAP: Final = Bounds(0.0, 30 * DAY)
