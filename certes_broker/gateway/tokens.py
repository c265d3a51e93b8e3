"""Tokens (JWT): who calls, by what an issuer has signed.

Rules
-----
* A token is taken if one of the issuer's keys has signed it by that key's algorithm, `iss` and `aud` are those of the settings,
  it has a `sub`, its `exp` is to come and its `nbf`, if any, is past. `SKEW` seconds are allowed for clocks that differ.
* What the caller may do stands in the claim `certes`, an object with `roles` and, if it is bound, `subscribers`, `sources` and
  `types`: lists of texts, which mean what they mean for keys. Without the claim, a token may do nothing but what any caller
  may. A claim that is not understood is not guessed at: the token is refused.
* A token that was verified is remembered, by its digest, until its time is over or the issuer's keys have changed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, Final, Protocol

from certes_broker.domain.access import Bindings, Caller, read_roles, read_source
from certes_broker.domain.errors import CertesError
from certes_broker.domain.events import Micros
from certes_broker.domain.names import parse_id
from certes_broker.domain.uris import parse_pattern
from certes_broker.gateway.authentication import not_known
from certes_broker.gateway.token_keys import TokenKey
from certes_broker.ports.clock import Clock

SKEW: Final = 30
REMEMBERED: Final = 10_000
CLAIM: Final = "certes"
LONGEST_SUBJECT: Final = 256

_ALGORITHMS: Final = ("RS256", "EdDSA")


class Keys(Protocol):
    """The keys of the issuer."""

    async def current(self, key_id: str) -> tuple[TokenKey, ...]:
        """Returns all that there are now, after looking for that of an id. Raises `Unavailable` (TOKEN_KEYS_UNAVAILABLE)."""


class TokenVerifier:
    """Knows callers by tokens of one issuer for one audience."""

    def __init__(self, keys: Keys, issuer: str, audience: str, clock: Clock, *, remembered: int = REMEMBERED) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._remembered = remembered
        self._known: OrderedDict[bytes, Caller] = OrderedDict()
        self._known_by: tuple[TokenKey, ...] = ()

    def __len__(self) -> int:
        """How many tokens are remembered."""
        return len(self._known)

    async def caller(self, token: str) -> Caller:
        """Returns whose token it is. Raises `Unauthenticated` (CREDENTIALS_INVALID) and `Unavailable` (TOKEN_KEYS_UNAVAILABLE)."""
        key_id, algorithm = self._header(token)
        keys = await self._keys.current(key_id)
        if keys is not self._known_by:
            self._known.clear()
            self._known_by = keys
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is None:
            known = self._verified(token, [key for key in keys if key.algorithm == algorithm], key_id)
            self._remember(digest, known)
        if known.until is None or known.until <= self._clock.now():
            raise not_known()
        return known

    def _header(self, token: str) -> tuple[str, str]:
        # Imported here because most brokers take no tokens.
        import jwt  # noqa: PLC0415

        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise not_known() from None
        if header.get("alg") not in _ALGORITHMS:
            raise not_known()
        return str(header.get("kid", "")), header["alg"]

    def _verified(self, token: str, keys: list[TokenKey], key_id: str) -> Caller:
        import jwt  # noqa: PLC0415

        # A key without an id may be any; one with another id is not the one that signed.
        for key in [key for key in keys if not key_id or not key.id or key.id == key_id]:
            try:
                claims = jwt.decode(
                    token,
                    key.key,
                    algorithms=[key.algorithm],
                    audience=self._audience,
                    issuer=self._issuer,
                    # Their times are judged below, by the broker's clock.
                    options={
                        "require": ["exp", "sub", "aud", "iss"],
                        "verify_exp": False,
                        "verify_nbf": False,
                        "verify_iat": False,
                    },
                )
            except (jwt.PyJWTError, ValueError, RecursionError):
                continue
            return self._caller_of(claims)
        raise not_known()

    def _caller_of(self, claims: dict[str, Any]) -> Caller:
        subject, now = claims["sub"], self._clock.now()
        begin, end = claims.get("nbf", 0), claims["exp"]
        if not (isinstance(subject, str) and 0 < len(subject) <= LONGEST_SUBJECT and subject.isprintable()):
            raise not_known()
        if not (_is_number(begin) and _is_number(end)) or now < (begin - SKEW) * 1_000_000:
            raise not_known()
        granted = claims.get(CLAIM, {})
        if not isinstance(granted, dict) or granted.keys() - {"roles", "subscribers", "sources", "types"}:
            raise not_known()
        try:
            bindings = Bindings(
                _set(granted, "subscribers", parse_id),
                _set(granted, "sources", read_source),
                _set(granted, "types", parse_pattern),
            )
            roles = read_roles(_texts(granted.get("roles", [])))
        except CertesError:
            raise not_known() from None
        return Caller(f"tokens/{subject}", roles, bindings, Micros(round((end + SKEW) * 1_000_000)))

    def _remember(self, digest: bytes, caller: Caller) -> None:
        self._known[digest] = caller
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def _set(granted: dict[str, Any], kind: str, read: Any) -> Any:
    return frozenset(read(text) for text in _texts(granted[kind])) if kind in granted else None


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise not_known()
    return value
