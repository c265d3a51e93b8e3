"""Example payloads of every provider of the catalogue, as `tests/payloads/<provider>/<event type>[-variant].json`.

Adding a provider adds files here, and no code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto

from certes_broker.domain.webhook_mapping import HeaderPlace, event_type_of
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.providers import shipped_providers
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.unknown_keys import UnknownKeys

PAYLOADS = Path(__file__).parents[1] / "payloads"
EXAMPLES = sorted(PAYLOADS.glob("*/*.json"))
PROVIDERS = shipped_providers()
REGISTRY = Registry(community_versions())
NAMES = [f"{path.parent.name}/{path.stem}" for path in EXAMPLES]


def schema_of(example: Path) -> EventSchema:
    return REGISTRY.lookup(f"community.certes.dev/{example.parent.name}/1/{example.stem.partition('-')[0]}")


def leaves(document: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is neither object nor list, with its path; null is as good as absent."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from leaves(value, f"{path}.{key}")
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from leaves(value, f"{path}[{index}]")
    elif document is not None:
        yield path, document


def same(one: Any, other: Any) -> bool:
    """Whether two leaves say the same: JSON writes 64-bit integers as text, and has no integers beside numbers."""
    return one == other or (isinstance(one, int) and not isinstance(one, bool) and str(one) == other)


def reserved(schema: EventSchema) -> set[str]:
    """Keys that the event's message leaves out on purpose."""
    message = DescriptorProto()
    schema.descriptor.CopyToProto(message)
    return set(message.reserved_name)


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_the_mapping_finds_the_type_that_the_example_is_of(example: Path) -> None:
    mapping = PROVIDERS[example.parent.name].mapping
    if isinstance(mapping.event, HeaderPlace):
        # The payload does not say what it is of, so its file does.
        found = example.stem.partition("-")[0]
    else:
        assert mapping.event is not None
        found = json.loads(example.read_text())
        for key in mapping.event.path:
            found = found[key]
    assert event_type_of(mapping, dict(mapping.types), found) == schema_of(example).type.text


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_the_schema_knows_every_key_of_the_example(example: Path) -> None:
    schema = schema_of(example)
    _, unknown = schema.from_json_noting(json.loads(example.read_text()), UnknownKeys())
    assert not unknown


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_every_value_of_the_example_comes_back(example: Path) -> None:
    schema, document = schema_of(example), json.loads(example.read_text())
    written = dict(leaves(schema.to_json(schema.from_json(document))))
    lost = {
        path: value
        for path, value in leaves(document)
        if not same(value, written.get(path)) and path.removeprefix(".") not in reserved(schema)
    }
    assert lost == {}


def test_every_event_type_of_a_provider_with_examples_has_one() -> None:
    shown = {schema_of(example).type.text for example in EXAMPLES}
    for provider in {example.parent.name for example in EXAMPLES}:
        types = {text for event_type in REGISTRY.types() if (text := event_type.text).split("/")[1] == provider}
        assert types <= shown
