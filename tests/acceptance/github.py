"""GitHub's side of a source: the configuration that declares it, and signed posts to it."""

from __future__ import annotations

import hashlib
import hmac
import uuid

import httpx

from scripts.broker_process import BrokerProcess

SECRET = "the secret of the source"


def source(name: str = "github", secret: str = SECRET) -> str:
    """The table that declares a source."""
    return f'[[sources]]\nname = "{name}"\nprovider = "github"\naudience = "everyone"\nsecrets = ["{secret}"]\n'


CONFIG = source()


def signed(event: str, body: bytes, *, secret: str = SECRET, delivery_id: str | None = None) -> dict[str, str]:
    """The headers of one webhook."""
    return {
        "content-type": "application/json",
        "x-github-event": event,
        "x-github-delivery": delivery_id or str(uuid.uuid4()),
        "x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }


def url(broker: BrokerProcess, name: str = "github") -> str:
    """Where a source takes webhooks."""
    return f"http://{broker.http}/events/{name}"


def http() -> httpx.AsyncClient:
    """A client that no proxy of the surroundings gets in the way of."""
    return httpx.AsyncClient(trust_env=False, timeout=60)
