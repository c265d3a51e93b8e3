"""From what is known of GitHub's payloads to messages: the fields of each, and the type of each field.

A field is of the one kind of JSON that it was ever seen or announced with; where there are several, it is a
`google.protobuf.Value`, which holds any. What GitHub leaves free is a map or a `google.protobuf.Struct`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from scripts.derive_github_evidence import Evidence
from scripts.derive_github_names import ANY, FREE, STRINGS, TYPES, event_message, field_name, message_name


@dataclass(slots=True)
class Field:
    """What is known of one field of a message, from all sources and all places where the message stands."""

    owner: str
    key: str
    """What payloads call it."""

    kinds: set[str] = field(default_factory=set)
    """The kinds of JSON it has had, of which null and absence are `is_missing` instead."""

    item_kinds: set[str] = field(default_factory=set)
    value_kinds: set[str] = field(default_factory=set)
    messages: set[str] = field(default_factory=set)
    """The messages of the objects seen here, or in a list here."""

    choices: dict[str, None] = field(default_factory=dict)
    is_missing: bool = False
    """Whether some object of the message lacked it, or had it null."""

    @property
    def name(self) -> str:
        """The field's name in the proto."""
        return field_name(self.key)

    @property
    def path(self) -> str:
        """The field as tables name it: `<message>.<key>`."""
        return f"{self.owner}.{self.key}"

    @property
    def type(self) -> str:
        """The type as a proto spells it, with `repeated`, without `optional`."""
        fixed = TYPES.get(self.path)
        if fixed is not None:
            return fixed
        if self.kinds == {"array"}:
            item = self._type_of(self.item_kinds)
            return f"repeated {ANY if item == STRINGS else item}"
        return self._type_of(self.kinds)

    def _type_of(self, kinds: set[str]) -> str:
        if kinds == {"object"}:
            if self.messages:
                return min(self.messages) if len(self.messages) == 1 else f"one of {sorted(self.messages)}"
            return STRINGS if self.value_kinds == {"string"} else FREE
        if kinds and kinds <= {"integer", "number"}:
            return _number(self.key)
        return _SCALARS.get(min(kinds), ANY) if len(kinds) == 1 else ANY


@dataclass(slots=True)
class Message:
    """What is known of one message."""

    name: str
    fields: dict[str, Field] = field(default_factory=dict)
    """By key, in the order of the payloads."""

    owners: set[str] = field(default_factory=set)
    """The messages that contain it."""

    event: str = ""
    """The event whose payload it is; empty where it is a part of others."""


class Messages:
    """Gathers messages from evidence."""

    def __init__(self) -> None:
        self.known: dict[str, Message] = {}
        self._seen: set[tuple[int, str]] = set()
        self._kept: list[Evidence] = []

    def add_payload(self, event: str, evidence: Evidence) -> None:
        """Takes what one source tells of the payloads of an event."""
        self._kept.append(evidence)  # so that no other evidence can come to have its identity
        name = event_message(event)
        self._add(name, evidence)
        self.known[name].event = event

    def _add(self, name: str, evidence: Evidence) -> None:
        is_new = name not in self.known
        message = self.known.setdefault(name, Message(name))
        if (id(evidence), name) in self._seen:
            return
        self._seen.add((id(evidence), name))
        always = evidence.always or frozenset()
        for key in dict.fromkeys((*message.fields, *evidence.fields)):
            one = message.fields.get(key)
            if one is None:
                # Where the message was met before without it, it was missing there.
                one = message.fields[key] = Field(name, key, is_missing=not is_new)
            one.is_missing |= key not in always
            for told in evidence.fields.get(key, ()):
                self._add_value(one, told)

    def _add_value(self, one: Field, told: Evidence) -> None:
        one.kinds |= _kinds(told)
        one.choices |= told.choices
        one.is_missing |= "null" in told.kinds
        one.value_kinds |= {kind for value in told.values for kind in _kinds(value)}
        self._add_object(one, told, in_list=False)
        for item in told.items:
            # A schema's null in a list is its author's caution; an example's was sent.
            one.item_kinds |= _kinds(item) if item.is_announced else item.kinds
            self._add_object(one, item, in_list=True)

    def _add_object(self, one: Field, told: Evidence, *, in_list: bool) -> None:
        fixed = TYPES.get(one.path)
        if not told.fields or (fixed is not None and not fixed.startswith("repeated ")) or (fixed or "").endswith(ANY):
            return
        name = message_name(one.owner, one.key, told, in_list=in_list)
        one.messages.add(name)
        self._add(name, told)
        self.known[name].owners.add(one.owner)


def gather(sources: Iterable[Iterator[tuple[str, Evidence]]]) -> dict[str, Message]:
    """Returns the messages of all events, by name, as several sources tell them."""
    messages = Messages()
    for source in sources:
        for event, evidence in source:
            messages.add_payload(event, evidence)
    return messages.known


def accepts(type_name: str, one: Field) -> bool:
    """Says whether a field of a type takes every value that was seen or announced for it."""
    fixed = TYPES.get(one.path)
    if type_name in {ANY, fixed}:
        return True
    if type_name.startswith("repeated "):
        item = type_name.removeprefix("repeated ")
        return one.kinds <= {"array"} and (item == ANY or all(_holds(item, kind, one) for kind in one.item_kinds))
    return all(_holds(type_name, kind, one) for kind in one.kinds)


def _holds(type_name: str, kind: str, one: Field) -> bool:
    match kind:
        case "string":
            return type_name == "string"
        case "boolean":
            return type_name == "bool"
        case "integer" | "number":
            return type_name in {"int32", "int64", "double"}
        case "object":
            return type_name in {FREE, STRINGS} or one.messages <= {type_name}
        case _:
            return type_name == ANY


def _kinds(told: Evidence) -> set[str]:
    return (told.kinds or {"any"}) - {"null"}


_SCALARS: Final = {"string": "string", "boolean": "bool"}
_FRACTIONS: Final = frozenset(("score", "percentage", "percentile"))
_COUNTS: Final = re.compile(
    "comments|commits|additions|deletions|changed_files|forks|watchers|stargazers|open_issues|closed_issues|total|completed"
    "|percent_completed|code|run_attempt|total_.*|blocked_by|blocking|.*_count|(.*_)?(line|position|column|number)"
)


def _number(key: str) -> str:
    """Returns the type of a number. What counts a few fits in 32 bits; ids, sizes and prices may not."""
    if key in _FRACTIONS:
        return "double"
    return "int32" if _COUNTS.fullmatch(key) else "int64"
