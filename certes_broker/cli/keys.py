"""`certes keys`: makes, lists and revokes API keys."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

import click

from certes_broker.cli.connect import ADMIN_SERVICE, Broker, Document
from certes_broker.cli.options import DurationType, SubscriberType, broker_option, json_option
from certes_broker.cli.output import print_facts, print_json, print_table
from certes_broker.domain.access import ROLE_SETS, Role
from certes_broker.domain.api_keys import COLLECTION, SECRET_BYTES, parse_key_id, spell_key
from certes_broker.domain.errors import Invalid

ROLES: Final = (*ROLE_SETS, *(role.value for role in Role))


@click.group()
def keys() -> None:
    """Make, list and revoke API keys: what callers show to be known.

    A broker asks for them where its configuration has an operator's key, which has every role and makes the others.
    `certes keys generate` prints one. An ID is apiKeys/ID, or only the ID.
    """


@keys.command("generate")
@click.argument("key_id", metavar="ID", default="operator")
def generate_key(*, key_id: str) -> None:
    """Print a new key, of which no broker knows: for the operator, in the configuration.

    \b
    Example:
      export CERTES_AUTH_OPERATOR_KEY=$(certes keys generate)
      certes serve
    """  # noqa: D301  click itself reads the backspace: what follows is not to be wrapped
    try:
        click.echo(spell_key(parse_key_id(key_id), secrets.token_bytes(SECRET_BYTES)))
    except Invalid as error:
        raise click.BadParameter(f"{error}.", param_hint="ID") from None


@keys.command("create")
@click.argument("key_id", metavar="ID")
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice(ROLES),
    metavar="ROLE",
    help=f"What it may do. Repeatable. One of {', '.join(ROLES)}; the first {len(ROLE_SETS)} stand for several.",
)
@click.option(
    "--subscriber", "subscribers", multiple=True, type=SubscriberType(), help="Bind it to this subscriber. Repeatable."
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="SOURCE",
    help="Let it publish under this source only, or under all that begin with what stands before a last *. Repeatable.",
)
@click.option(
    "--type", "types", multiple=True, metavar="PATTERN", help="Bind it to event types of this pattern. Repeatable."
)
@click.option("--title", default="", help="What it is for.")
@click.option("--expires-in", type=DurationType(), metavar="DURATION", help="How long it is good, such as 90d.")
@json_option
@broker_option
def create_key(
    *,
    key_id: str,
    roles: tuple[str, ...],
    subscribers: tuple[str, ...],
    sources: tuple[str, ...],
    types: tuple[str, ...],
    title: str,
    expires_in: float | None,
    as_json: bool,
    broker: Broker,
) -> None:
    """Make a key, and print it once.

    Without --subscriber, --source or --type it reaches all of that kind; bound to subscribers, it publishes only under the
    sources that are named.

    \b
    Examples:
      certes keys create shop --role publisher --source '//shop/*'
      certes keys create org-1 --role subscriber --subscriber org_1
    """  # noqa: D301  the same
    bound = {"subscribers": subscribers, "sources": sources, "types": types}
    bindings = {kind: {"values": list(values)} for kind, values in bound.items() if values}
    key: Document = {"roles": list(roles), "title": title, **({"bindings": bindings} if bindings else {})}
    if expires_in is not None:
        key["expireTime"] = (datetime.now(UTC) + timedelta(seconds=expires_in)).isoformat().replace("+00:00", "Z")
    name = _full(key_id)
    request = {"apiKeyId": name.removeprefix(COLLECTION), "apiKey": key}
    answer = broker.call(ADMIN_SERVICE, "CreateApiKey", request, doing=f"Making {name}")
    if as_json:
        print_json(answer)
        return
    click.echo(f"Made {name}. This is the key; it is not shown again:\n")
    print_facts([("key", answer["key"]), *_facts(answer["apiKey"])])


@keys.command("list")
@json_option
@broker_option
def list_keys(*, as_json: bool, broker: Broker) -> None:
    """List the keys, without their secrets."""
    found = broker.pages(ADMIN_SERVICE, "ListApiKeys", "apiKeys", {}, doing="Listing keys")
    if as_json:
        print_json(found)
        return
    print_table(
        ("NAME", "TITLE", "ROLES", "BOUND TO", "EXPIRES"),
        [
            (key["name"], key.get("title", ""), " ".join(key.get("roles", ())), _bound(key), key.get("expireTime", ""))
            for key in found
        ],
        empty="There are no keys. `certes keys create` makes one.",
    )


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@broker_option
def revoke_key(*, key_id: str, broker: Broker) -> None:
    """Revoke a key: calls with it are refused from then on, and its streams end."""
    name = _full(key_id)
    broker.call(ADMIN_SERVICE, "DeleteApiKey", {"name": name}, doing=f"Revoking {name}")
    click.echo(f"Revoked {name}.")


def _full(text: str) -> str:
    return text if text.startswith(COLLECTION) else COLLECTION + text


def _facts(key: Document) -> list[tuple[str, str]]:
    facts = [
        ("roles", " ".join(key.get("roles", ()))),
        ("bound to", _bound(key)),
        ("expires", key.get("expireTime", "")),
    ]
    return [(name, fact) for name, fact in facts if fact]


def _bound(key: Document) -> str:
    bindings: Document = key.get("bindings", {})
    return "; ".join(f"{kind} {', '.join(bindings[kind].get('values', ())) or '(none)'}" for kind in bindings)
