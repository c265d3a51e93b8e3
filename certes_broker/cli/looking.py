"""`certes ping` and `certes stats`: what a broker says of itself."""

from __future__ import annotations

from typing import Final

import click

from certes_broker.cli.connect import ADMIN_SERVICE, Broker
from certes_broker.cli.failures import ExitCode
from certes_broker.cli.options import broker_option, json_option
from certes_broker.cli.output import print_facts, print_json

_TITLES: Final = {
    "acceptedEvents": "events accepted",
    "duplicateEvents": "duplicates",
    "pushedBackRequests": "requests pushed back",
    "refusedPublishes": "publishes refused",
    "acceptedWebhooks": "webhooks taken in",
    "rejectedWebhooks": "webhooks refused",
    "refusedCalls": "calls not let in",
    "firstAttempts": "deliveries begun",
    "deliveryLatencyP99": "99 % begun within",
    "webhookAttempts": "webhook attempts",
    "deadLetters": "dead letters",
    "gaps": "gaps",
    "subscriptions": "subscriptions",
    "breakers": "breakers",
    "openStreams": "open streams",
    "httpConnections": "HTTP connections",
    "grpcCalls": "gRPC calls",
    "awakeSubscriptions": "delivering now",
    "inFlightBytes": "bytes on their way",
    "webhooksInFlight": "webhooks under way",
    "webhooksAwaitingConsent": "waiting for consent",
    "oldestUnread": "oldest unread",
    "journalBytes": "bytes kept",
    "storageLeftBytes": "bytes left",
}
"""What the members of the answer are called on a terminal, in the order in which they are shown."""


@click.command()
@broker_option
@json_option
@click.pass_context
def ping(ctx: click.Context, *, broker: Broker, as_json: bool) -> None:
    """Ask a broker whether it works, and what of it does not.

    Ends with 0 if it is ready. Guarantees that its storage weakens are shown, and are no failure.
    """
    answer = broker.call(ADMIN_SERVICE, "Ping", {}, doing="asking the broker whether it works")
    unavailable = answer.get("unavailable", [])
    if as_json:
        print_json(answer)
    else:
        state = f"not ready: {', '.join(unavailable)}" if unavailable else "ready"
        click.echo(f"Certes {answer['version']} at {broker.uri.authority} is {state}.")
        for fact in answer.get("weakerGuarantees", []):
            click.echo(f"{click.style('warn', fg='yellow', bold=True)}  {fact}")
    ctx.exit(ExitCode.UNFIT if unavailable else ExitCode.OK)


@click.command()
@broker_option
@json_option
def stats(*, broker: Broker, as_json: bool) -> None:
    """Show what a broker has done since it was started, and what it is at."""
    answer = broker.call(ADMIN_SERVICE, "GetStats", {}, doing="asking for the broker's figures")
    if as_json:
        print_json(answer)
        return
    print_facts([(title, _shown(answer[name])) for name, title in _TITLES.items() if name in answer])


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{int(count):,} {name}" for name, count in sorted(value.items()))
    text = str(value)
    return f"{int(text):,}" if text.isdigit() else text.removesuffix("s") + " s"
