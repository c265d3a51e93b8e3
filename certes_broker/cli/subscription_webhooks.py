"""What a webhook says to its receiver beside its events: headers of its owner's, the signature, and the question for consent."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click

from certes_broker.cli.connect import SUBSCRIPTION_SERVICE, Broker, Document
from certes_broker.cli.failures import ExitCode
from certes_broker.cli.options import DurationType, broker_option, json_option, subscriber_option, subscription_name
from certes_broker.cli.output import plain, print_facts, print_json

C = TypeVar("C", bound=Callable[..., Any])

_ASK: Final = "-"
_KINDS: Final = {"secret": "KIND_SECRET", "key-pair": "KIND_KEY_PAIR"}
_GRANTED: Final = "STATE_GRANTED"


class HeaderType(click.ParamType[tuple[str, str]]):
    """A header, `NAME: VALUE`."""

    name = "name: value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, colon, text = str(value).partition(":")
        if not colon or not name.strip() or not text.strip():
            # The value is not repeated: it may be a credential that was written without a colon.
            self.fail("a header is of the form 'NAME: VALUE'.", param, ctx)
        return name.strip().lower(), text.strip()


def header_option(command: C) -> C:
    """Adds `--header`, given as often as needed; the command gets `header`."""
    return click.option(
        "--header",
        type=HeaderType(),
        multiple=True,
        metavar="'NAME: VALUE'",
        help="A header of each of its webhooks, such as 'authorization: -'; a value of - is asked for. Repeatable.",
    )(command)


def removed_header_option(command: C) -> C:
    """Adds `--remove-header`, given as often as needed; the command gets `removed`."""
    return click.option(
        "--remove-header",
        "removed",
        multiple=True,
        metavar="NAME",
        help="A header that its webhooks are to have no more. Repeatable.",
    )(command)


def consent_option(command: C) -> C:
    """Adds `--require-consent`; the command gets `require_consent`, None if nothing was said."""
    return click.option(
        "--require-consent/--no-require-consent",
        default=None,
        help="Send nothing until the receiver consents by the handshake of CloudEvents.",
    )(command)


def with_headers(
    known: Mapping[str, str], given: Sequence[tuple[str, str]], removed: Sequence[str]
) -> Mapping[str, str]:
    """Returns the headers that a webhook is to have. Those that are known have no values, which keeps them as they are.

    Raises `click.UsageError` for one to be removed that is not there.
    """
    headers = dict(known)
    for name in removed:
        if headers.pop(name.lower(), None) is None:
            raise click.UsageError(f"Its webhooks have no header {name.lower()!r} that could be removed.")
    for name, value in given:
        headers[name] = str(click.prompt(name, hide_input=True, err=True)) if value == _ASK else value
    return headers


def spell_secret(secret: Document) -> str:
    """Spells what verifies signatures, and until when it does. Who lacks the role is not told what it is."""
    told = secret.get("secret", "a secret, which the role subscriptions:secrets shows")
    return f"{told} until {secret['expireTime']}" if "expireTime" in secret else str(told)


def spell_consent(webhook: Document) -> str:
    """Says what a webhook's receiver has said to being sent anything; nothing if nobody asks it."""
    if not webhook.get("requireConsent"):
        return ""
    consent: Document = webhook.get("consent", {})
    word = consent.get("state", "").removeprefix("STATE_").lower()
    since = f"since {consent['time']}" if "time" in consent else ""
    rate = f"{consent['allowedPerMinute']} requests a minute" if "allowedPerMinute" in consent else ""
    return " · ".join(filter(None, (word, since, rate, consent.get("reason", ""))))


@click.command("rotate-secret")
@click.argument("name")
@subscriber_option
@click.option(
    "--kind",
    type=click.Choice(list(_KINDS)),
    help="A secret (signatures v1), or a key pair whose public key verifies (v1a).  [default: as the newest is]",
)
@click.option(
    "--overlap", type=DurationType(), default="24h", show_default=True, help="How long the old ones go on signing."
)
@json_option
@broker_option
def rotate_secret(
    *, name: str, subscriber: str, kind: str | None, overlap: float, as_json: bool, broker: Broker
) -> None:
    """Sign its webhooks with a new secret, or key pair. The old ones sign beside it for a while, so that receivers can follow.

    \b
    Example:
      certes subscriptions rotate-secret billing --kind key-pair --overlap 7d
    """  # noqa: D301  click itself reads the backspace: what follows is not to be wrapped
    full = subscription_name(name, subscriber)
    request: Document = {"name": full, "overlap": f"{overlap:.3f}s"}
    if kind is not None:
        request["kind"] = _KINDS[kind]
    answer = broker.call(SUBSCRIPTION_SERVICE, "RotateSecret", request, doing=f"Rotating the secret of {full}")
    if as_json:
        print_json(answer["secrets"])
        return
    newest, *others = answer["secrets"]
    click.echo(f"The webhooks of {full} are signed anew.\n")
    print_facts([("verify with", spell_secret(newest)), ("until they end", "\n".join(map(spell_secret, others)))])


@click.command("test")
@click.argument("name")
@subscriber_option
@json_option
@broker_option
def check_receiver(*, name: str, subscriber: str, as_json: bool, broker: Broker) -> None:
    """Send its webhook one signed test request, now, and say what came of it. Fails unless the receiver answers 2xx.

    Nothing is stored, and nothing tried again.
    """
    full = subscription_name(name, subscriber)
    answer = broker.call(SUBSCRIPTION_SERVICE, "TestSubscription", {"name": full}, doing=f"Testing {full}")
    is_success = answer.get("success", False)
    status, error = answer.get("status"), answer.get("error", "")
    seconds = str(answer.get("duration", "0s")).removesuffix("s")
    what = f"answered HTTP {status} in {seconds} s" if status else f"did not answer: {error}"
    said = b64decode(answer.get("answer", "")).decode("utf-8", "replace")
    if as_json:
        print_json(answer)
    elif is_success:
        click.echo(f"The receiver of {full} {what}.")
    if not is_success:
        click.echo(plain(f"The receiver of {full} {what}."), err=True)
        if said:
            click.echo(plain(said), err=True)
        raise click.exceptions.Exit(ExitCode.REFUSED)


@click.command("request-consent")
@click.argument("name")
@subscriber_option
@json_option
@broker_option
def request_consent(*, name: str, subscriber: str, as_json: bool, broker: Broker) -> None:
    """Ask its receiver for its consent, now, whatever it has said before. Fails if it does not give it."""
    full = subscription_name(name, subscriber)
    doing = f"Asking the receiver of {full}"
    webhook = broker.call(SUBSCRIPTION_SERVICE, "RequestConsent", {"name": full}, doing=doing)["subscription"][
        "webhook"
    ]
    is_granted = webhook["consent"]["state"] == _GRANTED
    if as_json:
        print_json(webhook["consent"])
    elif is_granted:
        click.echo(f"The receiver of {full} consents.")
    if not is_granted:
        reason = webhook["consent"].get("reason", "")
        click.echo(plain(f"The receiver of {full} does not consent. {reason}"), err=True)
        raise click.exceptions.Exit(ExitCode.REFUSED)
