"""The secrets of sources: which texts can be one, how one is made, and the keys that Standard Webhooks spells in them."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from typing import Final, assert_never

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.signature_schemes import (
    BasicScheme,
    HmacScheme,
    NoScheme,
    SignatureScheme,
    SlackScheme,
    StandardWebhooksScheme,
    StripeScheme,
    TokenScheme,
)
from certes_broker.domain.signing import PUBLIC_KEY_PREFIX, SigningSecret, generate_secret

MAXIMUM_SECRET_LENGTH: Final = 1024
GENERATED_USER: Final = "certes"
"""The user of a basic secret that the broker makes."""


def check_source_secret(scheme: SignatureScheme, text: str) -> None:
    """Refuses a text that can verify nothing under a scheme. The refusal does not repeat it.

    Raises `Invalid` / `FIELD_INVALID` for `secret`.
    """
    if not text:
        raise _refusal("is empty")
    if len(text) > MAXIMUM_SECRET_LENGTH:
        raise _refusal(f"has {len(text)} characters; {MAXIMUM_SECRET_LENGTH} are allowed")
    if any("\ud800" <= character <= "\udfff" for character in text):
        # How Python shows bytes of the environment that are no text. To sign with it would fail at every request.
        raise _refusal("is not UTF-8")
    match scheme:
        case HmacScheme() | StripeScheme() | SlackScheme():
            return
        case StandardWebhooksScheme():
            if text.startswith(PUBLIC_KEY_PREFIX):
                if verifying_key(text) is None:
                    raise _refusal(f"is no ed25519 public key in base64 after {PUBLIC_KEY_PREFIX!r}")
            else:
                SigningSecret.parse(text)
        case TokenScheme():
            # What a header cannot carry could never match: "field values ... excluding leading and trailing whitespace".
            if text != text.strip() or not text.isprintable():
                raise _refusal("has white space around it, or control characters in it, which no header can carry")
        case BasicScheme():
            if ":" not in text or not text.isprintable():
                raise _refusal("is not of the form user:password")
        case NoScheme():
            raise _refusal("is of no use: the scheme has none")
        case _:
            assert_never(scheme)


def generate_source_secret(scheme: SignatureScheme, random_bytes: bytes) -> str:
    """Makes a secret for a scheme from 24 to 64 bytes of randomness; 32 are usual.

    Standard Webhooks gets one for v1. Empty for the scheme that has none.
    """
    match scheme:
        case HmacScheme() | StripeScheme() | SlackScheme() | TokenScheme():
            return random_bytes.hex()
        case StandardWebhooksScheme():
            return generate_secret(random_bytes).text
        case BasicScheme():
            return f"{GENERATED_USER}:{random_bytes.hex()}"
        case NoScheme():
            return ""
        case _:
            assert_never(scheme)


def signing_key(text: str) -> SigningSecret | None:
    """Reads a `whsec_` secret, which verifies v1; None if it is none."""
    try:
        return SigningSecret.parse(text)
    except Invalid:
        return None


def verifying_key(text: str) -> Ed25519PublicKey | None:
    """Reads a `whpk_` public key, which verifies v1a; None if it is none. The padding may be left out."""
    if not text.startswith(PUBLIC_KEY_PREFIX):
        return None
    encoded = text.removeprefix(PUBLIC_KEY_PREFIX)
    try:
        return Ed25519PublicKey.from_public_bytes(b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
    except (Base64Error, ValueError):
        return None


def _refusal(problem: str) -> Invalid:
    return Invalid.field(Reason.FIELD_INVALID, "secret", f"the secret {problem}")
