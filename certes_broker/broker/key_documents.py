"""API keys as settings documents."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Final

from cattrs.preconf.json import JsonConverter, make_converter

from certes_broker.domain.api_keys import ApiKey, KeyId
from certes_broker.domain.uris import TypePattern, parse_pattern
from certes_broker.ports.engine import Document

PREFIX: Final = "api-keys/"


def key_of(key_id: KeyId) -> str:
    """Returns the key of the document of an API key."""
    return PREFIX + key_id


def id_of(key: str) -> KeyId:
    """Returns whose document a key is."""
    return KeyId(key.removeprefix(PREFIX))


def write_document(key: ApiKey) -> bytes:
    """Returns the body of an API key's document."""
    return _converter.dumps(replace(key, revision=0)).encode()


def read_document(document: Document) -> ApiKey:
    """Returns the API key of a document, with the document's revision."""
    return replace(_converter.loads(document.body.decode(), ApiKey), revision=document.revision)


def _make_converter() -> JsonConverter:
    converter = make_converter(omit_if_default=True, forbid_extra_keys=True)
    converter.register_unstructure_hook(bytes, lambda digest: b64encode(digest).decode())
    converter.register_structure_hook(bytes, lambda text, _: b64decode(text))
    converter.register_unstructure_hook(TypePattern, str)
    converter.register_structure_hook(TypePattern, lambda text, _: parse_pattern(text))
    return converter


_converter = _make_converter()
