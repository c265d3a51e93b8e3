"""A whole broker in this process, on the engine in memory, behind its HTTP gateway on a real socket."""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from certes_broker.broker.broker import Broker, BrokerSettings, Ports
from certes_broker.broker.janitor import Retention
from certes_broker.broker.system_clock import SystemClock
from certes_broker.broker.webhooks import WebhookLimits
from certes_broker.domain.access import ALL_ROLES
from certes_broker.domain.api_keys import ApiKey, KeyId, digest_of
from certes_broker.domain.events import Original
from certes_broker.domain.open_namespaces import OpenNamespaces
from certes_broker.domain.sources import Audience, Everyone, Source, SourceSecret
from certes_broker.engines.memory import MemoryEngine
from certes_broker.gateway.authentication import Authenticator
from certes_broker.gateway.callers import Door
from certes_broker.gateway.contract import contract_methods
from certes_broker.gateway.convert.sources import SourceRules
from certes_broker.gateway.http.app import build_app
from certes_broker.gateway.http.server import HttpServer
from certes_broker.gateway.http.settings import HttpSettings
from certes_broker.gateway.ingestion import Ingestion
from certes_broker.gateway.methods import Method
from certes_broker.ports.engine import Engine
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.providers import shipped_providers
from certes_broker.schemas.registry import Registry
from tests.fakes.scripted_sender import ScriptedSender

VERSIONS = tuple(community_versions())
SECRET = b"the secret that the source shares with its provider"
GITHUB = "community.certes.dev/github/1"
PUSH = {
    "ref": "refs/heads/main",
    "before": "0" * 40,
    "after": "6113728f27ae82c7b1a177c8d03f9e96e0adf246",
    "forced": False,
    "repository": {"id": 1296269, "full_name": "meetly/meetly", "private": True},
    "commits": [{"id": "6113728f27ae82c7b1a177c8d03f9e96e0adf246", "message": "Größe", "added": ["a.txt"]}],
    "what_no_schema_knows": {"kept": "in the original"},
}


def github_source(
    name: str = "github", secrets: tuple[bytes, ...] = (SECRET,), audience: Audience | None = None
) -> Source:
    return Source(name, "github", audience or Everyone(), tuple(SourceSecret(secret.decode()) for secret in secrets))


def sign(body: bytes, secret: bytes = SECRET) -> str:
    return "sha256=" + hmac.digest(secret, body, "sha256").hex()


def github_headers(body: bytes, *, event: str = "push", delivery: str = "d-1", **more: str) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/0a1b2c3",
        "x-github-event": event,
        "x-github-delivery": delivery,
        "x-github-hook-id": "42",
        "x-hub-signature-256": sign(body),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a test talks to."""

    broker: Broker
    server: HttpServer
    client: httpx.AsyncClient
    port: int
    methods: Sequence[Method]
    door: Door

    async def webhook(
        self, payload: Any = PUSH, *, source: str = "github", body: bytes | None = None, **headers: str
    ) -> httpx.Response:
        """Sends a signed webhook; `headers` as `github_headers` takes them."""
        content = json.dumps(payload).encode() if body is None else body
        return await self.client.post(f"/events/{source}", content=content, headers=github_headers(content, **headers))

    async def cloud_event(self, document: Any, kind: str = "application/cloudevents+json") -> httpx.Response:
        return await self.client.post("/events", content=json.dumps(document), headers={"content-type": kind})

    async def call(self, method: str, request: Any) -> httpx.Response:
        """Calls an rpc of the EventService, or of the service named before a `/`."""
        path = method if "/" in method else f"EventService/{method}"
        return await self.client.post(f"/api/certes.v1.{path}", json=request)

    async def kept(self, name: str) -> dict[str, Any]:
        """Returns a kept event as the JSON API shows it."""
        answer = await self.call("GetEvent", {"name": name})
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()["event"]["event"]
        return shown

    async def original(self, name: str) -> Original | None:
        return await self.broker.kept_events.original(await self.broker.kept_events.get(name))


@asynccontextmanager
async def gateway(
    *sources: Source,
    allow_unsigned: bool = True,
    engine: Engine | None = None,
    open_namespaces: Sequence[str] = (),
    operator_key: str = "",
    **settings: Any,
) -> AsyncIterator[Gateway]:
    """Serves until the block is left. With an operator's key, callers are asked who they are; the client then has it."""
    clock = SystemClock()
    ports = Ports(engine or MemoryEngine(clock), ScriptedSender(), clock)
    told = BrokerSettings(
        domain="events.example.com",
        retention=Retention(age=3600.0, size=1 << 30, dedupe_window=3600.0),
        max_event_bytes=1 << 20,
        in_flight_bytes=1 << 26,
        webhooks=WebhookLimits(2),
        open_namespaces=OpenNamespaces.parse(open_namespaces),
    )
    async with Broker.running(ports, Registry(VERSIONS), told) as broker:
        broker.sources.declare(sources or (github_source(),))
        http = HttpSettings(port=0, version="1.2.3", **settings)
        rules = SourceRules(shipped_providers(), allow_unsigned)
        ingestion = Ingestion(broker, rules.providers, loopback=allow_unsigned)
        methods = contract_methods(broker, ingestion, rules)
        door = Door(refused=broker.arrivals.calls_refused)
        headers = {}
        if operator_key:
            key = ApiKey(KeyId("operator"), digest_of(operator_key), ALL_ROLES)
            door = Door(Authenticator(broker.keys, clock, key), refused=broker.arrivals.calls_refused)
            headers = {"authorization": f"Bearer {operator_key}"}
        broker.keys.on_gone = door.streams.end
        server = HttpServer(build_app(broker, ingestion, methods, http, door), http)
        port = await server.start()
        try:
            url = f"http://localhost:{port}"
            async with httpx.AsyncClient(base_url=url, trust_env=False, headers=headers) as client:
                yield Gateway(broker, server, client, port, methods, door)
        finally:
            await broker.drain()
            await server.drain(1.0)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """The status and the reason of a refusal, in either form."""
    document = answer.json()
    if "error" in document:
        return answer.status_code, document["error"]["reason"]
    return answer.status_code, document["details"][0]["debug"]["reason"]
