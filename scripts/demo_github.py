"""GitHub, as far as the demo needs it: it posts webhooks, signed over the bytes, and posts them again if asked to."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import httpx

PAYLOADS: Final = Path(__file__).resolve().parent / "demo_payloads"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook: the name of its event, what it is about, its body, and the id that all posts of it carry."""

    event: str
    repository: str
    about: str
    body: bytes = field(repr=False)
    delivery_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @classmethod
    def of_payload(cls, name: str) -> Webhook:
        """Makes a new webhook with one of the payloads in `demo_payloads`; its name begins with the event's."""
        body = (PAYLOADS / f"{name}.json").read_bytes()
        payload = json.loads(body)
        event = name.partition("-")[0]
        repository = payload.get("repository", {}).get("full_name", "")
        return cls(event, repository, repository or f"{payload['organization']['login']} (a team)", body)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway answered, and how many seconds that took."""

    status: int
    document: Mapping[str, Any]
    took: float


class GitHub:
    """Posts webhooks to one source. `begun` says when the first post of each delivery id began."""

    def __init__(self, client: httpx.AsyncClient, url: str, secret: str) -> None:
        self.url = url
        self.begun: dict[str, float] = {}
        self._client = client
        self._secret = secret

    async def post(self, webhook: Webhook, *, secret: str | None = None) -> Answer:
        """Posts a webhook as GitHub does; `secret` signs instead of the right one."""
        signature = hmac.new((secret or self._secret).encode(), webhook.body, hashlib.sha256).hexdigest()
        headers = {
            "content-type": "application/json",
            "user-agent": "GitHub-Hookshot/demo",
            "x-github-event": webhook.event,
            "x-github-delivery": webhook.delivery_id,
            "x-hub-signature-256": f"sha256={signature}",
        }
        began = perf_counter()
        self.begun.setdefault(webhook.delivery_id, began)
        response = await self._client.post(self.url, content=webhook.body, headers=headers)
        return Answer(response.status_code, response.json(), perf_counter() - began)
