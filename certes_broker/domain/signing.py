"""Signatures of webhooks: Standard Webhooks v1 going out, GitHub's coming in.

Theory of operation
-------------------
Standard Webhooks, version 1, signs `<webhook-id>.<webhook-timestamp>.<body>` with HMAC-SHA256 and writes it
`v1,<base64>`. Several signatures stand in one header, parted by spaces: while a secret is being rotated the sender
signs with both, and a receiver that knows either accepts. The timestamp is signed, so a recorded request cannot be
replayed once it is older than the tolerance.

GitHub signs the body alone, with HMAC-SHA256, and writes it `sha256=<hex>`.

Rules: what is signed are the raw bytes as they came, before anybody parsed them. A comparison with a genuine signature
takes the same time wherever the two differ, and every secret is tried. A secret appears in no repr, message or error.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

from certes_broker.domain.errors import Invalid, Reason, Unauthenticated

SECRET_PREFIX: Final = "whsec_"
MINIMUM_SECRET_BYTES: Final = 24
MAXIMUM_SECRET_BYTES: Final = 64
TIMESTAMP_TOLERANCE: Final = 300
"""Seconds by which a receiver's clock and a sender's may differ."""


@unique
class SignatureProblem(StrEnum):
    """Why a signature was not accepted; the `problem` in the metadata of `SIGNATURE_INVALID`."""

    HEADER_MISSING = "HEADER_MISSING"
    HEADER_MALFORMED = "HEADER_MALFORMED"
    TIMESTAMP_TOO_OLD = "TIMESTAMP_TOO_OLD"
    TIMESTAMP_TOO_NEW = "TIMESTAMP_TOO_NEW"
    NO_MATCH = "NO_MATCH"


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
    return " ".join(_signatures(secrets, message_id, str(timestamp), body))


def verify(
    secrets: Sequence[SigningSecret],
    message_id: str | None,
    timestamp_header: str | None,
    signature_header: str | None,
    body: bytes,
    now: float,
    tolerance: float = TIMESTAMP_TOLERANCE,
) -> None:
    """Proves that one of the secrets signed the message, and did so within `tolerance` seconds of `now`.

    The first five are the three headers, `webhook-id`, `webhook-timestamp` and `webhook-signature`, None where the
    request has none, and the raw body. Signatures of other versions than `v1` are passed over, as the
    specification asks.

    Raises `Unauthenticated` / `SIGNATURE_INVALID`, with a `SignatureProblem` as `problem` in its metadata.
    """
    if not message_id or not timestamp_header or not signature_header:
        missing = [
            name
            for name, value in (
                ("webhook-id", message_id),
                ("webhook-timestamp", timestamp_header),
                ("webhook-signature", signature_header),
            )
            if not value
        ]
        raise _refusal(SignatureProblem.HEADER_MISSING, f"{' and '.join(missing)} missing")
    _check_timestamp(timestamp_header, now, tolerance)
    genuine = _signatures(secrets, message_id, timestamp_header, body)
    claimed = [part for part in signature_header.split(" ") if part.startswith(_V1)]
    if not claimed:
        raise _refusal(
            SignatureProblem.HEADER_MALFORMED, f"webhook-signature has no signature that begins with {_V1!r}"
        )
    if not _any_equal(genuine, claimed):
        raise _refusal(SignatureProblem.NO_MATCH, "no signature in webhook-signature was made with a known secret")


def verify_github(secrets: Sequence[bytes], signature_header: str | None, body: bytes) -> None:
    """Proves that one of the secrets signed the raw body, as `X-Hub-Signature-256` claims.

    `signature_header` is None where the request has none. An empty secret proves nothing and is passed over.

    Raises `Unauthenticated` / `SIGNATURE_INVALID`, with a `SignatureProblem` as `problem` in its metadata. Source:
    GitHub, "Validating webhook deliveries".
    """
    if not signature_header:
        raise _refusal(SignatureProblem.HEADER_MISSING, "X-Hub-Signature-256 missing")
    if not signature_header.startswith(_GITHUB):
        raise _refusal(SignatureProblem.HEADER_MALFORMED, f"X-Hub-Signature-256 does not begin with {_GITHUB!r}")
    genuine = [_GITHUB + hmac.digest(secret, body, "sha256").hex() for secret in secrets if secret]
    if not _any_equal(genuine, [signature_header]):
        raise _refusal(SignatureProblem.NO_MATCH, "X-Hub-Signature-256 was not made with a known secret")


_V1: Final = "v1,"
_GITHUB: Final = "sha256="
_LONGEST_TIMESTAMP: Final = 15


def _signatures(secrets: Sequence[SigningSecret], message_id: str, timestamp: str, body: bytes) -> list[str]:
    content = f"{message_id}.{timestamp}.".encode() + body
    return [_V1 + b64encode(hmac.digest(secret.key, content, "sha256")).decode() for secret in secrets]


def _any_equal(genuine: Sequence[str], claimed: Sequence[str]) -> bool:
    """Compares every pair, in a time that does not tell which one was equal nor where others differed."""
    found = False
    for one in genuine:
        for other in claimed:
            found |= hmac.compare_digest(one.encode(), other.encode(errors="replace"))
    return found


def _check_timestamp(header: str, now: float, tolerance: float) -> None:
    if not (header.isascii() and header.isdigit() and len(header) <= _LONGEST_TIMESTAMP):
        raise _refusal(SignatureProblem.HEADER_MALFORMED, "webhook-timestamp is no number of whole seconds")
    age = now - int(header)
    if age > tolerance:
        raise _refusal(
            SignatureProblem.TIMESTAMP_TOO_OLD, f"webhook-timestamp is {age:.0f} s old; {tolerance:g} s are allowed"
        )
    if -age > tolerance:
        raise _refusal(
            SignatureProblem.TIMESTAMP_TOO_NEW,
            f"webhook-timestamp is {-age:.0f} s in the future; {tolerance:g} s are allowed",
        )


def _refusal(problem: SignatureProblem, text: str) -> Unauthenticated:
    return Unauthenticated(
        Reason.SIGNATURE_INVALID,
        f"the webhook's signature is not accepted: {text}",
        metadata={"problem": problem.value},
    )


def _secret_refusal(problem: str) -> Invalid:
    return Invalid.field(Reason.FIELD_INVALID, "secret", f"the signing secret {problem}")
