"""API keys: how they are spelled, and what is known of one.

Rules
-----
* A key is `certes_{id}_{secret}`. The id is public: it is in the key's name, in logs and in lists. The secret is shown once,
  to whoever made the key; what is kept is the SHA-256 of the whole key. A slow hash would protect guessable secrets, and
  these are not: 256 random bits, or at least 32 characters of somebody's own making.
* Keys are compared by their digests and in constant time, also where no key has the id.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final, NewType

from certes_broker.domain.access import UNBOUND, Bindings, Caller, Role
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import Micros

KeyId = NewType("KeyId", str)

KEY_PREFIX: Final = "certes_"
COLLECTION: Final = "apiKeys/"
SECRET_BYTES: Final = 32
LEAST_SECRET: Final = 32
"""Characters that the secret part of a key has at least."""

_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{32,256}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key."""

    id: KeyId
    digest: bytes = field(repr=False)
    roles: frozenset[Role]
    bindings: Bindings = UNBOUND
    title: str = ""
    create_time: Micros = Micros(0)
    expire_time: Micros | None = None
    revision: int = 0

    @property
    def name(self) -> str:
        """The resource name: `apiKeys/{id}`."""
        return COLLECTION + self.id

    @property
    def caller(self) -> Caller:
        """Who calls with it."""
        return Caller(self.name, self.roles, self.bindings, self.expire_time)


def parse_key_id(text: str) -> KeyId:
    """Reads the id of a key: lower-case letters, digits and hyphens, at most 63. Raises `Invalid` (MALFORMED_NAME)."""
    if _ID.fullmatch(text) is None:
        raise Invalid(
            Reason.MALFORMED_NAME,
            f"{text[:80]!r} is no id of a key: 1 to 63 lower-case letters, digits and hyphens, not beginning with a hyphen",
        )
    return KeyId(text)


def parse_key_name(text: str) -> KeyId:
    """Reads `apiKeys/{id}`. Raises `Invalid` (MALFORMED_NAME)."""
    if not text.startswith(COLLECTION):
        raise Invalid(Reason.MALFORMED_NAME, f"{text[:80]!r} is no name of a key: they are {COLLECTION}{{id}}")
    return parse_key_id(text.removeprefix(COLLECTION))


def spell_key(key_id: KeyId, secret: bytes) -> str:
    """Returns the key of an id and of random bytes."""
    return f"{KEY_PREFIX}{key_id}_{secret.hex()}"


def read_key(text: str) -> KeyId | None:
    """Returns the id in a key; None if the text is no key."""
    key_id, _, secret = text.removeprefix(KEY_PREFIX).partition("_")
    if not text.startswith(KEY_PREFIX) or _ID.fullmatch(key_id) is None or _SECRET.fullmatch(secret) is None:
        return None
    return KeyId(key_id)


def digest_of(key: str) -> bytes:
    """Returns what is kept of a key."""
    return hashlib.sha256(key.encode()).digest()


def is_key(text: str, known: ApiKey | None) -> bool:
    """Says whether a text is the key that is known. It takes as long where none is."""
    kept = _NOTHING if known is None else known.digest
    return hmac.compare_digest(digest_of(text), kept) and known is not None


_NOTHING: Final = bytes(hashlib.sha256().digest_size)
