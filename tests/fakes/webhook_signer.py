"""Signs requests as the providers of webhooks do, by any scheme. Written apart from what verifies them."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from typing import assert_never

from certes_broker.domain.signature_schemes import (
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

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
"""A secret that every scheme can use, but for basic authentication, which wants `user:` before it."""


def secret_for(scheme: SignatureScheme) -> str:
    return f"user:{SECRET}" if isinstance(scheme, BasicScheme) else SECRET


def signed_headers(scheme: SignatureScheme, body: bytes, now: int, secret: str = SECRET) -> dict[str, str]:
    """Returns the headers that a scheme wants; `now` is seconds since the epoch."""
    key = secret.encode()
    match scheme:
        case HmacScheme(header, algorithm, encoding, prefix):
            digest = hmac.new(key, body, getattr(hashlib, algorithm.value)).digest()
            written = digest.hex() if encoding is Encoding.HEX else b64encode(digest).decode()
            return {header: prefix + written}
        case StripeScheme(header):
            return {header: f"t={now},v1={_hex(key, b'%d.' % now + body)}"}
        case SlackScheme():
            signature = _hex(key, b"v0:%d:" % now + body)
            return {"x-slack-request-timestamp": str(now), "x-slack-signature": f"v0={signature}"}
        case StandardWebhooksScheme():
            digest = hmac.new(bytes(range(32)), b"msg_1.%d." % now + body, hashlib.sha256).digest()
            signature = b64encode(digest).decode()
            return {"webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": f"v1,{signature}"}
        case TokenScheme(header):
            return {header: secret}
        case BasicScheme():
            return {"authorization": "Basic " + b64encode(f"user:{secret}".encode()).decode()}
        case NoScheme():
            return {}
        case _:
            assert_never(scheme)


def _hex(key: bytes, content: bytes) -> str:
    return hmac.new(key, content, hashlib.sha256).hexdigest()
