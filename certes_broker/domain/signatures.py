"""Signatures of foreign webhooks: proves that whoever sent a request knows a secret of its source.

Theory of operation
-------------------
Three kinds of scheme stand here. *Signatures of the body* (HMAC, Stripe, Slack, Standard Webhooks) prove who made the
bytes; those that sign a timestamp with them also prove when, so that a recorded request is worthless once it is older than
the tolerance. *Credentials* (token, basic) prove who sends, and nothing of what was sent. *None* proves nothing.

What a scheme signs is written beside its function, with the document that says so.

Rules
-----
* What is signed are the raw bytes of the body, before anybody parsed them.
* Every secret is tried, every signature in the request too, and a comparison takes the same time wherever two differ.
  An empty secret, or one that the scheme cannot use, proves nothing and is passed over.
* A header that came twice is refused: nobody knows which one another reader would have taken.
* A number of seconds is ASCII digits and nothing else. A header of many signatures is refused, because each costs time.
* No secret, and nothing that was compared with one, is in an error.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from enum import StrEnum, unique
from hashlib import sha256
from typing import Final, assert_never

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from certes_broker.domain.errors import Reason, Unauthenticated
from certes_broker.domain.signature_schemes import (
    AUTHORIZATION,
    SLACK_SIGNATURE,
    SLACK_TIMESTAMP,
    WEBHOOK_ID,
    WEBHOOK_SIGNATURE,
    WEBHOOK_TIMESTAMP,
    BasicScheme,
    Encoding,
    HmacScheme,
    NoScheme,
    SignatureScheme,
    SlackScheme,
    StandardWebhooksScheme,
    StripeScheme,
    TokenScheme,
)
from certes_broker.domain.signing import signature_of
from certes_broker.domain.source_secrets import signing_key, verifying_key
from certes_broker.domain.webhook_headers import WebhookHeaders

MAXIMUM_SIGNATURES: Final = 8
"""Signatures in one header: two while a secret is rotated, and room for versions that are not known here."""


@unique
class SignatureProblem(StrEnum):
    """Why a request was not accepted; the `problem` in the metadata of `SIGNATURE_INVALID`."""

    HEADER_MISSING = "HEADER_MISSING"
    HEADER_MALFORMED = "HEADER_MALFORMED"
    TIMESTAMP_TOO_OLD = "TIMESTAMP_TOO_OLD"
    TIMESTAMP_TOO_NEW = "TIMESTAMP_TOO_NEW"
    NO_MATCH = "NO_MATCH"
    FORWARDED = "FORWARDED"


def verify(scheme: SignatureScheme, secrets: Sequence[str], headers: WebhookHeaders, body: bytes, now: float) -> None:
    """Proves that a request was sent by somebody who knows one of the secrets, by what its scheme asks for.

    `secrets` are spelled as in settings; `now` is seconds since the epoch, by which timestamps are judged.

    Raises `Unauthenticated` / `SIGNATURE_INVALID`, with a `SignatureProblem` as `problem` in its metadata.
    """
    match scheme:
        case HmacScheme():
            _verify_hmac(scheme, secrets, headers, body)
        case StripeScheme():
            _verify_stripe(scheme, secrets, headers, body, now)
        case SlackScheme():
            _verify_slack(scheme, secrets, headers, body, now)
        case StandardWebhooksScheme():
            _verify_standard_webhooks(scheme, secrets, headers, body, now)
        case TokenScheme(header):
            _verify_credential(header, _header(headers, header), secrets)
        case BasicScheme():
            _verify_credential(AUTHORIZATION, _basic_credentials(headers), secrets)
        case NoScheme():
            _check_not_forwarded(headers)
        case _:
            assert_never(scheme)


def _verify_hmac(scheme: HmacScheme, secrets: Sequence[str], headers: WebhookHeaders, body: bytes) -> None:
    """GitHub, "Validating webhook deliveries"; Shopify, "Verify webhook deliveries"; and many others: over `<body>`."""
    value = _header(headers, scheme.header)
    if not value.startswith(scheme.prefix):
        raise _malformed(f"{scheme.header} does not begin with {scheme.prefix!r}")
    claimed = value.removeprefix(scheme.prefix)
    digests = [hmac.digest(secret.encode(), body, scheme.algorithm.value) for secret in secrets if secret]
    if scheme.encoding is Encoding.HEX:
        _check_equal([digest.hex() for digest in digests], [claimed.lower()], scheme.header)
    else:
        _check_equal([b64encode(digest).decode() for digest in digests], [claimed], scheme.header)


def _verify_stripe(
    scheme: StripeScheme, secrets: Sequence[str], headers: WebhookHeaders, body: bytes, now: float
) -> None:
    """Stripe, "Verify webhook signatures"; Calendly, "Webhook signatures": over `<t>.<body>`.

    The header is `t=<seconds>,v1=<hex>`, with several v1 while a secret is rolled; other schemes in it are passed over,
    as Stripe asks.
    """
    header = scheme.header
    times, claimed = [], []
    for element in _header(headers, header).split(","):
        key, _, value = element.strip().partition("=")
        if key == "t":
            times.append(value)
        elif key == "v1":
            claimed.append(value.lower())
    if len(times) != 1 or not claimed:
        raise _malformed(f"{header} has not one t and at least one v1")
    _check_few(claimed, header)
    _check_time(times[0], f"t in {header}", scheme.tolerance, now)
    content = f"{times[0]}.".encode() + body
    genuine = [hmac.digest(secret.encode(), content, "sha256").hex() for secret in secrets if secret]
    _check_equal(genuine, claimed, header)


def _verify_slack(
    scheme: SlackScheme, secrets: Sequence[str], headers: WebhookHeaders, body: bytes, now: float
) -> None:
    """Slack, "Verifying requests from Slack": over `v0:<timestamp>:<body>`, written `v0=<hex>`."""
    timestamp, value = _header(headers, SLACK_TIMESTAMP), _header(headers, SLACK_SIGNATURE)
    _check_time(timestamp, SLACK_TIMESTAMP, scheme.tolerance, now)
    if not value.startswith(_V0):
        raise _malformed(f"{SLACK_SIGNATURE} does not begin with {_V0!r}")
    content = f"v0:{timestamp}:".encode() + body
    genuine = [_V0 + hmac.digest(secret.encode(), content, "sha256").hex() for secret in secrets if secret]
    _check_equal(genuine, [value.lower()], SLACK_SIGNATURE)


def _verify_standard_webhooks(
    scheme: StandardWebhooksScheme, secrets: Sequence[str], headers: WebhookHeaders, body: bytes, now: float
) -> None:
    """Standard Webhooks, "Signature scheme": over `<webhook-id>.<webhook-timestamp>.<body>`.

    Signatures are parted by spaces, each with its version: `v1` an HMAC-SHA256, `v1a` an ed25519 signature. Others are
    passed over, as the specification asks.
    """
    message_id = _header(headers, WEBHOOK_ID)
    timestamp = _header(headers, WEBHOOK_TIMESTAMP)
    parts = _header(headers, WEBHOOK_SIGNATURE).split(" ")
    _check_time(timestamp, WEBHOOK_TIMESTAMP, scheme.tolerance, now)
    symmetric = [part for part in parts if part.startswith(_V1)]
    asymmetric = [part.removeprefix(_V1A) for part in parts if part.startswith(_V1A)]
    if not symmetric and not asymmetric:
        raise _malformed(f"{WEBHOOK_SIGNATURE} has no signature that begins with {_V1!r} or {_V1A!r}")
    _check_few([*symmetric, *asymmetric], WEBHOOK_SIGNATURE)
    content = _raw(f"{message_id}.{timestamp}.") + body
    if symmetric:
        signers = [signer for secret in secrets if (signer := signing_key(secret)) is not None]
        if _any_equal([signature_of(signer, content) for signer in signers], symmetric):
            return
    keys = [key for secret in secrets if (key := verifying_key(secret)) is not None] if asymmetric else ()
    if _any_signed(keys, asymmetric, content):
        return
    raise _no_match(f"no signature in {WEBHOOK_SIGNATURE} was made with a known secret")


def _basic_credentials(headers: WebhookHeaders) -> str:
    """Returns `user:password` of HTTP basic authentication (RFC 7617), as Latin-1."""
    scheme, _, encoded = _header(headers, AUTHORIZATION).partition(" ")
    if scheme.lower() != "basic":
        raise _malformed(f"{AUTHORIZATION} is not of the scheme Basic")
    try:
        return b64decode(encoded.strip(" ").encode("ascii"), validate=True).decode("latin-1")
    except (Base64Error, ValueError):
        # Not chained: the cause would carry along what may be a password.
        raise _malformed(f"{AUTHORIZATION} has no base64 after Basic") from None


def _verify_credential(header: str, claimed: str, secrets: Sequence[str]) -> None:
    # Of equal length by hashing, so that a comparison does not tell how long a secret is either.
    found = sha256(_raw(claimed)).digest()
    matches = [hmac.compare_digest(sha256(secret.encode()).digest(), found) for secret in secrets if secret]
    if not any(matches):
        raise _no_match(f"{header} holds no known secret")


def _check_not_forwarded(headers: WebhookHeaders) -> None:
    name = next((name for name, _ in headers.pairs if _FORWARDING.fullmatch(name)), None)
    if name is not None:
        raise _refusal(
            SignatureProblem.FORWARDED,
            f"it has the header {name}, so a proxy passed it on, and a source without signatures takes nothing from "
            "other machines",
        )


_V0: Final = "v0="
_V1: Final = "v1,"
_V1A: Final = "v1a,"
_LONGEST_TIMESTAMP: Final = 15
# By these, proxies and tunnels say for whom they pass a request on, or that they do.
_FORWARDING: Final = re.compile(
    r"forwarded|via|x-forwarded(?:-.*)?|x-original-.*|x-originating-ip|x-real-ip|x-remote-(?:addr|ip)|x-host"
    r"|(?:x-)?(?:cluster-)?client-ip|true-client-ip|(?:wl-)?proxy-client-ip|x-proxyuser-ip|front-end-https"
    r"|cdn-loop|x-nginx-proxy|fastly-client-ip|x-arr-.*|x-cloud-trace-context"
    r"|(?:cf|fly|ngrok|tailscale|x-amzn|x-appengine|x-azure|x-envoy|x-vercel)-.*"
)


def _header(headers: WebhookHeaders, name: str) -> str:
    value = headers.get(name)
    if not value:
        raise _refusal(SignatureProblem.HEADER_MISSING, f"{name} is missing")
    if headers.is_repeated(name):
        raise _malformed(f"{name} came more than once")
    return value


def _check_few(signatures: Sequence[str], header: str) -> None:
    if len(signatures) > MAXIMUM_SIGNATURES:
        raise _malformed(f"{header} has {len(signatures)} signatures; {MAXIMUM_SIGNATURES} are allowed")


def _check_time(text: str, name: str, tolerance: float, now: float) -> None:
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_TIMESTAMP):
        raise _malformed(f"{name} is no number of whole seconds")
    age = now - int(text)
    if age > tolerance:
        raise _refusal(SignatureProblem.TIMESTAMP_TOO_OLD, f"{name} is {age:.0f} s old; {tolerance:g} s are allowed")
    if -age > tolerance:
        raise _refusal(
            SignatureProblem.TIMESTAMP_TOO_NEW, f"{name} is {-age:.0f} s in the future; {tolerance:g} s are allowed"
        )


def _check_equal(genuine: Sequence[str], claimed: Sequence[str], header: str) -> None:
    if not _any_equal(genuine, claimed):
        raise _no_match(f"{header} was not made with a known secret")


def _any_equal(genuine: Sequence[str], claimed: Sequence[str]) -> bool:
    """Compares every pair, in a time that does not tell which one was equal nor where others differed."""
    found = False
    for one in genuine:
        for other in claimed:
            found |= hmac.compare_digest(one.encode(), _raw(other))
    return found


def _any_signed(keys: Sequence[Ed25519PublicKey], claimed: Sequence[str], content: bytes) -> bool:
    return any(_is_signed(key, signature, content) for key in keys for signature in claimed)


def _is_signed(key: Ed25519PublicKey, signature: str, content: bytes) -> bool:
    # Nothing here is secret, so nothing need take the same time.
    try:
        key.verify(b64decode(signature, validate=True), content)
    except (InvalidSignature, Base64Error, ValueError):
        return False
    return True


def _raw(value: str) -> bytes:
    """Returns the bytes that a header's value came as."""
    return value.encode("latin-1", errors="replace")


def _malformed(text: str) -> Unauthenticated:
    return _refusal(SignatureProblem.HEADER_MALFORMED, text)


def _no_match(text: str) -> Unauthenticated:
    return _refusal(SignatureProblem.NO_MATCH, text)


def _refusal(problem: SignatureProblem, text: str) -> Unauthenticated:
    return Unauthenticated(
        Reason.SIGNATURE_INVALID,
        f"the webhook's signature is not accepted: {text}",
        metadata={"problem": problem.value},
    )
