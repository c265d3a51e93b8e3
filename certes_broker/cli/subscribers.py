"""`certes subscribers`: erases what a broker keeps of one."""

from __future__ import annotations

from typing import Final

import click

from certes_broker.cli.connect import ADMIN_SERVICE, Broker
from certes_broker.cli.options import SubscriberType, broker_option, json_option
from certes_broker.cli.output import plain, print_facts, print_json

TIMEOUT: Final = 3600.0
"""Seconds that an erasure may take: a large journal is read from one end to the other."""


@click.group()
def subscribers() -> None:
    """Look after what is kept of subscribers."""


@subscribers.command()
@click.argument("subscriber", type=SubscriberType())
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@broker_option
def erase(*, subscriber: str, yes: bool, as_json: bool, broker: Broker) -> None:
    """Erase all that is kept of SUBSCRIBER, for good, and say what that was and what remains.

    Its subscriptions, their dead letters and attempts, and the events for it. If it is interrupted, say it again.
    """
    if not yes:
        typed = click.prompt(f"This cannot be undone. Type {subscriber} to erase all that is kept of it", err=True)
        if typed != subscriber:
            raise click.UsageError("That is another subscriber; nothing was erased.")
    request = {"name": f"subscribers/{subscriber}"}
    answer = broker.call(ADMIN_SERVICE, "DeleteSubscriberData", request, doing=f"Erasing {subscriber}", timeout=TIMEOUT)
    if as_json:
        print_json(answer)
        return
    counted = {
        "subscriptions": "subscriptions",
        "events": "events",
        "dead letters": "deadLetters",
        "attempts": "attempts",
        "rejected": "rejected",
    }
    click.echo(f"Erased what was kept of {subscriber}:")
    print_facts([(word, str(answer.get(name, "0"))) for word, name in counted.items()])
    click.echo("What is still somewhere:")
    for sentence in answer.get("remains", []):
        click.echo(plain(f"  {sentence}"))
