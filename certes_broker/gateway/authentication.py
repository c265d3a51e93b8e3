"""Finds out who calls, by an API key or a token in `authorization: Bearer …`, or else by the certificate of the connection.

Rules
-----
* What begins as a key is a key, and nothing else; everything else is a token. Where tokens are not taken, it is refused.
* An `authorization` counts alone: one that is not good is refused, whatever certificate there is. The certificate is that of a
  connection, which a proxy may share among many; what a call says of itself is closer to it.
* A certificate that is mapped to nobody is as none.
* Every refusal of a credential is the same, whatever is wrong with it: nobody learns which ids of keys there are.
* The operator's key is given to the broker by its settings and has every role. It is how the first key is made.
* No credential, nor a part of one that is secret, is in a message or a log.
"""

from __future__ import annotations

from typing import Final, Protocol

from certes_broker.domain.access import Caller
from certes_broker.domain.api_keys import COLLECTION, ApiKey, KeyId, is_key, read_key
from certes_broker.domain.errors import Reason, Unauthenticated
from certes_broker.gateway.callers import Credentials
from certes_broker.ports.clock import Clock

LONGEST_CREDENTIAL: Final = 8 * 1024


class Keys(Protocol):
    """The API keys that there are."""

    def find(self, key_id: KeyId) -> ApiKey | None:
        """Returns a key; None if there is none of this id."""

    async def look(self) -> None:
        """Learns of keys that other brokers have made until now, unless it did so lately."""


class Tokens(Protocol):
    """Knows whose tokens are whose."""

    async def caller(self, token: str) -> Caller:
        """Returns whose token it is. Raises `Unauthenticated` (CREDENTIALS_INVALID) and `Unavailable` (TOKEN_KEYS_UNAVAILABLE)."""


class Certificates(Protocol):
    """Knows whose certificates are whose."""

    def caller(self, certificate: bytes) -> Caller | None:
        """Returns whose a certificate in PEM is; None if it is nobody's."""

    def is_revoked(self, caller: Caller) -> bool:
        """Says whether the certificate that a caller showed has been taken back."""


class Authenticator:
    """Knows callers by their credentials. `operator` is the operator's key; where tokens or certificates are not taken, None."""

    def __init__(
        self,
        keys: Keys,
        clock: Clock,
        operator: ApiKey | None,
        tokens: Tokens | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._operator = operator
        self._tokens = tokens
        self._certificates = certificates

    async def caller(self, credentials: Credentials) -> Caller:
        """See `Authentication`."""
        if not credentials.authorization:
            return self._caller_by_certificate(credentials.certificate)
        shown = _bearer(credentials)
        key_id = read_key(shown)
        if key_id is not None:
            return await self._caller_of(shown, key_id)
        if self._tokens is None:
            raise not_known()
        return await self._tokens.caller(shown)

    def is_good(self, caller: Caller) -> bool:
        """See `Authentication`."""
        if caller.until is not None and caller.until <= self._clock.now():
            return False
        if caller.certificate and self._certificates is not None and self._certificates.is_revoked(caller):
            return False
        if not caller.id.startswith(COLLECTION) or (self._operator is not None and caller == self._operator.caller):
            return True
        key = self._keys.find(KeyId(caller.id.removeprefix(COLLECTION)))
        return key is not None and key.caller == caller

    def _caller_by_certificate(self, certificate: bytes | None) -> Caller:
        caller = None
        if certificate is not None and self._certificates is not None:
            caller = self._certificates.caller(certificate)
        if caller is None:
            raise _missing(has_certificate=certificate is not None)
        if not self.is_good(caller):
            raise not_known()
        return caller

    async def _caller_of(self, shown: str, key_id: KeyId) -> Caller:
        key = self._known(key_id)
        if not is_key(shown, key):
            # Also where there is one of this id: how long a refusal takes is not to say whether there is.
            await self._keys.look()
            key = self._known(key_id)
        if not is_key(shown, key) or key is None:
            raise not_known()
        if key.expire_time is not None and key.expire_time <= self._clock.now():
            raise not_known()
        return key.caller

    def _known(self, key_id: KeyId) -> ApiKey | None:
        operator = self._operator
        return operator if operator is not None and operator.id == key_id else self._keys.find(key_id)


def not_known() -> Unauthenticated:
    """Returns the refusal of a credential that is not good, for whatever reason."""
    return Unauthenticated(
        Reason.CREDENTIALS_INVALID,
        "The credential is not known here, was revoked, or its time is over.",
        hint="`certes keys create` makes a key; docs/guide/security.md says what tokens need.",
    )


def _missing(*, has_certificate: bool) -> Unauthenticated:
    said = "whose certificate this is, is not known here" if has_certificate else "this call does not say"
    return Unauthenticated(
        Reason.CREDENTIALS_MISSING,
        f"This broker asks callers who they are, and {said}.",
        hint="Send an API key or a token as `authorization: Bearer …`; CERTES_TOKEN is where SDKs and the command look for it. "
        "[[auth.certificates]] in the broker's configuration says whose certificates are whose.",
    )


def _bearer(credentials: Credentials) -> str:
    values = credentials.authorization
    scheme, _, shown = values[0].strip().partition(" ")
    shown = shown.strip()
    if len(values) > 1 or scheme.lower() != "bearer" or not shown or len(shown) > LONGEST_CREDENTIAL:
        raise Unauthenticated(
            Reason.CREDENTIALS_INVALID,
            "The authorization is not one `Bearer` and a credential.",
            hint="Send an API key or a token as `authorization: Bearer …`, once.",
        )
    return shown
