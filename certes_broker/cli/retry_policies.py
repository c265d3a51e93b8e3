"""Retry policies on the command line: one text for each, such as `exponential:5s,maximum=1h,attempts=10`.

    exponential:INITIAL[,multiplier=N][,maximum=DURATION]
    linear:INITIAL[,increment=DURATION][,maximum=DURATION]
    logarithmic:INITIAL[,scale=DURATION][,maximum=DURATION]
    schedule:WAIT/WAIT/…

and for each of them `attempts=N`, `duration=DURATION` and `jitter=SHARE`. The waits of a schedule are those after each failure; the
first attempt is made at once. Bounds are the broker's to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from certes_broker.cli.connect import Document
from certes_broker.config.quantities import Unfit, format_duration, parse_duration

_EXAMPLE: Final = "exponential:5s,maximum=1h,attempts=10 or schedule:5s/5m/1h"


class RetryPolicyType(click.ParamType[Document]):
    """A retry policy, as the JSON API has it."""

    name = "policy"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Document:
        try:
            return value if isinstance(value, dict) else parse_retry_policy(str(value))
        except Unfit as error:
            self.fail(str(error), param, ctx)


def parse_retry_policy(text: str) -> Document:
    """Reads a policy. Raises `Unfit`."""
    kind, parted, rest = text.partition(":")
    if not parted or kind not in _OWN:
        raise Unfit(f"wants a policy such as {_EXAMPLE}, not {text!r}")
    first, *settings = rest.split(",")
    policy: Document = {}
    if kind == "schedule":
        backoff: Document = {"delays": ["0s", *map(_wire, first.split("/"))] if first else ["0s"]}
    else:
        backoff = {"initial": _wire(first)}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key in _OWN[kind]:
            backoff[key] = _number(value) if key == "multiplier" else _wire(value)
        elif key in _SHARED:
            name, read = _SHARED[key]
            policy[name] = read(value)
        else:
            raise Unfit(f"knows no {key!r} with {kind}: {', '.join((*_OWN[kind], *_SHARED))} can be said")
    return {kind: backoff, **policy}


def spell_retry_policy(policy: Document) -> str:
    """Spells a policy of the JSON API as `parse_retry_policy` reads it."""
    kind = next(kind for kind in _OWN if kind in policy)
    backoff = policy[kind]
    if kind == "schedule":
        parts = ["/".join(_spelled(wait) for wait in backoff.get("delays", ())[1:])]
    else:
        parts = [_spelled(backoff["initial"])]
        parts += [
            f"{key}={backoff[key]:g}" if key == "multiplier" else f"{key}={_spelled(backoff[key])}"
            for key in _OWN[kind]
            if key in backoff
        ]
    for key, (name, _) in _SHARED.items():
        if name in policy:
            value = policy[name]
            parts.append(f"{key}={_spelled(value) if isinstance(value, str) else format(value, 'g')}")
    return f"{kind}:{','.join(parts)}"


def wire_duration(seconds: float) -> str:
    """Spells seconds as JSON has durations."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def _wire(text: str) -> str:
    return wire_duration(parse_duration(text))


def _spelled(wire: str) -> str:
    return format_duration(float(wire.removesuffix("s")))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise Unfit(f"wants a number, not {text!r}") from error


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise Unfit(f"wants a whole number, not {text!r}")
    return int(text)


_OWN: Final[Mapping[str, tuple[str, ...]]] = {
    "exponential": ("multiplier", "maximum"),
    "linear": ("increment", "maximum"),
    "logarithmic": ("scale", "maximum"),
    "schedule": (),
}
"""What can be said of each kind of back-off."""
_SHARED: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "attempts": ("maxAttempts", _whole),
    "duration": ("maxDuration", _wire),
    "jitter": ("jitter", _number),
}
"""What can be said of all, and how the contract calls it."""
