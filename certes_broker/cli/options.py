"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from certes_broker.cli.connect import Broker
from certes_broker.config.quantities import Unfit, parse_duration
from certes_broker.domain.errors import CertesError
from certes_broker.domain.names import DEFAULT_SUBSCRIBER, parse_id
from certes_broker.domain.uris import parse_gateway_uri

C = TypeVar("C", bound=Callable[..., Any])

DEFAULT_BROKER: Final = "127.0.0.1:9600"
DEFAULT_CONFIG_FILE: Final = Path("certes.toml")
_SCHEMES: Final = ("events", "http", "https")


class BrokerType(click.ParamType[Broker]):
    """The address of a gateway: `HOST[:PORT]`, `events://HOST[:PORT]`, `http://HOST[:PORT]` or, with TLS, `https://HOST[:PORT]`."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Broker:
        if isinstance(value, Broker):
            return value
        scheme, parted, address = str(value).partition("://")
        bare = address if parted and scheme in _SCHEMES else str(value)
        try:
            return Broker(parse_gateway_uri(f"events://{bare.removesuffix('/')}"), tls=scheme == "https")
        except CertesError as error:
            self.fail(
                f"{value!r} is no address of a gateway: {error.metadata.get('problem', error.message)}.", param, ctx
            )


class DurationType(click.ParamType[float]):
    """A duration such as `24h`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else parse_duration(str(value))
        except Unfit as error:
            self.fail(str(error), param, ctx)


class TimeType(click.ParamType[str]):
    """A time such as `2026-11-27T12:00:00Z` (RFC 3339), as the JSON API has it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(f"wants a time with its zone, such as 2026-11-27T12:00:00Z, not {value!r}.", param, ctx)
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


class SubscriberType(click.ParamType[str]):
    """The id of a subscriber."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return parse_id(str(value))
        except CertesError as error:
            self.fail(str(error), param, ctx)


def broker_option(command: C) -> C:
    """Adds `--broker`, `--token` and `--certificate`; the command gets a `Broker`."""
    for name, variable, meaning in (
        ("--certificate-key", "CERTES_CERTIFICATE_KEY", "The key of that certificate, if it is in another file."),
        (
            "--certificate",
            "CERTES_CERTIFICATE",
            "A certificate of your own (PEM), to be shown where the broker asks for one.",
        ),
    ):
        command = click.option(
            name,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            envvar=variable,
            show_envvar=True,
            is_eager=True,
            expose_value=False,
            callback=_keep,
            help=meaning,
        )(command)
    with_token = click.option(
        "--token",
        envvar="CERTES_TOKEN",
        show_envvar=True,
        metavar="KEY",
        is_eager=True,
        expose_value=False,
        callback=_keep_token,
        help="An API key, or a token of the broker's issuer. Better given as the variable: others see command lines.",
    )
    return click.option(
        "--broker",
        callback=_shown_to,
        type=BrokerType(),
        default=DEFAULT_BROKER,
        show_default=True,
        envvar="CERTES_BROKER",
        show_envvar=True,
        help="The broker's HTTP address; with https:// in front, over TLS.",
    )(with_token(command))


_OPTION: Final = "certes_broker.cli."
_TOKEN: Final = f"{_OPTION}token"


def _keep_token(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    token = (value or "").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise click.BadParameter("it has characters that no header can carry.", ctx, param)
    ctx.meta[_TOKEN] = token


def _keep(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    ctx.meta[f"{_OPTION}{param.name}"] = value


def _shown_to(ctx: click.Context, param: click.Parameter, value: Broker) -> Broker:
    token: str = ctx.meta.get(_TOKEN, "")
    certificate: Path | None = ctx.meta.get(f"{_OPTION}certificate")
    key: Path | None = ctx.meta.get(f"{_OPTION}certificate_key")
    if certificate is not None and not value.speaks_tls:
        raise click.BadParameter(
            f"a certificate is shown over TLS only. Name it as https://{value.uri.authority}.", ctx, param
        )
    if certificate is None and key is not None:
        raise click.BadParameter("--certificate-key is of no use without --certificate.", ctx, param)
    if token and value.shows_in_clear:
        raise click.BadParameter(
            f"the key would travel to {value.uri.authority} in clear. Name it as https://{value.uri.authority}.",
            ctx,
            param,
        )
    return value.showing(token, None if certificate is None else (certificate, key))


def subscription_name(name: str, subscriber: str) -> str:
    """Returns the whole name of a subscription of which that was given, or its id."""
    return name if "/" in name else f"subscribers/{subscriber}/subscriptions/{name}"


def json_option(command: C) -> C:
    """Adds `--json`; the command gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def subscriber_option(command: C) -> C:
    """Adds `--subscriber`, which has a default."""
    return click.option(
        "--subscriber",
        type=SubscriberType(),
        default=DEFAULT_SUBSCRIBER,
        show_default=True,
        help="Whose: your own id of the subscriber.",
    )(command)


def config_option(command: C) -> C:
    """Adds `--config`; the command gets `config_file`, None if it was not given."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="CERTES_CONFIG",
        show_envvar=True,
        help=f"The configuration file.  [default: ./{DEFAULT_CONFIG_FILE}, if there is one]",
    )(command)


def matching_options(command: C) -> C:
    """Adds `--option NAME=VALUE`, given as often as needed; the command gets `option`."""
    return click.option(
        "--option",
        multiple=True,
        metavar="NAME=VALUE",
        help="Only events whose schema declares this option and has this value, such as repo=meetly/meetly. Repeatable.",
    )(command)


def filter_option(command: C) -> C:
    """Adds `--filter`; the command gets `filter_text`, None if it was not given."""
    return click.option(
        "--filter",
        "filter_text",
        metavar="CEL",
        help="Only events for which this CEL expression is true, over `event` and its `data`: 'data.size > 100'.",
    )(command)


def existing_config(config_file: Path | None) -> Path | None:
    """Returns the file that was named, else the default one if it exists."""
    if config_file is None and DEFAULT_CONFIG_FILE.exists():
        return DEFAULT_CONFIG_FILE
    return config_file


def settings_environment() -> dict[str, str]:
    """Returns the environment as settings read it."""
    return dict(os.environ)


def parse_matching(pairs: Sequence[str]) -> dict[str, str]:
    """Reads `NAME=VALUE` pairs. Raises `click.BadParameter`."""
    options: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not of the form NAME=VALUE.", param_hint="--option")
        if name in options:
            raise click.BadParameter(f"{name} is given twice; all options must match at once.", param_hint="--option")
        options[name] = value
    return options
