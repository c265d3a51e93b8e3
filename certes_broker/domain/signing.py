"""The signature of webhooks that go out: Standard Webhooks v1.

Theory of operation
-------------------
Standard Webhooks, version 1, signs `<webhook-id>.<webhook-timestamp>.<body>` with HMAC-SHA256 and writes it
`v1,<base64>`. Several signatures stand in one header, parted by spaces: while a secret is being rotated the sender
signs with both, and a receiver that knows either accepts. The timestamp is signed, so a recorded request cannot be
replayed once it is older than the receiver's tolerance. `signatures.py` is the receiver.

A secret appears in no repr, message or error.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from certes_broker.domain.errors import Invalid, Reason

SECRET_PREFIX: Final = "whsec_"
MINIMUM_SECRET_BYTES: Final = 24
MAXIMUM_SECRET_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret that signs webhooks: 24 to 64 bytes. Its repr does not show it.

    Raises `Invalid` / `FIELD_INVALID` if made of fewer or more bytes.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not MINIMUM_SECRET_BYTES <= len(self.key) <= MAXIMUM_SECRET_BYTES:
            raise _secret_refusal(
                f"has {len(self.key)} bytes; {MINIMUM_SECRET_BYTES} to {MAXIMUM_SECRET_BYTES} are allowed"
            )

    @classmethod
    def parse(cls, text: str) -> SigningSecret:
        """Reads `whsec_<base64>`; the padding may be left out, as other senders do.

        Raises `Invalid` / `FIELD_INVALID`.
        """
        if not text.startswith(SECRET_PREFIX):
            raise _secret_refusal(f"does not begin with {SECRET_PREFIX!r}")
        encoded = text.removeprefix(SECRET_PREFIX)
        try:
            key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except (Base64Error, ValueError):
            # Not chained: the cause would carry the secret along.
            raise _secret_refusal(f"is not base64 after {SECRET_PREFIX!r}") from None
        return cls(key)

    @property
    def text(self) -> str:
        """`whsec_<base64>`, to be shown to nobody but the receiver."""
        return SECRET_PREFIX + b64encode(self.key).decode()


def generate_secret(random_bytes: bytes) -> SigningSecret:
    """Makes a secret of 24 to 64 bytes from a source of randomness; 32 are usual."""
    return SigningSecret(random_bytes)


def sign(secrets: Sequence[SigningSecret], message_id: str, timestamp: int, body: bytes) -> str:
    """Returns the value of `webhook-signature`: one `v1` signature for each secret, in their order.

    `timestamp` is seconds since the epoch, as sent in `webhook-timestamp`. An id should have no `.`, which parts it
    from the timestamp. Source: Standard Webhooks, "Signature scheme".
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join([signature_of(secret, content) for secret in secrets])


def signature_of(secret: SigningSecret, content: bytes) -> str:
    """Returns one `v1` signature of `<webhook-id>.<webhook-timestamp>.<body>`, each as it is on the wire."""
    return "v1," + b64encode(hmac.digest(secret.key, content, "sha256")).decode()


def _secret_refusal(problem: str) -> Invalid:
    return Invalid.field(Reason.FIELD_INVALID, "secret", f"the signing secret {problem}")
