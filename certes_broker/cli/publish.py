"""`certes publish`: sends one event."""

from __future__ import annotations

import base64
from typing import IO

import click

from certes_broker.cli.connect import EVENT_SERVICE, Broker, Document
from certes_broker.cli.json_files import read_json
from certes_broker.cli.options import SubscriberType, broker_option
from certes_broker.cli.output import print_json


@click.command()
@click.argument("event_type", metavar="TYPE")
@click.option(
    "--json",
    "data_file",
    type=click.File("rb"),
    metavar="FILE|-",
    help="The event's data as JSON; - reads it from standard input.",
)
@click.option(
    "--raw",
    "raw_file",
    type=click.File("rb"),
    metavar="FILE|-",
    help="Instead: the event's content as it is. Only open namespaces take it, which want no schemas.",
)
@click.option("--content-type", default="application/json", show_default=True, help="What --raw is.")
@click.option("--subscriber", type=SubscriberType(), help="Only this subscriber gets it.")
@click.option("--everyone", is_flag=True, help="Every subscriber gets it.")
@click.option("--source", default="certes-cli", show_default=True, metavar="URI", help="Who sends.")
@click.option("--id", "event_id", help="The event's id. The same source and id is stored once.")
@click.option("--subject", help="What it is about.")
@click.option("--ordering-key", help="Events with the same key arrive in order.")
@click.option("--print-json", "as_json", is_flag=True, help="Print the result as JSON, for scripts.")
@broker_option
def publish(
    *,
    event_type: str,
    data_file: IO[bytes] | None,
    raw_file: IO[bytes] | None,
    content_type: str,
    subscriber: str | None,
    everyone: bool,
    source: str,
    event_id: str | None,
    subject: str | None,
    ordering_key: str | None,
    as_json: bool,
    broker: Broker,
) -> None:
    """Publish one event of TYPE, such as community.certes.dev/github/1/push.

    The data is read by the event's type: it needs no "@type". When the command has ended well, the event is durable.

    \b
    Example:
      echo '{"zen": "Keep it simple."}' |
      certes publish community.certes.dev/github/1/ping --json - --everyone
    """  # noqa: D301  click itself reads the backspace: what follows is not to be wrapped
    if everyone == (subscriber is not None):
        raise click.UsageError(
            "Say whom the event is for: either --subscriber ID or --everyone. A forgotten id must never broadcast."
        )
    event: Document = {"type": event_type, "source": source} | _content(data_file, raw_file, content_type)
    if subscriber is not None:
        event["subscriber"] = subscriber
    else:
        event["everyone"] = True
    for field, value in (("id", event_id), ("subject", subject), ("orderingKey", ordering_key)):
        if value is not None:
            event[field] = value

    answer = broker.call(EVENT_SERVICE, "Publish", {"events": [event]}, doing=f"Publishing an event of {event_type}")
    (result,) = answer["results"]
    if as_json:
        print_json(result, indent=None)
    elif result.get("duplicate"):
        click.echo(f"Already published as {result['name']}; nothing was stored.")
    else:
        click.echo(f"Published {result['name']}, id {result['id']}.")


def _content(data_file: IO[bytes] | None, raw_file: IO[bytes] | None, content_type: str) -> Document:
    """Returns the field of an event that has its content."""
    if (data_file is None) == (raw_file is None):
        raise click.UsageError("Say what the event holds: either --json FILE, or in an open namespace --raw FILE.")
    if data_file is not None:
        return {"data": read_json(data_file, "--json")}
    assert raw_file is not None  # One of them has just been found to be there.
    return {"raw": {"contentType": content_type, "bytes": base64.b64encode(raw_file.read()).decode()}}
