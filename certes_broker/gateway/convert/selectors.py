"""Selectors and filters of subscriptions, stored and ephemeral."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from certes.v1 import subscription_pb2 as pb
from certes_broker.domain.errors import Reason
from certes_broker.domain.matching import Selector
from certes_broker.domain.uris import TypePattern, parse_pattern
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.limits import MAXIMUM_FILTER, MAXIMUM_OPTIONS, MAXIMUM_SELECTORS

CheckSelector = Callable[[TypePattern, Mapping[str, str]], None]
"""Raises `Invalid` (UNKNOWN_OPTION, FIELD_INVALID) if no event of a type that the pattern matches has these options."""


def read_selectors(
    faults: Faults,
    path: str,
    messages: Sequence[pb.Selector],
    check: CheckSelector,
    known: Collection[Selector] = (),
) -> tuple[Selector, ...]:
    """Returns selectors, without those that are at fault.

    Those among `known` are not checked again: a schema may have changed since they were made, and who renames a label
    must not be held up by it.
    """
    if not messages:
        faults.required(path, "needs at least one selector")
    if len(messages) > MAXIMUM_SELECTORS:
        faults.invalid(path, f"has {len(messages)} selectors; {MAXIMUM_SELECTORS} are allowed")
        return ()
    selectors = []
    for index, message in enumerate(messages):
        selector = _read_selector(faults, f"{path}[{index}]", message)
        if selector is None:
            continue
        selectors.append(selector)
        if selector not in known:
            with faults.at(f"{path}[{index}].options"):
                check(selector.pattern, dict(selector.options))
    return tuple(selectors)


def read_filter(faults: Faults, path: str, text: str) -> str:
    """Returns a filter, which has yet to be checked against schemas; empty if there is none, or it is at fault."""
    if len(text) > MAXIMUM_FILTER:
        description = f"has {len(text)} characters; {MAXIMUM_FILTER} are allowed"
        faults.add(Reason.FILTER_INVALID, path, description, limit=str(MAXIMUM_FILTER))
        return ""
    return text


def selector_message(selector: Selector) -> pb.Selector:
    """Returns the message of a selector."""
    return pb.Selector(pattern=selector.pattern.text, options=dict(selector.options))


def _read_selector(faults: Faults, path: str, message: pb.Selector) -> Selector | None:
    if not message.pattern:
        faults.required(f"{path}.pattern")
        return None
    pattern: TypePattern | None = None
    with faults.at(f"{path}.pattern"):
        pattern = parse_pattern(message.pattern)
    if len(message.options) > MAXIMUM_OPTIONS:
        faults.invalid(f"{path}.options", f"has {len(message.options)} options; {MAXIMUM_OPTIONS} are allowed")
        return None
    for name, value in message.options.items():
        if not value:
            # An event whose field is empty does not have the option: such a selector would be silent for ever.
            faults.invalid(f"{path}.options[{name!r}]", "is empty, and no event matches that")
    return None if pattern is None else Selector(pattern, tuple(sorted(message.options.items())))
