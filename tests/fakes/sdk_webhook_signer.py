"""Signs webhooks as the broker does (Standard Webhooks)."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from standardwebhooks import Webhook

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def signed(body: bytes, now: float | None = None) -> dict[str, str]:
    """Returns the headers of a structured CloudEvent."""
    at = int(time.time() if now is None else now)
    return {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "webhook-id": "msg_1",
        "webhook-timestamp": str(at),
        "webhook-signature": Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode()),
    }
