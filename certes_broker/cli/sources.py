"""`certes sources`: creates and manages sources, the ways in for foreign webhooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from certes_broker.cli.connect import SOURCE_SERVICE, Broker, Document
from certes_broker.cli.options import DurationType, broker_option, json_option
from certes_broker.cli.output import print_facts, print_json, print_table
from certes_broker.cli.rejected import reingest, rejected
from certes_broker.domain.errors import CertesError
from certes_broker.domain.names import SubscriberName
from certes_broker.domain.sources import CUSTOM, Everyone, PayloadSubscriber, parse_audience
from certes_broker.schemas.providers import shipped_providers

C = TypeVar("C", bound=Callable[..., Any])

PROVIDERS: Final = (*sorted(shipped_providers()), CUSTOM)


class ProviderType(click.Choice[str]):
    """Who sends: a provider of the catalogue, or `custom`."""

    def __init__(self) -> None:
        super().__init__(PROVIDERS, case_sensitive=False)

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        known = ", ".join(PROVIDERS[:-1])
        return (
            f"{value!r} is not in the catalogue, which has {known}. For any other, say --provider {CUSTOM} and "
            "describe it with --definition FILE."
        )


class AudienceType(click.ParamType[Document]):
    """Whom a source's events are for, as the API has it."""

    name = "audience"

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        return "Say whom its events are for: everyone, subscribers/ID, or subscriber_in_payload."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Document:
        if isinstance(value, dict):
            return value
        try:
            audience = parse_audience(str(value))
        except CertesError as error:
            self.fail(str(error), param, ctx)
        match audience:
            case SubscriberName(subscriber):
                return {"subscriber": subscriber}
            case Everyone():
                return {"everyone": True}
            case PayloadSubscriber():
                return {"subscriberInPayload": True}


class LabelType(click.ParamType[tuple[str, str]]):
    """A label, `KEY=VALUE`."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals:
            self.fail(f"{value!r} is not of the form KEY=VALUE.", param, ctx)
        return key, text


def secret_option(command: C) -> C:
    """Adds `--secret`, given as often as needed; the command gets `secret`."""
    return click.option(
        "--secret",
        multiple=True,
        metavar="SECRET",
        help="A secret that verifies, the newest first; - asks for it. Repeatable.",
    )(command)


def settings_options(command: C) -> C:
    """Adds what can be set on creation and later; the command gets `definition`, `keep_rejected` and `label`."""
    for option in (
        click.option("--label", type=LabelType(), multiple=True, metavar="KEY=VALUE", help="A label. Repeatable."),
        click.option(
            "--keep-rejected/--drop-rejected",
            default=None,
            help="Whether payloads that are refused are kept, to be looked at and ingested again.  [default: dropped]",
        ),
        click.option(
            "--definition",
            type=click.Path(dir_okay=False, path_type=Path),
            help=f"How a {CUSTOM} source verifies and maps: TOML or JSON with [signature] and [mapping], as in a "
            "provider.toml of the community catalogue.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def sources() -> None:
    """Create and manage sources: ways in for foreign webhooks.

    A NAME is sources/ID, or only the ID. Sources that the broker's configuration declares are listed too, and changed
    there.
    """


sources.add_command(rejected)
sources.add_command(reingest)


@sources.command("create")
@click.argument("name")
@click.option("--provider", type=ProviderType(), required=True, help="Who sends.")
@click.option(
    "--audience",
    type=AudienceType(),
    required=True,
    metavar="everyone|subscribers/ID|subscriber_in_payload",
    help="Whom its events are for: all, one, or the one that the webhook names.",
)
@secret_option
@settings_options
@json_option
@broker_option
def create_source(
    *, name: str, provider: str, audience: Document, as_json: bool, broker: Broker, **settings: Any
) -> None:
    """Create a source. It takes webhooks from then on.

    Without a --secret one is made and printed. Where the provider makes it (Stripe, Slack), bring it: --secret - asks for
    it.

    \b
    Examples:
      certes sources create github --provider github --audience everyone
      certes sources create shop --provider custom --definition shop.toml \\
      --audience everyone
    """  # noqa: D301  click itself reads the backspace: what follows is not to be wrapped
    full = full_name(name)
    _check_completeness(broker, full, provider, settings)
    wanted = {"provider": provider} | audience | _settings(**settings)
    request: Document = {"sourceId": full.removeprefix("sources/"), "source": wanted}
    answer = broker.call(SOURCE_SERVICE, "CreateSource", request, doing=f"Creating {full}")
    source, secret = answer["source"], answer.get("secret", "")
    if as_json:
        print_json(_document(broker, source) | ({"secret": secret} if secret else {}))
        return
    click.echo(f"Created {full}. It takes webhooks from now on.\n")
    print_facts(
        [
            ("URL", _url(broker, source)),
            ("content type", "application/json"),
            ("secret", _made(secret)),
            ("audience", _audience(source)),
        ]
    )
    known = shipped_providers().get(provider)
    whom = f"{known.title} ({known.documentation})" if known and known.documentation else "the sender"
    click.echo(
        f"\nPaste {'these' if secret else 'the URL'} at {whom}. It must reach this machine by a proxy or tunnel, for the "
        "broker itself listens on loopback only: put the proxy's address in the place of the host and port."
    )


@sources.command("list")
@json_option
@broker_option
def list_sources(*, as_json: bool, broker: Broker) -> None:
    """List the sources, with the URL to paste at each provider."""
    found = broker.pages(SOURCE_SERVICE, "ListSources", "sources", {}, doing="Listing sources")
    if as_json:
        print_json([_document(broker, source) for source in found])
        return
    print_table(
        ("NAME", "PROVIDER", "AUDIENCE", "SECRETS", "DECLARED", "URL"),
        [
            (
                source["name"],
                source["provider"],
                _audience(source),
                str(source.get("secretCount", 0)),
                "in the configuration" if source.get("configured") else "",
                _url(broker, source),
            )
            for source in found
        ],
        empty="There are no sources. `certes sources create` makes one.",
    )


@sources.command("get")
@click.argument("name")
@json_option
@broker_option
def get_source(*, name: str, as_json: bool, broker: Broker) -> None:
    """Show one source. Its secrets are never shown."""
    full = full_name(name)
    answer = broker.call(SOURCE_SERVICE, "GetSource", {"name": full}, doing=f"Reading {full}")
    _print_source(broker, answer["source"], as_json=as_json)


@sources.command("update")
@click.argument("name")
@click.option(
    "--audience",
    type=AudienceType(),
    metavar="everyone|subscribers/ID|subscriber_in_payload",
    help="Whom its events are for.",
)
@secret_option
@settings_options
@click.option("--etag", help="Only if it is still as it was when this etag was read.")
@json_option
@broker_option
def update_source(
    *, name: str, audience: Document | None, etag: str | None, as_json: bool, broker: Broker, **settings: Any
) -> None:
    """Change a source. What is not named stays; a --secret or --label replaces all of its kind."""
    full = full_name(name)
    changed = (audience or {}) | _settings(**settings)
    if not changed:
        raise click.UsageError("Name what is to change.")
    request: Document = {
        "source": {"name": full, "etag": etag or ""} | changed,
        "updateMask": ",".join(sorted(changed)),
    }
    answer = broker.call(SOURCE_SERVICE, "UpdateSource", request, doing=f"Changing {full}")
    _print_source(broker, answer["source"], as_json=as_json)


@sources.command("delete")
@click.argument("name")
@click.option("--etag", help="Only if it is still as it was when this etag was read.")
@click.option("--missing-ok", is_flag=True, help="Succeed if there is none.")
@broker_option
def delete_source(*, name: str, etag: str | None, missing_ok: bool, broker: Broker) -> None:
    """Delete a source. Its webhooks are refused from then on; the events that it brought stay."""
    full = full_name(name)
    request: Document = {"name": full, "etag": etag or "", "allowMissing": missing_ok}
    broker.call(SOURCE_SERVICE, "DeleteSource", request, doing=f"Deleting {full}")
    click.echo(f"There is no {full} any more.")


@sources.command("rotate-secret")
@click.argument("name")
@click.option("--secret", metavar="SECRET", help="The new secret; - asks for it. Without it, one is made and printed.")
@click.option(
    "--overlap", type=DurationType(), default="24h", show_default=True, help="How long the old ones go on verifying."
)
@json_option
@broker_option
def rotate_secret(*, name: str, secret: str | None, overlap: float, as_json: bool, broker: Broker) -> None:
    """Give a source a new secret. The old ones verify beside it for a while, so that the provider can be changed later."""
    full = full_name(name)
    request: Document = {"name": full, "secret": _asked(secret) if secret else "", "overlap": f"{overlap:.3f}s"}
    answer = broker.call(SOURCE_SERVICE, "RotateSourceSecret", request, doing=f"Rotating the secret of {full}")
    source, made = answer["source"], answer.get("secret", "")
    if as_json:
        print_json(_document(broker, source) | ({"secret": made} if made else {}))
        return
    click.echo(f"{full} has a new secret; {source.get('secretCount', 0)} verify now.\n")
    print_facts([("URL", _url(broker, source)), ("secret", _made(made))])


def full_name(name: str) -> str:
    """Returns the name of a source of which the id, or the whole name, was given."""
    return name if "/" in name else f"sources/{name}"


def _check_completeness(broker: Broker, full: str, provider: str, settings: Document) -> None:
    """Says what is missing, and where it is, before anything is sent or asked for."""
    if provider == CUSTOM and settings["definition"] is None:
        raise click.UsageError(
            f"A {CUSTOM} source needs --definition FILE, which says how it verifies and maps. docs/guide/sources.md has "
            "some to begin with."
        )
    known = shipped_providers().get(provider)
    if known is not None and not known.secret_is_ours and not settings["secret"] and settings["definition"] is None:
        url = f"{broker.origin}/events/{full.removeprefix('sources/')}"
        raise click.UsageError(
            f"{known.title} makes the secret. {known.secret_where}\n"
            f"Say --secret - to be asked for it. The URL to enter there, with a proxy's host and port, is {url}"
        )


def _settings(
    *, secret: Sequence[str], definition: Path | None, keep_rejected: bool | None, label: Sequence[tuple[str, str]]
) -> Document:
    """Returns the settings that were given, as the API has them."""
    given: Document = {}
    if definition is not None:
        # Imported here because no other command reads one.
        from certes_broker.cli.source_definition import read_definition  # noqa: PLC0415

        given |= read_definition(definition)
    if secret:
        given["secrets"] = [_asked(each) for each in secret]
    if keep_rejected is not None:
        given["keepRejected"] = keep_rejected
    if label:
        given["labels"] = dict(label)
    return given


def _asked(secret: str) -> str:
    """Returns a secret, which is asked for where `-` stands for it: so it need not stand in the shell's history."""
    return str(click.prompt("Secret", hide_input=True, err=True)) if secret == "-" else secret


def _url(broker: Broker, source: Document) -> str:
    return f"{broker.origin}{source['path']}"


def _made(secret: str) -> str:
    return f"{secret}   (made now, and not shown again)" if secret else ""


def _audience(source: Document) -> str:
    if "subscriber" in source:
        return f"subscribers/{source['subscriber']}"
    return "everyone" if source.get("everyone") else "subscriber_in_payload"


def _document(broker: Broker, source: Document) -> Document:
    return source | {"url": _url(broker, source)}


def _print_source(broker: Broker, source: Document, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(broker, source))
        return
    print_facts(
        [
            ("name", source["name"]),
            ("provider", source["provider"]),
            ("audience", _audience(source)),
            ("URL", _url(broker, source)),
            ("secrets", str(source.get("secretCount", 0))),
            ("signature", ", ".join(source.get("signature", {}))),
            ("event type", source.get("mapping", {}).get("type", "")),
            ("rejected", "kept" if source.get("keepRejected") else "dropped"),
            ("declared", "in the configuration" if source.get("configured") else ""),
            ("labels", ", ".join(f"{key}={value}" for key, value in sorted(source.get("labels", {}).items()))),
            ("created", source.get("createTime", "")),
            ("changed", source.get("updateTime", "")),
            ("etag", source.get("etag", "")),
        ]
    )
