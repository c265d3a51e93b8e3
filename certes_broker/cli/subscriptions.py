"""`certes subscriptions`: lists, shows, creates, changes and deletes subscriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from certes_broker.cli.connect import SUBSCRIPTION_SERVICE, Broker, Document
from certes_broker.cli.options import (
    SubscriberType,
    broker_option,
    filter_option,
    json_option,
    matching_options,
    parse_matching,
    subscriber_option,
    subscription_name,
)
from certes_broker.cli.output import print_facts, print_json, print_table
from certes_broker.cli.retry_policies import spell_retry_policy
from certes_broker.cli.seeking import seek_subscription
from certes_broker.cli.subscription_limits import limit_facts, limit_options, said_limits, with_limits
from certes_broker.cli.subscription_states import (
    delete_subscription,
    pause_subscription,
    restore_subscription,
    resume_subscription,
)
from certes_broker.cli.subscription_webhooks import (
    check_receiver,
    consent_option,
    header_option,
    removed_header_option,
    request_consent,
    rotate_secret,
    spell_consent,
    spell_secret,
    with_headers,
)

FORMATS: Final[Mapping[str, str]] = {
    "json": "FORMAT_CLOUDEVENTS_JSON",
    "binary": "FORMAT_CLOUDEVENTS_BINARY",
    "protobuf": "FORMAT_CLOUDEVENTS_PROTOBUF",
    "original": "FORMAT_ORIGINAL",
}
"""What `--format` takes, and how the contract spells it."""


@click.group()
def subscriptions() -> None:
    """List, show, create, change and delete subscriptions.

    A NAME is subscribers/SUBSCRIBER/subscriptions/ID, or only the ID beside --subscriber.
    """


subscriptions.add_command(rotate_secret)
subscriptions.add_command(request_consent)
subscriptions.add_command(seek_subscription)
subscriptions.add_command(check_receiver)
subscriptions.add_command(pause_subscription)
subscriptions.add_command(resume_subscription)
subscriptions.add_command(delete_subscription)
subscriptions.add_command(restore_subscription)


@subscriptions.command("list")
@click.option("--subscriber", type=SubscriberType(), help="Only this subscriber's.")
@click.option("--deleted", is_flag=True, help="Also deleted ones that can still be restored.")
@json_option
@broker_option
def list_subscriptions(*, subscriber: str | None, deleted: bool, as_json: bool, broker: Broker) -> None:
    """List subscriptions."""
    request: Document = {"parent": f"subscribers/{subscriber or '-'}", "showDeleted": deleted}
    doing = "Listing subscriptions"
    found = broker.pages(SUBSCRIPTION_SERVICE, "ListSubscriptions", "subscriptions", request, doing=doing)
    if as_json:
        print_json(found)
        return
    print_table(
        ("NAME", "STATE", "SELECTORS", "DELIVERY"),
        [(item["name"], _state(item), _selectors(item, "; "), _delivery(item)) for item in found],
        empty="There are no subscriptions. `certes subscriptions create` makes one.",
    )


@subscriptions.command("get")
@click.argument("name")
@subscriber_option
@click.option("--secrets", is_flag=True, help="Also the secrets that sign its webhooks.")
@json_option
@broker_option
def get_subscription(*, name: str, subscriber: str, secrets: bool, as_json: bool, broker: Broker) -> None:
    """Show one subscription."""
    full = subscription_name(name, subscriber)
    answer = broker.call(SUBSCRIPTION_SERVICE, "GetSubscription", {"name": full}, doing=f"Reading {full}")
    signing: list[Document] = []
    if secrets:
        doing = f"Reading the signing secrets of {full}"
        kept = broker.call(SUBSCRIPTION_SERVICE, "GetSigningSecrets", {"name": full}, doing=doing)
        signing = kept.get("secrets", [])
    if as_json:
        print_json(answer["subscription"] | ({"signingSecrets": signing} if secrets else {}))
        return
    _print_subscription(answer["subscription"], signing)


@subscriptions.command("create")
@click.argument("name")
@subscriber_option
@click.option("--pattern", multiple=True, required=True, help="Which event types. Repeatable; any of them matches.")
@matching_options
@filter_option
@click.option("--webhook", metavar="URL", help="Where the broker POSTs. Without it, streams fetch.")
@click.option(
    "--format", "body_format", type=click.Choice(list(FORMATS)), help="The form of a webhook's body.  [default: json]"
)
@header_option
@consent_option
@click.option(
    "--from",
    "start",
    type=click.Choice(["now", "beginning"]),
    default="now",
    show_default=True,
    help="Begin with what is accepted from now on, or with the earliest event that is kept.",
)
@limit_options
@json_option
@broker_option
def create_subscription(
    *,
    name: str,
    subscriber: str,
    pattern: tuple[str, ...],
    option: tuple[str, ...],
    filter_text: str | None,
    webhook: str | None,
    body_format: str | None,
    header: tuple[tuple[str, str], ...],
    require_consent: bool | None,
    start: str,
    as_json: bool,
    broker: Broker,
    **said: tuple[Any] | None,
) -> None:
    """Create a subscription. An --option narrows every --pattern.

    \b
    Example:
      certes subscriptions create billing --pattern 'events.meetly.com/_/1/*' \\
      --webhook https://example.com/hook
    """  # noqa: D301  click itself reads the backspace: what follows is not to be wrapped
    limits = said_limits(said)
    if webhook is None:
        if body_format is not None:
            raise click.UsageError("--format is about a webhook's body: give --webhook URL too.")
        if header or require_consent is not None or any(path.startswith("webhook.") for path in limits):
            raise click.UsageError(
                "--timeout, --max-in-flight, --rate-limit, --header and --require-consent are about a webhook: give --webhook URL"
                " too."
            )
    full = subscription_name(name, subscriber)
    parent, _, subscription_id = full.partition("/subscriptions/")
    wanted: Document = {"selectors": _selectors_of(pattern, option)}
    if filter_text is not None:
        wanted["filter"] = filter_text
    if webhook is None:
        wanted["stream"] = {}
    else:
        wanted["webhook"] = {"url": webhook, "format": FORMATS[body_format or "json"]}
        if header:
            wanted["webhook"]["headers"] = with_headers({}, header, ())
        if require_consent:
            wanted["webhook"]["requireConsent"] = True
    wanted = with_limits(wanted, limits)
    request: Document = {"parent": parent, "subscriptionId": subscription_id, "subscription": wanted}
    if start == "beginning":
        request["start"] = {"beginning": True}
    answer = broker.call(SUBSCRIPTION_SERVICE, "CreateSubscription", request, doing=f"Creating {full}")
    if as_json:
        print_json(answer["subscription"])
        return
    click.echo(f"Created {full}.")
    if webhook is not None:
        click.echo(f"Its webhooks are signed; `certes subscriptions get {full} --secrets` shows the secret.")
    if require_consent:
        click.echo(f"Its receiver is asked for its consent; `certes subscriptions get {full}` shows what it says.")


@subscriptions.command("update")
@click.argument("name")
@subscriber_option
@click.option("--pattern", multiple=True, help="Which event types, in the place of all that it has. Repeatable.")
@matching_options
@filter_option
@click.option("--webhook", metavar="URL", help="Where the broker POSTs from now on.")
@click.option("--format", "body_format", type=click.Choice(list(FORMATS)), help="The form of a webhook's body.")
@header_option
@removed_header_option
@consent_option
@limit_options
@click.option("--etag", help="Only if it is still as it was when this etag was read.")
@json_option
@broker_option
def update_subscription(
    *,
    name: str,
    subscriber: str,
    pattern: tuple[str, ...],
    option: tuple[str, ...],
    filter_text: str | None,
    webhook: str | None,
    body_format: str | None,
    header: tuple[tuple[str, str], ...],
    removed: tuple[str, ...],
    require_consent: bool | None,
    etag: str | None,
    as_json: bool,
    broker: Broker,
    **said: tuple[Any] | None,
) -> None:
    """Change what a subscription gets and where, how much, when it is tried again, and what its webhooks say. What is not named
    stays; `default` takes a setting back, an empty --filter the filter.

    \b
    Example:
      certes subscriptions update billing --rate-limit 5/s --retry default
    """  # noqa: D301  the same
    changes = dict(said_limits(said))
    if option and not pattern:
        raise click.UsageError("An --option narrows a --pattern: give all patterns that it is to have.")
    if pattern:
        changes["selectors"] = _selectors_of(pattern, option)
    if filter_text is not None:
        changes["filter"] = filter_text
    if webhook is not None:
        changes["webhook.url"] = webhook
    if body_format is not None:
        changes["webhook.format"] = FORMATS[body_format]
    if require_consent is not None:
        changes["webhook.requireConsent"] = require_consent
    full = subscription_name(name, subscriber)
    if header or removed:
        # Headers change as a whole, and are read without their values, which sending them back so leaves as they are.
        read = broker.call(SUBSCRIPTION_SERVICE, "GetSubscription", {"name": full}, doing=f"Reading {full}")[
            "subscription"
        ]
        changes["webhook.headers"] = with_headers(read.get("webhook", {}).get("headers", {}), header, removed)
        etag = etag or read["etag"]
    if not changes:
        raise click.UsageError("Name what is to change.")
    request: Document = {
        "subscription": with_limits({"name": full, "etag": etag or ""}, changes),
        "updateMask": ",".join(sorted(changes)),
    }
    answer = broker.call(SUBSCRIPTION_SERVICE, "UpdateSubscription", request, doing=f"Changing {full}")
    if as_json:
        print_json(answer["subscription"])
    else:
        _print_subscription(answer["subscription"], [])


@subscriptions.command("policies")
@click.argument("name")
@subscriber_option
@json_option
@broker_option
def list_policies(*, name: str, subscriber: str, as_json: bool, broker: Broker) -> None:
    """Show by which retry policies its deliveries are tried again.

    Of those whose TYPE and SOURCE are an event's, or empty, the first one holds.
    """
    full = subscription_name(name, subscriber)
    doing = f"Reading the retry policies of {full}"
    answer = broker.call(SUBSCRIPTION_SERVICE, "GetEffectiveRetryPolicy", {"name": full}, doing=doing)
    if as_json:
        print_json(answer["policies"])
        return
    print_table(
        ("FROM", "TYPE", "SOURCE", "POLICY"),
        [
            (
                _word(one["origin"], "ORIGIN_"),
                one.get("eventType", ""),
                one.get("source", ""),
                spell_retry_policy(one["retryPolicy"]),
            )
            for one in answer["policies"]
        ],
        empty="",
    )


def _selectors_of(patterns: Sequence[str], options: Sequence[str]) -> list[Document]:
    matching = parse_matching(options)
    return [{"pattern": each, "options": matching} for each in patterns]


def _print_subscription(subscription: Document, signing: Sequence[Document]) -> None:
    webhook = subscription.get("webhook", {})
    labels = subscription.get("labels", {})
    print_facts(
        [
            ("name", subscription["name"]),
            ("state", " · ".join(filter(None, (_state(subscription), subscription.get("stateReason"))))),
            ("selectors", _selectors(subscription, "\n")),
            ("filter", subscription.get("filter", "")),
            ("scope", _word(subscription.get("scope", ""), "SCOPE_")),
            ("delivery", _delivery(subscription)),
            ("format", _word(webhook.get("format", ""), "FORMAT_")),
            ("headers", ", ".join(sorted(webhook.get("headers", {})))),
            ("consent", spell_consent(webhook)),
            ("signing secrets", "\n".join(spell_secret(secret) for secret in signing)),
            *limit_facts(subscription),
            ("ack deadline", subscription.get("ackDeadline", "")),
            ("generation", str(subscription.get("generation", ""))),
            ("labels", "\n".join(f"{key}={value}" for key, value in sorted(labels.items()))),
            ("created", subscription.get("createTime", "")),
            ("updated", subscription.get("updateTime", "")),
            ("deleted", subscription.get("deleteTime", "")),
            ("etag", subscription.get("etag", "")),
        ]
    )


def _state(subscription: Document) -> str:
    return _word(subscription.get("state", ""), "STATE_")


def _word(constant: str, prefix: str) -> str:
    """Spells a constant of the contract as a person would: `STATE_ACTIVE` is `active`."""
    return constant.removeprefix(prefix).replace("_", " ").lower()


def _selectors(subscription: Document, separator: str) -> str:
    return separator.join(
        " ".join((selector["pattern"], *(f"{key}={value}" for key, value in selector.get("options", {}).items())))
        for selector in subscription.get("selectors", [])
    )


def _delivery(subscription: Document) -> str:
    return f"webhook {subscription['webhook']['url']}" if "webhook" in subscription else "stream"
