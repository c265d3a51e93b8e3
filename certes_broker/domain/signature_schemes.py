"""How the requests of a source are signed: the schemes, each with its settings. `signatures.py` verifies them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

DEFAULT_TOLERANCE: Final = 300.0
"""Seconds by which a signed request may be old, or early."""


@unique
class HashAlgorithm(StrEnum):
    """A hash, by the name that `hmac` knows it by."""

    SHA256 = "sha256"
    SHA512 = "sha512"
    SHA1 = "sha1"


@unique
class Encoding(StrEnum):
    """How the bytes of a signature are written."""

    HEX = "hex"
    BASE64 = "base64"


@dataclass(frozen=True, slots=True)
class HmacScheme:
    """An HMAC of the raw body in a header (lower-case name), after `prefix`. GitHub, Shopify and many others."""

    header: str
    algorithm: HashAlgorithm = HashAlgorithm.SHA256
    encoding: Encoding = Encoding.HEX
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class StripeScheme:
    """`t=<seconds>,v1=<hex>` in a header, over `<seconds>.<body>`. `tolerance` is seconds."""

    header: str = "stripe-signature"
    tolerance: float = DEFAULT_TOLERANCE


@dataclass(frozen=True, slots=True)
class SlackScheme:
    """`v0=<hex>` in `x-slack-signature`, over `v0:<seconds>:<body>`. `tolerance` is seconds."""

    tolerance: float = DEFAULT_TOLERANCE


@dataclass(frozen=True, slots=True)
class StandardWebhooksScheme:
    """Standard Webhooks: v1 by `whsec_` secrets, v1a by `whpk_` public keys. `tolerance` is seconds."""

    tolerance: float = DEFAULT_TOLERANCE


@dataclass(frozen=True, slots=True)
class TokenScheme:
    """A shared token in a header (lower-case name), which is a credential."""

    header: str


@dataclass(frozen=True, slots=True)
class BasicScheme:
    """HTTP basic authentication; a secret is `user:password`."""


@dataclass(frozen=True, slots=True)
class NoScheme:
    """Nothing. Only where the gateway listens on loopback."""


SignatureScheme = (
    HmacScheme | StripeScheme | SlackScheme | StandardWebhooksScheme | TokenScheme | BasicScheme | NoScheme
)
