"""`certes sources`: lists and declares the ways in for foreign webhooks."""

from __future__ import annotations

import secrets as randomness
from pathlib import Path
from typing import Final

import click

from certes_broker.cli.options import (
    DEFAULT_CONFIG_FILE,
    config_option,
    existing_config,
    json_option,
    settings_environment,
)
from certes_broker.cli.output import print_facts, print_json, print_table
from certes_broker.config import Config
from certes_broker.config.source_tables import secrets_variable
from certes_broker.domain.sources import Source
from certes_broker.schemas.providers import shipped_providers

SECRET_BYTES: Final = 32


@click.group()
def sources() -> None:
    """List and declare sources: ways in for foreign webhooks.

    Sources are declared in the configuration file. A running broker takes them up on SIGHUP or when it is restarted.
    """


@sources.command("list")
@config_option
@json_option
def list_sources(*, config_file: Path | None, as_json: bool) -> None:
    """List the sources, with the URL to paste at each provider."""
    file = existing_config(config_file)
    config = Config.load(file, settings_environment(), {})
    if as_json:
        print_json([_document(config, source) for source in config.sources])
        return
    print_table(
        ("NAME", "PROVIDER", "AUDIENCE", "SECRETS", "URL"),
        [
            (source.name, source.provider, source.audience.text, str(len(source.secrets)), _url(config, source))
            for source in config.sources
        ],
        empty=f"{file or 'No configuration file'} declares no sources. `certes sources create` adds one.",
    )


@sources.command("create")
@click.argument("name")
@click.option("--provider", type=click.Choice(tuple(shipped_providers())), required=True, help="Who sends.")
@click.option("--audience", required=True, metavar="everyone|subscribers/ID", help="Whom its events are for.")
@click.option(
    "--secret",
    metavar="SECRET",
    help="The secret that the provider signs with; - asks for it. Without it, one is made and printed.",
)
@config_option
@json_option
def create_source(
    *, name: str, provider: str, audience: str, secret: str | None, config_file: Path | None, as_json: bool
) -> None:
    """Declare a source in the configuration file; what stands there, comments too, is kept.

    \b
    Example:
      certes sources create github --provider github --audience everyone
    """  # noqa: D301  click itself reads the backspace: what follows is not to be wrapped
    # Imported here because no other command edits TOML.
    from certes_broker.cli.sources_file import add_source  # noqa: PLC0415

    made = secret is None
    if secret is None:
        secret = randomness.token_hex(SECRET_BYTES)
    elif secret == "-":  # so that it need not stand in the shell's history
        secret = click.prompt("Secret", hide_input=True, err=True)
    environ = settings_environment()
    # A secret from the environment would hide a mistake in the one that is written.
    environ.pop(secrets_variable(name), None)

    file = config_file or DEFAULT_CONFIG_FILE
    table = {"name": name, "provider": provider, "audience": audience, "secrets": [secret]}
    config = add_source(file, environ, table)
    source = next(source for source in config.sources if source.name == name)
    if as_json:
        print_json(_document(config, source) | ({"secret": secret} if made else {}))
        return
    click.echo(f"Declared in {file}. A running broker takes it up on SIGHUP or when it is restarted.\n")
    print_facts(
        [
            ("URL", _url(config, source)),
            ("content type", "application/json"),
            ("secret", f"{secret}   (made now, and not printed again; {file} has it)" if made else ""),
            ("audience", source.audience.text),
        ]
    )
    click.echo(
        f"\nPaste these at {provider}. It must reach this machine by a proxy or tunnel, for the broker itself listens "
        "on loopback only: put the proxy's address in the place of the host and port."
    )


def _url(config: Config, source: Source) -> str:
    return f"http://{config.http.listen}{source.path}"


def _document(config: Config, source: Source) -> dict[str, object]:
    return {
        "name": source.name,
        "provider": source.provider,
        "audience": source.audience.text,
        "url": _url(config, source),
        "secretCount": len(source.secrets),
    }
