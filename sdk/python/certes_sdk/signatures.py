"""Signatures of webhooks, judged as Standard Webhooks says (https://www.standardwebhooks.com).

Signed is `<webhook-id>.<webhook-timestamp>.<body>`, the body byte for byte as it came. `webhook-signature` has signatures parted
by spaces: `v1,` and an HMAC-SHA256 in base64, `v1a,` and an ed25519 signature in base64. Others are passed over, as the
specification asks.

Rules
-----
* Every key is tried with every signature, and a comparison takes the same time wherever two differ.
* A header that came twice is refused: nobody knows which one another reader would have taken. So are more signatures than
  `MAXIMUM_SIGNATURES`, because each costs time.
* No key, and nothing that was compared with one, is in an error.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from certes_sdk.errors import CertesError

TOLERANCE: Final = 300
"""Seconds that a webhook may be old, or ahead of the clock."""
MAXIMUM_SIGNATURES: Final = 8

_SECRET: Final = "whsec_"
_PUBLIC: Final = "whpk_"
_SECRET_BYTES: Final = range(24, 65)
_PUBLIC_BYTES: Final = 32
_V1: Final = "v1,"
_V1A: Final = "v1a,"
_SECONDS: Final = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """A secret of broker and application (`whsec_…`), which verifies v1."""

    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key of the broker (`whpk_…`), which verifies v1a."""

    key: Ed25519PublicKey = field(repr=False)


SigningKey = SharedSecret | PublicKey


def read_key(text: str) -> SigningKey | None:
    """Reads `whsec_…` or `whpk_…`; None if it is neither."""
    if text.startswith(_SECRET):
        secret = _decode(text.removeprefix(_SECRET))
        return SharedSecret(secret) if secret is not None and len(secret) in _SECRET_BYTES else None
    if text.startswith(_PUBLIC):
        public = _decode(text.removeprefix(_PUBLIC))
        if public is not None and len(public) == _PUBLIC_BYTES:
            return PublicKey(Ed25519PublicKey.from_public_bytes(public))
    return None


def verify(keys: Sequence[SigningKey], headers: Iterable[tuple[str, str]], body: bytes, now: float) -> None:
    """Proves that somebody who has one of the keys sent a webhook.

    Names of `headers` may be in any case; a character of a value stands for a byte. `now` is seconds since the epoch. Raises
    `SIGNATURE_INVALID`, with what is wrong as `problem` in the metadata; `NO_MATCH` if no key fits.
    """
    found = _signature_headers(headers)
    identifier, timestamp, signatures = (_single(name, found[name]) for name in _HEADERS)
    _check_time(timestamp, now)
    parts = signatures.split(" ")
    shared = [part for part in parts if part.startswith(_V1)]
    public = [part.removeprefix(_V1A) for part in parts if part.startswith(_V1A)]
    if not shared and not public:
        raise _refusal("HEADER_MALFORMED", f"webhook-signature has nothing that begins with {_V1!r} or {_V1A!r}")
    if len(shared) + len(public) > MAXIMUM_SIGNATURES:
        raise _refusal("HEADER_MALFORMED", f"webhook-signature has more than {MAXIMUM_SIGNATURES} signatures")
    content = _bytes(f"{identifier}.{timestamp}.") + body
    secrets = [key.key for key in keys if isinstance(key, SharedSecret)] if shared else []
    publics = [key.key for key in keys if isinstance(key, PublicKey)] if public else []
    if not (_any_equal(secrets, shared, content) | _any_signed(publics, public, content)):
        raise _refusal("NO_MATCH", "no signature was made with a key that is known here")


_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


def _signature_headers(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in _HEADERS}
    for name, value in headers:
        if (lower := name.lower()) in found:
            found[lower].append(value)
    return found


def _single(name: str, values: list[str]) -> str:
    if len(values) > 1:
        raise _refusal("HEADER_MALFORMED", f"{name} came more than once")
    if not values or not values[0]:
        raise _refusal("HEADER_MISSING", f"{name} is missing")
    return values[0]


def _check_time(text: str, now: float) -> None:
    if not _SECONDS.fullmatch(text):
        raise _refusal("HEADER_MALFORMED", "webhook-timestamp is no number of seconds")
    if int(text) < now - TOLERANCE:
        raise _refusal("TIMESTAMP_TOO_OLD", f"webhook-timestamp is more than {TOLERANCE} s in the past")
    if int(text) > now + TOLERANCE:
        raise _refusal("TIMESTAMP_TOO_NEW", f"webhook-timestamp is more than {TOLERANCE} s in the future")


def _any_equal(secrets: Sequence[bytes], claimed: Sequence[str], content: bytes) -> bool:
    genuine = [_V1.encode() + b64encode(hmac.digest(secret, content, "sha256")) for secret in secrets]
    # All are compared, whichever fits.
    return True in [hmac.compare_digest(one, _bytes(other)) for one in genuine for other in claimed]


def _any_signed(keys: Sequence[Ed25519PublicKey], claimed: Sequence[str], content: bytes) -> bool:
    signatures = [signature for text in claimed if (signature := _decode(text)) is not None]
    return True in [_signed(key, signature, content) for key in keys for signature in signatures]


def _signed(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def _decode(text: str) -> bytes | None:
    """Decodes base64, whose padding may be left out; None if it is none."""
    try:
        return b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), validate=True)
    except (Base64Error, ValueError):
        return None


def _bytes(text: str) -> bytes:
    """Returns the bytes that a header had. A character that stands for none makes the text equal to nothing."""
    return text.encode("latin-1", errors="xmlcharrefreplace")


def _refusal(problem: str, message: str) -> CertesError:
    return CertesError(
        "UNAUTHENTICATED",
        "SIGNATURE_INVALID",
        f"The webhook is not accepted: {message}.",
        metadata={"problem": problem},
    )
