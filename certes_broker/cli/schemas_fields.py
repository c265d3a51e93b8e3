"""How one schema is shown to a person: what it is, and the tree of its fields."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import click

from certes_broker.cli.connect import Document
from certes_broker.cli.output import print_facts, print_table


def print_schema(answer: Document) -> None:
    """Prints a `GetSchemaResponse`."""
    schema = answer["schema"]
    print_facts(
        [
            ("type", schema["type"]),
            ("revision", schema["revision"]),
            ("registered", schema.get("registerTime", "")),
            ("origin", origin(schema)),
            ("message", schema["message"]),
            ("file", schema.get("file", "")),
            ("options", "\n".join(_option(option) for option in schema.get("options", []))),
            ("meaning", schema.get("comment", "")),
        ]
    )
    messages = answer.get("messages", [])
    if messages:
        click.echo()
        tree = _Tree({message["name"]: message for message in messages}, _package(schema["message"]))
        rows = list(tree.rows(messages[0]["name"], 0))
        print_table(("FIELD", "TYPE", "MEANING"), rows, empty="It has no fields.")


def origin(schema: Document) -> str:
    """Says where a schema comes from, as a person would."""
    return str(schema.get("origin", "")).removeprefix("ORIGIN_").lower()


def first_sentence(comment: str) -> str:
    """Returns what a comment says first."""
    return re.split(r"(?<=[.!?])\s|\n\n", comment, maxsplit=1)[0].replace("\n", " ")


@dataclass(slots=True)
class _Tree:
    """The messages of a schema, by name. What was told once is not told again, so that a circle has an end."""

    messages: Mapping[str, Document]
    package: str
    told: set[str] = field(default_factory=set)

    def rows(self, name: str, depth: int) -> Iterator[tuple[str, str, str]]:
        self.told.add(name)
        for each in self.messages[name].get("fields", []):
            inner = _message_name(each) if each.get("described") else ""
            meaning = " ".join(each.get("comment", "").split())
            if inner in self.told:
                meaning = f"{meaning} (Its fields are above.)".strip()
            if values := each.get("enumValues"):
                meaning = f"{meaning} One of {', '.join(values)}.".strip()
            yield "  " * depth + each["name"], self._type(each), meaning
            if inner in self.messages and inner not in self.told:
                yield from self.rows(inner, depth + 1)

    def _type(self, each: Document) -> str:
        text = each["type"].replace(f"{self.package}.", "") if self.package else each["type"]
        if each.get("repeated"):
            text = f"repeated {text}"
        elif each.get("optional") and not each.get("oneof") and ("." not in each["type"] or each.get("enumValues")):
            # Of messages absence can always be told.
            text = f"optional {text}"
        return f"{text} (one of {each['oneof']})" if each.get("oneof") else text


_MAP: Final = re.compile(r"map<.*, (?P<value>.*)>")


def _message_name(each: Document) -> str:
    match = _MAP.fullmatch(each["type"])
    return str(each["type"] if match is None else match["value"])


def _package(message: str) -> str:
    return message.rpartition(".")[0]


def _option(option: Document) -> str:
    return f"{option['name']} = {option['field']} ({option.get('fieldType', '')})"
