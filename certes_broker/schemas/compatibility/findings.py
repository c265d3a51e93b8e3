"""The changes that were found between two versions, on their way to being a comparison."""

from __future__ import annotations

from typing import Final

from certes_broker.domain.schemas import SchemaChange
from certes_broker.schemas.compatibility.rules import RULES, Rule


class Findings:
    """Gathers changes. What a change means is said by its rule alone."""

    def __init__(self) -> None:
        self._changes: Final[list[SchemaChange]] = []

    def add(self, rule: Rule, element: str, before: str = "", after: str = "") -> None:
        """Adds a change; `before` and `after` are as a `.proto` file has them, empty for nothing."""
        text = RULES[rule]
        description = f"{text.what} {text.instead}" if text.instead else text.what
        self._changes.append(SchemaChange(rule.value, element, before, after, text.breaking, description))

    def sorted(self) -> tuple[SchemaChange, ...]:
        """Returns the changes: breaking ones first, then by element."""
        return tuple(sorted(self._changes, key=_order))


def _order(change: SchemaChange) -> tuple[bool, str, str, str, str]:
    return not change.breaking, change.element, change.rule, change.before, change.after
