"""Reads the `[[auth.certificates]]` tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from certes_broker.config.problems import Problem, nearest
from certes_broker.config.toml_places import KeyPath
from certes_broker.domain.access import Bindings, read_roles, read_source
from certes_broker.domain.certificate_grants import CertificateGrant, IdentityKind, parse_identity_pattern
from certes_broker.domain.errors import CertesError
from certes_broker.domain.names import parse_id
from certes_broker.domain.uris import parse_pattern

T = TypeVar("T")
Given = TypeVar("Given")

CERTIFICATE_KEYS: Final[Mapping[str, str]] = {
    "uri": 'A URI of the certificate, such as `"spiffe://example.com/shop"`, or the beginning of one up to a slash: '
    '`"spiffe://example.com/shop/*"`.',
    "dns": 'A DNS name of the certificate, such as `"shop.example.com"`, or any first label before one: `"*.shop.example.com"`.',
    "common_name": "The common name of its subject. Exactly one of these three is required.",
    "roles": 'What the caller may do: roles, and names of several such as `"publisher"`; see [roles](../guide/security.md#roles). Required.',
    "subscribers": "The subscribers that it is bound to, by id. Absent: all of them.",
    "sources": "The sources under which it may publish: names, or their beginnings with `*`. Absent: all, or none if it is bound to subscribers.",
    "types": "The event types that it may publish and see, as patterns. Absent: all of them.",
}
"""The keys of one table, and what they mean."""

PATH: Final = ("auth", "certificates")
_NAME: Final = "auth.certificates"


def read_certificates(
    tables: object, locate: Callable[[KeyPath], str], problems: list[Problem]
) -> tuple[CertificateGrant, ...]:
    """Returns the entries that are sound, in their order, and adds what is wrong with the others to `problems`."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(Problem(locate(PATH), _NAME, f"wants [[{_NAME}]] tables, one for each identity"))
        return ()
    grants = []
    known: set[tuple[IdentityKind, str]] = set()
    for index, table in enumerate(tables):
        reader = _Table(table, index, locate, problems)
        grant = reader.read()
        if grant is None:
            continue
        if (grant.kind, grant.pattern) in known:
            reader.add(grant.kind.value, f"is taken: {grant.pattern!r} stands above, and what stands first counts")
        known.add((grant.kind, grant.pattern))
        grants.append(grant)
    return tuple(grants)


class _Table:
    """One `[[auth.certificates]]` table being read."""

    def __init__(
        self, table: Mapping[str, object], index: int, locate: Callable[[KeyPath], str], problems: list[Problem]
    ) -> None:
        self._table = table
        self._index = index
        self._locate = locate
        self._problems = problems

    def read(self) -> CertificateGrant | None:
        """Returns the entry, or None if something is wrong with it."""
        before = len(self._problems)
        for key in sorted(self._table.keys() - CERTIFICATE_KEYS.keys()):
            meant = nearest(key, CERTIFICATE_KEYS)
            known = f"Did you mean {meant}?" if meant else f"Known are: {', '.join(CERTIFICATE_KEYS)}."
            self.add(key, f"is no key of a certificate's entry. {known}")
        identity = self._identity()
        roles = self._list("roles", str) or frozenset()
        if not roles:
            self.add("roles", f"is missing, or lists nothing. {CERTIFICATE_KEYS['roles']}")
        bindings = Bindings(
            self._list("subscribers", parse_id), self._list("sources", read_source), self._list("types", parse_pattern)
        )
        granted = self._checked("roles", read_roles, roles)
        if identity is None or granted is None or len(self._problems) > before:
            return None
        kind, pattern = identity
        return CertificateGrant(kind, pattern, granted, bindings)

    def _identity(self) -> tuple[IdentityKind, str] | None:
        given = [kind for kind in IdentityKind if kind.value in self._table]
        if len(given) != 1:
            keys = " and ".join(kind.value for kind in given) or "none"
            self.add("", f"has {keys} of uri, dns and common_name; exactly one says whose certificate is meant")
            return None
        (kind,) = given
        text = self._table[kind.value]
        if not isinstance(text, str):
            self.add(kind.value, f"wants a text in quotes, not {text!r:.80}")
            return None
        pattern = self._checked(kind.value, lambda given: parse_identity_pattern(kind, given), text)
        return None if pattern is None else (kind, pattern)

    def _list(self, key: str, parse: Callable[[str], T]) -> frozenset[T] | None:
        """Reads a list of texts; None if it is not there."""
        if key not in self._table:
            return None
        listed = self._table[key]
        if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
            self.add(key, "wants a list of texts in quotes")
            return frozenset()
        read = [self._checked(key, parse, text) for text in listed]
        return frozenset(one for one in read if one is not None)

    def _checked(self, key: str, parse: Callable[[Given], T], value: Given) -> T | None:
        try:
            return parse(value)
        except CertesError as error:
            self.add(key, f"cannot be used: {error.message}")
            return None

    def add(self, key: str, what: str) -> None:
        """Notes what is wrong with a key; with the table as a whole if it is empty."""
        place: KeyPath = (*PATH, self._index, *([key] if key else []))
        name = f"{_NAME}[{self._index}]" + (f".{key}" if key else "")
        self._problems.append(Problem(self._locate(place), name, what))
