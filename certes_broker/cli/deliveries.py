"""`certes deliveries` and `certes redeliver`: what became of deliveries, and events handed over once more."""

from __future__ import annotations

import click

from certes_broker.cli.connect import DELIVERY_SERVICE, Broker, Document
from certes_broker.cli.dead_letters import outcome
from certes_broker.cli.options import broker_option, json_option, subscriber_option, subscription_name
from certes_broker.cli.output import print_json, print_table


@click.group()
def deliveries() -> None:
    """Look at what became of deliveries.

    A SUBSCRIPTION is subscribers/SUBSCRIBER/subscriptions/ID, or only the ID beside --subscriber.
    """


@deliveries.command()
@click.argument("subscription")
@subscriber_option
@click.option("--event", metavar="NAME", help="Only attempts at this event: events/ID.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@json_option
@broker_option
def attempts(
    *, subscription: str, subscriber: str, event: str | None, limit: int, as_json: bool, broker: Broker
) -> None:
    """List the attempts at the webhook of SUBSCRIPTION, newest first."""
    full = subscription_name(subscription, subscriber)
    found: list[Document] = []
    request: Document = {"parent": full, "event": event or ""}
    token = ""
    while len(found) < limit:
        page: Document = {**request, "pageSize": min(1000, limit - len(found)), "pageToken": token}
        answer = broker.call(DELIVERY_SERVICE, "ListAttempts", page, doing=f"Listing the attempts at {full}")
        found += answer.get("attempts", [])
        token = answer.get("nextPageToken", "")
        if not token:
            break
    if as_json:
        print_json(found)
        return
    print_table(
        ("EVENT", "TIME", "ATTEMPT", "OUTCOME", "SECONDS", "NEXT"),
        [
            (
                one["event"],
                one["attemptTime"],
                str(one["number"]),
                outcome(one),
                str(one.get("duration", "0s")).removesuffix("s"),
                one.get("nextAttemptTime", ""),
            )
            for one in found
        ],
        empty=f"No attempts at {full} are kept.",
    )


@click.command()
@click.argument("event")
@click.argument("subscription")
@subscriber_option
@json_option
@broker_option
def redeliver(*, event: str, subscription: str, subscriber: str, as_json: bool, broker: Broker) -> None:
    """Deliver a kept EVENT to SUBSCRIPTION once more, whatever became of it before. EVENT is events/ID."""
    full = subscription_name(subscription, subscriber)
    request: Document = {"event": event if "/" in event else f"events/{event}", "subscription": full}
    answer = broker.call(DELIVERY_SERVICE, "Redeliver", request, doing=f"Redelivering {event}")
    if as_json:
        print_json(answer)
    elif answer.get("alreadyDue"):
        click.echo(
            f"{event} is on its way to {full} already, and goes out once. If it waited for its next attempt, that is made now."
        )
    else:
        click.echo(f"{event} goes out to {full} once more.")
