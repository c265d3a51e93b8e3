"""Subscriptions that are made equal to a list, and selectors."""

from __future__ import annotations

import asyncio

import pytest

from certes_sdk import CertesError, event
from tests.fakes.sdk_broker import PUSH, Refusal

ISSUES = "community.certes.dev/github/1/issues"


class Opts:
    """Options as certes_contrib has them."""

    def __init__(self, **options: object) -> None:
        self.options = options

    def event_options(self) -> dict[str, object]:
        return self.options


def test_a_selector_takes_options_as_a_mapping_or_as_an_object():
    assert event(PUSH) == event(PUSH, {}) == event(PUSH, Opts(repo="", org=None))
    assert event(ISSUES, {"repo": "a", "n": 3, "private": True}).options == (
        ("n", "3"),
        ("private", "true"),
        ("repo", "a"),
    )
    assert event(ISSUES, Opts(repo="meetly/app")).options == (("repo", "meetly/app"),)


@pytest.mark.parametrize(
    ("pattern", "options", "reason"),
    [
        ("*", None, "MALFORMED_PATTERN"),
        ("d/1/x", None, "UNMATCHABLE_PATTERN"),
        (PUSH, {"repo": 1.5}, "FIELD_INVALID"),
        (PUSH, "repo", "FIELD_INVALID"),
    ],
)
def test_what_selects_nothing_is_refused_at_once(pattern, options, reason):
    with pytest.raises(CertesError) as caught:
        event(pattern, options)
    assert caught.value.reason == reason


async def test_the_selectors_of_the_applications_subscription_become_the_list(broker, make_client):
    client = make_client(generation=7)
    await client.ensure_subscriptions([event(PUSH), event(ISSUES, {"repo": "a"}), event(PUSH)], filter="true")
    (request,) = broker.updates
    subscription = request.subscription
    assert subscription.name == "subscribers/default/subscriptions/billing"
    assert [(one.pattern, dict(one.options)) for one in subscription.selectors] == [(PUSH, {}), (ISSUES, {"repo": "a"})]
    assert (subscription.filter, subscription.generation, request.allow_missing) == ("true", 7, True)
    assert subscription.WhichOneof("delivery") == "stream"
    assert sorted(request.update_mask.paths) == ["filter", "generation", "selectors", "stream"]


async def test_with_a_callback_url_deliveries_are_posted(broker, make_client):
    client = make_client(callback_url="https://app.example.com/hook", subscriber="org_1")
    await client.ensure_subscriptions(event(PUSH), ISSUES, name="bulk")
    (request,) = broker.updates
    assert request.subscription.name == "subscribers/org_1/subscriptions/billing:bulk"
    assert request.subscription.webhook.url == "https://app.example.com/hook"
    assert sorted(request.update_mask.paths) == ["filter", "selectors", "webhook.url"]


async def test_refusals_that_are_retryable_are_retried_for_30_seconds_at_most(broker, make_client, clock):
    broker.refusals = [Refusal("UNAVAILABLE", "DRAINING", retry_after=5.0), Refusal("ABORTED", "REVISION_CONFLICT")]
    client = make_client(clock=clock)
    ensuring = asyncio.gather(client.ensure_subscriptions(PUSH))
    await clock.until_waiting(5.0)
    clock.advance(5.0)
    await clock.until_waiting(0.2)
    clock.advance(0.2)
    await ensuring
    assert len(broker.updates) == 3
    broker.refusals = [Refusal("UNAVAILABLE", "DRAINING", retry_after=31.0)]
    with pytest.raises(CertesError, match="DRAINING"):
        await client.ensure_subscriptions(PUSH)


async def test_other_refusals_are_the_callers(broker, make_client):
    broker.refusals = [Refusal("FAILED_PRECONDITION", "STALE_GENERATION")]
    with pytest.raises(CertesError, match="STALE_GENERATION"):
        await make_client().ensure_subscriptions(PUSH)
    with pytest.raises(CertesError, match="APP_MISSING"):
        await make_client(app=None).ensure_subscriptions(PUSH)
    with pytest.raises(CertesError, match="FIELD_INVALID"):
        await make_client().ensure_subscriptions(PUSH, name="a b")


async def test_a_subscription_that_is_made_while_running_gets_its_stream(broker, make_client):
    client = make_client()
    client.on(PUSH)(lambda raw: None)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(50):
        tasks.create_task(client.run())
        first = await broker.streams.get()
        await client.ensure_subscriptions(PUSH, name="bulk")
        second = await broker.streams.get()
        await client.close()
    assert [first.request.subscription, second.request.subscription] == [
        "subscribers/default/subscriptions/billing",
        "subscribers/default/subscriptions/billing:bulk",
    ]
