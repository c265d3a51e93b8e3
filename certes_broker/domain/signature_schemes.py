"""How the requests of a source are signed: the schemes, each with its settings. `signatures.py` verifies them.

Every value is sound: making one that could not verify anything raises `Invalid` / `FIELD_INVALID`, with the name of the
field here, such as `header`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final, assert_never

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.webhook_headers import parse_header_name

DEFAULT_TOLERANCE: Final = 300.0
"""Seconds by which a signed request may be old, or early."""
MINIMUM_TOLERANCE: Final = 1.0
MAXIMUM_TOLERANCE: Final = 3600.0
MAXIMUM_PREFIX_LENGTH: Final = 64


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

    def __post_init__(self) -> None:
        _check_header(self.header)
        if len(self.prefix) > MAXIMUM_PREFIX_LENGTH or not (self.prefix.isascii() and self.prefix.isprintable()):
            raise Invalid.field(
                Reason.FIELD_INVALID, "prefix", f"is not at most {MAXIMUM_PREFIX_LENGTH} printable ASCII characters"
            )


@dataclass(frozen=True, slots=True)
class StripeScheme:
    """`t=<seconds>,v1=<hex>` in a header, over `<seconds>.<body>`. `tolerance` is seconds."""

    header: str = "stripe-signature"
    tolerance: float = DEFAULT_TOLERANCE

    def __post_init__(self) -> None:
        _check_header(self.header)
        _check_tolerance(self.tolerance)


@dataclass(frozen=True, slots=True)
class SlackScheme:
    """`v0=<hex>` in `x-slack-signature`, over `v0:<seconds>:<body>`. `tolerance` is seconds."""

    tolerance: float = DEFAULT_TOLERANCE

    def __post_init__(self) -> None:
        _check_tolerance(self.tolerance)


@dataclass(frozen=True, slots=True)
class StandardWebhooksScheme:
    """Standard Webhooks: v1 by `whsec_` secrets, v1a by `whpk_` public keys. `tolerance` is seconds."""

    tolerance: float = DEFAULT_TOLERANCE

    def __post_init__(self) -> None:
        _check_tolerance(self.tolerance)


@dataclass(frozen=True, slots=True)
class TokenScheme:
    """A shared token in a header (lower-case name), which is a credential."""

    header: str

    def __post_init__(self) -> None:
        _check_header(self.header)


@dataclass(frozen=True, slots=True)
class BasicScheme:
    """HTTP basic authentication; a secret is `user:password`."""


@dataclass(frozen=True, slots=True)
class NoScheme:
    """Nothing. Only where the gateway listens on loopback."""


SignatureScheme = (
    HmacScheme | StripeScheme | SlackScheme | StandardWebhooksScheme | TokenScheme | BasicScheme | NoScheme
)

SLACK_SIGNATURE: Final = "x-slack-signature"
SLACK_TIMESTAMP: Final = "x-slack-request-timestamp"
WEBHOOK_ID: Final = "webhook-id"
WEBHOOK_TIMESTAMP: Final = "webhook-timestamp"
WEBHOOK_SIGNATURE: Final = "webhook-signature"
AUTHORIZATION: Final = "authorization"


def needs_secret(scheme: SignatureScheme) -> bool:
    """Says whether a source of this scheme has secrets."""
    return not isinstance(scheme, NoScheme)


def credential_header(scheme: SignatureScheme) -> str | None:
    """Returns the header that holds a credential; None for schemes whose headers prove something of the body alone."""
    match scheme:
        case TokenScheme(header):
            return header
        case BasicScheme():
            return AUTHORIZATION
        case _:
            return None


def signature_headers(scheme: SignatureScheme) -> tuple[str, ...]:
    """Returns the headers that a scheme reads, by their lower-case names."""
    match scheme:
        case HmacScheme(header) | StripeScheme(header) | TokenScheme(header):
            return (header,)
        case SlackScheme():
            return (SLACK_SIGNATURE, SLACK_TIMESTAMP)
        case StandardWebhooksScheme():
            return (WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE)
        case BasicScheme():
            return (AUTHORIZATION,)
        case NoScheme():
            return ()
        case _:
            assert_never(scheme)


def _check_header(header: str) -> None:
    if parse_header_name(header) != header:
        raise Invalid.field(Reason.FIELD_INVALID, "header", f"{header!r} is not in lower case")


def _check_tolerance(tolerance: float) -> None:
    if not MINIMUM_TOLERANCE <= tolerance <= MAXIMUM_TOLERANCE:
        raise Invalid.field(
            Reason.FIELD_INVALID,
            "tolerance",
            f"is {tolerance:g} s; {MINIMUM_TOLERANCE:g} s to {MAXIMUM_TOLERANCE:g} s are allowed",
        )
