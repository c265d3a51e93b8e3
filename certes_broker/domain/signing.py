"""The signatures of webhooks that go out: Standard Webhooks, v1 and v1a.

Theory of operation
-------------------
Standard Webhooks, version 1, signs `<webhook-id>.<webhook-timestamp>.<body>` with HMAC-SHA256 and writes it
`v1,<base64>`; version 1a signs the same with ed25519 and writes it `v1a,<base64>`. Several signatures stand in one header,
parted by spaces: while a secret is being rotated the sender signs with both, and a receiver that knows either accepts. The timestamp is signed, so a recorded request cannot be
replayed once it is older than the receiver's tolerance. `signatures.py` is the receiver.

Each subscription has secrets and key pairs of its own. What is signed does not say for whom it is, so whoever was sent something
signed by a pair that others trust too could send it on to them.

A secret appears in no repr, message or error.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from certes_broker.domain.errors import Invalid, Reason

SECRET_PREFIX: Final = "whsec_"
PRIVATE_KEY_PREFIX: Final = "whsk_"
PUBLIC_KEY_PREFIX: Final = "whpk_"
MINIMUM_SECRET_BYTES: Final = 24
MAXIMUM_SECRET_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret that signs webhooks: 24 to 64 bytes. Its repr does not show it.

    Raises `Invalid` / `FIELD_INVALID` if made of fewer or more bytes.
    """

    key: bytes = field(repr=False)
    keyed: hmac.HMAC = field(init=False, repr=False, compare=False)
    """HMAC-SHA256 that has taken in the key and nothing else, to be copied."""

    def __post_init__(self) -> None:
        if not MINIMUM_SECRET_BYTES <= len(self.key) <= MAXIMUM_SECRET_BYTES:
            raise _secret_refusal(
                f"has {len(self.key)} bytes; {MINIMUM_SECRET_BYTES} to {MAXIMUM_SECRET_BYTES} are allowed"
            )
        object.__setattr__(self, "keyed", hmac.new(self.key, digestmod="sha256"))

    @classmethod
    def parse(cls, text: str) -> SigningSecret:
        """Reads `whsec_<base64>`; the padding may be left out, as other senders do.

        Raises `Invalid` / `FIELD_INVALID`.
        """
        return cls(_decoded(text, SECRET_PREFIX))

    @property
    def text(self) -> str:
        """`whsec_<base64>`, to be shown to nobody but the receiver."""
        return SECRET_PREFIX + b64encode(self.key).decode()


class SigningKeyPair:
    """An ed25519 key pair that signs webhooks: whoever knows its public key can tell who signed, and cannot sign.

    `seed` has 32 bytes. Its repr shows nothing of it.
    """

    __slots__ = ("_private", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        self.seed: Final = seed
        self._private: Final = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: Final = self._private.public_key().public_bytes_raw()

    @classmethod
    def parse(cls, text: str) -> SigningKeyPair:
        """Reads `whsk_<base64>`: the 32 bytes of the seed, alone or with those of the public key after them.

        Raises `Invalid` / `FIELD_INVALID`.
        """
        key = _decoded(text, PRIVATE_KEY_PREFIX)
        if len(key) not in {_SEED_BYTES, 2 * _SEED_BYTES}:
            raise _secret_refusal(f"has {len(key)} bytes; a private ed25519 key has 32, or 64 with its public key")
        pair = cls(key[:_SEED_BYTES])
        if key[_SEED_BYTES:] not in {b"", pair.public}:
            raise _secret_refusal("has a public key after it that is another's")
        return pair

    @property
    def text(self) -> str:
        """`whsk_<base64>`, the public key included, to be shown to nobody."""
        return PRIVATE_KEY_PREFIX + b64encode(self.seed + self.public).decode()

    def sign(self, content: bytes) -> bytes:
        """Returns the 64 bytes of the signature, always the same for the same content."""
        return self._private.sign(content)

    def __repr__(self) -> str:
        return "SigningKeyPair()"


Signer: TypeAlias = SigningSecret | SigningKeyPair
"""What signs: a secret makes `v1` signatures, a key pair `v1a`."""


def parse_signer(text: str) -> Signer:
    """Reads what signs webhooks, `whsec_…` or `whsk_…`. Raises `Invalid` / `FIELD_INVALID`."""
    return SigningKeyPair.parse(text) if is_key_pair(text) else SigningSecret.parse(text)


def is_key_pair(text: str) -> bool:
    """Says whether the text of a signer is that of a key pair."""
    return text.startswith(PRIVATE_KEY_PREFIX)


def verifier_of(text: str) -> str:
    """Returns what verifies the signatures of a signer, by its canonical text: the secret itself, or the public key (`whpk_…`)."""
    if not is_key_pair(text):
        return text
    return PUBLIC_KEY_PREFIX + b64encode(b64decode(text.removeprefix(PRIVATE_KEY_PREFIX))[_SEED_BYTES:]).decode()


def generate_secret(random_bytes: bytes) -> SigningSecret:
    """Makes a secret of 24 to 64 bytes from a source of randomness; 32 are usual."""
    return SigningSecret(random_bytes)


def sign(signers: Sequence[Signer], message_id: str, timestamp: int, body: bytes) -> str:
    """Returns the value of `webhook-signature`: one signature for each signer, in their order.

    `timestamp` is seconds since the epoch, as sent in `webhook-timestamp`. An id should have no `.`, which parts it
    from the timestamp. Source: Standard Webhooks, "Signature scheme".
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join([_signature(signer, content) for signer in signers])


def signature_of(secret: SigningSecret, content: bytes) -> str:
    """Returns one `v1` signature of `<webhook-id>.<webhook-timestamp>.<body>`, each as it is on the wire."""
    # Not `hmac.digest`, which lets go of the interpreter's lock for every call: it takes a while to get it back.
    mac = secret.keyed.copy()
    mac.update(content)
    return "v1," + b64encode(mac.digest()).decode()


_SEED_BYTES: Final = 32


def _signature(signer: Signer, content: bytes) -> str:
    if isinstance(signer, SigningKeyPair):
        return "v1a," + b64encode(signer.sign(content)).decode()
    return signature_of(signer, content)


def _decoded(text: str, prefix: str) -> bytes:
    if not text.startswith(prefix):
        raise _secret_refusal(f"does not begin with {prefix!r}")
    encoded = text.removeprefix(prefix)
    try:
        return b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (Base64Error, ValueError):
        # Not chained: the cause would carry the secret along.
        raise _secret_refusal(f"is not base64 after {prefix!r}") from None


def _secret_refusal(problem: str) -> Invalid:
    return Invalid.field(Reason.FIELD_INVALID, "secret", f"the signing secret {problem}")
