"""Sources as settings documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from cattrs.preconf.json import JsonConverter, make_converter
from cattrs.strategies import configure_tagged_union

from certes_broker.domain.signature_schemes import SignatureScheme
from certes_broker.domain.sources import Audience, Source, parse_audience
from certes_broker.domain.webhook_mapping import Place
from certes_broker.ports.engine import Document

PREFIX: Final = "sources/"


def key_of(name: str) -> str:
    """Returns the key of a source's document."""
    return PREFIX + name


def write_document(source: Source) -> bytes:
    """Returns the body of a source's document."""
    return _converter.dumps(replace(source, configured=False, revision=0)).encode()


def read_document(document: Document) -> Source:
    """Returns the source of a document, with the document's revision."""
    return replace(_converter.loads(document.body.decode(), Source), revision=document.revision)


def _make_converter() -> JsonConverter:
    converter = make_converter(omit_if_default=True, forbid_extra_keys=True)
    for union in (SignatureScheme, Place):
        configure_tagged_union(union, converter, tag_name="kind")
        _configure_optional(union, converter)
    converter.register_unstructure_hook(Audience, str)
    converter.register_structure_hook(Audience, lambda text, _: parse_audience(text))
    return converter


def _configure_optional(union: Any, converter: JsonConverter) -> None:
    """Lets `union | None` be read and written: cattrs takes it for another union, of which it knows nothing."""
    optional = union | None

    def write(value: object) -> object:
        return None if value is None else converter.unstructure(value, union)

    def read(value: object, _: object) -> object:
        return None if value is None else converter.structure(value, union)

    converter.register_unstructure_hook_func(lambda kind: kind == optional, write)
    converter.register_structure_hook_func(lambda kind: kind == optional, read)


_converter = _make_converter()
