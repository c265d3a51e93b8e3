"""Whether a subscription delivers: `certes subscriptions pause`, `resume`, `delete` and `restore`."""

from __future__ import annotations

from typing import Final

import click

from certes_broker.cli.connect import SUBSCRIPTION_SERVICE, Broker, Document
from certes_broker.cli.options import broker_option, json_option, subscriber_option, subscription_name
from certes_broker.cli.output import print_json

_DELETED: Final = "STATE_DELETED"


@click.command("pause")
@click.argument("name")
@subscriber_option
@broker_option
def pause_subscription(*, name: str, subscriber: str, broker: Broker) -> None:
    """Stop its deliveries. Events gather until it is resumed, or retention trims them."""
    full = subscription_name(name, subscriber)
    broker.call(SUBSCRIPTION_SERVICE, "PauseSubscription", {"name": full}, doing=f"Pausing {full}")
    click.echo(f"Paused {full}.")


@click.command("resume")
@click.argument("name")
@subscriber_option
@broker_option
def resume_subscription(*, name: str, subscriber: str, broker: Broker) -> None:
    """Let its deliveries go out again, also where the broker had disabled it."""
    full = subscription_name(name, subscriber)
    broker.call(SUBSCRIPTION_SERVICE, "ResumeSubscription", {"name": full}, doing=f"Resuming {full}")
    click.echo(f"Resumed {full}.")


@click.command("delete")
@click.argument("name")
@subscriber_option
@click.option("--etag", help="Only if it is still as it was when this etag was read.")
@click.option("--missing-ok", is_flag=True, help="Succeed if there is none.")
@json_option
@broker_option
def delete_subscription(
    *, name: str, subscriber: str, etag: str | None, missing_ok: bool, as_json: bool, broker: Broker
) -> None:
    """Delete a subscription. It can be restored for 24 hours, with what it is owed."""
    full = subscription_name(name, subscriber)
    request: Document = {"name": full, "etag": etag or "", "allowMissing": missing_ok}
    answer = broker.call(SUBSCRIPTION_SERVICE, "DeleteSubscription", request, doing=f"Deleting {full}")
    if as_json:
        print_json(answer.get("subscription"))
    elif "subscription" in answer:
        click.echo(f"Deleted {full}. `certes subscriptions restore {full}` restores it within 24 hours.")
    else:
        click.echo(f"There was no {full}.")


@click.command("restore")
@click.argument("name")
@subscriber_option
@json_option
@broker_option
def restore_subscription(*, name: str, subscriber: str, as_json: bool, broker: Broker) -> None:
    """Take back the deletion of a subscription, within 24 hours. It goes on with what has gathered meanwhile."""
    full = subscription_name(name, subscriber)
    doing = f"Restoring {full}"
    stored = broker.call(SUBSCRIPTION_SERVICE, "GetSubscription", {"name": full}, doing=doing)["subscription"]
    if stored.get("state") != _DELETED:
        raise click.ClickException(f"{full} is not deleted.")
    # With the etag, so that none that was made anew meanwhile is changed.
    request: Document = {"subscription": {"name": full, "etag": stored["etag"]}, "allowMissing": True}
    restored = broker.call(SUBSCRIPTION_SERVICE, "UpdateSubscription", request, doing=doing)["subscription"]
    if as_json:
        print_json(restored)
    else:
        click.echo(f"Restored {full}.")
