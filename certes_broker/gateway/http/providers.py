"""What differs between providers of webhooks: how they sign, and where they say what a webhook is.

A provider is a value of a few facts. Everything that happens with a webhook is in `ingress.py` and the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from certes_broker.domain.signing import verify_github


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """How to read the webhooks of one provider. Header names are lower-case.

    `verify` takes the secrets of a source, the value of `signature_header` and the raw body, and raises
    `Unauthenticated` (SIGNATURE_INVALID). The event type is `type_prefix` and the value of `event_header`. The subject is the
    first of `subject_paths` that the payload has. `kept_headers` and those that begin with one of `kept_prefixes` are
    kept with the event; a signature is never among them.
    """

    verify: Callable[[Sequence[bytes], str | None, bytes], None]
    signature_header: bytes
    event_header: bytes
    id_header: bytes
    type_prefix: str
    subject_paths: tuple[tuple[str, ...], ...]
    kept_prefixes: tuple[bytes, ...]
    kept_headers: frozenset[bytes]

    def subject(self, document: Mapping[str, object]) -> str:
        """Returns what a payload is about; empty if it names nothing."""
        for path in self.subject_paths:
            found: object = document
            for key in path:
                found = found.get(key) if isinstance(found, Mapping) else None
            if isinstance(found, str) and found:
                return found
        return ""

    def kept(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
        """Returns the headers that are kept with the event."""
        return tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in headers
            if name in self.kept_headers or name.startswith(self.kept_prefixes)
        )


PROVIDERS: Final[Mapping[str, ProviderFacts]] = MappingProxyType(
    {
        # https://docs.github.com/webhooks/webhook-events-and-payloads#delivery-headers
        # The body's signature (x-hub-signature, x-hub-signature-256) is no secret, but the receiver of a webhook that
        # is handed on does not share the secret it was made with, so it could prove nothing there.
        "github": ProviderFacts(
            verify=verify_github,
            signature_header=b"x-hub-signature-256",
            event_header=b"x-github-event",
            id_header=b"x-github-delivery",
            type_prefix="community.certes.dev/github/1/",
            subject_paths=(("repository", "full_name"), ("organization", "login")),
            kept_prefixes=(b"x-github-",),
            kept_headers=frozenset((b"user-agent",)),
        )
    }
)
