"""What is known of GitHub's payloads: the example payloads, the JSON Schema, and GitHub's own OpenAPI document.

All three are read into one form, `Evidence`: which kinds of JSON were seen or are announced in one place, and what lies
within. Evidence of one place can be merged with evidence of another, whatever it came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = Any
"""What `json.load` returns."""


@dataclass(slots=True, eq=False)
class Evidence:
    """What one source shows of one place in a payload.

    Schemas contain themselves, so nothing is merged in depth here: a place has as many pieces of evidence as told of it.
    """

    kinds: set[str] = field(default_factory=set)
    """Of `string`, `integer`, `number`, `boolean`, `null`, `object`, `array`; empty where anything may stand."""

    fields: dict[str, list[Evidence]] = field(default_factory=dict)
    """What an object holds, by key."""

    always: frozenset[str] | None = None
    """The keys that every object has; None where there is no object."""

    items: list[Evidence] = field(default_factory=list)
    """What an array holds."""

    values: list[Evidence] = field(default_factory=list)
    """What an object holds whose keys are free; empty where they are not."""

    choices: dict[str, None] = field(default_factory=dict)
    """The strings that a schema announces, in its order."""

    is_announced: bool = False
    """Whether a schema says it, which no payload may have shown."""

    def absorb(self, other: Evidence) -> None:
        """Adds an alternative: what may stand in the same place."""
        self.kinds |= other.kinds
        self.choices |= other.choices
        if other.always is not None:
            self.always = other.always if self.always is None else self.always & other.always
        for key, evidence in other.fields.items():
            self.fields.setdefault(key, []).extend(evidence)
        self.items += other.items
        self.values += other.values


def payload_events(folder: Path) -> Iterator[tuple[str, list[Json]]]:
    """Yields the name of each event and its example payloads, of a folder with one `<event>.json` for each."""
    for path in sorted(folder.glob("[a-z]*.json")):
        yield path.stem, json.loads(path.read_text(encoding="utf-8"))


def read_payloads(folder: Path) -> Iterator[tuple[str, Evidence]]:
    """Yields the name of each event and what each of its example payloads shows."""
    for event, payloads in payload_events(folder):
        for payload in payloads:
            yield event, of_value(payload)


def read_json_schema(folder: Path) -> Iterator[tuple[str, Evidence]]:
    """Yields the name of each event that the folder's `_schema.json` describes, and what it announces for each action.

    A definition named `<event>$<action>` describes one action of an event.
    """
    document = json.loads((folder / "_schema.json").read_text(encoding="utf-8"))
    schemas = Schemas(document)
    for name in document["definitions"]:
        event, is_event, _ = name.partition("$")
        if is_event:
            yield event, schemas.reference(f"#/definitions/{name}")


def read_openapi(path: Path) -> Iterator[tuple[str, Evidence]]:
    """Yields the name of each event that an OpenAPI document has webhooks for, and what it announces for each action.

    The event's name is what the document says its `X-GitHub-Event` header is like.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    schemas = Schemas(document)
    for webhook in document["webhooks"].values():
        operation = webhook["post"]
        event = operation["x-github"]["subcategory"].replace("-", "_")
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is not None:
            yield event, schemas.evidence(body["schema"])


def of_value(value: Json) -> Evidence:
    """Returns what one JSON value shows."""
    match value:
        case dict():
            fields = {key: [of_value(item)] for key, item in value.items()}
            return Evidence({"object"}, fields, frozenset(fields))
        case list():
            return Evidence({"array"}, items=[of_value(item) for item in value])
        case bool():
            return Evidence({"boolean"})
        case int():
            return Evidence({"integer"})
        case float():
            return Evidence({"number"})
        case str():
            return Evidence({"string"})
        case _:
            return Evidence({"null"})


class Schemas:
    """Reads the schemas of one document, each that is referred to by name once."""

    def __init__(self, document: Mapping[str, Json]) -> None:
        self._document = document
        self._known: dict[str, Evidence] = {}

    def reference(self, pointer: str) -> Evidence:
        """Returns what the schema at a JSON pointer of the document announces."""
        evidence = self._known.get(pointer)
        if evidence is None:
            # Known before it is filled: a schema may contain itself.
            evidence = self._known[pointer] = Evidence(is_announced=True)
            node = self._document
            for part in pointer.removeprefix("#/").split("/"):
                node = node[part]
            evidence.absorb(self.evidence(node))
        return evidence

    def evidence(self, node: Mapping[str, Json]) -> Evidence:
        """Returns what a schema announces."""
        if "$ref" in node:
            return self.reference(node["$ref"])
        found = Evidence(is_announced=True)
        for alternative in (*node.get("oneOf", ()), *node.get("anyOf", ())):
            found.absorb(self.evidence(alternative))
        for part in (*(self.evidence(part) for part in node.get("allOf", ())), self._own(node)):
            # Every part holds, so what one of them demands is always there.
            always = (found.always or frozenset()) | (part.always or frozenset())
            found.absorb(part)
            found.always = always if "object" in found.kinds else None
        return found

    def _own(self, node: Mapping[str, Json]) -> Evidence:
        """Returns what a schema announces by itself, without what it is composed of."""
        found = Evidence(is_announced=True)
        named = node.get("type", ())
        found.kinds |= {named} if isinstance(named, str) else set(named)
        if node.get("nullable"):
            found.kinds.add("null")
        for choice in (node["const"],) if "const" in node else node.get("enum", ()):
            found.kinds |= of_value(choice).kinds
            if isinstance(choice, str):
                found.choices[choice] = None
        if "properties" in node or "object" in found.kinds:
            found.kinds.add("object")
            found.fields = {key: [self.evidence(one)] for key, one in node.get("properties", {}).items()}
            found.always = frozenset(node.get("required", ())) & found.fields.keys()
            extra = node.get("additionalProperties")
            if not found.fields and isinstance(extra, dict):
                found.values = [self.evidence(extra)]
        if "items" in node:
            found.kinds.add("array")
            items = node["items"]
            found.items = [self.evidence(one) for one in (items if isinstance(items, list) else [items])]
        return found
