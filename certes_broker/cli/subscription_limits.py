"""What a subscription says of how much it gets, how fast, and what happens when a delivery fails: options, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from certes_broker.cli.connect import Document
from certes_broker.cli.retry_policies import parse_retry_policy, spell_retry_policy, wire_duration
from certes_broker.config.quantities import Unfit, format_duration, parse_duration

C = TypeVar("C", bound=Callable[..., Any])

DEFAULT: Final = "default"
"""What is said of an option to have the broker's default again."""


class OrDefaultType(click.ParamType[tuple[Any]]):
    """A value that a function reads, or `default`, which is None. In a tuple, so that it is not taken for an option left out."""

    name = "value"

    def __init__(self, read: Callable[[str], Any]) -> None:
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any]:
        if isinstance(value, tuple):
            return value
        try:
            return (None if value == DEFAULT else self._read(str(value)),)
        except Unfit as error:
            self.fail(f"{error}.", param, ctx)


def limit_options(command: C) -> C:
    """Adds the options; the command gets `retry`, `timeout`, `max_in_flight`, `rate_limit`, `priority` and `ack_deadline`."""
    for option in (
        click.option(
            "--ack-deadline",
            type=OrDefaultType(lambda text: wire_duration(parse_duration(text))),
            metavar="DURATION",
            help="How long a stream may keep a delivery unsettled before it is delivered again.  [default: 30s]",
        ),
        click.option(
            "--priority",
            type=OrDefaultType(_whole),
            metavar="0-9",
            help="Its part where webhooks compete: 9 gets ten times what 0 gets.  [default: 5]",
        ),
        click.option(
            "--rate-limit",
            type=OrDefaultType(parse_rate),
            metavar="N/TIME",
            help="How many of its requests may begin in a time, such as 5/s or 100/1m.",
        ),
        click.option(
            "--max-in-flight",
            type=OrDefaultType(_whole),
            metavar="N",
            help="How many of its requests may be under way at once.  [default: 32]",
        ),
        click.option(
            "--timeout",
            type=OrDefaultType(lambda text: wire_duration(parse_duration(text))),
            metavar="DURATION",
            help="How long an answer to a webhook may take.  [default: 15s]",
        ),
        click.option(
            "--retry",
            type=OrDefaultType(parse_retry_policy),
            metavar="POLICY",
            help="When a failed delivery is tried again: exponential:5s,maximum=1h,attempts=10; also linear:, logarithmic: and"
            " schedule:5s/5m/1h. With each: attempts=, duration=, jitter=.",
        ),
    ):
        command = option(command)
    return command


def said_limits(values: Mapping[str, tuple[Any] | None]) -> Mapping[str, Any]:
    """Returns what was said, by the path of the field; None for the default. What was not said is left out."""
    return {_PATHS[name]: value[0] for name, value in values.items() if value is not None}


def with_limits(subscription: Document, limits: Mapping[str, Any]) -> Document:
    """Returns a subscription with what was said of it, where that is not the default."""
    merged = dict(subscription)
    for path, value in limits.items():
        first, _, inner = path.partition(".")
        if value is not None:
            merged[first] = merged.get(first, {}) | {inner: value} if inner else value
    return merged


def limit_facts(subscription: Document) -> list[tuple[str, str]]:
    """Returns what is shown of a subscription's own limits."""
    webhook = subscription.get("webhook", {})
    rate, policy = webhook.get("rateLimit"), subscription.get("retryPolicy")
    return [
        ("timeout", webhook.get("timeout", "")),
        ("max in flight", str(webhook.get("maxInFlight", ""))),
        ("rate limit", "" if rate is None else spell_rate(rate)),
        ("priority", str(subscription.get("priority", ""))),
        ("retry", "" if policy is None else spell_retry_policy(policy)),
    ]


def parse_rate(text: str) -> Document:
    """Reads a rate such as `5/s` or `100/1m`. Raises `Unfit`."""
    count, parted, interval = text.partition("/")
    if not parted or not count.isdecimal():
        raise Unfit(f"wants a rate such as 5/s or 100/1m, not {text!r}")
    bare = interval.isalpha()
    return {"count": int(count), "interval": wire_duration(parse_duration(f"1{interval}" if bare else interval))}


def spell_rate(rate: Document) -> str:
    """Spells a rate as `parse_rate` reads it."""
    return f"{rate['count']}/{format_duration(float(rate['interval'].removesuffix('s')))}"


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise Unfit(f"wants a whole number, not {text!r}")
    return int(text)


_PATHS: Final = {
    "ack_deadline": "ackDeadline",
    "retry": "retryPolicy",
    "priority": "priority",
    "timeout": "webhook.timeout",
    "max_in_flight": "webhook.maxInFlight",
    "rate_limit": "webhook.rateLimit",
}
