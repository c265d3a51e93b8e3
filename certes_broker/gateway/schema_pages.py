"""Pages of schemas, by event URI.

A page token names the event type that the page before ended with, so whatever is registered or replaced meanwhile, nothing
comes twice and nothing that was there all the time is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from certes_broker.broker.paging import make_token, read_token
from certes_broker.domain.schemas import VersionName
from certes_broker.domain.uris import EventType, TypePattern
from certes_broker.gateway import overlay
from certes_broker.gateway.convert.schemas import fill_schema, fill_version
from certes_broker.schemas.registry import Registry

ANSWER_BYTES: Final = 3 * 1024 * 1024
"""Of an answer that could go on for ever: stock clients refuse 4 MiB."""
PAGE_BYTES: Final = 1024 * 1024
"""Unless one schema with its version takes more. The contract allows three times as much; making JSON of that takes a second."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which schemas are wanted; empty and None mean all. `with_versions` asks for their descriptors."""

    domain: str
    namespace: str
    pattern: TypePattern | None
    with_versions: bool

    def found_in(self, registry: Registry) -> Iterator[EventType]:
        """Yields the event types that are wanted, by their texts."""
        found = registry.types() if self.pattern is None else registry.matching(self.pattern)
        for event_type in found:
            if self.domain in ("", event_type.domain) and self.namespace in ("", event_type.namespace):
                yield event_type

    @property
    def _of(self) -> tuple[object, ...]:
        return ("schemas", self.domain, self.namespace, self.pattern or "", self.with_versions)

    def token(self, after: EventType) -> str:
        """Returns the token of the page after an event type."""
        return make_token(after.text, *self._of)

    def after(self, token: str) -> str:
        """Returns the text that a page's event types come after. Raises `Invalid` (PAGE_TOKEN_INVALID)."""
        return read_token(token, *self._of)


async def schema_page(registry: Registry, wanted: Wanted, page_size: int, page_token: str) -> Any:
    """Returns a `ListSchemasResponse`. Raises `Invalid` (PAGE_TOKEN_INVALID)."""
    after = wanted.after(page_token)
    answer = overlay.ListSchemasResponse()
    told: set[VersionName] = set()
    size = 0
    last: EventType | None = None
    for event_type in wanted.found_in(registry):
        name = VersionName(event_type.domain, event_type.namespace, event_type.version)
        if event_type.text <= after:
            told.add(name)
            continue
        if last is not None and len(answer.schemas) == page_size:
            answer.next_page_token = wanted.token(last)
            break
        version = registry.version_of(event_type)
        if version is not None and not version.is_linked:
            # A page can be of a thousand versions, each of which is linked now: others are served in between.
            await asyncio.to_thread(version.read_comments)
        size += _add(answer, registry, event_type, with_version=wanted.with_versions and name not in told)
        if last is not None and size > PAGE_BYTES:
            del answer.schemas[-1]
            if wanted.with_versions and name not in told:
                del answer.versions[-1]
            answer.next_page_token = wanted.token(last)
            break
        told.add(name)
        last = event_type
    return answer


def _add(answer: Any, registry: Registry, event_type: EventType, *, with_version: bool) -> int:
    """Adds a schema to an answer, and its version if that is wanted; returns how many bytes these are."""
    version = registry.version_of(event_type)
    assert version is not None  # The registry has just told of the event type.
    message = answer.schemas.add()
    fill_schema(message, registry.lookup(event_type.text), version)
    size: int = message.ByteSize()
    if with_version:
        told = answer.versions.add()
        fill_version(told, version, with_descriptors=True, with_sources=False)
        size += told.ByteSize()
    return size
