"""`certes backoffs`: default retry policies."""

from __future__ import annotations

from typing import Any

import click

from certes_broker.cli.connect import ADMIN_SERVICE, Broker, Document
from certes_broker.cli.options import broker_option, json_option
from certes_broker.cli.output import print_json, print_table
from certes_broker.cli.retry_policies import RetryPolicyType, spell_retry_policy
from certes_broker.domain.backoff_defaults import COLLECTION, parse_target
from certes_broker.domain.errors import Invalid


class TargetType(click.ParamType[str]):
    """What a default policy is for, as its name says it, with or without `backoffs/`."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            return parse_target(text if text.startswith(COLLECTION) else COLLECTION + text).name
        except Invalid as error:
            self.fail(f"{error}.", param, ctx)


target_argument = click.argument("name", metavar="TARGET", type=TargetType())


@click.group()
def backoffs() -> None:
    """Look at and set default retry policies: when failed deliveries are tried again.

    A TARGET is global; types/TYPE, for events of a type; or sources/SOURCE, for those whose source is so, such as
    sources/sources/github for the webhooks of the source github. A subscription's own policy comes before the default of the type,
    that before the one of the source, and that before the global one.
    """


@backoffs.command("list")
@json_option
@broker_option
def list_backoffs(*, as_json: bool, broker: Broker) -> None:
    """List the default policies."""
    found = broker.pages(ADMIN_SERVICE, "ListBackoffs", "backoffs", {}, doing="Listing default policies")
    if as_json:
        print_json(found)
        return
    print_table(
        ("TARGET", "POLICY", "SET"),
        [(_short(one), spell_retry_policy(one["retryPolicy"]), one.get("updateTime", "")) for one in found],
        empty="There are no default policies; `certes backoffs set` makes one. What is built in holds.",
    )


@backoffs.command("get")
@target_argument
@json_option
@broker_option
def get_backoff(*, name: str, as_json: bool, broker: Broker) -> None:
    """Show one default policy."""
    answer = broker.call(ADMIN_SERVICE, "GetBackoff", {"name": name}, doing=f"Reading {name}")
    if as_json:
        print_json(answer["backoff"])
    else:
        click.echo(spell_retry_policy(answer["backoff"]["retryPolicy"]))


@backoffs.command("set")
@target_argument
@click.argument("policy", type=RetryPolicyType())
@click.option("--etag", help="Only if it is still as it was when this etag was read.")
@json_option
@broker_option
def set_backoff(*, name: str, policy: Document, etag: str | None, as_json: bool, broker: Broker) -> None:
    """Set a default policy, in force from the next failure on.

    \b
    A POLICY is one of
      exponential:INITIAL[,multiplier=N][,maximum=DURATION]
      linear:INITIAL[,increment=DURATION][,maximum=DURATION]
      logarithmic:INITIAL[,scale=DURATION][,maximum=DURATION]
      schedule:WAIT/WAIT/…
    and may go on with ,attempts=N ,duration=DURATION ,jitter=SHARE.

    \b
    Examples:
      certes backoffs set global exponential:5s,maximum=1h,attempts=10
      certes backoffs set sources/sources/github schedule:1m/10m/1h
    """  # noqa: D301  click itself reads the backspace: what follows is not to be wrapped
    request: Document = {"backoff": {"name": name, "retryPolicy": policy, "etag": etag or ""}}
    answer = broker.call(ADMIN_SERVICE, "SetBackoff", request, doing=f"Setting {name}")
    if as_json:
        print_json(answer["backoff"])
    else:
        click.echo(f"Set {name} to {spell_retry_policy(answer['backoff']['retryPolicy'])}.")


@backoffs.command("delete")
@target_argument
@click.option("--etag", help="Only if it is still as it was when this etag was read.")
@click.option("--missing-ok", is_flag=True, help="Succeed if there is none.")
@broker_option
def delete_backoff(*, name: str, etag: str | None, missing_ok: bool, broker: Broker) -> None:
    """Delete a default policy. What is next in rank holds from the next failure on."""
    request: Document = {"name": name, "etag": etag or "", "allowMissing": missing_ok}
    broker.call(ADMIN_SERVICE, "DeleteBackoff", request, doing=f"Deleting {name}")
    click.echo(f"Deleted {name}.")


def _short(backoff: Document) -> str:
    return str(backoff["name"]).removeprefix(COLLECTION)
