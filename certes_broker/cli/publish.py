"""`certes publish`: sends one event."""

from __future__ import annotations

import json
from typing import IO, Any, NoReturn

import click

from certes_broker.cli.connect import EVENT_SERVICE, Broker, Document
from certes_broker.cli.options import SubscriberType, broker_option
from certes_broker.cli.output import print_json


@click.command()
@click.argument("event_type", metavar="TYPE")
@click.option(
    "--json",
    "data_file",
    type=click.File("rb"),
    required=True,
    metavar="FILE|-",
    help="The event's data as JSON; - reads it from standard input.",
)
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
    data_file: IO[bytes],
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
    event: Document = {"type": event_type, "source": source, "data": _read_json(data_file)}
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


def _read_json(file: IO[bytes]) -> Any:
    """Reads the data here, so that a mistake in it is told with its place in the file."""
    given = getattr(file, "name", "-")
    name = "standard input" if given in ("-", "<stdin>") else given
    try:
        return json.loads(file.read().decode("utf-8-sig"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem = f"{name} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}."
    except UnicodeDecodeError:
        problem = f"{name} is not UTF-8."
    except ValueError as error:
        problem = f"{name} is no JSON: {error}."
    raise click.BadParameter(problem, param_hint="--json")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value; protobuf wants it in quotes")
