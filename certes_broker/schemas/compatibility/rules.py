"""The rules by which a change is judged: names here, everything said about them in `rules.toml`.

`rules.toml` is the one table. The broker's verdicts and texts come from it, `docs/reference/compatibility.md` is written from it,
and the tests compile the examples of that page and compare them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final


@unique
class Rule(StrEnum):
    """Names every rule. Stable: programs switch on these."""

    EVENT_TYPE_ADDED = "EVENT_TYPE_ADDED"
    EVENT_TYPE_REMOVED = "EVENT_TYPE_REMOVED"
    EVENT_MESSAGE_CHANGED = "EVENT_MESSAGE_CHANGED"
    SUBSCRIPTION_OPTION_ADDED = "SUBSCRIPTION_OPTION_ADDED"
    SUBSCRIPTION_OPTION_REMOVED = "SUBSCRIPTION_OPTION_REMOVED"
    SUBSCRIPTION_OPTION_RETARGETED = "SUBSCRIPTION_OPTION_RETARGETED"

    MESSAGE_ADDED = "MESSAGE_ADDED"
    MESSAGE_REMOVED = "MESSAGE_REMOVED"
    MESSAGE_SET_CHANGED = "MESSAGE_SET_CHANGED"

    FIELD_ADDED = "FIELD_ADDED"
    FIELD_REQUIRED_ADDED = "FIELD_REQUIRED_ADDED"
    FIELD_REMOVED = "FIELD_REMOVED"
    FIELD_NUMBER_CHANGED = "FIELD_NUMBER_CHANGED"
    FIELD_NAME_CHANGED = "FIELD_NAME_CHANGED"
    FIELD_JSON_NAME_CHANGED = "FIELD_JSON_NAME_CHANGED"
    FIELD_TYPE_CHANGED = "FIELD_TYPE_CHANGED"
    FIELD_CARDINALITY_CHANGED = "FIELD_CARDINALITY_CHANGED"
    FIELD_PRESENCE_CHANGED = "FIELD_PRESENCE_CHANGED"
    FIELD_ONEOF_CHANGED = "FIELD_ONEOF_CHANGED"
    FIELD_DEFAULT_CHANGED = "FIELD_DEFAULT_CHANGED"
    FIELD_DELIMITING_CHANGED = "FIELD_DELIMITING_CHANGED"
    FIELD_UTF8_CHANGED = "FIELD_UTF8_CHANGED"
    FIELD_PACKING_CHANGED = "FIELD_PACKING_CHANGED"

    RESERVATION_ADDED = "RESERVATION_ADDED"
    RESERVATION_REMOVED = "RESERVATION_REMOVED"
    RESERVED_NUMBER_REUSED = "RESERVED_NUMBER_REUSED"
    RESERVED_NAME_REUSED = "RESERVED_NAME_REUSED"

    ENUM_ADDED = "ENUM_ADDED"
    ENUM_REMOVED = "ENUM_REMOVED"
    ENUM_VALUE_ADDED = "ENUM_VALUE_ADDED"
    ENUM_VALUE_REMOVED = "ENUM_VALUE_REMOVED"
    ENUM_VALUE_NUMBER_CHANGED = "ENUM_VALUE_NUMBER_CHANGED"
    ENUM_VALUE_NAME_CHANGED = "ENUM_VALUE_NAME_CHANGED"
    ENUM_ALIAS_ADDED = "ENUM_ALIAS_ADDED"
    ENUM_FIRST_VALUE_CHANGED = "ENUM_FIRST_VALUE_CHANGED"
    ENUM_OPENNESS_CHANGED = "ENUM_OPENNESS_CHANGED"

    VALIDATION_ADDED = "VALIDATION_ADDED"
    VALIDATION_CHANGED = "VALIDATION_CHANGED"
    VALIDATION_REMOVED = "VALIDATION_REMOVED"
    JSON_FORMAT_ALLOWED = "JSON_FORMAT_ALLOWED"
    JSON_FORMAT_WITHDRAWN = "JSON_FORMAT_WITHDRAWN"

    EXTENSION_RANGE_ADDED = "EXTENSION_RANGE_ADDED"
    EXTENSION_RANGE_REMOVED = "EXTENSION_RANGE_REMOVED"
    EXTENSION_ADDED = "EXTENSION_ADDED"
    EXTENSION_REMOVED = "EXTENSION_REMOVED"
    SERVICE_ADDED = "SERVICE_ADDED"
    SERVICE_REMOVED = "SERVICE_REMOVED"
    METHOD_ADDED = "METHOD_ADDED"
    METHOD_REMOVED = "METHOD_REMOVED"
    METHOD_CHANGED = "METHOD_CHANGED"

    PACKAGE_CHANGED = "PACKAGE_CHANGED"
    SYNTAX_CHANGED = "SYNTAX_CHANGED"
    ELEMENT_MOVED = "ELEMENT_MOVED"
    DEPRECATION_CHANGED = "DEPRECATION_CHANGED"
    COMMENT_CHANGED = "COMMENT_CHANGED"
    OPTION_CHANGED = "OPTION_CHANGED"


@dataclass(frozen=True, slots=True)
class Example:
    """A change that falls under a rule, as `.proto` text before and after it.

    `beside` are the other rules that it cannot help falling under, too.
    """

    title: str
    before: str
    after: str
    beside: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class RuleText:
    """What is said about a rule.

    `what` is a sentence about the change, `why` the reason for the verdict, `instead` what to do where it is breaking.
    """

    section: str
    breaking: bool
    what: str
    why: str
    instead: str
    examples: tuple[Example, ...]


def _read_table() -> Mapping[Rule, RuleText]:
    text = files(__package__).joinpath("rules.toml").read_text(encoding="utf-8")
    return MappingProxyType(
        {
            Rule(name): _rule_text(section, said)
            for section, rules in tomllib.loads(text).items()
            for name, said in rules.items()
        }
    )


def _rule_text(section: str, said: Mapping[str, Any]) -> RuleText:
    return RuleText(
        section=section,
        breaking=said["breaking"],
        what=said["what"],
        why=said["why"],
        instead=said.get("instead", ""),
        examples=tuple(
            Example(
                title=example["title"],
                before=example["before"],
                after=example["after"],
                beside=tuple(map(Rule, example.get("beside", ()))),
            )
            for example in said["examples"]
        ),
    )


RULES: Final = _read_table()
"""The table, in its own order. Complete: it has every rule."""
