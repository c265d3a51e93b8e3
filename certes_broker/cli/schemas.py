"""`certes schemas`: defines event types, and shows those that there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import click

from certes_broker.cli.connect import SCHEMA_SERVICE, Broker, Document
from certes_broker.cli.failures import Refusal, WouldBeRefused
from certes_broker.cli.json_files import read_json
from certes_broker.cli.options import broker_option, json_option
from certes_broker.cli.output import print_json, print_table
from certes_broker.cli.schemas_fields import first_sentence, print_schema
from certes_broker.cli.schemas_init import init
from certes_broker.cli.schemas_pull import pull
from certes_broker.cli.schemas_push import check, push
from certes_broker.domain.errors import FieldViolation


@click.group()
def schemas() -> None:
    """Define event types, and look at those that there are.

    Those who define: init, check, push, validate. Those who use: list, get, discover, pull.
    """


for command in (init, check, push):
    schemas.add_command(command)


@schemas.command()
@click.argument("event_type", metavar="TYPE")
@click.argument("file", metavar="FILE|-", type=click.File("rb"))
@json_option
@broker_option
def validate(*, event_type: str, file: IO[bytes], as_json: bool, broker: Broker) -> None:
    """Say whether an event of TYPE with the data of FILE, as JSON, would be taken. Nothing is published.

    Ends with 1 if it would be refused.
    """
    event = {"type": event_type, "source": "certes-cli", "everyone": True, "data": read_json(file, "FILE")}
    doing = f"Validating an event of {event_type}"
    answer = broker.call(SCHEMA_SERVICE, "ValidateEvent", {"event": event}, doing=doing)
    problem = answer.get("problem")
    if as_json:
        print_json(answer)
    elif problem is None:
        schema = answer["schema"]
        click.echo(f"It fits {schema['type']}, revision {schema['revision']}.")
    if problem is not None:
        violations = [FieldViolation(one["field"], one["description"]) for one in problem.get("fieldViolations", [])]
        raise WouldBeRefused(doing, Refusal("", problem["message"], problem["reason"], violations))


@schemas.command("list")
@click.option("--domain", default="", help="Only those of this domain.")
@click.option("--namespace", default="", help="Only those of this namespace.")
@click.option("--pattern", default="", help="Only those that it matches, such as community.certes.dev/github/**.")
@json_option
@broker_option
def list_schemas(*, domain: str, namespace: str, pattern: str, as_json: bool, broker: Broker) -> None:
    """List the event types that the broker knows."""
    request = {"domain": domain, "namespace": namespace, "pattern": pattern}
    found = broker.pages(SCHEMA_SERVICE, "ListSchemas", "schemas", request, doing="Listing schemas")
    _print_list(found, as_json=as_json)


@schemas.command()
@click.argument("uri", metavar="events://HOST[:PORT][/NAMESPACE]")
@click.option("--refresh", is_flag=True, help="Ask the gateway, even if the broker has an answer that is fresh enough.")
@json_option
@broker_option
def discover(*, uri: str, refresh: bool, as_json: bool, broker: Broker) -> None:
    """List the event types that another gateway serves. They are shown, not registered."""
    request = {"uri": uri, "refresh": refresh}
    doing = f"Discovering the schemas of {uri}"
    found = broker.pages(SCHEMA_SERVICE, "DiscoverSchemas", "schemas", request, doing=doing)
    _print_list(found, as_json=as_json)


@schemas.command("get")
@click.argument("event_type", metavar="TYPE")
@click.option("--proto", is_flag=True, help="The .proto file that defines it, as it was registered.")
@json_option
@broker_option
def get_schema(*, event_type: str, proto: bool, as_json: bool, broker: Broker) -> None:
    """Show one event type: its options and its fields."""
    doing = f"Reading the schema of {event_type}"
    answer = broker.call(SCHEMA_SERVICE, "GetSchema", {"type": event_type}, doing=doing)
    if as_json:
        print_json(answer)
    elif proto:
        click.echo(_source(answer), nl=False)
    else:
        print_schema(answer)


schemas.add_command(pull)


def _print_list(found: Sequence[Document], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_table(
        ("TYPE", "REVISION", "MEANING"),
        [(schema["type"], schema["revision"], first_sentence(schema.get("comment", ""))) for schema in found],
        empty="There are none. `certes schemas init` writes a schema to begin with.",
    )


def _source(answer: Document) -> str:
    """Returns the text of the file that defines a message."""
    path = answer["schema"].get("file")
    for source in answer["version"].get("sources", []):
        if source["path"] == path:
            return str(source["content"])
    raise click.UsageError(
        "It was registered as a descriptor set, so its source is not known. `certes schemas pull` writes the descriptors."
    )
