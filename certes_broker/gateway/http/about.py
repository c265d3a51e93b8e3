"""What the gateway says of itself: the health document, liveness, readiness and discovery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import request_response

from certes_broker.broker.broker import Broker
from certes_broker.domain.signing import PUBLIC_KEY_PREFIX
from certes_broker.gateway.http.exchange import App
from certes_broker.gateway.http.settings import HttpSettings

WEBHOOK_KEYS: Final = "/.well-known/certes/keys/"
_FROM_URL_ALPHABET: Final = str.maketrans("-_", "+/")


def about(broker: Broker, settings: HttpSettings) -> Mapping[str, App]:
    """Returns what serves `GET` of each path: `/`, `/healthz`, `/readyz` and `/.well-known/certes`."""

    async def health(_request: Request) -> Response:
        found = list(await broker.unavailable())
        return JSONResponse(
            {
                "service": "certes",
                "version": settings.version,
                "status": "ready" if not found else "not ready",
                "unavailable": found,
                "discovery": "/.well-known/certes",
            }
        )

    async def liveness(_request: Request) -> Response:
        # To answer is to be alive: the loop that answers is the one that does everything else.
        return JSONResponse({"status": "alive"})

    async def readiness(_request: Request) -> Response:
        found = list(await broker.unavailable())
        status = "ready" if not found else "not ready"
        return JSONResponse({"status": status, "unavailable": found}, status_code=503 if found else 200)

    async def discovery(request: Request) -> Response:
        return JSONResponse(
            {
                "grpc": {
                    "address": grpc_address(settings, request.headers["host"]),
                    "tls": settings.grpc_tls,
                    "clientCertificate": settings.grpc_client_certificate,
                },
                "protocolVersions": ["certes.v1"],
                # To which event types belong whose schema names no domain.
                "domain": broker.domain,
                "domains": sorted({broker.domain, *broker.registry.domains()}),
            }
        )

    handlers = {"/": health, "/healthz": liveness, "/readyz": readiness, "/.well-known/certes": discovery}
    return {path: request_response(handler) for path, handler in handlers.items()}


def webhook_keys(broker: Broker) -> App:
    """Returns what serves `GET /.well-known/certes/keys/{key}`: the public keys that sign where a known one does, or did."""

    async def keys(request: Request) -> Response:
        # Whoever holds a key holds it with its prefix.
        known = request.url.path.removeprefix(WEBHOOK_KEYS).removeprefix(PUBLIC_KEY_PREFIX)
        # In a path, base64 has `-` and `_`, and needs no padding.
        encoded = known.translate(_FROM_URL_ALPHABET).rstrip("=")
        found = broker.subscriptions.verifying_keys(f"{PUBLIC_KEY_PREFIX}{encoded}=")
        if found is None:
            return JSONResponse({"keys": []}, status_code=404)
        return JSONResponse({"keys": list(found)}, headers={"cache-control": "max-age=300"})

    return request_response(keys)


def grpc_address(settings: HttpSettings, host: str) -> str:
    """Returns the address to tell a client that found this gateway as `host`: what reached one port reaches the other."""
    if not settings.grpc_address.startswith(":"):
        return settings.grpc_address
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name + settings.grpc_address
