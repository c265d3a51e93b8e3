"""Open namespaces: where events are taken of types that no schema is registered for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.uris import EventType, parse_event_type


@dataclass(frozen=True, slots=True)
class OpenNamespaces:
    """Knows which namespaces are open, as pairs of domain and namespace."""

    names: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> OpenNamespaces:
        """Reads `{domain}/{namespace}`s, such as `events.meetly.com/_`. Raises `Invalid` / `MALFORMED_URI`."""
        return cls(frozenset(parse_namespace(text) for text in texts))

    def has(self, event_type: EventType) -> bool:
        """Says whether an event of this type is taken without a schema. System events never are."""
        return (event_type.domain, event_type.namespace) in self.names and not event_type.is_system


NONE_OPEN: Final = OpenNamespaces()
"""No namespace is open."""


def parse_namespace(text: str) -> tuple[str, str]:
    """Reads `{domain}/{namespace}`. Raises `Invalid` / `MALFORMED_URI`."""
    try:
        found = parse_event_type(f"{text}/1/x")
    except Invalid as error:
        raise Invalid(
            Reason.MALFORMED_URI,
            f"{text[:120]!r} is no namespace; one is a domain and a namespace, such as events.meetly.com/_: "
            f"{error.metadata.get('problem', error.message)}",
            metadata=error.metadata,
        ) from None
    return found.domain, found.namespace
