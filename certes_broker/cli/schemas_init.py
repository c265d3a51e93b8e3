"""`certes schemas init`: writes a first schema, and what the tools of its author need to compile it."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from textwrap import dedent
from typing import Final

import click

from certes_broker.cli.schemas_folder import Obstructed, plan
from certes_broker.cli.schemas_sources import BUF_FILE, root_at
from certes_broker.domain.errors import CertesError
from certes_broker.domain.uris import EventType, parse_event_type

OPTIONS_FILE: Final = "certes/v1/options.proto"

_BUF_YAML: Final = dedent("""\
    # For buf (https://buf.build), and for `certes schemas push`: the folder that imports are relative to is this one.
    version: v2
    lint:
      use:
        - STANDARD
      ignore:
        # A copy for the tools on this machine. Every broker has its own, so it is not pushed.
        - certes
    """)

_SCHEMA: Final = dedent("""\
    syntax = "proto3";

    package {package};

    import "{options}";

    // Where the event types of this file belong. Together with the name below that is the event URI, {type}.
    option (certes.v1.schema) = {{
      domain: "{domain}"
      namespace: "{namespace}"
      version: {version}
    }};

    // Say here what has happened when this event is sent: subscribers see the comments.
    message {message} {{
      option (certes.v1.event) = {{
        name: "{name}"
        // By options subscribers choose: `--option account=a-1` are the events with this value in the field.
        options: {{
          name: "account"
          field: "account.id"
        }}
      }};

      // Whom it concerns.
      Account account = 1;

      // What has happened, in words for people.
      string summary = 2;

      // An account.
      message Account {{
        // Its id.
        string id = 1;
      }}
    }}
    """)


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--domain", default="events.example.com", show_default=True, help="The DNS name of whoever defines it.")
@click.option("--namespace", default="_", show_default=True, help="A group of event types; _ is the default one.")
@click.option("--version", type=click.IntRange(min=1), default=1, show_default=True, help="The major version.")
@click.option("--event", default="account_changed", show_default=True, help="The event's name.")
def init(*, folder: Path, domain: str, namespace: str, version: int, event: str) -> None:
    """Write a first schema into DIR, by default here, with what buf, protoc and editors need to compile it.

    Nothing that is there already is overwritten. Called again with another --event, it adds that.
    """
    try:
        event_type = parse_event_type(f"{domain}/{namespace}/{version}/{event}")
    except CertesError as error:
        raise click.UsageError(f"{error}") from None
    if event_type.is_system:
        raise click.UsageError(f"{event} is the name of a system event, which the broker alone sends: drop the '_'.")
    root = root_at(folder)
    schema = schema_path(event_type)
    try:
        module = plan(folder, {BUF_FILE: _BUF_YAML.encode()})
        sources = plan(root, {OPTIONS_FILE: _options(), schema: starter(event_type).encode()})
    except Obstructed as problem:
        raise click.UsageError(f"{problem}.") from None
    if schema not in sources.new:
        raise click.UsageError(f"{root / schema} is there already; it is yours, and stays as it is.")
    for path in (*(folder / name for name in module.write()), *(root / name for name in sources.write())):
        click.echo(f"wrote {path}")
    for path in (*(folder / name for name in module.other), *(root / name for name in sources.other)):
        click.echo(f"kept  {path}, which was there already")
    click.echo(f"\nSay in {root / schema} what the event holds; then\n  certes schemas push {folder}")


def starter(event_type: EventType) -> str:
    """Returns the text of a first schema."""
    return _SCHEMA.format(
        package=_package(event_type),
        options=OPTIONS_FILE,
        type=event_type.text,
        domain=event_type.domain,
        namespace=event_type.namespace,
        version=event_type.version,
        message=_message(event_type.name),
        name=event_type.name,
    )


def schema_path(event_type: EventType) -> str:
    """Returns where a first schema lies below its root: in the folder of its package, as tools want it."""
    return f"{_package(event_type).replace('.', '/')}/{event_type.name.removesuffix('_event')}_event.proto"


def _package(event_type: EventType) -> str:
    """Makes a package of a domain and a namespace: `events.github.com/_/1` is `github.events.v1`."""
    labels = [label.replace("-", "_") for label in event_type.domain.split(".")][::-1]
    segments = [] if event_type.namespace == "_" else event_type.namespace.split("/")
    words = [_identifier(word) for word in (*(labels[1:] or labels), *segments)]
    return ".".join((*words, f"v{event_type.version}"))


def _identifier(word: str) -> str:
    """Returns a word as a part of a package can be.

    Names are looked up from the inside out: in `events.certes.v1`, `certes.v1.event` would be sought in `events.certes`.
    """
    if word in _TAKEN:
        return f"{word}_events"
    return f"n{word}" if word[0].isdigit() else word


def _message(name: str) -> str:
    words = "".join(word.capitalize() for word in name.removesuffix("_event").split("_"))
    return f"{words}Event" if re.match("[A-Z]", words) else f"Event{words}"


def _options() -> bytes:
    return files("certes").joinpath(OPTIONS_FILE.removeprefix("certes/")).read_bytes()


_TAKEN: Final = frozenset({"certes", "google"})
