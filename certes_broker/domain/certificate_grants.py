"""What the certificates of clients entitle to.

Rules
-----
* A certificate has identities: its URIs (as SPIFFE writes them), its DNS names, and its subject's common name. Which of them an
  entry of the settings means is said by the entry. So nobody who has a common name of their own choosing vouched for can pass
  for a URI.
* URIs come before DNS names, these before the common name; among entries of one kind, the first in the settings. One entry
  counts for a certificate, never several added up.
* A URI may be given by its beginning up to a slash, `spiffe://example.com/shop/*`, a DNS name with `*` for its first label. A
  common name is given as a whole.
* An identity with a `*` of its own, as certificates of many servers have, is nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from certes_broker.domain.access import UNBOUND, Bindings, Caller, Role
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import Micros

LONGEST_IDENTITY: Final = 1_024


@unique
class IdentityKind(StrEnum):
    """Where in a certificate an identity stands, in the order in which they count. The values are keys of the settings."""

    URI = "uri"
    DNS = "dns"
    COMMON_NAME = "common_name"


@dataclass(frozen=True, slots=True)
class Identity:
    """One name that a certificate vouches for."""

    kind: IdentityKind
    text: str


@dataclass(frozen=True, slots=True)
class CertificateGrant:
    """What whoever has a certificate of a matching identity may do."""

    kind: IdentityKind
    pattern: str
    roles: frozenset[Role]
    bindings: Bindings = UNBOUND

    def covers(self, identity: Identity) -> bool:
        """Whether an identity is meant."""
        return identity.kind is self.kind and _matches(self.pattern, _spelled(identity.kind, identity.text), self.kind)


def parse_identity_pattern(kind: IdentityKind, text: str) -> str:
    """Returns the pattern of an entry, as it is compared. Raises `Invalid` (FIELD_INVALID) if it is none of this kind."""
    if not text or len(text) > LONGEST_IDENTITY or not text.isprintable():
        raise Invalid(Reason.FIELD_INVALID, f"wants 1 to {LONGEST_IDENTITY} printable characters, not {text[:80]!r}")
    match kind:
        case IdentityKind.URI if "*" in text.removesuffix("/*") or "://" not in text or text.endswith("://*"):
            problem = "a URI such as spiffe://example.com/shop, or the beginning of one that ends in /*"
        case IdentityKind.DNS if "*" in text.removeprefix("*.") or not text.removeprefix("*.").strip("."):
            problem = "a DNS name such as shop.example.com, or one with * for its first label"
        case IdentityKind.COMMON_NAME if "*" in text:
            problem = "a common name as a whole, without a *"
        case _:
            return _spelled(kind, text)
    raise Invalid(Reason.FIELD_INVALID, f"wants {problem}, not {text[:80]!r}")


def caller_of(identities: Iterable[Identity], grants: Sequence[CertificateGrant], until: Micros) -> Caller | None:
    """Returns who calls with a certificate of these identities, which is good until then; None if they are nobody's."""
    usable = [one for one in identities if "*" not in one.text and one.text.isprintable() and _fits(one.text)]
    for kind in IdentityKind:
        for grant in grants:
            for identity in usable:
                if identity.kind is kind and grant.covers(identity):
                    name = f"certificates/{kind.value}:{_spelled(kind, identity.text)}"
                    return Caller(name, grant.roles, grant.bindings, until)
    return None


def _fits(text: str) -> bool:
    return 0 < len(text) <= LONGEST_IDENTITY


def _spelled(kind: IdentityKind, text: str) -> str:
    return text.lower().removesuffix(".") if kind is IdentityKind.DNS else text


def _matches(pattern: str, text: str, kind: IdentityKind) -> bool:
    if kind is IdentityKind.URI and pattern.endswith("/*"):
        return text.startswith(pattern[:-1]) and len(text) >= len(pattern)
    if kind is IdentityKind.DNS and pattern.startswith("*."):
        first, _, rest = text.partition(".")
        return bool(first) and rest == pattern[2:]
    return text == pattern
